"""A trained look-it-up model on disk: one folder, its tables included, nothing unpickled.

Tables are kept as a tree rather than as numbers of n-grams: for each n-gram its last character, its
count, and how many n-grams of the next order go on from it. In sorted order that is all there is to
know, and most of it fits in single bytes. Of words and lines the keys are kept as they are.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trix.lab.charlm import LMConfig
from trix.lab.checkpoint import load_checkpoint, save_checkpoint
from trix.lab.lookup_config import LookupConfig
from trix.lab.lookup_lm import LookupLM
from trix.memory.context_memory import ContextMemory, OrderCounts
from trix.memory.word_keys import ADDRESSES, letters_of
from trix.memory.word_memory import AddressCounts, WordMemory

FORMAT = "trix look-it-up model, 2"


class Stored(NamedTuple):
    """A model from disk, the characters that its numbers stand for, and what is said of it."""

    model: LookupLM
    alphabet: str
    about: dict[str, Any]

    def encode(self, text: str) -> Tensor:
        """Return the number of each character, int64 `[1, len(text)]`.

        Raises:
            ValueError: the text is empty, or a character is not in the alphabet; it is named.
        """
        if not text:
            raise ValueError("expected at least one character, got none")
        for at, character in enumerate(text):
            if character not in self.alphabet:
                raise ValueError(
                    f"character {character!r} at {at} is not among the {len(self.alphabet)} that "
                    f"the model knows: {self.alphabet!r}"
                )
        return torch.tensor([[self.alphabet.index(character) for character in text]])

    def decode(self, tokens: Tensor) -> str:
        """Return the text of numbers, of any shape."""
        return "".join(self.alphabet[number] for number in tokens.flatten().tolist())


def save_model(folder: Path, model: LookupLM, alphabet: str, about: dict[str, Any]) -> None:
    """Write a model and its tables to a folder, all of it or nothing.

    Args:
        folder: made if needed; a model already there is replaced.
        model: on any device.
        alphabet: its characters, in order.
        about: JSON values to keep with it, as the text and the loss.

    Raises:
        ValueError: the alphabet is not as long as the model's.
        OSError: the disk is full or read-only; what stood there before still stands.
    """
    if len(alphabet) != model.config.vocab_size:
        raise ValueError(
            f"alphabet must have {model.config.vocab_size} characters, got {len(alphabet)}"
        )
    tensors = {f"model.{name}": t for name, t in model.state_dict().items()}
    tensors |= pack(model)
    values = {
        "format": FORMAT,
        "config": dataclasses.asdict(model.config),
        "alphabet": alphabet,
        "dropped": sorted(model.dropped),
        "about": about,
    }
    save_checkpoint(folder, tensors, values)


def load_model(folder: Path) -> Stored:
    """Return a saved model, on the CPU and in evaluation mode.

    Raises:
        FileNotFoundError: there is no model in the folder.
        ValueError: it is damaged, or something else than a model of this kind.
    """
    saved = load_checkpoint(folder)
    if saved is None:
        raise FileNotFoundError(f"expected a model in {folder}, but there is none")
    tensors, values = saved
    if values.get("format") != FORMAT:
        raise ValueError(
            f"{folder} must hold a {FORMAT!r}, got {values.get('format')!r}; a model of an earlier "
            "format has to be trained again, with --force in the same folder"
        )
    try:
        network = values["config"]["network"]
        config = LookupConfig(
            **{**values["config"], "network": LMConfig(**network) if network else None}
        )
        tables = {k: t for k, t in tensors.items() if k.startswith("tables.")}
        alphabet, about = values["alphabet"], values["about"]
        if not isinstance(alphabet, str) or len(alphabet) != config.vocab_size:
            raise ValueError(f"{folder}: expected {config.vocab_size} characters, got {alphabet!r}")
        words = unpack_words(tensors, alphabet) if config.words else None
        model = LookupLM(config, unpack_tables(tables, config.vocab_size), words)
        weights = {
            k.removeprefix("model."): t for k, t in tensors.items() if k.startswith("model.")
        }
        model.load_state_dict(weights)
        for gone in values.get("dropped", ()):
            model.drop(gone)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{folder} holds a model that does not fit its settings: {error}"
        ) from error
    return Stored(model.eval(), alphabet, about)


def pack(model: LookupLM) -> dict[str, Tensor]:
    """Return the counts of a model's tables: `tables.<order>.<what>`, `words.<name>.<what>`."""
    words = pack_words(model.words) if model.words is not None else {}
    return pack_tables(model.memory) | words


