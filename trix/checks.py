"""Guards of arguments, and old names of parameters, shared by the whole library."""

from collections.abc import Collection
from typing import Any, TypeVar

from torch import Tensor, nn

T = TypeVar("T")


def positive(name: str, value: int) -> int:
    """Return `value` when it is an integer of at least one; raise otherwise."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value


def place(name: str, value: int, count: int) -> int:
    """Return `value` when it is an integer in 0 … count − 1; raise otherwise."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if not 0 <= value < count:
        raise IndexError(f"{name} must be in 0 … {count - 1}, got {value}")
    return value


def last_dim(name: str, x: Tensor, dim: int) -> None:
    """Raise `ValueError` unless the last axis of `x` has length `dim`."""
    if x.ndim == 0 or x.shape[-1] != dim:
        raise ValueError(f"{name} must have shape [..., {dim}], got {list(x.shape)}")


def tokens(name: str, x: Tensor, dim: int) -> None:
    """Raise `TypeError` unless `x` is floating, `ValueError` unless its last axis is `dim` long."""
    if not x.is_floating_point():
        raise TypeError(f"{name} must be floating, got {x.dtype}")
    last_dim(name, x, dim)


def one_of(name: str, value: T, allowed: Collection[T]) -> T:
    """Return `value` when it is one of `allowed`; raise `ValueError` otherwise."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {sorted(allowed, key=str)}, got {value!r}")
    return value


def between(name: str, value: float, low: float, high: float) -> float:
    """Return `value` when it is a number from `low` to `high`; raise `ValueError` otherwise."""
    if not low <= value <= high:  # NaN lies nowhere
        raise ValueError(f"{name} must be from {low} to {high}, got {value!r}")
    return value


def renamed(module: nn.Module, names: dict[str, str]) -> None:
    """Let a module load a `state_dict` that was saved when its parameters had other names.

    Args:
        module: it gets a hook.
        names: the first component of each old name, and the new one.
    """

    def rename(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
        for key in [key for key in state if key.startswith(prefix)]:
            first, dot, rest = key.removeprefix(prefix).partition(".")
            if first in names:
                state[f"{prefix}{names[first]}{dot}{rest}"] = state.pop(key)

    module.register_load_state_dict_pre_hook(rename)
