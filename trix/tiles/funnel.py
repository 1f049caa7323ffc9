"""The compression funnel: many numbers, two numbers, a cell, an entry, many numbers."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.gate import ScoreGate, cell_of
from trix.address.nested import NestedRouter
from trix.address.route import Route, Routed
from trix.address.signatures import EditableSignatures, SignatureRows
from trix.address.ternary import straight_through
from trix.checks import positive, tokens
from trix.tiles.table import Quantizer
from trix.tiles.tile import through_tiles


class FunnelStages(NamedTuple):
    """What a funnel makes of tokens, stage by stage.

    Attributes:
        route: the tile that each token goes to.
        points: where its tile projects it, bounded to −1 … 1, `[..., pairs, 2]`.
        cells: the grid cell of each point, int64 `[..., pairs, 2]`, each below `levels`.
        entry: the same as one number, row · levels + column, int64 `[..., pairs]`.
        read: the sum of the table's entries, `[..., width]`.
        output: `[..., dim]`.
    """

    route: Route
    points: Tensor
    cells: Tensor
    entry: Tensor
    read: Tensor
    output: Tensor


class FunnelFFN(EditableSignatures, nn.Module):
    r"""One table of `levels²` entries a tile, addressed by two numbers.

    .. math::
        p = \tanh(B_t x), \quad (i, j) = \mathrm{round}(p)

    .. math::
        y = g(s_t)\, D_t^\top E_t[i, j]

    The tile comes from learned signatures through clusters; the idea is that routing leaves a tile
    with inputs that differ in few ways, so that two numbers tell them apart. Points are rounded
    to the nearest of `levels` evenly spaced positions from −1 to 1, and the table holds what is
    said there. The backward pass takes the table for the bilinear surface through its
    entries, at the point that was not rounded: so a projection learns to which side
    a better entry lies. With more `pairs`, each pair of numbers has a table of its own and the
    entries add up (a product table). Source: the notes' compression funnel.

    Args:
        dim: input and output features.
        tiles: how many; 1 for a funnel without routing.
        tiles_per_cluster: tiles that share a cluster.
        levels: positions on each axis, at least 2.
        pairs: pairs of numbers that a token is squeezed to.
        width: numbers in an entry, which the tile's last matrix expands to `dim`.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a count below 1, or fewer than two levels.
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
        """See the class. The first table is nearly a plane: entries follow the point."""
        super().__init__()
        if positive("levels", levels) < 2:
            raise ValueError(f"levels must be at least 2, got {levels}")
        positive("dim", dim)
        self.dim, self.tiles, self.levels = dim, positive("tiles", tiles), levels
        self.pairs, self.width = positive("pairs", pairs), positive("width", width)
        self.keys = SignatureRows(tiles, dim)
        clusters = -(-tiles // positive("tiles_per_cluster", tiles_per_cluster))
        self.router = NestedRouter(tiles, dim, (clusters, tiles_per_cluster))
        self.gate = ScoreGate(dim)
        self.project = nn.Parameter(0.5 * torch.randn(tiles, 2 * pairs, dim) / math.sqrt(dim))
        at = torch.linspace(-1, 1, levels)
        grid = torch.cartesian_prod(at, at)  # [levels², 2], row after row
        planes = torch.randn(tiles, pairs, 2, width) / math.sqrt(pairs)
        self.table = nn.Parameter(grid @ planes + 0.1 * torch.randn(tiles, pairs, 1, width))
        self.expand = nn.Parameter(0.02 * torch.randn(tiles, width, dim))

    @property
    def rows(self) -> SignatureRows:
        """The tiles' rows, to be edited, see `EditableSignatures`."""
        return self.keys

    @property
    def signatures(self) -> Tensor:
        """The tiles' addresses, `[tiles, dim]`, exactly −1, 0 or 1."""
        return self.keys()

    @property
    def latent(self) -> Tensor:
        """The signatures before their cut, `[tiles, dim]`, see `SignatureRows.latent`."""
        return self.keys.latent()

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
        said = through_tiles(
            x.reshape(-1, self.dim),
            route.index.reshape(-1, 1),
            self.project,
            self._activate,
            self.expand,
        )
        loud = (route.weight * self.gate(route.score)).to(said.dtype)
        return Routed(said.view(x.shape) * loud, route)

    @torch.no_grad()
    def stages(self, x: Tensor) -> FunnelStages:
        """Return what becomes of tokens `[..., dim]` at every stage.

        Raises:
            TypeError: `x` is not floating.
            ValueError: the last axis of `x` is not `dim`.
        """
        output, route = self.routed(x)
        tile = route.index[..., 0]
        units = (self.project.to(x.dtype)[tile] @ x.unsqueeze(-1)).squeeze(-1)
        points = units.tanh().unflatten(-1, (self.pairs, 2))
        cells = self._nearest(points)
        entry = cells[..., 0] * self.levels + cells[..., 1]
        return FunnelStages(route, points, cells, entry, self._entries(tile, cells), output)

    def update(self, route: Route) -> None:
        """Nothing here learns outside the gradient."""

    def _nearest(self, points: Tensor) -> Tensor:
        return Quantizer(self.levels).codes(points)

    def _entries(self, tile: Tensor, cells: Tensor) -> Tensor:
        # the sum over pairs of the entries at `cells` [..., pairs, 2], of `tile` [...]
        pair = torch.arange(self.pairs, device=tile.device)
        row = (tile.unsqueeze(-1) * self.pairs + pair) * self.levels + cells[..., 0]
        table = self.table.flatten(0, 2)
        return F.embedding(row * self.levels + cells[..., 1], table).sum(dim=-2)

    def _activate(self, units: Tensor, tile: Tensor, visit: Tensor) -> Tensor:
        points = units.tanh().unflatten(-1, (self.pairs, 2))
        read = self._entries(tile, self._nearest(points)).to(units.dtype)
        read = read + 0 * units.sum(dim=-1, keepdim=True)  # NaN where the token has one
        if not torch.is_grad_enabled():
            return read
        return straight_through(read, self._surface(points, tile).to(units.dtype))

    def _surface(self, points: Tensor, tile: Tensor) -> Tensor:
        # bilinear in each grid cell: the four entries around a point, by their nearness to it
        low, place = cell_of(points, self.levels, -1.0, 1.0)
        share = place.unsqueeze(-1)
        corners = low.unsqueeze(-2) + torch.tensor(
            [[0, 0], [0, 1], [1, 0], [1, 1]], device=low.device
        )
        pair = torch.arange(self.pairs, device=tile.device).unsqueeze(-1)
        row = (tile[..., None, None] * self.pairs + pair) * self.levels + corners[..., 0]
        around = F.embedding(row * self.levels + corners[..., 1], self.table.flatten(0, 2))
        down, right = share[..., 0, :], share[..., 1, :]
        upper = around[..., 0, :] * (1 - right) + around[..., 1, :] * right
        lower = around[..., 2, :] * (1 - right) + around[..., 3, :] * right
        return (upper * (1 - down) + lower * down).sum(dim=-2)
