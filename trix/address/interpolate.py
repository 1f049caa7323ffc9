"""Piecewise-linear functions on equally spaced knots: the gate of a score, the bend of a tile."""

import torch
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


def piecewise_linear(x: Tensor, values: Tensor, low: float, high: float) -> Tensor:
    """Evaluate the function that takes `values` at equally spaced knots, straight lines between.

    Outside `low … high` the first and the last line go on.

    Args:
        x: `[...]`, floating.
        values: at the knots, `[knots]`, at least two.
        low: place of the first knot.
        high: place of the last knot, above `low`.

    Returns:
        `[...]`, with a gradient for `x` and for `values`.

    Raises:
        ValueError: `values` is no vector of at least two, or `high` is not above `low`.
    """
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"values must be [knots >= 2], got {list(values.shape)}")
    if not low < high:
        raise ValueError(f"high must be above low = {low}, got {high}")
    cell, place = cell_of(x, len(values), low, high)
    return torch.lerp(values[cell].to(place.dtype), values[cell + 1].to(place.dtype), place)
