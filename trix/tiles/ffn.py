"""Feed-forward layers: the dense baselines, what routed ones share, TriX and product keys."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.gate import ScoreGate
from trix.address.nested import NestedRouter
from trix.address.route import Route, Routed, best, flat_route
from trix.address.signatures import EditableSignatures, SignatureRows
from trix.address.ternary import weight_signatures
from trix.checks import at_most, positive, tokens
from trix.tiles.tile import scaled_ternary


class DenseFFN(nn.Module):
    """The baseline: every input reads every hidden unit, `down(gelu(up(x)))`.

    Args:
        dim: input and output features.
        hidden: hidden units; four times `dim` when not given (Vaswani et al. 2017).
        bias: whether the two matrices have biases.

    Raises:
        TypeError: a count is not an integer, or an input is not floating.
        ValueError: a count below 1, or an input whose last axis is not `dim`.

    Example:
        >>> DenseFFN(8)(torch.randn(2, 5, 8)).shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, dim: int, hidden: int | None = None, bias: bool = False) -> None:
        super().__init__()
        hidden = 4 * positive("dim", dim) if hidden is None else positive("hidden", hidden)
        self.up = nn.Linear(dim, hidden, bias=bias)
        self.down = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., dim]` to `[..., dim]`."""
        tokens("x", x, self.up.in_features)
        return self.down(F.gelu(self.up(x)))

    def extra_repr(self) -> str:
        return f"dim={self.up.in_features}, hidden={self.up.out_features}"


class WideDenseFFN(DenseFFN):
    """A `DenseFFN` whose first matrix has the initial scale 1/√dim, as the keys of tiles do.

    GPT-2's 0.02 keeps hidden units small and nearly linear at first. A layer that reads tiles by
    unscaled keys has wide ones, and has to be measured beside a dense layer that has them too.

    Example:
        >>> WideDenseFFN(8, hidden=16)(torch.randn(5, 8)).shape
        torch.Size([5, 8])
    """

    def __init__(self, dim: int, hidden: int | None = None) -> None:
        super().__init__(dim, hidden)
        nn.init.normal_(self.up.weight, std=1 / math.sqrt(dim))


class RoutedFFN(nn.Module):
    """What routed feed-forwards share: they read a few of their tiles, and can say which.

    A subclass has `signatures` and `_routed`, which gets tokens that were checked.

    Raises:
        TypeError: a count is not an integer, or an input is not floating.
        ValueError: a count below 1, `top_k` above `tiles`, an input whose last axis is not `dim`,
            or what the subclass does not allow.
    """

    def __init__(self, dim: int, tiles: int, top_k: int = 1) -> None:
        super().__init__()
        self.dim, self.tiles = positive("dim", dim), positive("tiles", tiles)
        self.top_k = at_most("top_k", top_k, tiles)

    @property
    def signatures(self) -> Tensor:
        """The tiles' addresses, `[tiles, dim]`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., dim]` to `[..., dim]`; the output of `routed`."""
        return self.routed(x).output

    def routed(self, x: Tensor) -> Routed:
        """Return the output `[..., dim]` with the `Route` that produced it."""
        tokens("x", x, self.dim)
        return self._routed(x)

    def _routed(self, x: Tensor) -> Routed:
        raise NotImplementedError

    def update(self, route: Route) -> None:
        """Change what learns outside the gradient; most layers have nothing of the kind."""

    def extra_repr(self) -> str:
        return f"dim={self.dim}, tiles={self.tiles}, top_k={self.top_k}"


class ClusteredFFN(RoutedFFN):
    r"""One tile per token, the best that clusters lead to: :math:`y = g(s_t)\, f_t(x)`.

    A subclass makes `router` and `gate`, and reads its tiles in `_read`.
    """

    router: NestedRouter
    gate: ScoreGate

    def _routed(self, x: Tensor) -> Routed:
        route = self._route(x)
        read = self._read(x.reshape(-1, self.dim), route.index.flatten()).view(x.shape)
        return Routed(read * (route.weight * self.gate(route.score)).to(read.dtype), route)

    def _route(self, x: Tensor) -> Route:
        return self.router(x, self.signatures)

    def _read(self, x: Tensor, tile: Tensor) -> Tensor:
        # what each token `[tokens, dim]` reads from its tile `[tokens]`
        raise NotImplementedError


class KeyedFFN(EditableSignatures, RoutedFFN):
    """A routed feed-forward whose signatures are learned rows of their own, in `keys`."""

    keys: SignatureRows

    @property
    def rows(self) -> SignatureRows:
        """The tiles' rows, to be edited, see `EditableSignatures`."""
        return self.keys

    @property
    def signatures(self) -> Tensor:
        """The tiles' addresses, `[tiles, dim]`, exactly −1, 0 or 1."""
        return self.rows()

    @property
    def latent(self) -> Tensor:
        """The signatures before their cut, `[tiles, dim]`, see `SignatureRows.latent`."""
        return self.rows.latent()


