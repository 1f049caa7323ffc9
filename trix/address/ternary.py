r"""Ternary values: every number becomes −1, 0 or 1, and training still works.

Numbers below a threshold become zero, as in ternary weight networks (Li et al. 2016) and BitNet
b1.58 (Ma et al. 2024); the gradient is the straight-through one of Bengio et al. (2013).
"""

import torch
from torch import Tensor

from trix.checks import floating, magnitude, shape


def straight_through(value: Tensor, proxy: Tensor) -> Tensor:
    """Return exactly `value`, with the gradient of `proxy`, which has the same shape."""
    # the term that carries the gradient is exactly zero; `proxy + (value - proxy)` would round
    return value.detach() + (proxy - proxy.detach())


def ternarize(x: Tensor, threshold: float = 0.5, relative: bool = True) -> Tensor:
    """Cut every number of `[..., dim]` to −1, 0 or 1; the gradient passes straight through.

    >>> ternarize(torch.tensor([[0.2, -3.0, 1.0]])).tolist()
    [[0.0, -1.0, 1.0]]

    Args:
        x: floating numbers.
        threshold: numbers no larger in size than this become 0.
        relative: whether it is in units of the row's mean size (one half is BitNet's rounding).

    Raises:
        TypeError: `x` is not floating.
        ValueError: the threshold is negative or not finite.
    """
    floating("x", x)
    magnitude("threshold", threshold, zero=True)
    size = x.detach().abs()
    cut = threshold * size.mean(dim=-1, keepdim=True) if relative else threshold
    return straight_through(x.detach().sign() * (size > cut), x)


def row_scale(x: Tensor, ternary: Tensor) -> Tensor:
    """Return the `[..., 1]` that brings `scale * ternary` nearest to `x`; 0 for a row of zeros."""
    shape("ternary", ternary, *x.shape)
    kept = ternary.detach()
    count = kept.square().sum(dim=-1, keepdim=True)
    return (x * kept).sum(dim=-1, keepdim=True) / count.clamp(min=1)


def ternary_fraction(x: Tensor, tolerance: float = 0.0) -> float:
    """Return the share of entries within `tolerance` of −1, 0 or 1 (1.0 for no entries).

    >>> ternary_fraction(torch.tensor([0.0, 1.0, -0.9, 0.5]), tolerance=0.2)
    0.75
    """
    if x.numel() == 0:
        return 1.0
    nearest = x.detach().round().clamp(-1, 1)
    return float(((x.detach() - nearest).abs() <= tolerance).to(torch.float64).mean())


def weight_signatures(weights: Tensor, threshold: float = 0.5) -> Tensor:
    """Read signatures `[tiles, dim]` off the tiles' first layers, `[tiles, hidden, dim]`.

    The weights are made ternary (`ternarize`); each input feature then gets the sign of its
    column's sum: the majority vote of the tile's hidden units. No parameter is added, so the
    address follows the function wherever training takes it (source: the notes on emergent routing).
    The gradient passes straight through to the mean of the column.

    >>> weight_signatures(torch.tensor([[[2.0, -1.0, 0.1], [1.0, -2.0, 0.1]]])).tolist()
    [[1.0, -1.0, 0.0]]
    """
    shape("weights", weights, "tiles", "hidden", "dim")
    votes = ternarize(weights, threshold).mean(dim=-2)
    return straight_through(votes.sign(), votes)
