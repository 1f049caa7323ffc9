"""SparseLookup: a feed-forward whose tiles are single neurons, read on demand."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.route import Route, Routed, flat_route
from trix.address.signatures import SignatureRows
from trix.address.tree import TreeRouter
from trix.checks import at_most, positive, tokens
from trix.tiles.ffn import KeyedFFN, clusters_of
from trix.tiles.spline import KnotSpline

REACH = 4.0
"""The splines span this many units of `score / sqrt(dim)` to either side of zero."""


class SparseLookupFFN(KeyedFFN):
    r"""One key, activation and value per tile; a token reads the `top_k` best-matching ones.

    .. math:: y = \sum_{t \in \text{top-}k} \varphi_t\!\left(x \cdot \sigma_t / \sqrt{d}\right) v_t

    The keys :math:`\sigma` are learned ternary signatures, the activations :math:`\varphi` are
    splines, one per tile, and the values :math:`v` are directions in the output. Tiles add up
    rather than compete, so each blend weight is 1. The values not chosen are never touched.

    With all tiles read, flat routing and the GELU (`top_k=tiles, tiles_per_cluster=None,
    cells=None`) it *is* a dense layer with ternary keys: a neuron there is a key, an activation and
    a value too. Sources: the notes' SparseLookup; the reading of a feed-forward as keys and values
    is Geva et al.'s (2021), memory layers (Lample et al. 2019; He 2024) read so few.

    Args:
        tiles_per_cluster: tiles that share a cluster, see `NestedRouter`; None for flat routing.
        cells: of each tile's activation, initially the GELU; None keeps the GELU itself.
        top_k: tiles that each token reads, of those that it reaches.
        beam: clusters looked into.

    `router` chooses tiles, and is None where every token is compared with every key; a fitted
    `TreeRouter` may replace that of a trained layer.

    Example:
        >>> layer = SparseLookupFFN(8, tiles=12, tiles_per_cluster=4, top_k=2)
        >>> layer(torch.randn(2, 5, 8)).shape
        torch.Size([2, 5, 8])
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
        super().__init__(dim, tiles, top_k)
        positive("beam", beam)
        self.keys = SignatureRows(tiles, dim)
        # the standard deviation 0.007 is that of GPT-2's output matrices at this book's sizes
        self.values = nn.Parameter(0.007 * torch.randn(tiles, dim))
        self.activation = None if cells is None else KnotSpline(tiles, cells, 1, -REACH, REACH)
        if self.activation is not None:
            self.activation.fit_(F.gelu)
        self.router = None
        if tiles_per_cluster is not None:
            self.router = clusters_of(tiles, dim, tiles_per_cluster, beam)
            of = f"tiles that a token reaches through {beam} clusters"
            at_most("top_k", top_k, self.router.reached, of)

    def _routed(self, x: Tensor) -> Routed:
        route = self.route(x)
        return Routed(self.read(route).to(x.dtype), route)

    def route(self, x: Tensor) -> Route:
        """Return where tokens `[..., dim]` are to look; raises as `routed` does."""
        tokens("x", x, self.dim)
        choose = flat_route if self.router is None else self.router
        route: Route = choose(x, self.signatures, self.top_k)
        return route._replace(weight=torch.ones_like(route.score), token=x.detach())

    def read(self, route: Route) -> Tensor:
        """Return what stands where a route of `top_k` tiles per token points, `[..., dim]`."""
        index = route.index.reshape(-1, self.top_k)
        share = self.coefficients(route).reshape(-1, self.top_k).to(self.values.dtype)
        # Forward, fetching the chosen values is several times faster than a product with all of
        # them; but its gradient is not, once a token reads more than a few.
        if torch.is_grad_enabled() and index.numel() > self.tiles:
            output = share.new_zeros(len(index), self.tiles).scatter(1, index, share) @ self.values
        else:
            output = F.embedding_bag(index, self.values, mode="sum", per_sample_weights=share)
        return output.view(*route.index.shape[:-1], self.dim)

    def coefficients(self, route: Route) -> Tensor:
        """Return how much of each chosen value is read, `[..., k]`: the activation of its score."""
        score = route.score / math.sqrt(self.dim)
        return F.gelu(score) if self.activation is None else self.activation(score, route.index)
