"""Feed-forward layers: the dense baseline, and tiles that are read on demand."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.route import Route, Routed, best, flat_route
from trix.address.ternary import weight_signatures
from trix.checks import positive, tokens
from trix.tiles.codebook import read_entries
from trix.tiles.tile import scaled_ternary, through_tiles


class DenseFFN(nn.Module):
    """The baseline: every input reads every hidden unit, `down(gelu(up(x)))`.

    Args:
        dim: input and output features.
        hidden: hidden units; four times `dim` when not given (Vaswani et al. 2017).
        bias: whether the two matrices have biases.
    """

    def __init__(self, dim: int, hidden: int | None = None, bias: bool = False) -> None:
        """See the class."""
        super().__init__()
        hidden = 4 * positive("dim", dim) if hidden is None else positive("hidden", hidden)
        self.up = nn.Linear(dim, hidden, bias=bias)
        self.down = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., dim]` to `[..., dim]`.

        Raises:
            TypeError: `x` is not floating.
            ValueError: the last axis of `x` is not `dim`.
        """
        tokens("x", x, self.up.in_features)
        return self.down(F.gelu(self.up(x)))


class WideDenseFFN(DenseFFN):
    """A dense layer whose first matrix begins with standard deviation 1/√dim, as keys of tiles do.

    GPT-2 begins with 0.02, so that hidden units start out small and nearly linear. A layer that
    reads tiles by unscaled keys starts out wide, and has to be measured beside a dense one that
    does so too.

    Args:
        dim: input and output features.
        hidden: hidden units; four times `dim` when not given.
    """

    def __init__(self, dim: int, hidden: int | None = None) -> None:
        """See the class."""
        super().__init__(dim, hidden)
        nn.init.normal_(self.up.weight, std=1 / math.sqrt(dim))


class TriXFFN(nn.Module):
    r"""Ternary tiles behind one flat level of emergent routing.

    Tile :math:`t` is the two-layer function :math:`f_t(x) = D_t\,\mathrm{gelu}(U_t x)` with ternary
    weights and one scale a row. Its signature is read off :math:`U_t`, so that routing adds no
    parameter. A token reads its `top_k` best tiles:

    .. math:: y = \sum_{t \in \text{top-}k} w_t \; g(s_t) \; f_t(x), \qquad s_t = x \cdot \sigma_t

    with :math:`w = \mathrm{softmax}(s)` over the chosen tiles and the gate
    :math:`g(s) = \mathrm{sigmoid}(s/\sqrt{d})`. With `top_k` = 1 the gate alone
    carries the gradient to the address. All tiles are computed and the chosen ones kept, so
    this layer saves no work over a dense one of the same size. Source: the notes on emergent
    routing; they use two levels.

    Args:
        dim: input and output features.
        tiles: how many tiles.
        hidden: hidden units of each tile; `4 * dim / tiles`, at least 1, when not given, so that
            all tiles together weigh as much as a dense layer.
        top_k: tiles that each token reads.
    """

    def __init__(
        self, dim: int, tiles: int = 16, hidden: int | None = None, top_k: int = 1
    ) -> None:
        """See the class."""
        super().__init__()
        positive("dim", dim)
        positive("tiles", tiles)
        hidden = max(1, 4 * dim // tiles) if hidden is None else positive("hidden", hidden)
        if positive("top_k", top_k) > tiles:
            raise ValueError(f"top_k must be at most the {tiles} tiles, got {top_k}")
        self.dim, self.tiles, self.hidden, self.top_k = dim, tiles, hidden, top_k
        self.up = nn.Parameter(torch.randn(tiles, hidden, dim) / math.sqrt(dim))
        self.down = nn.Parameter(torch.randn(tiles, dim, hidden) / math.sqrt(hidden))

    @property
    def signatures(self) -> Tensor:
        """The tiles' addresses, `[tiles, dim]`, exactly −1, 0 or 1."""
        return weight_signatures(self.up)

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
        route = flat_route(x, self.signatures, self.top_k)
        up, down = scaled_ternary(self.up).to(x.dtype), scaled_ternary(self.down).to(x.dtype)
        share = route.weight * torch.sigmoid(route.score / math.sqrt(self.dim))
        shares = share.new_zeros(*x.shape[:-1], self.tiles).scatter(-1, route.index, share)
        # two matrix products over all tiles beat a gather of weights while tiles are few
        hidden = F.gelu(torch.einsum("...d,thd->...th", x, up)) * shares.unsqueeze(-1)
        return Routed(torch.einsum("...th,tdh->...d", hidden, down), route)

    def update(self, route: Route) -> None:
        """Nothing here learns outside the gradient."""


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
