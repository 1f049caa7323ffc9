"""The two designs of the notes: emergent routing in two levels, one tile a token."""

import torch
from torch import Tensor, nn

from trix.address.gate import ScoreGate
from trix.address.nested import NestedRouter
from trix.address.route import Route, Routed
from trix.address.sources import FrozenRandom, UniformRandom
from trix.checks import positive, tokens
from trix.tiles.tile import SplineBodies, TernaryBodies


class TwoLevelFFN(nn.Module):
    r"""One tile a token, found through clusters: :math:`y = g(s_t)\, f_t(x)` with the best tile t.

    A token goes on from the `beam` best clusters; a cluster's signature is the mean of its tiles'
    (`NestedRouter`). The signatures are read off the tiles' own weights.

    Args:
        bodies: what is read.
        tiles_per_cluster: tiles that share a cluster.
        beam: clusters looked into.
    """

    def __init__(
        self,
        bodies: TernaryBodies | SplineBodies,
        tiles_per_cluster: int = 8,
        beam: int = 1,
    ) -> None:
        """See the class."""
        super().__init__()
        self.tiles, _, self.dim = bodies.down.shape
        self.bodies: TernaryBodies | SplineBodies = bodies
        self.gate = ScoreGate(self.dim)
        clusters = -(-self.tiles // positive("tiles_per_cluster", tiles_per_cluster))
        self.router = NestedRouter(self.tiles, self.dim, (clusters, tiles_per_cluster), beam)

    @property
    def signatures(self) -> Tensor:
        """The tiles' addresses, `[tiles, dim]`, exactly −1, 0 or 1."""
        return self.bodies.signatures

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
        route = self._route(x)
        flat = x.reshape(-1, self.dim)
        said = self._read(flat, route)
        share = (route.weight * self.gate(route.score)).reshape(-1, 1, 1)
        return Routed((said * share.to(said.dtype)).sum(dim=1).view(x.shape), route)

    def update(self, route: Route) -> None:
        """Nothing here learns outside the gradient."""

    def _route(self, x: Tensor) -> Route:
        return self.router(x, self.signatures)

    def _read(self, x: Tensor, route: Route) -> Tensor:
        return self.bodies(x, route.index.reshape(-1, 1))


class HierarchicalTriXFFN(TwoLevelFFN):
    """The notes' first design: ternary two-layer tiles, routed by their own first layer's vote.

    Args:
        dim: input and output features.
        tiles: how many tiles.
        tiles_per_cluster: tiles that share a cluster.
        hidden: hidden units of a tile; `4 * dim / tiles`, at least 1, when not given, so that all
            tiles together weigh as much as a dense layer.
        beam: clusters looked into.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number below 1.
    """

    def __init__(
        self,
        dim: int,
        tiles: int = 64,
        tiles_per_cluster: int = 8,
        hidden: int | None = None,
        beam: int = 1,
    ) -> None:
        """See the class."""
        bodies = TernaryBodies(dim, tiles, _width("hidden", hidden, dim, tiles))
        super().__init__(bodies, tiles_per_cluster, beam)


class HybridKANFFN(TwoLevelFFN):
    """The notes' second design: a spline behind a bottleneck, routed by the vote of the bottleneck.

    Args:
        dim: input and output features.
        tiles: how many tiles.
        tiles_per_cluster: tiles that share a cluster.
        bottleneck: directions that a tile looks at; `4 * dim / tiles`, at least 1, when not given.
        cells: of each spline.
        spline: what kind, a name in `trix.tiles.tile.ACTIVATIONS`.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number below 1, or an unknown spline.
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
        """See the class."""
        rank = _width("bottleneck", bottleneck, dim, tiles)
        super().__init__(SplineBodies(dim, tiles, rank, cells, spline), tiles_per_cluster)


class FixedRoutingFFN(TwoLevelFFN):
    """The tiles of either design behind addresses that they have no say in.

    With signatures that another layer has learned, it shows what that layer's routing is worth to
    these tiles; with random ones, or with chance, it is a control.

    Args:
        dim: input and output features.
        reading: whose tiles are read, "trix" (`HierarchicalTriXFFN`) or "kan" (`HybridKANFFN`).
        routing: "signatures", random ones until `set_signatures` gives others, or "uniform", where
            chance sends each token.
        tiles: how many tiles.
        tiles_per_cluster: tiles that share a cluster.
        width: hidden units or bottleneck of a tile; `4 * dim / tiles`, at least 1, when not given.
        cells: of each spline.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number below 1, or an unknown name.
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
        """See the class."""
        if reading not in ("trix", "kan"):
            raise ValueError(f"reading must be trix or kan, got {reading!r}")
        if routing not in ("signatures", "uniform"):
            raise ValueError(f"routing must be signatures or uniform, got {routing!r}")
        width = _width("width", width, dim, tiles)
        if reading == "trix":
            bodies = TernaryBodies(dim, tiles, width)
        else:
            bodies = SplineBodies(dim, tiles, width, cells)
        super().__init__(bodies, tiles_per_cluster)
        self.address = (FrozenRandom if routing == "signatures" else UniformRandom)(tiles, dim)

    @property
    def signatures(self) -> Tensor:
        """The tiles' addresses, `[tiles, dim]`; zeros where chance routes."""
        address = self.address
        return address.zeros if isinstance(address, UniformRandom) else address.fixed

    @torch.no_grad()
    def set_signatures(self, signatures: Tensor) -> None:
        """Route by these signatures from now on, `[tiles, dim]`.

        Raises:
            ValueError: chance routes here, or the shape is another.
        """
        if not isinstance(self.address, FrozenRandom):
            raise ValueError("signatures need a layer with routing='signatures', got 'uniform'")
        if signatures.shape != self.address.fixed.shape:
            raise ValueError(
                f"signatures must be {list(self.address.fixed.shape)}, got {list(signatures.shape)}"
            )
        self.address.fixed.copy_(signatures)

    def _route(self, x: Tensor) -> Route:
        if isinstance(self.address, UniformRandom):
            return self.address.route(x, self.signatures)
        return super()._route(x)


def _width(name: str, width: int | None, dim: int, tiles: int) -> int:
    if width is not None:
        return positive(name, width)
    return max(1, 4 * positive("dim", dim) // positive("tiles", tiles))
