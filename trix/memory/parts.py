"""What a routed memory has beside its slots: small modules, each of which can be left out."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.route import best
from trix.checks import positive
from trix.memory.recurrence import MAX_DECAY, slot_scan
from trix.memory.streaming import check_part

WIDTH = 4
"""Tokens that a short convolution sees: the present one and three before it."""

BASE = 10_000.0
"""Of rotation: the first pair turns a radian per token, the last little more than 1 / BASE."""


def slot_shares(score: Tensor, top_k: int | None = None) -> Tensor:
    """Return the softmax over `[..., slots]`, of which the `top_k` largest stay as they are."""
    share = torch.softmax(score, dim=-1)
    if top_k is None or top_k >= score.shape[-1]:
        return share
    kept = torch.zeros_like(share).scatter(-1, best(score.detach(), top_k), 1.0)
    return share * kept


class ShortConvolution(nn.Module):
    """A causal convolution of each feature by itself: a token's address knows its neighbours.

    It is how a memory without positions tells "th" from "ht" (Poli et al. 2023; Gu & Dao 2023). It
    sees `width` tokens, the present one included, and is initialized near the identity.
    """

    def __init__(self, dim: int, width: int = WIDTH) -> None:
        super().__init__()
        shape = (positive("dim", dim), positive("width", width))
        self.kernel = nn.Parameter(0.1 * torch.randn(shape))
        with torch.no_grad():
            self.kernel[:, -1] += 1

    def initial_state(self, batch: int) -> Tensor:
        """Return what stands before the first token: zeros, `[batch, width - 1, dim]`."""
        dim, width = self.kernel.shape
        return self.kernel.new_zeros(batch, width - 1, dim)

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what is seen at each token, `[batch, time, dim]`, and the past of the next."""
        past = self.initial_state(len(x)).to(x.dtype) if past is None else past
        check_part("past", past, [len(x), self.kernel.shape[1] - 1, x.shape[-1]], x.dtype)
        whole = torch.cat([past, x], dim=1)
        kernel = self.kernel.to(x.dtype)
        if x.shape[1] == 1:  # a step is one sum, and a convolution takes longer to set up
            seen = (whole * kernel.T).sum(dim=1, keepdim=True)
        else:
            seen = F.conv1d(whole.mT, kernel.unsqueeze(1), groups=x.shape[-1]).mT
        return seen, whole[:, x.shape[1] :]


class HeadGate(nn.Module):
    """One number per head and token, `[batch, heads, time, 1]`: `Decay` or `Strength`."""

    def __init__(self, dim: int, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(len(bias), dim))
        self.bias = nn.Parameter(bias)

    def logits(self, x: Tensor) -> Tensor:
        """Map tokens `[batch, time, dim]` to `[batch, time, heads]`."""
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))


class Decay(HeadGate):
    """The log of how much of a head's slots is kept at each token, at least `-MAX_DECAY`.

    As in gated linear attention with one gate per head (Yang et al. 2024; Dao & Gu 2024). Heads
    are initialized apart: the first keeps 73 % per token, the last 99.3 %.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, torch.linspace(1, 5, heads))

    def forward(self, x: Tensor) -> Tensor:
        return F.logsigmoid(self.logits(x)).clamp(min=-MAX_DECAY).mT.unsqueeze(-1)


class Strength(HeadGate):
    """How much of what an address holds a token replaces (Schlag et al. 2021); half at first."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, torch.zeros(heads))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).sigmoid().mT.unsqueeze(-1)


class OutputGate(nn.Module):
    """What a token lets through of what was read, `[batch, time, features]` (Yang et al. 2024)."""

    def __init__(self, dim: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features, dim) / math.sqrt(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(F.linear(x, self.weight.to(x.dtype)))


class Rotation(nn.Module):
    """Pairs of slots that turn with time, so that an address knows how long ago it was written.

    Each token turns the two slots of a pair into one another, by an angle of the pair's own, as in
    rotary positions (Su et al. 2021). So the distance is known and the position is not: no count is
    kept. Turned slots may be read with a negative share.
    """

    def __init__(self, slots: int) -> None:
        super().__init__()
        if positive("slots", slots) % 2:
            raise ValueError(f"slots must be even to turn in pairs, got {slots}")
        self.slots = slots

    def back(self, address: Tensor) -> Tensor:
        """Turn addresses `[..., time, slots]` back by 1, 2, … tokens, as good as slots on."""
        steps = torch.arange(1, address.shape[-2] + 1, device=address.device)
        return self._turn(address, -steps.unsqueeze(1))

    def on(self, slots: Tensor, tokens: int) -> Tensor:
        """Turn slots `[..., slots, features]` on by a number of tokens."""
        return self._turn(slots.mT, torch.full((1, 1), tokens, device=slots.device)).mT

    def _turn(self, address: Tensor, steps: Tensor) -> Tensor:
        half = self.slots // 2
        # in float64, because the angles of late tokens are large
        place = torch.arange(half, dtype=torch.float64, device=address.device) / half
        angle = steps * BASE**-place
        cos, sin = angle.cos().to(address.dtype), angle.sin().to(address.dtype)
        one, two = address[..., :half], address[..., half:]
        return torch.cat([one * cos - two * sin, one * sin + two * cos], dim=-1)


class SlotKeys(nn.Module):
    r"""Slots that are read by content: a token writes its key where it writes its value.

    .. math:: K_t = a_t K_{t-1} + w_t k_t^\top, \qquad s_t = K_t q_t

    The softmax of the scores :math:`s_t` is the read address: gated slot attention (Zhang et al.
    2024), whose write addresses are the routing's.
    """

    def __init__(self, dim: int, heads: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.weight = nn.Parameter(torch.randn(heads * width, dim) / math.sqrt(dim))

    def forward(
        self, seen: Tensor, query: Tensor, write: Tensor, keys: Tensor, decay: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return scores, `[batch, heads, time, slots]` as `write`, and the keys after all tokens.

        `seen` are tokens `[batch, time, dim]`, a query is `[batch, heads, time, width]`, keys are
        `[batch, heads, slots, width]`, and decay is `[batch, heads, time, 1]`, see `slot_scan`.
        """
        key = F.linear(seen, self.weight.to(seen.dtype)).unflatten(-1, (self.heads, -1))
        # all slots decay alike, so keys may change places with slots: what is written by keys and
        # read by queries is then the address
        score, turned = slot_scan(query, key.transpose(1, 2), write, keys.mT, decay)
        return score, turned.mT
