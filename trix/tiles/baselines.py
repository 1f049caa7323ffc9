"""What routed layers are timed beside: a mixture with a learned router, and product keys."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.checks import positive, tokens
from trix.address.route import Route, Routed, best, flat_route
from trix.tiles.codebook import read_entries
from trix.tiles.dispatch import through_tiles


class MixtureFFN(nn.Module):
    """A top-k mixture of two-layer experts with a learned linear router (Shazeer et al. 2017).

    The chosen experts' weights are the softmax of their scores (Mixtral; Jiang et al. 2024). The
    trainer balances it with the loss "load-balance". With `top_k=1` such a weight is 1 and teaches
    the router nothing, so there the softmax is over all experts (Switch; Fedus et al. 2022).

    Args:
        dim: input and output features.
        tiles: experts.
        hidden: hidden units of each; `4 * dim / tiles`, at least 1, when not given.
        top_k: experts that each token reads.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a count below 1, or `top_k` above `tiles`.
    """

    def __init__(
        self, dim: int, tiles: int = 16, hidden: int | None = None, top_k: int = 2
    ) -> None:
        """See the class. The scales are GPT-2's."""
        super().__init__()
        positive("dim", dim)
        positive("tiles", tiles)
        hidden = max(1, 4 * dim // tiles) if hidden is None else positive("hidden", hidden)
        if positive("top_k", top_k) > tiles:
            raise ValueError(f"top_k must be at most the {tiles} tiles, got {top_k}")
        self.dim, self.tiles, self.top_k = dim, tiles, top_k
        self.matrix = nn.Parameter(torch.randn(tiles, dim) / dim)
        self.up = nn.Parameter(0.02 * torch.randn(tiles, hidden, dim))
        self.down = nn.Parameter(0.007 * torch.randn(tiles, hidden, dim))

    @property
    def signatures(self) -> Tensor:
        """The router's matrix, `[tiles, dim]`: real numbers, learned."""
        return self.matrix

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
        route = flat_route(x, self.matrix, self.top_k)
        if self.top_k == 1:
            share = torch.softmax(x @ self.matrix.to(x.dtype).T, dim=-1)
            route = route._replace(weight=share.gather(-1, route.index))
        flat, index = x.reshape(-1, self.dim), route.index.reshape(-1, self.top_k)
        said = through_tiles(
            flat, index, self.up, lambda units, tile, visit: F.gelu(units), self.down
        )
        share = route.weight.reshape(-1, self.top_k, 1).to(said.dtype)
        return Routed((said * share).sum(dim=1).view(x.shape), route)

    def update(self, route: Route) -> None:
        """Nothing here learns outside the gradient."""


class ProductKeyFFN(nn.Module):
    """A product-key memory (Lample et al. 2019): `sub_keys²` values, found by two short searches.

    The query's halves are compared with `sub_keys` keys each; the best pairs of the best halves are
    the best of all pairs. One head, softmax over the chosen values, without their batch norm.

    Args:
        dim: input and output features, an even number.
        sub_keys: keys of each half.
        top_k: values that each token reads, at most `sub_keys`.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a count below 1, an odd `dim`, or `top_k` above `sub_keys`.
    """

    def __init__(self, dim: int, sub_keys: int = 32, top_k: int = 8) -> None:
        """See the class."""
        super().__init__()
        if positive("dim", dim) % 2:
            raise ValueError(f"dim must be even, got {dim}")
        if positive("top_k", top_k) > positive("sub_keys", sub_keys):
            raise ValueError(f"top_k must be at most the {sub_keys} sub-keys, got {top_k}")
        self.dim, self.sub_keys, self.top_k = dim, sub_keys, top_k
        self.tiles = sub_keys * sub_keys
        self.query = nn.Linear(dim, dim, bias=False)
        self.halves = nn.Parameter(torch.randn(2, sub_keys, dim // 2) / math.sqrt(dim // 2))
        self.values = nn.Parameter(0.02 * torch.randn(self.tiles, dim))

    @property
    def signatures(self) -> Tensor:
        """The full key of every value, `[sub_keys², dim]`, in the space of queries."""
        first, second = self.halves
        return torch.cat(
            [first.repeat_interleave(self.sub_keys, 0), second.repeat(self.sub_keys, 1)], dim=-1
        )

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
        query = self.query(x).unflatten(-1, (2, -1)).transpose(-1, -2)
        scores = torch.einsum("...ds,skd->...sk", query, self.halves.to(query.dtype))
        half = best(scores.detach(), self.top_k)
        found = scores.gather(-1, half)
        pairs = found[..., 0, :, None] + found[..., 1, None, :]
        won = best(pairs.detach().flatten(-2), self.top_k)
        index = half[..., 0, :].gather(-1, won // self.top_k) * self.sub_keys
        index = index + half[..., 1, :].gather(-1, won % self.top_k)
        score = pairs.flatten(-2).gather(-1, won)
        weight = torch.softmax(score, dim=-1)
        route = Route(index, weight, score, index.unsqueeze(-1), x.detach())
        return Routed(read_entries(self.values, route).to(x.dtype), route)

    def update(self, route: Route) -> None:
        """Nothing here learns outside the gradient."""
