"""Routed memory: tokens write to the slots that match, and read the slots that match."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.signatures import SignatureRows
from trix.checks import at_most, instance, positive, renamed
from trix.memory.parts import (
    Decay,
    OutputGate,
    Rotation,
    ShortConvolution,
    SlotKeys,
    Strength,
    slot_shares,
)
from trix.memory.recurrence import delta_scan, slot_scan
from trix.memory.streaming import Mixer, check_tokens, head_width, not_finite

PARTS = ("convolution", "decay", "gate")
"""What a memory has unless it is told otherwise."""
MORE_PARTS = ("rotation", "delta", "content")
"""What it can have as well; content stands for the other two."""


class MemoryState(NamedTuple):
    """What a routed memory carries on; its size does not depend on how much was read.

    Slots are `[batch, heads, slots, width]`, with content reads twice as wide, keys before values;
    the latest tokens, for the convolution, are `[batch, 3, dim]`, or none without one.
    """

    slots: Tensor
    past: Tensor


class RoutedMemory(Mixer):
    r"""Slots that the sequence itself fills, addressed by ternary signatures.

    A head looks at a token through a query :math:`q_t` and has two signatures per slot, one to
    write by and one to read by. The addresses are soft choices among the slots,

    .. math:: w_t = \mathrm{softmax}(q_t \cdot \sigma^w / \tau), \qquad
        r_t = \mathrm{softmax}(q_t \cdot \sigma^r / \tau)

    A token writes its value, :math:`S_t = a_t S_{t-1} + w_t v_t^\top`, and reads
    :math:`y_t = S_t^\top r_t`, which is brought to unit size, gated and mixed over heads. Since
    addresses are not negative and add up to one, this is linear attention whose feature map is the
    routing (Katharopoulos et al. 2020; slots that share it: Peng et al. 2022, Zhang et al. 2024).
    There are no positions: the convolution before the queries and the decay of the slots know the
    order, and both go on past any length. Queries and values are initialized with a standard
    deviation of 1/√dim.

    Three more parts: with rotation, pairs of slots turn with time, so that a read address can ask
    how long ago; with delta, a token replaces what its address holds (the gated delta rule where
    slots decay); with content, slots hold keys, and are read by those rather than by signatures.

    >>> layer = RoutedMemory(8, heads=2, slots=16, top_k=2)
    >>> y, state = layer(torch.zeros(1, 100, 8))
    >>> list(y.shape), list(state.slots.shape)
    ([1, 100, 8], [1, 2, 16, 4])

    Args:
        dim: features, a multiple of `heads` unless `width` is given.
        heads, slots: memories side by side, and slots of each.
        top_k: slots that a token writes to and reads, all when not given, each with its share of
            the softmax over all; the others only decay (and turn in pairs).
        parts: which of `PARTS` and `MORE_PARTS` the memory has.
        width: features of a head, `dim / heads` when not given.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a size below 1, heads that do not divide `dim`, `top_k` above `slots`, an
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
        super().__init__()
        width = head_width(dim, heads, width)
        at_most("top_k", slots if top_k is None else top_k, positive("slots", slots), "slots")
        if unknown := set(parts) - {*PARTS, *MORE_PARTS}:
            raise ValueError(f"parts must be of {(*PARTS, *MORE_PARTS)}, got {sorted(unknown)}")
        if "content" in parts and {"rotation", "delta"} & set(parts):
            raise ValueError(f"content goes with neither rotation nor delta, got {sorted(parts)}")
        self.dim, self.heads, self.slots, self.top_k, self.width = dim, heads, slots, top_k, width
        inner = heads * width
        self.query = nn.Parameter(torch.randn(inner, dim) / math.sqrt(dim))
        self.value = nn.Parameter(torch.randn(inner, dim) / math.sqrt(dim))
        self.write_rows = SignatureRows(heads * slots, width)
        if not (by_content := "content" in parts):
            self.read_rows = SignatureRows(heads * slots, width)
        renamed(self, {"fading": "decay"})
        self.register_load_state_dict_pre_hook(_read_sharpness)
        self.log_temperature = nn.Parameter(torch.zeros(2, heads, 1, 1))
        self.convolution = ShortConvolution(dim) if "convolution" in parts else None
        self.decay = Decay(dim, heads) if "decay" in parts else None
        self.gate = OutputGate(dim, inner) if "gate" in parts else None
        self.rotation = Rotation(slots) if "rotation" in parts else None
        self.strength = Strength(dim, heads) if "delta" in parts else None
        self.keys = SlotKeys(dim, heads, width) if by_content else None
        self.norm = nn.Parameter(torch.ones(inner))
        self.out = nn.Linear(inner, dim, bias=False)

    def initial_state(self, batch: int) -> MemoryState:
        kept = self.width if self.keys is None else 2 * self.width
        past = self.value.new_zeros(batch, 0, self.dim)
        if self.convolution is not None:
            past = self.convolution.initial_state(batch)
        return MemoryState(self.value.new_zeros(batch, self.heads, self.slots, kept), past)

    def forward(self, x: Tensor, state: MemoryState | None = None) -> tuple[Tensor, MemoryState]:
        before: MemoryState = self.resumed(x, state)
        # slots that a token broke are NaN, all of them
        broken = not_finite(x).cumsum(dim=1) + 0 * before.slots.detach()[:, 0, :1, :1]
        x = x.masked_fill(broken.isnan(), 0.0)
        seen, past = x, before.past
        if self.convolution is not None:
            seen, past = self.convolution(x, past)
        read, slots = self.remember(seen, before.slots)
        read = F.rms_norm(read, read.shape[-1:], eps=1e-6).transpose(1, 2).flatten(2)
        mixed = torch.addcmul(broken, read, self.norm.to(x.dtype))
        if self.gate is not None:
            mixed = mixed * self.gate(seen)
        slots = slots + broken[:, -1:, :, None]
        return self.out(mixed), MemoryState(slots, past)

    def addresses(self, seen: Tensor, slots: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return how much of each slot tokens write and read, `[batch, heads, time, slots]` each.

        Tokens are `[batch, time, dim]` as the convolution left them; only content reads depend on
        the slots of the state before, which are empty when not given.
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

        Takes tokens and slots as `addresses` does, and other values than the layer's own, `[batch,
        heads, time, features]`, for slots as wide. What is read, and returned with the slots after
        the last token, is linear in them.
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
            found, held = slot_scan(read, write, value, held, decay)
        else:
            found, held = delta_scan(read, write, value, self.strength(seen), held, decay)
        if self.rotation is not None:
            held = self.rotation.on(held, seen.shape[1])
        return found, held if self.keys is None else torch.cat([keys, held], dim=-1)

    def _address(
        self, seen: Tensor, query: Tensor, slots: Tensor, decay: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        # write and read addresses, and the keys of slots after the last token, of no width without
        scale = (-self.log_temperature).exp().to(seen.dtype) / math.sqrt(self.width)
        write = slot_shares(self._match(query, self.write_rows, scale[0]), self.top_k)
        if self.keys is None:
            score, keys = self._match(query, self.read_rows, scale[1]), slots[..., :0]
        else:
            score, keys = self.keys(seen, query, write, slots[..., : self.width], decay)
            score = score * scale[1]
        return write, slot_shares(score, self.top_k), keys

    def _match(self, query: Tensor, rows: SignatureRows, scale: Tensor) -> Tensor:
        signatures = rows().view(self.heads, self.slots, -1).to(query.dtype)
        return query @ (signatures * scale).mT  # there are fewer signatures than scores

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _read_sharpness(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
    # the first edition kept the logarithm of one over the temperature
    if (old := f"{prefix}log_sharpness") in state:
        state[f"{prefix}log_temperature"] = -state.pop(old)


class MemoryReading(NamedTuple):
    """How much of each slot tokens write and read, `[batch, heads, time, slots]`, and what returns.

    `back`, `[batch, heads, t, s]`, is how much of what token s wrote comes back at token t; zero
    where s comes after t.
    """

    write: Tensor
    read: Tensor
    back: Tensor


def memory_reading(layer: RoutedMemory, x: Tensor) -> MemoryReading:
    r"""Read a text with a memory and tell how much of each token every later one reads.

    A slot holds a sum over tokens, each decayed at all that came after it, so what is read is

    .. math:: y_t = \sum_{s \le t} b_{ts}\, v_s, \qquad
        b_{ts} = \sum_m r_{tm} \Big(\prod_{u=s+1}^{t} a_u\Big) w_{sm}

    These are the weights of linear attention (Katharopoulos et al. 2020). With other parts, as
    delta writes, what comes back is another sum, and a weight may be negative. To find them, every
    token writes a one in a place of its own.

    >>> layer = RoutedMemory(8, heads=2, slots=16)
    >>> back = memory_reading(layer, torch.zeros(1, 5, 8)).back
    >>> list(back.shape), int(back.triu(1).count_nonzero())
    ([1, 2, 5, 5], 0)

    The slots are empty before the first token. `TypeError` unless `layer` is a `RoutedMemory` and
    `x` is floating, `ValueError` unless it is `[batch, time >= 1, dim]`.
    """
    instance("layer", layer, RoutedMemory)
    check_tokens(x, layer.dim)
    seen = x if layer.convolution is None else layer.convolution(x)[0]
    write, read = layer.addresses(seen)
    *lead, time, slots = write.shape
    own = torch.eye(time, dtype=write.dtype, device=write.device).expand(*lead, time, time)
    keys = 0 if layer.keys is None else layer.width
    back, _ = layer.remember(seen, own.new_zeros(*lead, slots, keys + time), own)
    return MemoryReading(write, read, back)
