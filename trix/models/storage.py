"""Checkpoints: safetensors for the tensors, JSON for the rest, nothing unpickled.

A checkpoint is a folder. `checkpoint.json` names the tensor file that belongs to it, that file's
SHA-256 and its own; replacing it is the moment at which a new checkpoint counts, so a process
killed at any time leaves the last complete one behind.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from trix.counts.context import ContextMemory
from trix.counts.rows import Counts
from trix.counts.words import ADDRESSES, WordMemory, letters_of
from trix.files import atomic_path, file_sha256, write_text
from trix.models.charlm import LMConfig
from trix.models.lookup import LookupConfig, LookupLM

INDEX = "checkpoint.json"


class Checkpoint(NamedTuple):
    """Tensors by name, and JSON values."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Replace the checkpoint in `folder`, all of it or nothing.

    Args:
        folder: where it lives; made if needed.
        tensors: written as they are, on the CPU.
        values: anything that JSON holds.
    """
    payload = save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()})
    digest = hashlib.sha256(payload).hexdigest()
    name = f"tensors-{digest[:16]}.safetensors"
    with atomic_path(folder / name) as temporary:
        temporary.write_bytes(payload)
    index = {"tensors": name, "sha256": digest, "values": values, "values_sha256": _sha256(values)}
    write_text(folder / INDEX, json.dumps(index, indent=1))
    # older tensors, and what a killed process did not get to rename
    for pattern in ("tensors-*.safetensors", ".tensors-*", f".{INDEX}.*"):
        for old in folder.glob(pattern):
            if old.name != name:
                old.unlink()


def load_checkpoint(folder: Path, device: str = "cpu") -> Checkpoint | None:
    """Return the checkpoint in `folder`, or None where there is none.

    Raises:
        ValueError: a file is damaged; the message names it, with the expected and received hash.
    """
    index_path = folder / INDEX
    if not index_path.exists():
        return None
    try:
        index = json.loads(index_path.read_text(encoding="utf-8"))
        path, expected, values = folder / index["tensors"], index["sha256"], index["values"]
        stated = index["values_sha256"]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"corrupt checkpoint index {index_path}: {error}") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"corrupt checkpoint index {index_path}: {error} is missing") from error
    if (received := _sha256(values)) != stated:
        raise ValueError(
            f"corrupt checkpoint index {index_path}: expected SHA-256 {stated} of its values, "
            f"got {received}"
        )
    if not path.exists():
        raise ValueError(f"corrupt checkpoint: {index_path} names {path.name}, which is missing")
    received = file_sha256(path)
    if received != expected:
        raise ValueError(f"corrupt checkpoint {path}: expected SHA-256 {expected}, got {received}")
    try:
        return Checkpoint(load_file(path, device=device), values)
    except SafetensorError as error:
        raise ValueError(f"corrupt checkpoint {path}: {error}") from error


def _sha256(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def optimizer_tensors(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Return the state of optimizers as flat names `optimizer.<which>.<parameter>.<name>`."""
    return {
        f"optimizer.{which}.{i}.{name}": value
        for which, optimizer in enumerate(optimizers)
        for i, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def load_optimizer_tensors(
    optimizers: Sequence[torch.optim.Optimizer], tensors: dict[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` returned."""
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, which, index, name = key.split(".", 3)
            states[int(which)].setdefault(int(index), {})[name] = value
    for optimizer, state in zip(optimizers, states, strict=True):
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


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
        packed[f"tables.{n}.character"] = _tensor(table.character, letter)
        packed[f"tables.{n}.count"] = _tensor(count, _narrow(int(count.max())))
        if n < memory.order:
            code = table.key * memory.vocab_size + table.character
            ends = np.append(code, np.iinfo(np.int64).max)
            children = np.diff(np.searchsorted(memory.counts[n].key, ends))
            packed[f"tables.{n}.children"] = _tensor(children, _narrow(int(children.max())))
    return packed


def unpack_tables(packed: dict[str, Tensor], vocab_size: int) -> ContextMemory:
    """Return the memory that `pack_tables` packed; it has no folds.

    Raises:
        ValueError: the tables do not fit each other.
    """
    counts: list[Counts] = []
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
        key = np.repeat(code, children)
        code = key * vocab_size + character
        if len(code) == 0 or (np.diff(code) <= 0).any() or (character >= vocab_size).any():
            raise ValueError(f"order {n} must be sorted and of {vocab_size} characters")
        counts.append(Counts(key, character, count[:, None]))
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
    counts: list[Counts] = []
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
        counts.append(Counts(np.repeat(keys, entries), character, count[:, None]))
    return WordMemory.from_counts(counts, letters_of(alphabet))


def _narrow(largest: int) -> type[np.generic]:
    return np.uint8 if largest < 2**8 else np.int32 if largest < 2**31 else np.int64


def _tensor(values: np.ndarray, kind: type[np.generic]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values.astype(kind)))
