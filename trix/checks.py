"""Small argument checks shared by the whole library."""

from torch import Tensor


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
