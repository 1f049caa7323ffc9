"""Mixers behind a short convolution: the controls that ask what the rest of a memory adds."""

from typing import Any, NamedTuple

from torch import Tensor, nn

from trix.memory.attention import CausalAttention
from trix.memory.parts import WIDTH, ShortConvolution
from trix.memory.static import StaticMemory
from trix.memory.streaming import check_kind, check_tokens


class ConvolvedState(NamedTuple):
    """The latest tokens, `[batch, width - 1, dim]`, and the inner mixer's own state."""

    past: Tensor
    inner: Any


class Convolved(nn.Module):
    """A mixer that sees each token through a short convolution, as `RoutedMemory` does.

    Args:
        dim: features.
        inner: the mixer.
        width: tokens that are seen, the present one included.
    """

    def __init__(self, dim: int, inner: nn.Module, width: int = WIDTH) -> None:
        """See the class."""
        super().__init__()
        self.dim = dim
        self.convolution = ShortConvolution(dim, width)
        self.inner: Any = inner

    def initial_state(self, batch: int) -> ConvolvedState:
        """Return the state before the first token."""
        return ConvolvedState(
            self.convolution.initial_state(batch), self.inner.initial_state(batch)
        )

    def forward(
        self, x: Tensor, state: ConvolvedState | None = None
    ) -> tuple[Tensor, ConvolvedState]:
        """Read the past and the present of `[batch, time >= 1, dim]`, as the inner mixer does.

        Raises:
            TypeError: `x` is not floating, or the state of another kind of layer.
            ValueError: `x` is not `[batch, time >= 1, dim]`, or the state is of another layer,
                batch or dtype.
        """
        check_tokens(x, self.dim)
        if state is None:
            past, inner = self.convolution.initial_state(len(x)).to(x.dtype), None
        else:
            past, inner = check_kind(state, ConvolvedState)
        seen, past = self.convolution(x, past)
        y, inner = self.inner(seen, inner)
        return y, ConvolvedState(past, inner)


class ConvolvedAttention(Convolved):
    """Softmax attention behind the convolution.

    Args:
        dim: features, a multiple of `heads`.
        heads: of the attention.
        width: tokens that the convolution sees; 1 for attention that only begins as wide.
    """

    def __init__(self, dim: int, heads: int = 4, width: int = WIDTH) -> None:
        """See the class.

        Queries, keys and values begin with a standard deviation of 1/√dim, as those of the memory.
        """
        super().__init__(dim, CausalAttention(dim, heads), width)
        nn.init.normal_(self.inner.qkv.weight, std=dim**-0.5)


class ConvolvedStatic(Convolved):
    """A `StaticMemory` behind the convolution: soft slots that know the latest tokens, unwritten.

    Args:
        dim: features, a multiple of `heads`.
        heads: memories side by side.
        slots: of each.
        top_k: slots that a token reads.
    """

    def __init__(self, dim: int, heads: int = 4, slots: int = 64, top_k: int = 1) -> None:
        """See the class."""
        super().__init__(dim, StaticMemory(dim, heads, slots, top_k))
