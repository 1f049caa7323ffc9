"""What a routed memory is compared with: unwritten slots, a shared convolution, mixed heads."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trix.address.signatures import SignatureRows
from trix.checks import at_most, positive
from trix.memory.attention import CausalAttention, WindowAttention, WindowState
from trix.memory.parts import WIDTH, ShortConvolution, slot_shares
from trix.memory.slots import PARTS, MemoryState, RoutedMemory
from trix.memory.streaming import Mixer, check_tokens, head_width, opened


class NoState(NamedTuple):
    """The state of a layer that remembers nothing."""


class StaticMemory(Mixer):
    """Slots with learned contents in place of attention: every token reads, and none writes.

    A head reads the slots whose ternary signatures match its query best. What it reads was learned
    and is the same for every text: a model of such layers predicts from the present character alone
    (and its position, where there are embeddings). Source: the routed memory of the P0 summary.

    >>> layer = StaticMemory(8, heads=2, slots=16)
    >>> y, state = layer(torch.zeros(1, 5, 8))
    >>> list(y.shape), len(state)
    ([1, 5, 8], 0)

    Args:
        dim, heads, slots: features, a multiple of `heads`; memories side by side; slots of each.
        top_k: slots that a token reads, each with its share of the softmax over all.
        bias: whether the projections have biases.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a size below 1, heads that do not divide `dim`, or `top_k` above `slots`.
    """

    def __init__(
        self, dim: int, heads: int = 4, slots: int = 64, top_k: int = 1, bias: bool = False
    ) -> None:
        super().__init__()
        width = head_width(dim, heads)
        at_most("top_k", top_k, positive("slots", slots), "slots")
        self.dim, self.heads, self.slots, self.top_k = dim, heads, slots, top_k
        self.query = nn.Linear(dim, dim, bias=bias)
        self.rows = SignatureRows(heads * slots, width)
        self.contents = nn.Parameter(torch.randn(heads, slots, width))
        self.out = nn.Linear(dim, dim, bias=bias)

    def initial_state(self, batch: int) -> NoState:
        return NoState()

    def forward(self, x: Tensor, state: NoState | None = None) -> tuple[Tensor, NoState]:
        nothing: NoState = self.resumed(x, state)
        read = self.addresses(x) @ self.contents.to(x.dtype)
        return self.out(read.transpose(1, 2).flatten(2)), nothing

    def addresses(self, x: Tensor) -> Tensor:
        """Return how much of each slot tokens read, `[batch, heads, time, slots]`."""
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        signatures = self.rows().view(self.heads, self.slots, -1).to(query.dtype)
        return slot_shares(query @ signatures.mT / math.sqrt(query.shape[-1]), self.top_k)


class ConvolvedState(NamedTuple):
    """The latest tokens, `[batch, width - 1, dim]`, and the inner mixer's own state."""

    past: Tensor
    inner: Any


class Convolved(Mixer):
    """A mixer that sees each token through a short convolution, as `RoutedMemory` does."""

    def __init__(self, dim: int, inner: Mixer, width: int = WIDTH) -> None:
        super().__init__()
        self.dim = dim
        self.convolution = ShortConvolution(dim, width)
        self.inner: Any = inner

    def initial_state(self, batch: int) -> ConvolvedState:
        first = self.convolution.initial_state(batch)
        return ConvolvedState(first, self.inner.initial_state(batch))

    def forward(
        self, x: Tensor, state: ConvolvedState | None = None
    ) -> tuple[Tensor, ConvolvedState]:
        check_tokens(x, self.dim)
        past, inner = opened(state, ConvolvedState)
        seen, past = self.convolution(x, past)
        y, inner = self.inner(seen, inner)
        return y, ConvolvedState(past, inner)


class ConvolvedAttention(Convolved):
    """Softmax attention behind a short convolution, initialized as `RoutedMemory` is.

    >>> layer = ConvolvedAttention(8, heads=2)
    >>> y, state = layer(torch.zeros(1, 5, 8))
    >>> list(y.shape), list(state.past.shape)
    ([1, 5, 8], [1, 3, 8])

    Args:
        dim, heads: features, a multiple of the attention's `heads`.
        width: tokens that the convolution sees; 1 for attention with this initialization alone.
    """

    def __init__(self, dim: int, heads: int = 4, width: int = WIDTH) -> None:
        super().__init__(dim, CausalAttention(dim, heads), width)
        nn.init.normal_(self.inner.qkv.weight, std=dim**-0.5)


class ConvolvedStatic(Convolved):
    """A `StaticMemory` behind the convolution: unwritten slots that know the latest tokens."""

    def __init__(self, dim: int, heads: int = 4, slots: int = 64, top_k: int = 1) -> None:
        super().__init__(dim, StaticMemory(dim, heads, slots, top_k))


class HybridState(NamedTuple):
    """The states of both kinds of heads."""

    memory: MemoryState
    window: WindowState


class HybridHeads(Mixer):
    """A memory and a window, both of `dim`, that read the same tokens; their outputs are added."""

    def __init__(self, memory: RoutedMemory, window: WindowAttention) -> None:
        super().__init__()
        if memory.dim != window.dim:
            raise ValueError(f"memory and window must be as wide, got {memory.dim}, {window.dim}")
        self.dim, self.memory, self.window = memory.dim, memory, window

    def initial_state(self, batch: int) -> HybridState:
        return HybridState(self.memory.initial_state(batch), self.window.initial_state(batch))

    def forward(self, x: Tensor, state: HybridState | None = None) -> tuple[Tensor, HybridState]:
        first, second = opened(state, HybridState)
        far, memory = self.memory(x, first)
        near, window = self.window(x, second)
        return far + near, HybridState(memory, window)


class HybridMixer(Convolved):
    """Heads of a `RoutedMemory` and of a `WindowAttention`, side by side.

    All see the tokens through one short convolution; a head is as wide as in a layer of one kind.

    >>> layer = HybridMixer(8, heads=2, routed=1, slots=16, window=4)
    >>> y, state = layer(torch.zeros(1, 9, 8))
    >>> list(y.shape), list(state.inner.memory.slots.shape)
    ([1, 9, 8], [1, 1, 16, 4])

    Args:
        dim, heads: features, a multiple of `heads`, of both kinds together.
        routed, slots: heads of the memory, at least one and less than all, and slots of each.
        window: tokens that the other heads read.
        top_k, parts: see `RoutedMemory`; the convolution is there anyway.

    Raises:
        TypeError: a size is not an integer.
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
        width = head_width(dim, heads)
        if positive("routed", routed) >= heads:
            raise ValueError(f"routed must be less than the {heads} heads, got {routed}")
        parts = [part for part in parts if part != "convolution"]
        memory = RoutedMemory(dim, routed, slots, top_k, parts, width)
        attention = WindowAttention(dim, heads - routed, window, width)
        super().__init__(dim, HybridHeads(memory, attention))
