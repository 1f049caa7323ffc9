"""Checkpoints: safetensors for the tensors, JSON for the rest, nothing unpickled.

A checkpoint is a folder. `checkpoint.json` names the tensor file that belongs to it, that file's
SHA-256 and its own; replacing it is the moment at which a new checkpoint counts, so a process
killed at any time leaves the last complete one behind.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from trix.lab.files import atomic_path, file_sha256, write_text

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
