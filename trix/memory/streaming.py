"""What all mixers share: a state that is checked, and tokens that are not finite."""

from typing import Any

import torch
from torch import Tensor

from trix.checks import positive, tokens


def check_tokens(x: Tensor, dim: int) -> None:
    """Raise unless `x` is floating tokens, `[batch, time >= 1, dim]`.

    Raises:
        TypeError: `x` is not floating.
        ValueError: it has another shape, or no token.
    """
    tokens("x", x, dim)
    if x.ndim != 3 or x.shape[1] == 0:
        raise ValueError(f"x must be [batch, time >= 1, {dim}], got {list(x.shape)}")


def check_kind(state: Any, kind: type) -> Any:
    """Return `state` when it is a `kind`; raise `TypeError` otherwise."""
    if type(state) is not kind:
        raise TypeError(f"state must be a {kind.__name__}, got a {type(state).__name__}")
    return state


def check_state(state: Any, expected: Any, dtype: torch.dtype, grows: int | None = None) -> None:
    """Raise unless a state is of the layer and the batch that `expected` is of.

    Args:
        state: a named tuple of tensors, from an earlier call.
        expected: the layer's state before the first token, for the present batch.
        dtype: what the state's tensors must be.
        grows: the axis that may have any length, the same one in all tensors that have it.

    Raises:
        TypeError: the state is of another kind.
        ValueError: its shapes or dtypes are others.
    """
    check_kind(state, type(expected))
    for name, wanted, given in zip(expected._fields, expected, state, strict=True):
        shape = list(wanted.shape)
        if grows is not None and grows < len(shape) == given.ndim:
            shape[grows] = state[0].shape[grows]
        check_part(name, given, shape, dtype)


def check_part(name: str, given: Tensor, shape: list[int], dtype: torch.dtype) -> None:
    """Raise `ValueError` unless a part of a state has the shape and the dtype it should have."""
    if list(given.shape) != shape or given.dtype != dtype:
        raise ValueError(
            f"state.{name} must be {shape} of {dtype}, got {list(given.shape)} of {given.dtype}"
        )


def not_finite(x: Tensor) -> Tensor:
    """Return 0 for finite tokens of `[batch, time, dim]` and NaN for others, without a gradient.

    Mixers take what is not finite out, because a masked product would carry it to earlier tokens,
    and add these marks where it belongs.

    Returns:
        `[batch, time, 1]`.
    """
    return 0 * x.detach().sum(dim=-1, keepdim=True)


def head_width(dim: int, heads: int, width: int | None = None) -> int:
    """Return the features of a head: `width`, or `dim / heads` when that is not given.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a count below 1, or heads that do not divide `dim` where no width is given.
    """
    if positive("dim", dim) % positive("heads", heads) and width is None:
        raise ValueError(f"dim must be a multiple of heads, got dim={dim}, heads={heads}")
    return dim // heads if width is None else positive("width", width)
