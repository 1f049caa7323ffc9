r"""Score calibration: how loud a tile answers, as a monotone function of how well it matched.

A raw score is a dot product: its scale means nothing by itself. The gate turns it into a loudness
that training can shape. It is a piecewise-linear spline whose steps from knot to knot are positive,
so a better match is never quieter, and it is applied *after* the choice: a calibration that comes
before it, as in the public code of the notes, changes the routes themselves.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.checks import positive
from trix.address.interpolate import cell_of

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
