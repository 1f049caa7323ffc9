r"""Ternary values: every number becomes −1, 0 or 1, and training still works.

A number is cut to zero when its size stays below a threshold, and to its sign otherwise. The
threshold is either a fixed number or a multiple of the row's mean absolute value, as in ternary
weight networks (Li et al. 2016) and BitNet b1.58 (Ma et al. 2024).

Rounding has no useful gradient, so the backward pass pretends that it did not happen: the
straight-through estimator of Bengio et al. (2013).
"""

import torch
from torch import Tensor

from trix.checks import floating, magnitude, shape


def straight_through(value: Tensor, proxy: Tensor) -> Tensor:
    """Return exactly `value` in the forward pass, with the gradient of `proxy` in the backward.

    Both have the same shape. The term that carries the gradient is exactly zero. The more common
    `proxy + (value - proxy)` rounds, and leaves some ternary values a hair off.
    """
    return value.detach() + (proxy - proxy.detach())


def ternarize(x: Tensor, threshold: float = 0.5, relative: bool = True) -> Tensor:
    """Cut every number to −1, 0 or 1, row by row, with a straight-through gradient.

    Args:
        x: floating tensor `[..., dim]`.
        threshold: numbers no larger in size than this become 0.
        relative: measure the threshold in units of the row's mean absolute value (one half is
            BitNet's rounding); if false, the threshold is the number itself.

    Returns:
        A tensor of the same shape and dtype whose values are exactly −1, 0 or 1.

    Raises:
        TypeError: `x` is not a floating tensor.
        ValueError: the threshold is negative or not finite.

    Example:
        >>> ternarize(torch.tensor([[0.2, -3.0, 1.0]])).tolist()
        [[0.0, -1.0, 1.0]]
    """
    floating("x", x)
    magnitude("threshold", threshold, zero=True)
    size = x.detach().abs()
    cut = threshold * size.mean(dim=-1, keepdim=True) if relative else threshold
    return straight_through(x.detach().sign() * (size > cut), x)


def row_scale(x: Tensor, ternary: Tensor) -> Tensor:
    """Return the scale per row that makes `scale * ternary` nearest to `x` in least squares.

    `ternary` are the rows of `x` `[..., dim]` cut to −1, 0 or 1; another shape is a `ValueError`.
    The scale, `[..., 1]`, is 0 for a row without a single non-zero entry.
    """
    shape("ternary", ternary, *x.shape)
    kept = ternary.detach()
    count = kept.square().sum(dim=-1, keepdim=True)
    return (x * kept).sum(dim=-1, keepdim=True) / count.clamp(min=1)


def ternary_fraction(x: Tensor, tolerance: float = 0.0) -> float:
    """Return the share of entries within `tolerance` of −1, 0 or 1 (1.0 for no entries).

    Example:
        >>> ternary_fraction(torch.tensor([0.0, 1.0, -0.9, 0.5]), tolerance=0.2)
        0.75
    """
    if x.numel() == 0:
        return 1.0
    nearest = x.detach().round().clamp(-1, 1)
    return float(((x.detach() - nearest).abs() <= tolerance).to(torch.float64).mean())


def weight_signatures(weights: Tensor, threshold: float = 0.5) -> Tensor:
    """Read each tile's signature off the weights that it computes with.

    The weights are made ternary; each input feature then gets the sign of its column's sum: the
    majority vote of the tile's hidden units. No parameter is added, so the address follows the
    function wherever training takes it (source: the notes on emergent routing).

    Args:
        weights: first-layer weights, `[tiles, hidden, dim]`.
        threshold: relative threshold of the ternary cut, see `ternarize`.

    Returns:
        Signatures `[tiles, dim]`, exactly −1, 0 or 1; the gradient passes straight through to the
        mean of the column.

    Raises:
        ValueError: `weights` has not three axes.

    Example:
        >>> weight_signatures(torch.tensor([[[2.0, -1.0, 0.1], [1.0, -2.0, 0.1]]])).tolist()
        [[1.0, -1.0, 0.0]]
    """
    shape("weights", weights, "tiles", "hidden", "dim")
    votes = ternarize(weights, threshold).mean(dim=-2)
    return straight_through(votes.sign(), votes)
