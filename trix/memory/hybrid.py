"""Hybrid heads: some remember far back in slots, others read the latest tokens exactly."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from trix.address.checks import positive
from trix.memory.convolved import Convolved
from trix.memory.slots import PARTS, MemoryState, RoutedMemory
from trix.memory.streaming import check_kind, head_width
from trix.memory.window import WindowAttention, WindowState


class HybridState(NamedTuple):
    """The states of the two kinds of heads."""

    memory: MemoryState
    window: WindowState


class HybridHeads(nn.Module):
    """A memory and a window that read the same tokens; what they read is added up.

    Args:
        memory: the routed heads.
        window: the others, of as many features.
    """

    def __init__(self, memory: RoutedMemory, window: WindowAttention) -> None:
        """See the class."""
        super().__init__()
        if memory.dim != window.dim:
            raise ValueError(f"memory and window must be as wide, got {memory.dim}, {window.dim}")
        self.memory, self.window = memory, window

    def initial_state(self, batch: int) -> HybridState:
        """Return the state before the first token."""
        return HybridState(self.memory.initial_state(batch), self.window.initial_state(batch))

    def forward(self, x: Tensor, state: HybridState | None = None) -> tuple[Tensor, HybridState]:
        """Read the past and the present of tokens `[batch, time >= 1, dim]`, as both layers do."""
        first, second = (None, None) if state is None else check_kind(state, HybridState)
        far, memory = self.memory(x, first)
        near, window = self.window(x, second)
        return far + near, HybridState(memory, window)


class HybridMixer(Convolved):
    """Heads of a `RoutedMemory` and of a `WindowAttention`, side by side.

    All see the tokens through one short convolution, and a head is as wide as in a layer of one
    kind. What the two kinds read is added up, which is one projection of all heads.

    Args:
        dim: features, a multiple of `heads`.
        heads: of both kinds together.
        routed: heads of the memory, at least one and less than all.
        slots: of each routed head.
        window: tokens that the other heads read. With half as many as there are slots, all heads
            keep a state of the same size, up to a token.
        top_k: see `RoutedMemory`.
        parts: of the memory, see `RoutedMemory`; the convolution is there anyway.

    Raises:
        TypeError: a count is not an integer.
        ValueError: as for `RoutedMemory` and `WindowAttention`, or `routed` leaves no other head.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 4,
        routed: int = 2,
        slots: int = 64,
        window: int = 32,
        top_k: int | None = None,
        parts: Sequence[str] = PARTS,
    ) -> None:
        """See the class."""
        width = head_width(dim, heads)
        if positive("routed", routed) >= heads:
            raise ValueError(f"routed must be less than the {heads} heads, got {routed}")
        parts = [part for part in parts if part != "convolution"]
        memory = RoutedMemory(dim, routed, slots, top_k, parts, width)
        super().__init__(
            dim, HybridHeads(memory, WindowAttention(dim, heads - routed, window, width))
        )
