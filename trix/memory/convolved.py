"""Attention behind a short convolution: the control that asks what the rest of a memory adds."""

from typing import Any, NamedTuple

from torch import Tensor, nn

from trix.memory.attention import CausalAttention
from trix.memory.parts import ShortConvolution


class ConvolvedState(NamedTuple):
    """The latest tokens, `[batch, width - 1, dim]`, and the attention's own state."""

    past: Tensor
    inner: Any


class ConvolvedAttention(nn.Module):
    """Softmax attention that sees each token through a short convolution, as `RoutedMemory` does.

    Args:
        dim: features, a multiple of `heads`.
        heads: of the attention.
    """

    def __init__(self, dim: int, heads: int = 4) -> None:
        """See the class.

        Queries, keys and values begin with a standard deviation of 1/√dim, as those of the memory.
        """
        super().__init__()
        self.convolution = ShortConvolution(dim)
        self.attention = CausalAttention(dim, heads)
        nn.init.normal_(self.attention.qkv.weight, std=dim**-0.5)

    def initial_state(self, batch: int) -> ConvolvedState:
        """Return the state before the first token."""
        return ConvolvedState(
            self.convolution.initial_state(batch), self.attention.initial_state(batch)
        )

    def forward(
        self, x: Tensor, state: ConvolvedState | None = None
    ) -> tuple[Tensor, ConvolvedState]:
        """Read the past and the present of tokens `[batch, time, dim]`; see `CausalAttention`.

        Raises:
            ValueError: `x` is not `[batch, time, dim]`.
        """
        if x.ndim != 3 or x.shape[2] != self.attention.dim:
            raise ValueError(f"x must be [batch, time, {self.attention.dim}], got {list(x.shape)}")
        past, inner = (self.convolution.initial_state(len(x)), None) if state is None else state
        seen, past = self.convolution(x, past)
        y, inner = self.attention(seen, inner)
        return y, ConvolvedState(past, inner)