def clusters_of(tiles: int, dim: int, tiles_per_cluster: int, beam: int = 1) -> NestedRouter:
    """Return a router of two levels: clusters of at most `tiles_per_cluster` tiles, then tiles."""
    clusters = -(-tiles // positive("tiles_per_cluster", tiles_per_cluster))
    return NestedRouter(tiles, dim, (clusters, tiles_per_cluster), beam)


def width_of(name: str, width: int | None, dim: int, tiles: int) -> int:
    """Return a tile's width: as given, or such that all tiles weigh as much as a dense layer."""
    if width is not None:
        return positive(name, width)
    return max(1, 4 * positive("dim", dim) // positive("tiles", tiles))


def read_entries(values: Tensor, route: Route) -> Tensor:
    """Add up the entries `[entries, dim]` that a route names, each by its weight: `[..., dim]`."""
    places = route.index.shape[-1]
    index, share = (t.reshape(-1, places) for t in (route.index, route.weight.to(values.dtype)))
    read = F.embedding_bag(index, values, mode="sum", per_sample_weights=share)
    return read.view(*route.index.shape[:-1], values.shape[-1]).to(route.weight.dtype)


class TriXFFN(RoutedFFN):
    r"""Ternary tiles behind one flat level of emergent routing.

    Tile :math:`t` is the two-layer function :math:`f_t(x) = D_t\,\mathrm{gelu}(U_t x)` with ternary
    weights and one scale per row. Its signature is read off :math:`U_t`, so that routing adds no
    parameter. A token reads its `top_k` best tiles:

    .. math:: y = \sum_{t \in \text{top-}k} w_t \; g(s_t) \; f_t(x), \qquad s_t = x \cdot \sigma_t

    with :math:`w = \mathrm{softmax}(s)` over the chosen tiles and the gate
    :math:`g(s) = \mathrm{sigmoid}(s/\sqrt{d})`, which alone carries the gradient to the address
    when `top_k` is 1. All tiles are computed and the chosen ones kept, which saves no work over a
    dense layer of the same size. Source: the notes on emergent routing; they use two levels.

    Args:
        hidden: units of each tile; by default all tiles together weigh as much as a dense layer.
        top_k: tiles that each token reads.

    Example:
        >>> output, route = TriXFFN(8, tiles=4, top_k=2).routed(torch.randn(5, 8))
        >>> output.shape, route.index.shape
        (torch.Size([5, 8]), torch.Size([5, 2]))
    """

    def __init__(
        self, dim: int, tiles: int = 16, hidden: int | None = None, top_k: int = 1
    ) -> None:
        super().__init__(dim, tiles, top_k)
        self.hidden = hidden = width_of("hidden", hidden, dim, tiles)
        self.up = nn.Parameter(torch.randn(tiles, hidden, dim) / math.sqrt(dim))
        self.down = nn.Parameter(torch.randn(tiles, dim, hidden) / math.sqrt(hidden))

    @property
    def signatures(self) -> Tensor:
        """The tiles' addresses, `[tiles, dim]`, exactly −1, 0 or 1."""
        return weight_signatures(self.up)

    def _routed(self, x: Tensor) -> Routed:
        route = flat_route(x, self.signatures, self.top_k)
        up, down = scaled_ternary(self.up).to(x.dtype), scaled_ternary(self.down).to(x.dtype)
        share = route.weight * torch.sigmoid(route.score / math.sqrt(self.dim))
        shares = share.new_zeros(*x.shape[:-1], self.tiles).scatter(-1, route.index, share)
        # two matrix products over all tiles beat a gather of weights while tiles are few
        hidden = F.gelu(torch.einsum("...d,thd->...th", x, up)) * shares.unsqueeze(-1)
        return Routed(torch.einsum("...th,tdh->...d", hidden, down), route)


class ProductKeyFFN(RoutedFFN):
    """A product-key memory (Lample et al. 2019): `sub_keys²` values, found by two short searches.

    The query's halves are compared with `sub_keys` keys each; the best pairs of the best halves are
    the best of all pairs. One head, softmax over the chosen values, without their batch norm.

    Args:
        dim: input and output features, an even number.
        sub_keys: keys of each half.
        top_k: values that each token reads, at most `sub_keys`.

    Example:
        >>> layer = ProductKeyFFN(8, sub_keys=4, top_k=2)
        >>> layer(torch.randn(5, 8)).shape, layer.signatures.shape
        (torch.Size([5, 8]), torch.Size([16, 8]))
    """

    def __init__(self, dim: int, sub_keys: int = 32, top_k: int = 8) -> None:
        if positive("dim", dim) % 2:
            raise ValueError(f"dim must be even, got {dim}")
        at_most("top_k", top_k, positive("sub_keys", sub_keys), "sub-keys")
        super().__init__(dim, sub_keys * sub_keys, top_k)
        self.sub_keys = sub_keys
        self.query = nn.Linear(dim, dim, bias=False)
        self.halves = nn.Parameter(torch.randn(2, sub_keys, dim // 2) / math.sqrt(dim // 2))
        self.values = nn.Parameter(0.02 * torch.randn(self.tiles, dim))

    @property
    def signatures(self) -> Tensor:
        """The full key of every value, `[sub_keys², dim]`, in the space of queries."""
        count, (first, second) = self.sub_keys, self.halves
        return torch.cat([first.repeat_interleave(count, 0), second.repeat(count, 1)], dim=-1)

    def _routed(self, x: Tensor) -> Routed:
        query = self.query(x).unflatten(-1, (2, -1)).transpose(-1, -2)
        scores = torch.einsum("...ds,skd->...sk", query, self.halves.to(query.dtype))
        half = best(scores.detach(), self.top_k)
        found = scores.gather(-1, half)
        pairs = (found[..., 0, :, None] + found[..., 1, None, :]).flatten(-2)
        won = best(pairs.detach(), self.top_k)
        index = half[..., 0, :].gather(-1, won // self.top_k) * self.sub_keys
        index = index + half[..., 1, :].gather(-1, won % self.top_k)
        score = pairs.gather(-1, won)
        route = Route(index, score.softmax(dim=-1), score, index.unsqueeze(-1), x.detach())
        return Routed(read_entries(self.values, route).to(x.dtype), route)
