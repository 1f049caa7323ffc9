"""A model in few bytes: ternary weights in two bits, everything else in bfloat16."""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from trix.address.packed import pack, unpack
from trix.address.signatures import SignatureRows
from trix.address.ternary import row_scale, ternarize
from trix.files import atomic_path
from trix.models.charlm import CharLM
from trix.tiles.ffn import TriXFFN
from trix.tiles.tile import TernaryBodies

TERNARY: dict[type, dict[str, bool]] = {
    TernaryBodies: {"up": True, "down": True},
    TriXFFN: {"up": True, "down": True},
    SignatureRows: {"raw": False, "frozen_rows": False},
}
"""What a forward pass reads through its ternary cut alone; whether it reads a scale per row too."""


def save_packed(model: CharLM, path: Path) -> dict[str, int]:
    """Write a model for inference to one safetensors file, which appears whole or not at all.

    Weights and signatures that are only ever read through their ternary cut (`TERNARY`) are kept as
    two bits per weight and a scale per row, and lose what training alone needs; other floating
    tensors become bfloat16, ternary splines too. Returns how many bytes `ternary`, `scales`,
    `bfloat16` and `other` take, and the whole `file`.

    >>> from tempfile import TemporaryDirectory
    >>> from trix.lab import LMConfig
    >>> model = CharLM(LMConfig(layers=1, ffn="trix"))
    >>> with TemporaryDirectory() as name:
    ...     save_packed(model, Path(name, "model"))["ternary"]
    ...     load_packed(model, Path(name, "model"))
    32768
    """
    tensors: dict[str, Tensor] = {}
    bytes_of: dict[str, int] = dict.fromkeys(("ternary", "scales", "bfloat16", "other"), 0)
    for kind, part, tensor in _parts(model, model.state_dict()):
        tensors[part] = tensor.contiguous()
        bytes_of[kind] += tensor.numel() * tensor.element_size()
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)
    return bytes_of | {"file": path.stat().st_size}


def load_packed(model: CharLM, path: Path) -> None:
    """Read into `model` what `save_packed` wrote of one of the same configuration.

    Raises:
        ValueError: the file is damaged, or not of this model, which is left as it was.
    """
    ternary, state = ternary_names(model), model.state_dict()
    blank = _parts(model, {name: torch.zeros_like(value) for name, value in state.items()})
    wanted = {part: tensor for _, part, tensor in blank}
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"corrupt packed model {path}: {error}") from error
    for prefix, module in model.named_modules():
        for hook in module._load_state_dict_pre_hooks.values():  # old names become the new ones
            hook(stored, f"{prefix}." if prefix else "", {}, True, [], [], [])
    if stored.keys() != wanted.keys():
        raise ValueError(
            f"{path} must hold the tensors of this model, got "
            f"{sorted(stored.keys() - wanted.keys())} too many and "
            f"{sorted(wanted.keys() - stored.keys())} too few"
        )
    for part, tensor in wanted.items():
        if (found := _form(stored[part])) != _form(tensor):
            raise ValueError(f"{path}: {part} must be {_form(tensor)}, got {found}")
    read = {name: stored[name] for name in state if name in stored}
    for name, scaled in ternary.items():
        value = state[name]
        try:
            cut = unpack(stored[f"{name}:packed"], value.shape[-1], value.dtype)
        except ValueError as error:
            raise ValueError(f"corrupt packed model {path}: {name}: {error}") from error
        read[name] = cut * stored[f"{name}:scale"].to(value.dtype) if scaled else cut
    for name, value in read.items():
        state[name].copy_(value)


def _parts(model: CharLM, state: dict[str, Tensor]) -> Iterator[tuple[str, str, Tensor]]:
    # the kind, name and tensor of everything that is written
    ternary = ternary_names(model)
    for name, value in state.items():
        # the token embedding's, under another name; how signatures were edited
        if (name == "head.weight" and model.config.tied) or name.endswith("._extra_state"):
            continue
        if name in ternary:
            cut = ternarize(value)
            yield "ternary", f"{name}:packed", pack(cut)
            if ternary[name]:
                yield "scales", f"{name}:scale", row_scale(value, cut).to(torch.bfloat16)
        elif value.is_floating_point():
            yield "bfloat16", name, value.to(torch.bfloat16)
        else:
            yield "other", name, value


def _form(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} of {tensor.dtype}"


def ternary_names(model: CharLM) -> dict[str, bool]:
    """Return the names of tensors read through their cut; true where a scale is read too."""
    return {
        f"{prefix}.{name}": scaled
        for prefix, module in model.named_modules()
        for kind, names in TERNARY.items()
        if isinstance(module, kind)
        for name, scaled in names.items()
    }
