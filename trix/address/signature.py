"""Signatures: the ternary row that says which inputs a tile wants.

A tile is a small function. Its signature is a vector as long as the input, made of −1, 0 and 1:
"wants this feature", "wants its opposite", "does not care". An input goes to the tile whose
signature has the largest dot product with it.
"""

from torch import Tensor

from trix.address.ternary import straight_through, ternarize


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
    """
    if weights.ndim != 3:
        raise ValueError(f"weights must be [tiles, hidden, dim], got {list(weights.shape)}")
    votes = ternarize(weights, threshold).mean(dim=-2)
    return straight_through(votes.sign(), votes)
