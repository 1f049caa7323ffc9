"""Piecewise-linear functions on equally spaced knots: the gate of a score, the bend of a tile."""

from torch import Tensor


def cell_of(x: Tensor, knots: int, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Return the cell each number falls in, int64, and its place in the cell, 0 … 1 inside.

    Numbers outside `low … high` belong to the first or the last cell, at a place below 0 or above
    1. NaN belongs to the first cell, at a place that is NaN.
    """
    at = (x - low) * ((knots - 1) / (high - low))
    # clamped before and after the cast: an infinity or a NaN casts to no integer in particular
    cell = at.detach().clamp(0, knots - 2).floor().long().clamp(0, knots - 2)
    return cell, at - cell.to(at.dtype)
