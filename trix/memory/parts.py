"""What a routed memory is given beside its slots: each a small module that can be left out."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.route import best
from trix.checks import positive
from trix.memory.recurrence import MOST_FADING
from trix.memory.streaming import check_part

WIDTH = 4
"""Tokens that a short convolution sees: the present one and three before it."""

BASE = 10_000.0
"""Of rotation: the first pair turns a radian a token, the last little more than 1 / BASE."""


def slot_shares(score: Tensor, top_k: int | None = None) -> Tensor:
    """Return how a token is shared out among slots: its softmax, of which the `top_k` largest stay.

    The others become zero and what stays is not scaled up, so that even one slot alone has a share
    that training can move.

    Args:
        score: `[..., slots]`.
        top_k: slots that keep their share; all when not given.
    """
    share = torch.softmax(score, dim=-1)
    if top_k is None or top_k >= score.shape[-1]:
        return share
    kept = torch.zeros_like(share).scatter(-1, best(score.detach(), top_k), 1.0)
    return share * kept


class ShortConvolution(nn.Module):
    """A causal convolution of each feature by itself: a token's address knows its neighbours.

    It is how a memory without positions tells "th" from "ht" (Poli et al. 2023; Gu & Dao 2023).

    Args:
        dim: features.
        width: tokens that are seen, the present one included.
    """

    def __init__(self, dim: int, width: int = WIDTH) -> None:
        """See the class. It begins near the identity."""
        super().__init__()
        shape = (positive("dim", dim), positive("width", width))
        self.kernel = nn.Parameter(0.1 * torch.randn(shape))
        with torch.no_grad():
            self.kernel[:, -1] += 1

    def initial_state(self, batch: int) -> Tensor:
        """Return what stands before the first token: zeros, `[batch, width - 1, dim]`."""
        dim, width = self.kernel.shape
        return self.kernel.new_zeros(batch, width - 1, dim)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is seen at each token, and the past of the next.

        Args:
            x: tokens, `[batch, time, dim]`.
            past: the tokens just before, `[batch, width - 1, dim]`.

        Raises:
            ValueError: `past` has another shape or dtype than that.
        """
        check_part("past", past, [len(x), self.kernel.shape[1] - 1, x.shape[-1]], x.dtype)
        whole = torch.cat([past, x], dim=1)
        kernel = self.kernel.to(x.dtype)
        if x.shape[1] == 1:  # a step is one sum, and a convolution takes longer to set up
            seen = (whole * kernel.T).sum(dim=1, keepdim=True)
        else:
            seen = F.conv1d(whole.mT, kernel.unsqueeze(1), groups=x.shape[-1]).mT
        return seen, whole[:, x.shape[1] :]


class Decay(nn.Module):
    """How much of a head's slots is kept at each token, worked out from the token.

    As in gated linear attention with one gate a head (Yang et al. 2024; Dao & Gu 2024).

    Args:
        dim: features of a token.
        heads: gates.
    """

    def __init__(self, dim: int, heads: int) -> None:
        """See the class. Heads begin apart: the first keeps 73 % a token, the last 99.3 %."""
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(heads, dim))
        self.bias = nn.Parameter(torch.linspace(1, 5, heads))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens `[batch, time, dim]` to the log of what is kept, `[batch, heads, time, 1]`."""
        gate = F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype))
        return F.logsigmoid(gate).clamp(min=-MOST_FADING).mT.unsqueeze(-1)


class OutputGate(nn.Module):
    """What of an answer a token lets through, feature by feature (Yang et al. 2024).

    Args:
        dim: features of a token.
        features: of the answer, `dim` when not given.
    """

    def __init__(self, dim: int, features: int | None = None) -> None:
        """See the class. It begins with a standard deviation of 1/√dim."""
        super().__init__()
        features = positive("dim", dim) if features is None else positive("features", features)
        self.weight = nn.Parameter(torch.randn(features, dim) / math.sqrt(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens `[batch, time, dim]` to factors `[batch, time, features]`: a SiLU."""
        return F.silu(F.linear(x, self.weight.to(x.dtype)))


class Rotation(nn.Module):
    r"""Pairs of slots that turn with time, so that an address knows how long ago it was written.

    Each token turns the two slots of a pair into one another, by an angle of the pair's own; the
    angles go down from one radian, as those of rotary positions do (Su et al. 2021). What was
    written :math:`n` tokens ago has been turned :math:`n` times, so the distance is told and the
    position is not: no count is kept, and any length will do. Turned slots may be read with a
    negative share.

    Args:
        slots: an even number.
    """

    def __init__(self, slots: int) -> None:
        """See the class."""
        super().__init__()
        if positive("slots", slots) % 2:
            raise ValueError(f"slots must be even to turn in pairs, got {slots}")
        self.slots = slots

    def back(self, address: Tensor) -> Tensor:
        """Turn the first of `[…, time, slots]` addresses back by a token, each next by one more.

        That is as good as turning all that was written before them on.
        """
        steps = torch.arange(1, address.shape[-2] + 1, device=address.device)
        return self._turn(address, -steps.unsqueeze(1))

    def on(self, slots: Tensor, tokens: int) -> Tensor:
        """Turn slots `[…, slots, features]` as many tokens do."""
        return self._turn(slots.mT, torch.full((1, 1), tokens, device=slots.device)).mT

    def _turn(self, address: Tensor, steps: Tensor) -> Tensor:
        half = self.slots // 2
        # in float64, because the angles of late tokens are large
        place = torch.arange(half, dtype=torch.float64, device=address.device) / half
        angle = steps * BASE**-place
        cos, sin = angle.cos().to(address.dtype), angle.sin().to(address.dtype)
        one, two = address[..., :half], address[..., half:]
        return torch.cat([one * cos - two * sin, one * sin + two * cos], dim=-1)


class Strength(nn.Module):
    """How much of what an address holds a token replaces, by the delta rule (Schlag et al. 2021).

    Args:
        dim: features of a token.
        heads: strengths.
    """

    def __init__(self, dim: int, heads: int) -> None:
        """See the class. It begins near one half."""
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(heads, dim))
        self.bias = nn.Parameter(torch.zeros(heads))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens `[batch, time, dim]` to strengths in 0 … 1, `[batch, heads, time, 1]`."""
        return F.linear(x, self.weight.to(x.dtype), self.bias.to(x.dtype)).sigmoid().mT[..., None]
