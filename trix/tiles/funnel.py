"""The compression funnel: many numbers, two numbers, a cell, an entry, many numbers."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.gate import ScoreGate, cell_of
from trix.address.route import Route
from trix.address.signatures import SignatureRows
from trix.address.ternary import straight_through
from trix.checks import at_least, positive
from trix.tiles.ffn import ClusteredFFN, KeyedFFN, clusters_of
from trix.tiles.spline import grid
from trix.tiles.table import Quantizer
from trix.tiles.tile import through_tiles


class FunnelStages(NamedTuple):
    """What a funnel makes of tokens, stage by stage.

    Each goes to a tile by `route`, which projects it to `points`, −1 … 1, `[..., pairs, 2]`. They
    fall in grid `cells`, int64 of the same shape, or as one number, row · levels + column, `entry`
    `[..., pairs]`. `read` `[..., width]` is the sum of the table's entries; `output` `[..., dim]`.
    """

    route: Route
    points: Tensor
    cells: Tensor
    entry: Tensor
    read: Tensor
    output: Tensor


class FunnelFFN(KeyedFFN, ClusteredFFN):
    r"""One table of `levels²` entries per tile, addressed by two numbers.

    .. math:: p = \tanh(B_t x), \quad (i, j) = \mathrm{round}(p), \quad
        y = g(s_t)\, D_t^\top E_t[i, j]

    The tile comes from learned signatures through clusters; the idea is that routing leaves a tile
    with inputs that differ in few ways, so that two numbers tell them apart. Points are rounded
    to the nearest of `levels` evenly spaced positions from −1 to 1, and the table holds the output
    there. The backward pass takes the table for the bilinear surface through its entries, at the
    point that was not rounded: so a projection learns to which side a better entry lies. With more
    `pairs`, each has a table of its own and the entries add up (a product table). Initially the
    table is nearly a plane: entries follow the point. Source: the notes' compression funnel.

    Args:
        tiles: how many; 1 for a funnel without routing.
        tiles_per_cluster: tiles that share a cluster.
        levels: positions on each axis, at least 2.
        pairs: pairs of numbers that a token is squeezed to.
        width: numbers in an entry, which the tile's last matrix expands to `dim`.

    Example:
        >>> layer = FunnelFFN(8, tiles=6, tiles_per_cluster=3, levels=4)
        >>> bool((layer.stages(torch.randn(5, 8)).entry < 16).all())
        True
    """

    def __init__(
        self,
        dim: int,
        tiles: int = 64,
        tiles_per_cluster: int = 8,
        levels: int = 16,
        pairs: int = 1,
        width: int = 8,
    ) -> None:
        super().__init__(dim, tiles)
        self.levels = at_least("levels", levels, 2)
        self.pairs, self.width = positive("pairs", pairs), positive("width", width)
        self.keys = SignatureRows(tiles, dim)
        self.router = clusters_of(tiles, dim, tiles_per_cluster)
        self.gate = ScoreGate(dim)
        self.project = nn.Parameter(0.5 * torch.randn(tiles, 2 * pairs, dim) / math.sqrt(dim))
        points = grid(torch.linspace(-1, 1, levels), 2)
        planes = torch.randn(tiles, pairs, 2, width) / math.sqrt(pairs)
        self.table = nn.Parameter(points @ planes + 0.1 * torch.randn(tiles, pairs, 1, width))
        self.expand = nn.Parameter(0.02 * torch.randn(tiles, width, dim))

    @torch.no_grad()
    def stages(self, x: Tensor) -> FunnelStages:
        """Return what becomes of tokens `[..., dim]` at every stage; raises as `routed` does."""
        output, route = self.routed(x)
        tile = route.index[..., 0]
        units = (self.project.to(x.dtype)[tile] @ x.unsqueeze(-1)).squeeze(-1)
        points = units.tanh().unflatten(-1, (self.pairs, 2))
        cells = Quantizer(self.levels).codes(points)
        entry = cells[..., 0] * self.levels + cells[..., 1]
        return FunnelStages(route, points, cells, entry, self._entries(tile, cells), output)

    def _read(self, x: Tensor, tile: Tensor) -> Tensor:
        return through_tiles(x, tile, self.project, self._activate, self.expand)

    def _activate(self, units: Tensor, tile: Tensor, token: Tensor) -> Tensor:
        points = units.tanh().unflatten(-1, (self.pairs, 2))
        read = self._entries(tile, Quantizer(self.levels).codes(points)).to(units.dtype)
        read = read + 0 * units.sum(dim=-1, keepdim=True)  # NaN where the token has one
        if not torch.is_grad_enabled():
            return read
        return straight_through(read, self._surface(points, tile).to(units.dtype))

    def _entries(self, tile: Tensor, cells: Tensor) -> Tensor:
        # the sum over pairs of the entries at cells `[..., pairs, 2]`
        return self._at(tile, cells.unsqueeze(-2)).squeeze(-2).sum(dim=-2)

    def _surface(self, points: Tensor, tile: Tensor) -> Tensor:
        # bilinear in each grid cell: the four entries around a point, by their nearness to it
        low, place = cell_of(points, self.levels, -1.0, 1.0)
        corners = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], device=low.device)
        a, b, c, d = self._at(tile, low.unsqueeze(-2) + corners).unbind(-2)
        down, right = place[..., :1], place[..., 1:]
        upper, lower = a * (1 - right) + b * right, c * (1 - right) + d * right
        return (upper * (1 - down) + lower * down).sum(dim=-2)

    def _at(self, tile: Tensor, cells: Tensor) -> Tensor:
        # the entries of tiles `[...]` at cells `[..., pairs, n, 2]`: `[..., pairs, n, width]`
        table = tile.unsqueeze(-1) * self.pairs + torch.arange(self.pairs, device=tile.device)
        row = table.unsqueeze(-1) * self.levels + cells[..., 0]
        return F.embedding(row * self.levels + cells[..., 1], self.table.flatten(0, 2))
