"""Piecewise-linear functions on equally spaced knots: a gate of scores, a tile's activation."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.checks import at_least, positive

REACH = 4.0
"""The knots of a `ScoreGate` span this many units of `score / sqrt(dim)` to either side of zero."""


def cell_of(x: Tensor, knots: int, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Return the cell each number falls in, int64, and its place in the cell, 0 … 1 inside.

    Numbers outside `low … high` belong to the outer cells, at places outside 0 … 1; NaN belongs to
    the first cell, at a place that is NaN.
    """
    at = (x - low) * ((knots - 1) / (high - low))
    # clamped before and after the cast: an infinity or a NaN casts to no integer in particular
    cell = at.detach().clamp(0, knots - 2).floor().long().clamp(0, knots - 2)
    return cell, at - cell.to(at.dtype)


class ScoreGate(nn.Module):
    r"""A monotone spline of the score, :math:`g(s / \sqrt{d})`, with a gradient for its knots.

    At initialization it is the logistic function. Beyond the outer knots the outer lines go on.

    >>> ScoreGate(dim=64)(torch.tensor([-8.0, 0.0, 8.0])).shape
    torch.Size([3])

    Args:
        dim: features of the token; scores grow with its square root.
        knots: how many, at least two, else `ValueError`.
    """

    def __init__(self, dim: int, knots: int = 9) -> None:
        super().__init__()
        at_least("knots", knots, 2)
        self.dim = positive("dim", dim)
        self.scale = 1 / math.sqrt(dim)
        initial = torch.linspace(-REACH, REACH, knots).sigmoid()
        self.first = nn.Parameter(initial[:1].clone())
        self.steps = nn.Parameter(torch.expm1(initial.diff()).log())  # the inverse of softplus

    def extra_repr(self) -> str:
        return f"dim={self.dim}, knots={len(self.steps) + 1}"

    def values(self) -> Tensor:
        """Return the gate at its knots, `[knots]`, never falling."""
        return torch.cat([self.first, self.first + F.softplus(self.steps).cumsum(0)])

    def forward(self, score: Tensor) -> Tensor:
        """Map raw scores `[...]` to gates `[...]`, never falling, in float32 or better."""
        values = self.values()
        wide = torch.promote_types(score.dtype, torch.float32)
        values, score = values.to(wide), score.to(wide) * self.scale
        cell, place = cell_of(score, len(values), -REACH, REACH)
        low, high = values[cell], values[cell + 1]
        return low + (high - low) * place
