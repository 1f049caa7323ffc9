"""Fractal routing: cluster, tile, cell, chosen by the same rule at every level."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.gate import ScoreGate, cell_of
from trix.address.nested import NestedRouter
from trix.address.route import Route, Routed
from trix.address.ternary import ternarize
from trix.checks import positive, tokens
from trix.tiles.tile import REACH


class FractalFFN(nn.Module):
    r"""Cells at the leaves of a tree; a token descends to one and reads its base and its slope.

    A cell looks along one direction :math:`a_c`, and says a base and a slope, both directions in
    the output:

    .. math:: y = g(s_c)\,\big(b_c + u\, m_c\big), \qquad u = a_c \cdot x / \sqrt{d}, \qquad
        s_c = x \cdot \mathrm{ternary}(a_c)

    Its signature is the ternary cut of its own :math:`a_c`, and what stands above, tile and
    cluster, has the mean of its cells' signatures: the same router at every scale. Source: the
    notes' fractal idea, where a cell's signature comes from the cell's coefficients.

    Args:
        dim: input and output features.
        branching: children of a node at each level: clusters, tiles of each, cells of each.
        beam: nodes kept at each level.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number below 1, or no level.
    """

    def __init__(self, dim: int, branching: Sequence[int] = (4, 4, 4), beam: int = 1) -> None:
        """See the class."""
        super().__init__()
        self.dim = positive("dim", dim)
        self.tiles = math.prod(positive("branching", width) for width in branching)
        self.router = NestedRouter(self.tiles, dim, branching, beam)
        self.gate = ScoreGate(dim)
        self.look = nn.Parameter(torch.randn(self.tiles, dim))
        self.base = nn.Parameter(0.02 * torch.randn(self.tiles, dim))
        self.slope = nn.Parameter(0.02 * torch.randn(self.tiles, dim))

    @property
    def signatures(self) -> Tensor:
        """The cells' addresses, `[cells, dim]`, exactly −1, 0 or 1."""
        return ternarize(self.look)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., dim]` to `[..., dim]`; the output of `routed`."""
        return self.routed(x).output

    def routed(self, x: Tensor) -> Routed:
        """Return the output `[..., dim]` with the `Route` that produced it.

        Raises:
            TypeError: `x` is not floating.
            ValueError: the last axis of `x` is not `dim`.
        """
        tokens("x", x, self.dim)
        route = self.router(x, self.signatures)
        return Routed(_line(self, x, route.index[..., 0], route.index[..., 0], route), route)

    def update(self, route: Route) -> None:
        """Nothing here learns outside the gradient."""


class RandomFractalFFN(FractalFFN):
    """A control: the signatures of cells, tiles and clusters are drawn once and never learn.

    Args:
        dim: input and output features.
        branching: children of a node at each level.
        beam: nodes kept at each level.
    """

    fixed: Tensor

    def __init__(self, dim: int, branching: Sequence[int] = (4, 4, 4), beam: int = 1) -> None:
        """See the class."""
        super().__init__(dim, branching, beam)
        self.register_buffer("fixed", ternarize(torch.randn(self.tiles, dim)))

    @property
    def signatures(self) -> Tensor:
        """The cells' addresses, `[cells, dim]`, as drawn."""
        return self.fixed


class BinnedFFN(nn.Module):
    """A control: two levels of routing to a tile, then a cell by equal bins of what the tile sees.

    The tile looks along one direction and cuts what it sees, −3 … 3 standard deviations of a
    normalized token, in `cells` equal parts, as a spline does; numbers beyond belong to the
    outer cells. Cells say a base and a slope as those of `FractalFFN` do.

    Args:
        dim: input and output features.
        branching: clusters, and tiles of each.
        cells: of each tile.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number below 1.
    """

    def __init__(self, dim: int, branching: Sequence[int] = (4, 4), cells: int = 4) -> None:
        """See the class."""
        super().__init__()
        self.dim, self.cells = positive("dim", dim), positive("cells", cells)
        self.tiles = math.prod(positive("branching", width) for width in branching)
        self.router = NestedRouter(self.tiles, dim, branching)
        self.gate = ScoreGate(dim)
        self.look = nn.Parameter(torch.randn(self.tiles, dim))
        self.base = nn.Parameter(0.02 * torch.randn(self.tiles * cells, dim))
        self.slope = nn.Parameter(0.02 * torch.randn(self.tiles * cells, dim))

    @property
    def signatures(self) -> Tensor:
        """The tiles' addresses, `[tiles, dim]`, exactly −1, 0 or 1."""
        return ternarize(self.look)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., dim]` to `[..., dim]`; the output of `routed`."""
        return self.routed(x).output

    def routed(self, x: Tensor) -> Routed:
        """Return the output `[..., dim]` with the `Route` that produced it.

        Raises:
            TypeError: `x` is not floating.
            ValueError: the last axis of `x` is not `dim`.
        """
        tokens("x", x, self.dim)
        route = self.router(x, self.signatures)
        tile = route.index[..., 0]
        with torch.no_grad():
            cell, _ = cell_of(_seen(self.look, x, tile), self.cells + 1, -REACH, REACH)
        return Routed(_line(self, x, tile, tile * self.cells + cell, route), route)

    def update(self, route: Route) -> None:
        """Nothing here learns outside the gradient."""


def _seen(look: Tensor, x: Tensor, tile: Tensor) -> Tensor:
    return (F.embedding(tile, look.to(x.dtype)) * x).sum(dim=-1) / math.sqrt(x.shape[-1])


def _line(
    layer: FractalFFN | BinnedFFN, x: Tensor, look: Tensor, cell: Tensor, route: Route
) -> Tensor:
    base, slope = (F.embedding(cell, p.to(x.dtype)) for p in (layer.base, layer.slope))
    line = base + _seen(layer.look, x, look).unsqueeze(-1) * slope
    return line * (route.weight * layer.gate(route.score)).to(x.dtype)
