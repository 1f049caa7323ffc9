"""The two designs of the notes, emergent routing in two levels, and two layers made of them."""

from typing import cast

import torch
from torch import Tensor, nn

from trix.address.gate import ScoreGate
from trix.address.route import Route
from trix.address.sources import FrozenRandom, UniformRandom
from trix.checks import one_of, positive, renamed, shape
from trix.tiles.ffn import ClusteredFFN, clusters_of, width_of
from trix.tiles.tile import ACTIVATIONS, SplineBodies, TernaryBodies, through_tiles

KEEP = 0.98
"""Decay of an `AdaptiveKANFFN`'s running median of margins."""


class TwoLevelFFN(ClusteredFFN):
    """Tiles behind two levels of emergent routing: their `bodies` give the signatures.

    A token goes on from the `beam` best clusters, each the mean of its tiles (`NestedRouter`).
    """

    def __init__(
        self, bodies: TernaryBodies | SplineBodies, tiles_per_cluster: int = 8, beam: int = 1
    ) -> None:
        tiles, _, dim = bodies.down.shape
        super().__init__(dim, tiles)
        self.bodies: TernaryBodies | SplineBodies = bodies
        self.gate = ScoreGate(dim)
        self.router = clusters_of(tiles, dim, tiles_per_cluster, beam)

    @property
    def signatures(self) -> Tensor:
        """The tiles' addresses, `[tiles, dim]`, exactly −1, 0 or 1."""
        return self.bodies.signatures

    def _read(self, x: Tensor, tile: Tensor) -> Tensor:
        return self.bodies(x, tile)


class HierarchicalTriXFFN(TwoLevelFFN):
    """The notes' first design: ternary two-layer tiles, routed by their own first layer's vote.

    Args:
        tiles_per_cluster: tiles that share a cluster.
        hidden: units of a tile; by default all tiles together weigh as much as a dense layer.
        beam: clusters looked into.

    Example:
        >>> layer = HierarchicalTriXFFN(8, tiles=6, tiles_per_cluster=3)
        >>> layer.routed(torch.randn(5, 8)).route.path.shape  # a cluster and a tile
        torch.Size([5, 1, 2])
    """

    def __init__(
        self,
        dim: int,
        tiles: int = 64,
        tiles_per_cluster: int = 8,
        hidden: int | None = None,
        beam: int = 1,
    ) -> None:
        bodies = TernaryBodies(dim, tiles, width_of("hidden", hidden, dim, tiles))
        super().__init__(bodies, tiles_per_cluster, beam)


class HybridKANFFN(TwoLevelFFN):
    """The notes' second design: a spline behind a bottleneck, routed by the vote of the bottleneck.

    Args:
        tiles_per_cluster: tiles that share a cluster.
        bottleneck: directions that a tile looks at; `4 * dim / tiles`, at least 1, when not given.
        cells: of each spline.
        spline: what kind, a name in `trix.tiles.tile.ACTIVATIONS`.

    Example:
        >>> HybridKANFFN(8, tiles=6, spline="ternary-tile")(torch.randn(2, 5, 8)).shape
        torch.Size([2, 5, 8])
    """

    def __init__(
        self,
        dim: int,
        tiles: int = 64,
        tiles_per_cluster: int = 8,
        bottleneck: int | None = None,
        cells: int = 16,
        spline: str = "knots",
    ) -> None:
        rank = width_of("bottleneck", bottleneck, dim, tiles)
        super().__init__(SplineBodies(dim, tiles, rank, cells, spline), tiles_per_cluster)


class FixedRoutingFFN(TwoLevelFFN):
    """The tiles of either design behind addresses that do not depend on them.

    With signatures that another layer has learned, it shows what that layer's routing is worth to
    these tiles; with random ones, or with tiles drawn at random, it is a control. `reading` says
    whose tiles are read, "trix" or "kan"; `routing` is "signatures", random ones until
    `set_signatures` gives others, or "uniform", where each token goes to a tile at random.
    """

    address: FrozenRandom | UniformRandom

    def __init__(
        self,
        dim: int,
        reading: str,
        routing: str = "signatures",
        tiles: int = 64,
        tiles_per_cluster: int = 8,
        width: int | None = None,
        cells: int = 16,
    ) -> None:
        one_of("reading", reading, ("trix", "kan"))
        one_of("routing", routing, ("signatures", "uniform"))
        width = width_of("width", width, dim, tiles)
        if reading == "trix":
            bodies = TernaryBodies(dim, tiles, width)
        else:
            bodies = SplineBodies(dim, tiles, width, cells)
        super().__init__(bodies, tiles_per_cluster)
        self.address = (FrozenRandom if routing == "signatures" else UniformRandom)(tiles, dim)

    @property
    def signatures(self) -> Tensor:
        """The tiles' addresses, `[tiles, dim]`; zeros where tokens are routed at random."""
        at = self.address
        return at.zeros if isinstance(at, UniformRandom) else at.fixed

    @torch.no_grad()
    def set_signatures(self, signatures: Tensor) -> None:
        """Route by these signatures from now on, `[tiles, dim]`; not in a "uniform" layer."""
        if not isinstance(self.address, FrozenRandom):
            raise ValueError("signatures need a layer with routing='signatures', got 'uniform'")
        shape("signatures", signatures, self.tiles, self.dim)
        self.address.fixed.copy_(signatures)

    def _route(self, x: Tensor) -> Route:
        if isinstance(self.address, UniformRandom):
            return self.address.route(x, self.signatures)
        return super()._route(x)


