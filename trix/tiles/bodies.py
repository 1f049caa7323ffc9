"""What a tile is made of: bodies that can be routed by their own signatures or by another's."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.checks import positive
from trix.address.signature import weight_signatures
from trix.address.ternary import row_scale, ternarize
from trix.tiles.bend import BENDS
from trix.tiles.dispatch import through_tiles


class TernaryBodies(nn.Module):
    r"""Two ternary layers with a GELU between them, :math:`D_t^\top\,\mathrm{gelu}(U_t x)`.

    Every row of :math:`U_t` and :math:`D_t` has one scale. The signature is the vote of the rows of
    :math:`U_t`, see `weight_signatures`.

    Args:
        dim: input and output features.
        tiles: how many.
        hidden: hidden units of each.
    """

    def __init__(self, dim: int, tiles: int, hidden: int) -> None:
        """See the class. Hidden units begin with a standard deviation of a quarter."""
        super().__init__()
        shape = (positive("tiles", tiles), positive("hidden", hidden), positive("dim", dim))
        self.up = nn.Parameter(0.25 * torch.randn(shape) / math.sqrt(dim))
        self.down = nn.Parameter(0.02 * torch.randn(shape))

    @property
    def signatures(self) -> Tensor:
        """The addresses that these tiles would choose, `[tiles, dim]`, exactly −1, 0 or 1."""
        return weight_signatures(self.up)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Return what tiles `index` `[tokens, k]` say to tokens `[tokens, dim]`: `[…, k, dim]`."""
        up, down = scaled_ternary(self.up), scaled_ternary(self.down)
        return through_tiles(x, index, up, lambda units, tile, visit: F.gelu(units), down)


class SplineBodies(nn.Module):
    r"""A bottleneck, splines, and writes: :math:`D_t^\top\varphi_t(B_t x)`.

    The signature is the vote of the bottleneck's rows: "the bottleneck projection" of the notes.

    Args:
        dim: input and output features.
        tiles: how many.
        rank: directions that each looks at.
        cells: of each spline.
        spline: a name in `BENDS`.
    """

    def __init__(self, dim: int, tiles: int, rank: int, cells: int, spline: str = "knots") -> None:
        """See the class. What the splines see begins with a standard deviation of one."""
        super().__init__()
        if spline not in BENDS:
            raise ValueError(f"spline must be one of {sorted(BENDS)}, got {spline!r}")
        shape = (positive("tiles", tiles), positive("rank", rank), positive("dim", dim))
        self.bottleneck = nn.Parameter(torch.randn(shape) / math.sqrt(dim))
        self.bend = BENDS[spline](tiles, rank, cells)
        self.down = nn.Parameter(0.02 * torch.randn(shape))

    @property
    def signatures(self) -> Tensor:
        """The addresses that these tiles would choose, `[tiles, dim]`, exactly −1, 0 or 1."""
        return weight_signatures(self.bottleneck)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Return what tiles `index` `[tokens, k]` say to tokens `[tokens, dim]`: `[…, k, dim]`."""
        return through_tiles(
            x, index, self.bottleneck, lambda units, tile, visit: self.bend(units, tile), self.down
        )


def scaled_ternary(weights: Tensor) -> Tensor:
    """Return the ternary cut of `weights` `[..., dim]` times the scale of each row."""
    ternary = ternarize(weights)
    return ternary * row_scale(weights, ternary)
