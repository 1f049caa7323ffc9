"""Models and training runs on disk: safetensors for tensors, JSON for the rest, nothing unpickled.

A checkpoint is a folder, and counts from the moment at which its `checkpoint.json` is replaced. A
saved model is one with the counts of its tables, from which the rest is worked out again.
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
from trix.files import atomic_path, file_sha256, json_sha256, write_text
from trix.models.alphabet import decode, encode
from trix.models.charlm import LMConfig
from trix.models.lookup import LookupConfig, LookupLM

INDEX = "checkpoint.json"
FORMAT = "trix look-it-up model, 2"


class Checkpoint(NamedTuple):
    """Tensors by name, and JSON values."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with `name.`, without it."""
        first = f"{name}."
        return {k.removeprefix(first): t for k, t in self.tensors.items() if k.startswith(first)}


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Replace the checkpoint in `folder`, all of it or nothing; `values` are what JSON holds."""
    payload = save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()})
    digest = hashlib.sha256(payload).hexdigest()
    name = f"tensors-{digest[:16]}.safetensors"
    with atomic_path(folder / name) as temporary:
        temporary.write_bytes(payload)
    index = {"tensors": name, "sha256": digest, "values": values}
    index["values_sha256"] = json_sha256(values)
    write_text(folder / INDEX, json.dumps(index, indent=1))
    # older tensors, and what a killed process did not get to rename
    for pattern in ("tensors-*.safetensors", ".tensors-*", f".{INDEX}.*"):
        for old in folder.glob(pattern):
            if old.name != name:
                old.unlink()


def load_checkpoint(folder: Path, device: str = "cpu") -> Checkpoint | None:
    """Return the checkpoint in `folder`, or None where there is none; `ValueError` if damaged."""
    path = folder / INDEX
    if not path.exists():
        return None
    corrupt = f"corrupt checkpoint index {path}:"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        values, stated = index["values"], index["values_sha256"]
        tensors, expected = folder / index["tensors"], index["sha256"]
    except (ValueError, KeyError, TypeError) as error:  # no JSON, or another's
        raise ValueError(f"{corrupt} {error!r}") from error
    if (received := json_sha256(values)) != stated:
        raise ValueError(f"{corrupt} expected SHA-256 {stated} of its values, got {received}")
    if not tensors.exists():
        raise ValueError(f"corrupt checkpoint: {path} names {tensors.name}, which is missing")
    if (got := file_sha256(tensors)) != expected:
        raise ValueError(f"corrupt checkpoint {tensors}: expected SHA-256 {expected}, got {got}")
    try:
        return Checkpoint(load_file(tensors, device=device), values)
    except SafetensorError as error:
        raise ValueError(f"corrupt checkpoint {tensors}: {error}") from error


def optimizer_tensors(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Return the state of optimizers as flat names `optimizer.<which>.<parameter>.<name>`."""
    return {
        f"optimizer.{which}.{i}.{name}": value
        for which, optimizer in enumerate(optimizers)
        for i, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def load_optimizer_tensors(
    optimizers: Sequence[torch.optim.Optimizer], checkpoint: Checkpoint
) -> None:
    """Put back what `optimizer_tensors` returned."""
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    for key, value in checkpoint.part("optimizer").items():
        which, index, name = key.split(".", 2)
        states[int(which)].setdefault(int(index), {})[name] = value
    for optimizer, state in zip(optimizers, states, strict=True):
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


class Stored(NamedTuple):
    """A model from disk, the characters that its numbers stand for, and what is said of it."""

    model: LookupLM
    alphabet: str
    about: dict[str, Any]

    def encode(self, text: str) -> Tensor:
        """Return the number of each character, `[1, len(text) >= 1]`."""
        if not text:
            raise ValueError("expected at least one character, got none")
        return encode(text, self.alphabet, "that the model knows")[None]

    def decode(self, tokens: Tensor) -> str:
        """Return the text of numbers, of any shape."""
        return decode(tokens.flatten(), self.alphabet)


def save_model(folder: Path, model: LookupLM, alphabet: str, about: dict[str, Any]) -> None:
    """Write a model and its tables to a folder, all of it or nothing; `load_model` has an example.

    The folder is made if needed; a model already there is replaced, but left if the disk is full.
    The alphabet is the model's characters, in order, else `ValueError`; `about` are JSON values to
    keep with it, as the text and the loss.
    """
    if len(alphabet) != (vocab := model.config.vocab_size):
        raise ValueError(f"alphabet must have {vocab} characters, got {len(alphabet)}")
    weights = {f"model.{name}": t for name, t in model.state_dict().items()}
    values = {"format": FORMAT, "config": dataclasses.asdict(model.config), "alphabet": alphabet}
    values |= {"dropped": sorted(model.dropped), "about": about}
    save_checkpoint(folder, weights | pack(model), values)


def load_model(folder: Path) -> Stored:
    """Return a saved model, on the CPU and in evaluation mode.

    >>> from tempfile import TemporaryDirectory
    >>> config, text = LookupConfig(vocab_size=3, order=2), torch.tensor([0, 1, 2] * 20)
    >>> with TemporaryDirectory() as name:
    ...     save_model(Path(name), LookupLM(config, ContextMemory(text, 2, 3)), "abc", about={})
    ...     load_model(Path(name)).encode("cab")
    tensor([[2, 0, 1]])

    Raises:
        FileNotFoundError: there is no model in the folder.
        ValueError: it is damaged, or something else than a model of this kind.
    """
    saved = load_checkpoint(folder)
    if saved is None:
        raise FileNotFoundError(f"expected a model in {folder}, but there is none")
    values = saved.values
    if values.get("format") != FORMAT:
        raise ValueError(
            f"{folder} must hold a {FORMAT!r}, got {values.get('format')!r}; a model of an earlier "
            "format has to be trained again, with --force in the same folder"
        )
    try:
        network = values["config"]["network"]
        network = LMConfig(**network) if network else None
        config = LookupConfig(**{**values["config"], "network": network})
        alphabet, about = values["alphabet"], values["about"]
        if not isinstance(alphabet, str) or len(alphabet) != config.vocab_size:
            raise ValueError(f"{folder}: expected {config.vocab_size} characters, got {alphabet!r}")
        words = unpack_words(saved.part("words"), alphabet) if config.words else None
        model = LookupLM(config, unpack_tables(saved.part("tables"), config.vocab_size), words)
        model.load_state_dict(saved.part("model"))
        for table in values.get("dropped", ()):
            model.drop(table)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{folder}: the model does not fit its settings: {error}") from error
    return Stored(model.eval(), alphabet, about)


def pack(model: LookupLM) -> dict[str, Tensor]:
    """Return the counts of a model's tables: `tables.<order>.<what>`, `words.<name>.<what>`."""
    words = pack_words(model.words) if model.words is not None else {}
    named = {"tables": pack_tables(model.memory), "words": words}
    return {f"{part}.{name}": t for part, packed in named.items() for name, t in packed.items()}


def pack_tables(memory: ContextMemory) -> dict[str, Tensor]:
    """Return the counts of a memory as small tensors, `<order>.<what>`.

    An n-gram is kept as its last character, and how many longer ones it begins: all of an order are
    sorted, so that those which begin alike stand together.
    """
    packed: dict[str, Tensor] = {}
    for n, table in enumerate(memory.counts, start=1):
        packed[f"{n}.character"] = _letters(table.character, memory.vocab_size)
        packed[f"{n}.count"] = _narrow(table.count.sum(axis=1))
        if n < memory.order:
            code = table.key * memory.vocab_size + table.character
            ends = np.append(code, np.iinfo(np.int64).max)
            packed[f"{n}.children"] = _narrow(np.diff(np.searchsorted(memory.counts[n].key, ends)))
    return packed


def unpack_tables(packed: dict[str, Tensor], vocab_size: int) -> ContextMemory:
    """Return the memory that `pack_tables` packed, without folds; `ValueError` if damaged."""
    wide = {name: t.numpy().astype(np.int64) for name, t in packed.items()}
    counts: list[Counts] = []
    children, code = np.array([len(wide["1.character"])]), np.zeros(1, dtype=np.int64)
    order = sum(name.endswith(".count") for name in packed)
    for n in range(1, order + 1):
        character, count = wide[f"{n}.character"], wide[f"{n}.count"]
        if children.sum() != len(character) or len(count) != len(character):
            got = f"{len(character)} and {len(count)}"
            raise ValueError(f"order {n} must have {children.sum()} entries, got {got}")
        key = np.repeat(code, children)
        code = key * vocab_size + character
        if len(code) == 0 or (np.diff(code) <= 0).any() or (character >= vocab_size).any():
            raise ValueError(f"order {n} must be sorted and of {vocab_size} characters")
        counts.append(Counts(key, character, count[:, None]))
        children = wide[f"{n}.children"] if n < order else children
    return ContextMemory.from_counts(counts, vocab_size)


def pack_words(memory: WordMemory) -> dict[str, Tensor]:
    """Return a memory's counts as small tensors, `<name>.<what>`."""
    packed: dict[str, Tensor] = {}
    for name, table in zip(ADDRESSES, memory.counts, strict=True):
        keys, entries = np.unique(table.key, return_counts=True)
        packed[f"{name}.key"] = torch.from_numpy(keys)
        packed[f"{name}.entries"] = _narrow(entries)
        packed[f"{name}.character"] = _letters(table.character, memory.vocab_size)
        packed[f"{name}.count"] = _narrow(table.count.sum(axis=1))
    return packed


def unpack_words(packed: dict[str, Tensor], alphabet: str) -> WordMemory:
    """Return the memory that `pack_words` packed, without folds; `ValueError` if damaged."""
    vocab_size = len(alphabet)
    counts: list[Counts] = []
    for name in ADDRESSES:
        keys, entries, character, count = (
            packed[f"{name}.{what}"].numpy().astype(np.int64)
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


def _letters(values: np.ndarray, vocab_size: int) -> Tensor:
    return torch.from_numpy(values.astype(np.uint8 if vocab_size <= 256 else np.int32))


def _narrow(values: np.ndarray) -> Tensor:
    largest = int(values.max(initial=0))
    kind = np.uint8 if largest < 2**8 else np.int32 if largest < 2**31 else np.int64
    return torch.from_numpy(values.astype(kind))
