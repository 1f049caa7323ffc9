"""SparseLookup: a feed-forward whose tiles are single neurons, read on demand."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.nested import NestedRouter
from trix.address.route import Route, Routed, flat_route
from trix.address.signatures import EditableSignatures, SignatureRows
from trix.address.tree import TreeRouter
from trix.checks import positive, tokens
from trix.tiles.spline import KnotSpline

REACH = 4.0
"""The splines span this many units of `score / sqrt(dim)` to either side of zero."""


class SparseLookupFFN(EditableSignatures, nn.Module):
    r"""A key, an activation and a value a tile; a token reads the `top_k` best-matching ones.

    .. math:: y = \sum_{t \in \text{top-}k} \varphi_t\!\left(x \cdot \sigma_t / \sqrt{d}\right) v_t

    The keys :math:`\sigma` are learned ternary signatures, the activations :math:`\varphi` are
    splines, one a tile, and the values :math:`v` are directions in the output. Tiles add up rather
    than compete, so each blend weight is 1. The values that are not chosen are never touched.

    It is the dense layer with four dials turned. With all tiles read, flat routing and the GELU for
    an activation (`top_k=tiles, tiles_per_cluster=None, cells=None`) it *is* a dense layer with
    ternary keys: a neuron there is a key, an activation and a value too. The dials are how many
    tiles there are, how many are read, how many levels the search has, and how many cells the
    activation. Sources: the notes' SparseLookup; the reading of a feed-forward as keys and
    values is Geva et al.'s (2021), memory layers (Lample et al. 2019; He 2024) read so few.

    Args:
        dim: input and output features.
        tiles: how many tiles.
        tiles_per_cluster: tiles that share a cluster, see `NestedRouter`; None for flat routing.
        cells: of each tile's activation, which begins as the GELU; None keeps the GELU itself.
        top_k: tiles that each token reads.
        beam: clusters looked into.

    Attributes:
        router: what chooses tiles, or None where every token is compared with every key. For a
            trained layer it may be replaced by a fitted `TreeRouter`.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a count below 1, or `top_k` above the tiles that a token reaches.
    """

    router: TreeRouter | None

    def __init__(
        self,
        dim: int,
        tiles: int = 64,
        tiles_per_cluster: int | None = 8,
        cells: int | None = 16,
        top_k: int = 1,
        beam: int = 1,
    ) -> None:
        """See the class. Values begin normal, with standard deviation 0.007, as GPT-2's writes."""
        super().__init__()
        positive("dim", dim)
        positive("tiles", tiles)
        positive("beam", beam)
        if positive("top_k", top_k) > tiles:
            raise ValueError(f"top_k must be at most the {tiles} tiles, got {top_k}")
        self.dim, self.tiles, self.top_k = dim, tiles, top_k
        self.keys = SignatureRows(tiles, dim)
        self.values = nn.Parameter(0.007 * torch.randn(tiles, dim))
        self.activation = None if cells is None else KnotSpline(tiles, cells, 1, -REACH, REACH)
        if self.activation is not None:
            self.activation.fit_(F.gelu)
        self.router = None
        if tiles_per_cluster is not None:
            clusters = -(-tiles // positive("tiles_per_cluster", tiles_per_cluster))
            self.router = NestedRouter(tiles, dim, (clusters, tiles_per_cluster), beam)
            if top_k > self.router.reached:
                raise ValueError(
                    f"top_k must be at most the {self.router.reached} tiles that a token reaches "
                    f"through {beam} clusters, got {top_k}"
                )

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
        """The keys before their cut, `[tiles, dim]`, see `SignatureRows.latent`."""
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
        route = self.route(x)
        return Routed(self.read(route).to(x.dtype), route)

    def route(self, x: Tensor) -> Route:
        """Return where tokens `[..., dim]` are to look.

        Raises:
            TypeError: `x` is not floating.
            ValueError: the last axis of `x` is not `dim`.
        """
        tokens("x", x, self.dim)
        choose = flat_route if self.router is None else self.router
        route: Route = choose(x, self.signatures, self.top_k)
        return route._replace(weight=torch.ones_like(route.score), token=x.detach())

    def read(self, route: Route) -> Tensor:
        """Return what stands where a route of `top_k` tiles a token points, `[..., dim]`."""
        index, loud = (t.reshape(-1, self.top_k) for t in (route.index, self.coefficients(route)))
        output = self._read(index, loud.to(self.values.dtype))
        return output.view(*route.index.shape[:-1], self.dim)

    def coefficients(self, route: Route) -> Tensor:
        """Return how much of each chosen value is read, `[..., k]`: the activation of its score."""
        score = route.score / math.sqrt(self.dim)
        return F.gelu(score) if self.activation is None else self.activation(score, route.index)

    def update(self, route: Route) -> None:
        """Nothing here learns outside the gradient."""

    def _read(self, index: Tensor, loud: Tensor) -> Tensor:
        # Forward, fetching the chosen values is several times faster than a product with all of
        # them; but its gradient is not, once a token reads more than a few.
        if torch.is_grad_enabled() and index.numel() > self.tiles:
            all_tiles = loud.new_zeros(len(index), self.tiles).scatter(1, index, loud)
            return all_tiles @ self.values
        return F.embedding_bag(index, self.values, mode="sum", per_sample_weights=loud)
