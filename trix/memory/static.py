"""Static memory: the notes' prototype, whose slots hold constants."""

import math

import torch
from torch import Tensor, nn

from trix.address.checks import positive
from trix.address.rows import SignatureRows
from trix.memory.parts import slot_shares
from trix.memory.streaming import check_tokens, head_width


class StaticMemory(nn.Module):
    """Slots with learned contents in place of attention: every token reads, and none writes.

    A head looks at a token through a query and reads the slots whose ternary signatures match it
    best. What it reads was learned and is the same for every text, so no token ever sees another: a
    model of such layers predicts from the present character alone (and from its position, where it
    is told). Source: the routed memory of the P0 summary.

    Args:
        dim: features, a multiple of `heads`.
        heads: memories side by side.
        slots: of each.
        top_k: slots that a token reads, each with its share of the softmax over all.
        bias: whether the projections have biases.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a count below 1, heads that do not divide `dim`, or `top_k` above `slots`.
    """

    def __init__(
        self, dim: int, heads: int = 4, slots: int = 64, top_k: int = 1, bias: bool = False
    ) -> None:
        """See the class. Contents begin normal, with a standard deviation of one."""
        super().__init__()
        width = head_width(dim, heads)
        if positive("top_k", top_k) > positive("slots", slots):
            raise ValueError(f"top_k must be at most the {slots} slots, got {top_k}")
        self.dim, self.heads, self.slots, self.top_k = dim, heads, slots, top_k
        self.query = nn.Linear(dim, dim, bias=bias)
        self.rows = SignatureRows(heads * slots, width)
        self.contents = nn.Parameter(torch.randn(heads, slots, width))
        self.out = nn.Linear(dim, dim, bias=bias)

    def initial_state(self, batch: int) -> tuple[()]:
        """Return the state before the first token, which is that after every other: nothing."""
        return ()

    def forward(self, x: Tensor, state: tuple[()] | None = None) -> tuple[Tensor, tuple[()]]:
        """Read the slots for tokens `[batch, time >= 1, dim]`; return as many, and no state.

        Raises:
            TypeError: `x` is not floating, or the state of another kind of layer.
            ValueError: `x` is not `[batch, time >= 1, dim]`.
        """
        check_tokens(x, self.dim)
        if state not in (None, ()):
            raise TypeError(f"state must be (), got a {type(state).__name__}")
        read = self.addresses(x) @ self.contents.to(x.dtype)
        return self.out(read.transpose(1, 2).flatten(2)), ()

    def addresses(self, x: Tensor) -> Tensor:
        """Return how much tokens `[batch, time, dim]` read, `[batch, heads, time, slots]`."""
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        signatures = self.rows().view(self.heads, self.slots, -1).to(query.dtype)
        return slot_shares(query @ signatures.mT / math.sqrt(query.shape[-1]), self.top_k)
