"""Fractal routing: cluster, tile, cell, chosen by the same rule at every level."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.gate import ScoreGate, cell_of
from trix.address.nested import NestedRouter
from trix.address.ternary import ternarize
from trix.checks import positive
from trix.tiles.ffn import ClusteredFFN
from trix.tiles.tile import REACH


class FractalFFN(ClusteredFFN):
    r"""Cells at the leaves of a tree; a token descends to one and reads its base and its slope.

    A cell looks along one direction :math:`a_c`, and holds a base and a slope, both directions in
    the output:

    .. math:: y = g(s_c)\,\big(b_c + u\, m_c\big), \qquad u = a_c \cdot x / \sqrt{d}, \qquad
        s_c = x \cdot \mathrm{ternary}(a_c)

    Its signature is the ternary cut of its own :math:`a_c`, and what stands above, tile and
    cluster, has the mean of its cells' signatures: the same router at every scale. Source: the
    notes' fractal idea, where a cell's signature comes from the cell's coefficients.

    Args:
        branching: children of a node at each level: clusters, tiles of each, cells of each.
        beam: nodes kept at each level.

    Example:
        >>> layer = FractalFFN(8, branching=(2, 3, 2))
        >>> layer.routed(torch.randn(5, 8)).route.path.shape  # a cluster, a tile and a cell
        torch.Size([5, 1, 3])
    """

    lines = 1  # of each leaf; `BinnedFFN` has several

    def __init__(self, dim: int, branching: Sequence[int] = (4, 4, 4), beam: int = 1) -> None:
        super().__init__(dim, math.prod(positive("branching", width) for width in branching))
        self.router = NestedRouter(self.tiles, dim, branching, beam)
        self.gate = ScoreGate(dim)
        self.look = nn.Parameter(torch.randn(self.tiles, dim))
        self.base = nn.Parameter(0.02 * torch.randn(self.tiles * self.lines, dim))
        self.slope = nn.Parameter(0.02 * torch.randn(self.tiles * self.lines, dim))

    @property
    def signatures(self) -> Tensor:
        """The leaves' addresses, `[tiles, dim]`, exactly −1, 0 or 1."""
        return ternarize(self.look)

    def _read(self, x: Tensor, tile: Tensor) -> Tensor:
        seen = (F.embedding(tile, self.look.to(x.dtype)) * x).sum(dim=-1) / math.sqrt(self.dim)
        line = tile
        if self.lines > 1:
            line = tile * self.lines + cell_of(seen.detach(), self.lines + 1, -REACH, REACH)[0]
        base, slope = (F.embedding(line, p.to(x.dtype)) for p in (self.base, self.slope))
        return base + seen.unsqueeze(-1) * slope


class RandomFractalFFN(FractalFFN):
    """A control: the signatures of cells, tiles and clusters are drawn once and never learn."""

    fixed: Tensor

    def __init__(self, dim: int, branching: Sequence[int] = (4, 4, 4), beam: int = 1) -> None:
        super().__init__(dim, branching, beam)
        self.register_buffer("fixed", ternarize(torch.randn(self.tiles, dim)))

    @property
    def signatures(self) -> Tensor:
        """The cells' addresses, `[tiles, dim]`, as drawn."""
        return self.fixed


class BinnedFFN(FractalFFN):
    """A control: two levels of routing to a tile, then a cell by equal bins of what the tile sees.

    The tile looks along one direction and cuts what it sees, −3 … 3 standard deviations of a
    normalized token, into `cells` equal parts, as a spline does; numbers beyond belong to the
    outer cells. A cell holds a base and a slope, as those of `FractalFFN` do.
    """

    def __init__(self, dim: int, branching: Sequence[int] = (4, 4), cells: int = 4) -> None:
        self.lines = positive("cells", cells)
        super().__init__(dim, branching)