def pack_tables(memory: ContextMemory) -> dict[str, Tensor]:
    """Return the counts of a memory as small tensors, `tables.<order>.<what>`."""
    letter = np.uint8 if memory.vocab_size <= 256 else np.int32
    packed: dict[str, Tensor] = {}
    for n, table in enumerate(memory.counts, start=1):
        count = table.count.sum(axis=1)
        packed[f"tables.{n}.character"] = _tensor(table.code % memory.vocab_size, letter)
        packed[f"tables.{n}.count"] = _tensor(count, _narrow(int(count.max())))
        if n < memory.order:
            parent = memory.counts[n].code // memory.vocab_size
            children = np.diff(
                np.searchsorted(parent, np.append(table.code, np.iinfo(np.int64).max))
            )
            packed[f"tables.{n}.children"] = _tensor(children, _narrow(int(children.max())))
    return packed


def unpack_tables(packed: dict[str, Tensor], vocab_size: int) -> ContextMemory:
    """Return the memory that `pack_tables` packed; it has no folds.

    Raises:
        ValueError: the tables do not fit each other.
    """
    counts: list[OrderCounts] = []
    children = np.array([packed["tables.1.character"].numel()])
    code = np.zeros(1, dtype=np.int64)
    order = sum(name.endswith(".count") for name in packed)
    for n in range(1, order + 1):
        character = packed[f"tables.{n}.character"].numpy().astype(np.int64)
        count = packed[f"tables.{n}.count"].numpy().astype(np.int64)
        if children.sum() != len(character) or len(count) != len(character):
            raise ValueError(
                f"order {n} must have {children.sum()} entries, got {len(character)} and "
                f"{len(count)}"
            )
        code = np.repeat(code, children) * vocab_size + character
        if len(code) == 0 or (np.diff(code) <= 0).any() or (character >= vocab_size).any():
            raise ValueError(f"order {n} must be sorted and of {vocab_size} characters")
        counts.append(OrderCounts(code, count[:, None]))
        if n < order:
            children = packed[f"tables.{n}.children"].numpy().astype(np.int64)
    return ContextMemory.from_counts(counts, vocab_size)


def pack_words(memory: WordMemory) -> dict[str, Tensor]:
    """Return a memory's counts as small tensors, `words.<name>.<what>`."""
    letter = np.uint8 if memory.vocab_size <= 256 else np.int32
    packed: dict[str, Tensor] = {}
    for name, table in zip(ADDRESSES, memory.counts, strict=True):
        keys, entries = np.unique(table.key, return_counts=True)
        count = table.count.sum(axis=1)
        packed[f"words.{name}.key"] = _tensor(keys, np.int64)
        packed[f"words.{name}.entries"] = _tensor(entries, _narrow(int(entries.max(initial=0))))
        packed[f"words.{name}.character"] = _tensor(table.character, letter)
        packed[f"words.{name}.count"] = _tensor(count, _narrow(int(count.max(initial=0))))
    return packed


def unpack_words(packed: dict[str, Tensor], alphabet: str) -> WordMemory:
    """Return the memory that `pack_words` packed; it has no folds.

    Raises:
        ValueError: the tables do not fit each other or the alphabet.
    """
    vocab_size = len(alphabet)
    counts: list[AddressCounts] = []
    for name in ADDRESSES:
        keys, entries, character, count = (
            packed[f"words.{name}.{what}"].numpy().astype(np.int64)
            for what in ("key", "entries", "character", "count")
        )
        sizes = (len(keys), entries.sum(), len(character))
        if sizes != (len(entries), len(character), len(count)):
            raise ValueError(
                f"{name} must have {entries.sum()} entries at {len(entries)} keys, got "
                f"{len(character)} and {len(count)} at {len(keys)}"
            )
        if (np.diff(keys) <= 0).any() or (entries < 1).any() or (character >= vocab_size).any():
            raise ValueError(f"{name} must be sorted and of {vocab_size} characters")
        counts.append(AddressCounts(np.repeat(keys, entries), character, count[:, None]))
    return WordMemory.from_counts(counts, letters_of(alphabet))


def _narrow(largest: int) -> type[np.generic]:
    return np.uint8 if largest < 2**8 else np.int32 if largest < 2**31 else np.int64


def _tensor(values: np.ndarray, kind: type[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values.astype(kind)))
