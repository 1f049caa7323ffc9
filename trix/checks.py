"""Guards of arguments, whose errors name what was expected and received, and old names."""

import math
from collections.abc import Collection
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


def integer(name: str, value: int) -> int:
    """Ask for an integer that is no bool: `TypeError`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    return value


def at_least(name: str, value: int, low: int) -> int:
    """Ask for an integer of at least `low`: `TypeError` or `ValueError`."""
    if integer(name, value) < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")
    return value


def positive(name: str, value: int) -> int:
    """Ask for an integer of at least 1: `TypeError` or `ValueError`."""
    return at_least(name, value, 1)


def at_most(name: str, value: int, count: int, of: str = "tiles") -> int:
    """Ask for an integer in 1 … `count`, as `top_k` has to be: `TypeError` or `ValueError`."""
    if positive(name, value) > count:
        raise ValueError(f"{name} must be at most the {count} {of}, got {value}")
    return value


def place(name: str, value: int, count: int) -> int:
    """Ask for an integer in 0 … `count` − 1: `TypeError` or `IndexError`."""
    if not 0 <= integer(name, value) < count:
        raise IndexError(f"{name} must be in 0 … {count - 1}, got {value}")
    return value


def seed(value: int) -> int:
    """Ask for what every generator takes as a seed: an integer in 0 … 2⁶³ − 1."""
    if at_least("seed", value, 0) >= 2**63:
        raise ValueError(f"seed must be below 2**63, got {value}")
    return value


def between(name: str, value: float, low: float, high: float) -> float:
    """Ask for a number from `low` to `high`, both allowed: `ValueError`."""
    if not low <= value <= high:  # NaN lies nowhere
        raise ValueError(f"{name} must be in {low} … {high}, got {value!r}")
    return value


def fraction(name: str, value: float) -> float:
    """Ask for a number in [0, 1), as a decay or a dropout is: `ValueError`."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value!r}")
    return value


def magnitude(name: str, value: float, zero: bool = False) -> float:
    """Ask for a finite number above 0, or 0 where `zero` allows it: `ValueError`."""
    if not (0 < value < math.inf or (zero and value == 0)):
        wanted = "finite and not negative" if zero else "positive and finite"
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return value


def one_of(name: str, value: T, allowed: Collection[T]) -> T:
    """Ask for one of `allowed`: `ValueError`."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {sorted(allowed, key=str)}, got {value!r}")
    return value


def instance(name: str, value: Any, kind: type[T]) -> T:
    """Ask for an instance of `kind`: `TypeError`."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got a {type(value).__name__}")
    return value


def typed(name: str, x: Tensor, dtype: torch.dtype) -> None:
    """Ask for a tensor of that dtype: `TypeError`."""
    if x.dtype != dtype:
        raise TypeError(f"{name} must be {str(dtype).removeprefix('torch.')}, got {x.dtype}")


def floating(name: str, x: Tensor) -> None:
    """Ask for a floating tensor: `TypeError`."""
    if not x.is_floating_point():
        raise TypeError(f"{name} must be floating, got {x.dtype}")


def integers(name: str, x: Tensor) -> None:
    """Ask for a tensor of integers: `TypeError`."""
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        raise TypeError(f"{name} must be integers, got {x.dtype}")


def shape(name: str, x: Tensor, *axes: int | str) -> None:
    """Ask for these axes: `ValueError`; each is a length, any, `"time"`, or one, `"time >= 2"`."""
    fits = x.ndim == len(axes)
    for length, axis in zip(x.shape, axes, strict=False):
        least = int(axis.partition(" >= ")[2] or 0) if isinstance(axis, str) else axis
        fits = fits and (length >= least if isinstance(axis, str) else length == least)
    if not fits:
        wanted = ", ".join(map(str, axes))
        raise ValueError(f"{name} must have shape [{wanted}], got {list(x.shape)}")


def last_dim(name: str, x: Tensor, dim: int) -> None:
    """Ask for a tensor `[..., dim]`: `ValueError`."""
    if x.ndim == 0 or x.shape[-1] != dim:
        raise ValueError(f"{name} must have shape [..., {dim}], got {list(x.shape)}")


def tokens(name: str, x: Tensor, dim: int) -> None:
    """Ask for a floating tensor `[..., dim]`: `TypeError` or `ValueError`."""
    floating(name, x)
    last_dim(name, x, dim)


def finite(name: str, x: Tensor) -> None:
    """Ask for finite numbers: `ValueError`. A compiled graph cannot stop to look at values."""
    if not torch.compiler.is_compiling() and not x.isfinite().all():
        raise ValueError(f"{name} must be finite, got {x[~x.isfinite()][:8].tolist()}")


def indices(name: str, x: Tensor, count: int, error: type[Exception] = IndexError) -> None:
    """Ask for integers in 0 … `count` − 1: `error`. Nor does a compiled graph look at these."""
    if not torch.compiler.is_compiling() and x.numel():
        low, high = int(x.min()), int(x.max())
        if low < 0 or high >= count:
            raise error(f"{name} must be in 0 … {count - 1}, got {low} … {high}")


def renamed(module: nn.Module, names: dict[str, str]) -> None:
    """Let a module load a `state_dict` of old names; `names` maps the first part of each."""

    def rename(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
        for key in [key for key in state if key.startswith(prefix)]:
            first, dot, rest = key.removeprefix(prefix).partition(".")
            if first in names:
                state[f"{prefix}{names[first]}{dot}{rest}"] = state.pop(key)

    module.register_load_state_dict_pre_hook(rename)
