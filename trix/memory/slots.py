"""Routed memory: tokens write to the slots that match, and read the slots that match."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.signatures import SignatureRows
from trix.checks import positive, renamed
from trix.memory.content import SlotKeys
from trix.memory.parts import (
    Decay,
    OutputGate,
    Rotation,
    ShortConvolution,
    Strength,
    slot_shares,
)
from trix.memory.recurrence import delta_scan, slot_scan
from trix.memory.streaming import check_state, check_tokens, head_width, not_finite

PARTS = ("convolution", "decay", "gate")
"""What a memory has unless it is told otherwise."""
MORE_PARTS = ("rotation", "delta", "content")
"""What it can have as well; content stands for the other two."""


class MemoryState(NamedTuple):
    """What a routed memory carries on; its size does not depend on how much was read.

    Attributes:
        slots: `[batch, heads, slots, width]`; with content reads twice as wide, keys before values.
        past: the latest tokens, for the convolution, `[batch, 3, dim]`; empty without one.
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
    the order is the convolution before the queries and the decay of the slots, and both go on past
    any length.

    Three more parts change how slots are written and read:

    - rotation: pairs of slots turn with time, so that a read address can ask how long ago;
    - delta: a token replaces what its address holds rather than adding to it, by the gated delta
      rule where slots fade;
    - content: slots hold keys as well, and are read by those rather than by signatures.

    Args:
        dim: features, a multiple of `heads` unless `width` is given.
        heads: memories side by side.
        slots: of each.
        top_k: slots that a token writes to and reads, each with its share of the softmax over all;
            the others are left exactly as they are, but for decay (and for turning in pairs). All
            when not given.
        parts: which of `PARTS` and `MORE_PARTS` the memory has.
        width: features of a head, `dim / heads` when not given.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a count below 1, heads that do not divide `dim`, `top_k` above `slots`, an
            unknown part, parts that do not go together, or an odd number of slots to turn.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 4,
        slots: int = 64,
        top_k: int | None = None,
        parts: Sequence[str] = PARTS,
        width: int | None = None,
    ) -> None:
        """See the class. Queries and values begin with a standard deviation of 1/√dim."""
        super().__init__()
        width = head_width(dim, heads, width)
        positive("slots", slots)
        if top_k is not None and positive("top_k", top_k) > slots:
            raise ValueError(f"top_k must be at most the {slots} slots, got {top_k}")
        _check_parts(parts)
        self.dim, self.heads, self.slots, self.top_k, self.width = dim, heads, slots, top_k, width
        inner = heads * width
        self.query = nn.Parameter(torch.randn(inner, dim) / math.sqrt(dim))
        self.value = nn.Parameter(torch.randn(inner, dim) / math.sqrt(dim))
        self.write_rows = SignatureRows(heads * slots, width)
        by_content = "content" in parts
        if not by_content:
            self.read_rows = SignatureRows(heads * slots, width)
        renamed(self, {"fading": "decay", "log_sharpness": "log_inverse_temperature"})
        self.log_inverse_temperature = nn.Parameter(torch.zeros(2, heads, 1, 1))
        self.convolution = ShortConvolution(dim) if "convolution" in parts else None
        self.decay = Decay(dim, heads) if "decay" in parts else None
        self.gate = OutputGate(dim, inner) if "gate" in parts else None
        self.rotation = Rotation(slots) if "rotation" in parts else None
        self.strength = Strength(dim, heads) if "delta" in parts else None
        self.keys = SlotKeys(dim, heads, width) if by_content else None
        self.norm = nn.Parameter(torch.ones(inner))
        self.out = nn.Linear(inner, dim, bias=False)

    def initial_state(self, batch: int) -> MemoryState:
        """Return the state before the first token: empty slots."""
        kept = self.width if self.keys is None else 2 * self.width
        past = self.value.new_zeros(batch, 0, self.dim)
        if self.convolution is not None:
            past = self.convolution.initial_state(batch)
        return MemoryState(self.value.new_zeros(batch, self.heads, self.slots, kept), past)

    def forward(self, x: Tensor, state: MemoryState | None = None) -> tuple[Tensor, MemoryState]:
        """Write every token, then read it.

        Args:
            x: tokens `[batch, time >= 1, dim]`.
            state: what came before, from an earlier call; nothing when not given.

        Returns:
            The output `[batch, time, dim]` and the state after the last token. The given state is
            not changed. Of a text with a token that is not finite, all is NaN from there on.

        Raises:
            TypeError: `x` is not floating, or the state of another kind of layer.
            ValueError: `x` is not `[batch, time >= 1, dim]`, or the state is of another layer,
                batch or dtype.
        """
        check_tokens(x, self.dim)
        if state is None:
            state = MemoryState(*(part.to(x.dtype) for part in self.initial_state(len(x))))
        check_state(state, self.initial_state(len(x)), x.dtype)
        broken = not_finite(x).cumsum(dim=1) + 0 * state.slots.detach()[:, 0, :1, :1]
        x = x.masked_fill(broken.isnan(), 0.0)
        seen, past = x, state.past
        if self.convolution is not None:
            seen, past = self.convolution(x, past)
        answer, slots = self.remember(seen, state.slots)
        answer = F.rms_norm(answer, answer.shape[-1:], eps=1e-6)
        answer = answer.transpose(1, 2).flatten(2)
        mixed = torch.addcmul(broken, answer, self.norm.to(x.dtype))
        if self.gate is not None:
            mixed = mixed * self.gate(seen)
        slots = slots + broken[:, -1:, :, None]
        return self.out(mixed), MemoryState(slots, past)

    def addresses(self, seen: Tensor, slots: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return how much of each slot tokens write and read, `[batch, heads, time, slots]` each.

        Args:
            seen: tokens as the convolution left them, `[batch, time, dim]`.
            slots: those of the state before, which only content reads depend on; empty when not
                given.
        """
        if slots is None:
            slots = self.initial_state(len(seen)).slots.to(seen.dtype)
        decay = None if self.decay is None else self.decay(seen)
        query = self._heads(seen @ self.query.T.to(seen.dtype))
        write, read, _ = self._address(seen, query, slots, decay)
        return write, read

    def remember(
        self, seen: Tensor, slots: Tensor, value: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Write tokens to slots and read them, without what comes before and after in the layer.

        Args:
            seen: tokens as the convolution left them, `[batch, time, dim]`.
            slots: those of the state before.
            value: what is written, `[batch, heads, time, features]`, for slots as wide; the layer's
                own values when not given. Answers are linear in it.

        Returns:
            The answers `[batch, heads, time, features]` and the slots after the last token.
        """
        query = self._heads(seen @ self.query.T.to(seen.dtype))
        if value is None:
            value = self._heads(seen @ self.value.T.to(seen.dtype))
        decay = None if self.decay is None else self.decay(seen)
        write, read, keys = self._address(seen, query, slots, decay)
        held = slots[..., keys.shape[-1] :]
        if self.rotation is not None:
            write, read = self.rotation.back(write), self.rotation.back(read)
        if self.strength is None:
            answer, held = slot_scan(read, write, value, held, decay)
        else:
            answer, held = delta_scan(read, write, value, self.strength(seen), held, decay)
        if self.rotation is not None:
            held = self.rotation.on(held, seen.shape[1])
        return answer, held if self.keys is None else torch.cat([keys, held], dim=-1)

    def _address(
        self, seen: Tensor, query: Tensor, slots: Tensor, decay: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        # write and read addresses, and the keys of slots after the last token, of no width without
        inverse_temperature = self.log_inverse_temperature.exp().to(seen.dtype) / math.sqrt(
            self.width
        )
        write = slot_shares(self._match(query, self.write_rows, inverse_temperature[0]), self.top_k)
        if self.keys is None:
            score, keys = self._match(query, self.read_rows, inverse_temperature[1]), slots[..., :0]
        else:
            score, keys = self.keys(seen, query, write, slots[..., : self.width], decay)
            score = score * inverse_temperature[1]
        return write, slot_shares(score, self.top_k), keys

    def _match(self, query: Tensor, rows: SignatureRows, inverse_temperature: Tensor) -> Tensor:
        signatures = rows().view(self.heads, self.slots, -1).to(query.dtype)
        return (
            query @ (signatures * inverse_temperature).mT
        )  # few signatures are scaled, not many scores

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _check_parts(parts: Sequence[str]) -> None:
    if unknown := set(parts) - {*PARTS, *MORE_PARTS}:
        raise ValueError(f"parts must be of {(*PARTS, *MORE_PARTS)}, got {sorted(unknown)}")
    if "content" in parts and {"rotation", "delta"} & set(parts):
        raise ValueError(f"content goes with neither rotation nor delta, got {sorted(parts)}")


class MemoryReading(NamedTuple):
    """The addresses of tokens, and how much of each earlier token a later one reads.

    Attributes:
        write: how much of each slot a token writes, `[batch, heads, time, slots]`.
        read: how much of each slot it reads, the same shape.
        back: how much of what token s wrote comes back at token t, `[batch, heads, t, s]`; zero
            where s comes after t.
    """

    write: Tensor
    read: Tensor
    back: Tensor


def memory_reading(layer: RoutedMemory, x: Tensor) -> MemoryReading:
    r"""Read a text with a memory and say what of each token came back at each other.

    A slot holds a sum over tokens, each faded by all that came after it, so what is read is

    .. math:: y_t = \sum_{s \le t} b_{ts}\, v_s, \qquad
        b_{ts} = \sum_m r_{tm} \Big(\prod_{u=s+1}^{t} a_u\Big) w_{sm}

    These are the weights of linear attention (Katharopoulos et al. 2020). With other parts, as
    delta writes, what comes back is another sum, and a weight may be negative. They are found as
    the layer itself would: every token writes a value of its own, a one in its own place, and what
    is read then says how much of whom came back.

    Args:
        layer: the memory; its slots begin empty.
        x: its tokens, `[batch, time >= 1, dim]`, as its `forward` takes them.

    Raises:
        TypeError: `layer` is no `RoutedMemory`, or `x` is not floating.
        ValueError: `x` is not `[batch, time >= 1, dim]`.
    """
    if not isinstance(layer, RoutedMemory):
        raise TypeError(f"layer must be a RoutedMemory, got {type(layer).__name__}")
    check_tokens(x, layer.dim)
    seen = x
    if layer.convolution is not None:
        seen, _ = layer.convolution(x, layer.convolution.initial_state(len(x)))
    write, read = layer.addresses(seen)
    *lead, time, slots = write.shape
    own = torch.eye(time, dtype=write.dtype, device=write.device).expand(*lead, time, time)
    keys = 0 if layer.keys is None else layer.width
    back, _ = layer.remember(seen, own.new_zeros(*lead, slots, keys + time), own)
    return MemoryReading(write, read, back)
