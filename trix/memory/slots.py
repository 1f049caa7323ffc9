"""Routed memory: tokens write to the slots that match, and read the slots that match."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.checks import positive, tokens
from trix.address.rows import SignatureRows
from trix.memory.parts import Fading, OutputGate, ShortConvolution, slot_shares
from trix.memory.recurrence import slot_scan

PARTS = ("convolution", "fading", "gate")


class MemoryState(NamedTuple):
    """What a routed memory carries on; its size does not depend on how much was read.

    Attributes:
        slots: `[batch, heads, slots, dim / heads]`.
        past: the latest tokens, for the convolution, `[batch, width - 1, dim]`; empty without one.
    """

    slots: Tensor
    past: Tensor


class RoutedMemory(nn.Module):
    r"""Slots that the sequence itself fills, addressed by ternary signatures.

    A head looks at a token through a query :math:`q_t` and has two signatures a slot, one to write
    by and one to read by. The addresses are soft choices among the slots,

    .. math:: w_t = \mathrm{softmax}(q_t \cdot \sigma^w / \tau), \qquad
        r_t = \mathrm{softmax}(q_t \cdot \sigma^r / \tau)

    and the slots :math:`S_t = a_t S_{t-1} + w_t v_t^\top` answer :math:`y_t = S_t^\top r_t`, which
    is brought to unit size, gated and mixed over heads. Since addresses are not negative and add up
    to one, this is linear attention whose feature map is the routing (Katharopoulos et al. 2020;
    slots that share it: Peng et al. 2022, Zhang et al. 2024). There are no positions: what knows
    the order is the convolution before the queries and the fading of the slots, and both go on past
    any length.

    Args:
        dim: features, a multiple of `heads`.
        heads: memories side by side.
        slots: of each.
        top_k: slots that a token writes to and reads, each with its share of the softmax over all;
            the others are left exactly as they are, but for fading. All when not given.
        parts: which of `PARTS` the memory has.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a count below 1, heads that do not divide `dim`, `top_k` above `slots`, or an
            unknown part.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 4,
        slots: int = 64,
        top_k: int | None = None,
        parts: Sequence[str] = PARTS,
    ) -> None:
        """See the class. Queries and values begin with a standard deviation of 1/√dim."""
        super().__init__()
        if positive("dim", dim) % positive("heads", heads):
            raise ValueError(f"dim must be a multiple of heads, got dim={dim}, heads={heads}")
        positive("slots", slots)
        if top_k is not None and positive("top_k", top_k) > slots:
            raise ValueError(f"top_k must be at most the {slots} slots, got {top_k}")
        if unknown := set(parts) - set(PARTS):
            raise ValueError(f"parts must be of {PARTS}, got {sorted(unknown)}")
        self.dim, self.heads, self.slots, self.top_k = dim, heads, slots, top_k
        width = dim // heads
        self.query = nn.Parameter(torch.randn(dim, dim) / math.sqrt(dim))
        self.value = nn.Parameter(torch.randn(dim, dim) / math.sqrt(dim))
        self.write_rows = SignatureRows(heads * slots, width)
        self.read_rows = SignatureRows(heads * slots, width)
        self.log_sharpness = nn.Parameter(torch.zeros(2, heads, 1, 1))
        self.convolution = ShortConvolution(dim) if "convolution" in parts else None
        self.fading = Fading(dim, heads) if "fading" in parts else None
        self.gate = OutputGate(dim) if "gate" in parts else None
        self.norm = nn.Parameter(torch.ones(dim))
        self.out = nn.Linear(dim, dim, bias=False)

    def initial_state(self, batch: int) -> MemoryState:
        """Return the state before the first token: empty slots."""
        shape = (batch, self.heads, self.slots, self.dim // self.heads)
        past = self.value.new_zeros(batch, 0, self.dim)
        if self.convolution is not None:
            past = self.convolution.initial_state(batch)
        return MemoryState(self.value.new_zeros(shape), past)

    def forward(self, x: Tensor, state: MemoryState | None = None) -> tuple[Tensor, MemoryState]:
        """Write every token, then read it.

        Args:
            x: tokens `[batch, time >= 1, dim]`.
            state: what came before, from an earlier call; nothing when not given.

        Returns:
            The output `[batch, time, dim]` and the state after the last token. The given state is
            not changed. Of a text with a token that is not finite, all is NaN from there on.

        Raises:
            TypeError: `x` is not floating.
            ValueError: `x` is not `[batch, time >= 1, dim]`, or the state is of another layer,
                batch or dtype.
        """
        tokens("x", x, self.dim)
        if x.ndim != 3 or x.shape[1] == 0:
            raise ValueError(f"x must be [batch, time >= 1, {self.dim}], got {list(x.shape)}")
        if state is None:
            state = MemoryState(*(part.to(x.dtype) for part in self.initial_state(len(x))))
        self._check(x, state)
        # zero as long as all was finite, then NaN: products with masks would carry it backwards
        broken = (0 * x.detach().sum(dim=-1, keepdim=True)).cumsum(dim=1)
        x = x.masked_fill(broken.isnan(), 0.0)
        seen, past = x, state.past
        if self.convolution is not None:
            seen, past = self.convolution(x, past)
        write, read = self.addresses(seen)
        value = self._heads(seen @ self.value.T.to(x.dtype))
        fading = None if self.fading is None else self.fading(seen)
        answer, slots = slot_scan(read, write, value, state.slots, fading)
        answer = F.rms_norm(answer, answer.shape[-1:], eps=1e-6)
        mixed = answer.transpose(1, 2).flatten(2) * self.norm.to(x.dtype)
        if self.gate is not None:
            mixed = mixed * self.gate(seen)
        slots = slots + broken[:, -1:, :, None]
        return self.out(mixed) + broken, MemoryState(slots, past)

    def addresses(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return how much of each slot tokens write and read, `[batch, heads, time, slots]` each.

        Args:
            seen: tokens as the convolution left them, `[batch, time, dim]`.
        """
        query = self._heads(seen @ self.query.T.to(seen.dtype))
        shares = []
        for rows, sharpness in zip(
            (self.write_rows, self.read_rows), self.log_sharpness.exp(), strict=True
        ):
            signatures = rows().view(self.heads, self.slots, -1).to(seen.dtype)
            score = query @ signatures.mT * (sharpness.to(seen.dtype) / math.sqrt(query.shape[-1]))
            shares.append(slot_shares(score, self.top_k))
        return shares[0], shares[1]

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _check(self, x: Tensor, state: MemoryState) -> None:
        expected = self.initial_state(len(x))
        for name, wanted, given in zip(state._fields, expected, state, strict=True):
            if given.shape != wanted.shape or given.dtype != x.dtype:
                raise ValueError(
                    f"state.{name} must be {list(wanted.shape)} of {x.dtype}, "
                    f"got {list(given.shape)} of {given.dtype}"
                )
