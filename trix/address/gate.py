"""Piecewise-linear functions on equally spaced knots: a gate of scores, a tile's activation."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.checks import positive


def cell_of(x: Tensor, knots: int, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Return the cell each number falls in, int64, and its place in the cell, 0 … 1 inside.

    Numbers outside `low … high` belong to the first or the last cell, at a place below 0 or above
    1. NaN belongs to the first cell, at a place that is NaN.
    """
    at = (x - low) * ((knots - 1) / (high - low))
    # clamped before and after the cast: an infinity or a NaN casts to no integer in particular
    cell = at.detach().clamp(0, knots - 2).floor().long().clamp(0, knots - 2)
    return cell, at - cell.to(at.dtype)


REACH = 4.0
"""The knots span this many units of `score / sqrt(dim)` to either side of zero."""


class ScoreGate(nn.Module):
    r"""A monotone spline of the score, :math:`g(s / \sqrt{d})`, with a gradient for its knots.

    It starts as the logistic function. Beyond the outer knots the outer lines go on.

    Args:
        dim: features of the token; scores grow with its square root.
        knots: how many, at least two.
    """

    def __init__(self, dim: int, knots: int = 9) -> None:
        """See the class."""
        super().__init__()
        if positive("knots", knots) < 2:
            raise ValueError(f"knots must be at least 2, got {knots}")
        self.scale = 1 / math.sqrt(positive("dim", dim))
        start = torch.linspace(-REACH, REACH, knots).sigmoid()
        self.first = nn.Parameter(start[:1].clone())
        self.steps = nn.Parameter(torch.expm1(start.diff()).log())  # the inverse of softplus

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
