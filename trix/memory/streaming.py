"""The contract of mixers, the layers that read earlier tokens, and what they check alike."""

from typing import Any

import torch
from torch import Tensor, nn

from trix.checks import floating, positive, shape


class Mixer(nn.Module):
    """A layer that mixes tokens over time: all at once, in chunks, or step by step.

    `y, state = layer(x, state)` maps tokens `[batch, time >= 1, dim]`, and the state that an
    earlier call returned, to outputs of the same shape and the state after the last token. Without
    a state, nothing came before. However a text is cut, outputs, states and gradients agree. The
    given state is not changed. Once a token is not finite, all outputs of its text are NaN for as
    long as the layer remembers it; other texts are untouched.

    Raises:
        TypeError: `x` is not floating, or the state is of another kind of layer.
        ValueError: `x` is not `[batch, time >= 1, dim]`, or the state is of another layer, batch or
            dtype.
    """

    dim: int

    def initial_state(self, batch: int) -> Any:
        """Return the state before the first token."""
        raise NotImplementedError

    def resumed(self, x: Tensor, state: Any, grows: int | None = None) -> Any:
        """Return the state to go on from, checked as tokens are; the axis `grows` may be longer."""
        check_tokens(x, self.dim)
        first = self.initial_state(len(x))
        if state is None:
            return type(first)(*(part.to(x.dtype) for part in first))
        opened(state, type(first))
        for name, wanted, given in zip(first._fields, first, state, strict=True):
            expected = list(wanted.shape)
            if grows is not None and grows < len(expected) == given.ndim:
                expected[grows] = state[0].shape[grows]
            check_part(name, given, expected, x.dtype)
        return state

    def extra_repr(self) -> str:
        """Tell the sizes."""
        names = ("dim", "heads", "slots", "top_k", "window", "width")
        sizes = {name: getattr(self, name, None) for name in names}
        return ", ".join(f"{name}={size}" for name, size in sizes.items() if size is not None)


def check_tokens(x: Tensor, dim: int) -> None:
    """Ask for floating tokens, `[batch, time >= 1, dim]`: `TypeError` or `ValueError`."""
    floating("x", x)
    shape("x", x, "batch", "time >= 1", dim)


def opened(state: Any, kind: Any) -> Any:
    """Return a state's parts, each None without a state: `TypeError` unless it is a `kind`."""
    if state is None:
        return (None,) * len(kind._fields)
    if type(state) is not kind:
        raise TypeError(f"state must be a {kind.__name__}, got a {type(state).__name__}")
    return state


def check_part(name: str, given: Tensor, expected: list[int], dtype: torch.dtype) -> None:
    """Ask for a part of a state of that shape and dtype: `ValueError`."""
    if list(given.shape) != expected or given.dtype != dtype:
        raise ValueError(
            f"state.{name} must be {expected} of {dtype}, got {list(given.shape)} of {given.dtype}"
        )


def not_finite(x: Tensor) -> Tensor:
    """Return 0 for finite tokens of `[batch, time, dim]`, NaN for others, `[batch, time, 1]`."""
    # A masked product would carry what is not finite to earlier tokens. So mixers take such tokens
    # out, and add these marks, which have no gradient, to the outputs that should be NaN.
    return 0 * x.detach().sum(dim=-1, keepdim=True)


def head_width(dim: int, heads: int, width: int | None = None) -> int:
    """Return the features of a head: `width`, or `dim / heads` when that is not given."""
    if positive("dim", dim) % positive("heads", heads) and width is None:
        raise ValueError(f"dim must be a multiple of heads, got dim={dim}, heads={heads}")
    return dim // heads if width is None else positive("width", width)
