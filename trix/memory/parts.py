"""What a routed memory is given beside its slots: each a small module that can be left out."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.checks import positive
from trix.address.route import best
from trix.memory.recurrence import MOST_FADING

WIDTH = 4
"""Tokens that a short convolution sees: the present one and three before it."""


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
        """
        whole = torch.cat([past.to(x.dtype), x], dim=1)
        kernel = self.kernel.to(x.dtype).unsqueeze(1)
        seen = F.conv1d(whole.mT, kernel, groups=x.shape[-1]).mT
        return seen, whole[:, x.shape[1] :]


class Fading(nn.Module):
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
    """

    def __init__(self, dim: int) -> None:
        """See the class. It begins with a standard deviation of 1/√dim."""
        super().__init__()
        positive("dim", dim)
        self.weight = nn.Parameter(torch.randn(dim, dim) / math.sqrt(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens `[batch, time, dim]` to factors of the same shape, the SiLU of a product."""
        return F.silu(F.linear(x, self.weight.to(x.dtype)))