class AdaptiveKANFFN(TwoLevelFFN):
    """`HybridKANFFN` with two splines per unit: coarse where routing is sure, fine where it is not.

    Routing is sure of a token when the *margin*, the best score less the next best among the tiles
    that it was compared with, is above the median margin, which the layer learns in `update`.
    So about half the tokens read fine cells. What a resolution costs is the bits of an address:
    a line is one multiplication whatever the number of cells. Source: the notes' adaptive
    resolution.

    Args:
        tiles_per_cluster: tiles that share a cluster, at least two.
        coarse, fine: cells where routing is sure, and where it is not.
        choose: "confidence", or "chance" for a control that tosses a coin for every token.

    Example:
        >>> layer = AdaptiveKANFFN(8, tiles=6, tiles_per_cluster=3)
        >>> layer.sure(torch.randn(5, 8)).shape
        torch.Size([5])
    """

    threshold: Tensor

    def __init__(
        self,
        dim: int,
        tiles: int = 64,
        tiles_per_cluster: int = 8,
        coarse: int = 4,
        fine: int = 16,
        choose: str = "confidence",
    ) -> None:
        one_of("choose", choose, ("confidence", "chance"))
        rank = width_of("bottleneck", None, dim, tiles)
        super().__init__(SplineBodies(dim, tiles, rank, coarse), tiles_per_cluster)
        if self.router.reached < 2:
            raise ValueError(f"a margin needs two tiles per cluster, got {self.router.reached}")
        self.coarse, self.fine = coarse, positive("fine", fine)
        renamed(self, {"fine_bend": "fine_activation"})
        self.fine_activation: nn.Module = ACTIVATIONS["knots"](tiles, rank, fine)
        self.coin = UniformRandom(2, dim) if choose == "chance" else None
        self.register_buffer("threshold", torch.zeros(()))

    @torch.no_grad()
    def sure(self, x: Tensor) -> Tensor:
        """Return whether tokens `[..., dim]` read coarse cells, bool `[...]`."""
        if self.coin is not None:
            return self.coin.route(x, self.coin.zeros).index[..., 0] == 0
        return self._margin(x) > self.threshold.to(x.dtype)

    def address_bits(self, x: Tensor) -> float:
        """Return the bits of the cell's address, on average over tokens `[..., dim]`."""
        share = float(self.sure(x).double().mean())
        bits = torch.tensor([self.coarse, self.fine], dtype=torch.float64).log2()
        return float(share * bits[0] + (1 - share) * bits[1])

    @torch.no_grad()
    def update(self, route: Route) -> None:
        """Follow the median margin of the route's tokens."""
        if route.token is None:
            raise ValueError("the margins' median needs the route's tokens, got token=None")
        margin = self._margin(route.token)
        margin = margin[margin.isfinite()]
        if len(margin):
            self.threshold.lerp_(margin.median().to(self.threshold), 1 - KEEP)

    def _margin(self, x: Tensor) -> Tensor:
        score = self.router(x, self.signatures, 2).score
        return score[..., 0] - score[..., 1]

    def _read(self, x: Tensor, tile: Tensor) -> Tensor:
        sure, bodies = self.sure(x), cast(SplineBodies, self.bodies)

        def activation(units: Tensor, tile: Tensor, token: Tensor) -> Tensor:
            coarse, fine = bodies.activation(units, tile), self.fine_activation(units, tile)
            return torch.where(sure[token].unsqueeze(-1), coarse, fine)

        return through_tiles(x, tile, bodies.bottleneck, activation, bodies.down)
