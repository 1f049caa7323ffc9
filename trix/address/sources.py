"""Where signatures come from: five sources, and four controls to measure them against."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.route import Route, flat_route
from trix.address.signatures import SignatureRows
from trix.address.ternary import straight_through, ternarize, weight_signatures
from trix.checks import at_most, fraction, integers, positive, shape


class TileParts(NamedTuple):
    """What a tile of `TiledFFN` is made of, for a source to read."""

    bottleneck: Tensor  # [tiles, rank, dim]
    mix: Tensor  # [tiles, hidden, rank]
    spline: Tensor  # [tiles, hidden, knots]


class Source(nn.Module):
    """The interface, and what most sources share: flat routing, and nothing to update."""

    def rows(self, parts: TileParts) -> Tensor:
        """Return the effective signatures, `[tiles, dim]`."""
        raise NotImplementedError

    def route(
        self,
        x: Tensor,
        rows: Tensor,
        top_k: int = 1,
        temperature: float | Tensor = 1.0,
        bias: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Route:
        """Return routes of tokens `[..., dim]` by `rows`, or by `labels`, an integer per token."""
        return flat_route(x, rows, top_k, temperature, bias)

    def update(self, route: Route) -> None:
        """Learn what is learned outside the gradient; most sources have nothing of the kind."""


class WeightSource(Source):
    """From the computing weights: the sign of the column sum of the ternary first layer."""

    def rows(self, parts: TileParts) -> Tensor:
        return weight_signatures(parts.mix @ parts.bottleneck)


class BottleneckSource(Source):
    """From the bottleneck: the same vote, of the few directions that the tile looks at."""

    def rows(self, parts: TileParts) -> Tensor:
        return weight_signatures(parts.bottleneck)


class SplineSource(Source):
    """From the spline: the vote of the hidden units, each as strong as its activation rises.

    A unit whose spline falls from its first knot to its last votes for the opposite.
    """

    def rows(self, parts: TileParts) -> Tensor:
        rise = parts.spline[..., -1] - parts.spline[..., 0]
        tally = (rise.unsqueeze(-1) * ternarize(parts.mix @ parts.bottleneck)).mean(dim=-2)
        return straight_through(tally.sign(), tally)


class LearnedSource(Source):
    """Decoupled: a table of learned rows, whatever the tiles compute; see `SignatureRows`."""

    def __init__(self, tiles: int, dim: int) -> None:
        super().__init__()
        self.table = SignatureRows(tiles, dim)

    def rows(self, parts: TileParts) -> Tensor:
        return self.table()


class _OwnRows(Source):
    """A source that keeps something of its own for every tile."""

    def __init__(self, tiles: int, dim: int) -> None:
        super().__init__()
        self.tiles, self.dim = positive("tiles", tiles), positive("dim", dim)

    def extra_repr(self) -> str:
        return f"tiles={self.tiles}, dim={self.dim}"


class DataSource(_OwnRows):
    """From the data: the ternary cut of running means of the tokens that each tile read.

    Online k-means, one step per `update`, with the decay in [0, 1) of van den Oord et al. (2017),
    less what all tokens share. A tile that reads next to nothing starts again at the token that its
    own tile matches worst. The rows are random until the first update.
    """

    centres: Tensor
    counts: Tensor
    mean: Tensor
    started: Tensor

    def __init__(self, tiles: int, dim: int, decay: float = 0.99) -> None:
        super().__init__(tiles, dim)
        self.decay = fraction("decay", decay)
        self.register_buffer("centres", torch.randn(tiles, dim) / math.sqrt(dim))
        self.register_buffer("counts", torch.ones(tiles))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def rows(self, parts: TileParts) -> Tensor:
        return ternarize(self.centres)

    def route(self, x, rows, top_k=1, temperature=1.0, bias=None, labels=None) -> Route:
        """Compare the tokens without what all have in common."""
        route = flat_route(x - self.mean.to(x.dtype), rows, top_k, temperature, bias)
        return route._replace(token=x.detach())

    @torch.no_grad()
    def update(self, route: Route) -> None:
        """Move each centre towards the tokens that chose it first; the route must carry them."""
        if route.token is None:
            raise ValueError("k-means needs the tokens of the route, got token=None")
        score = route.score[..., 0].reshape(-1)
        sound = score.isfinite()  # one NaN would spoil all means for good
        token = route.token.reshape(-1, self.dim)[sound].to(self.centres)
        best, score = route.index[..., 0].reshape(-1)[sound], score[sound]
        if len(token) == 0:
            return
        # the first update replaces what was drawn at random
        keep = self.decay * self.started.to(self.centres.dtype)
        self.mean.lerp_(token.mean(dim=0), 1 - keep)
        token = token - self.mean
        read = F.one_hot(best, self.tiles).to(token.dtype)
        self.counts.mul_(keep).add_(read.sum(dim=0) * (1 - keep))
        share = read.sum(dim=0, keepdim=True).T * (1 - keep) / self.counts[:, None].clamp(min=1e-9)
        centre = (read.T @ token) / read.sum(dim=0)[:, None].clamp(min=1)
        self.centres.lerp_(centre, share.clamp(0, 1))
        self._revive(token, score)
        self.started.fill_(True)

    def _revive(self, token: Tensor, score: Tensor) -> None:
        even = self.counts.sum() / self.tiles
        # the worst served tokens, one for each tile in case all must start again
        worst = token[score.argsort()[: self.tiles]]
        starved = (self.counts < 0.1 * self.counts.sum() / self.tiles)[: len(worst)]
        centres, counts = self.centres[: len(worst)], self.counts[: len(worst)]
        centres.copy_(torch.where(starved[:, None], worst, centres))
        counts.copy_(torch.where(starved, even, counts))


class FrozenRandom(_OwnRows):
    """Random ternary signatures that nothing trains: similar inputs still meet at one tile."""

    fixed: Tensor

    def __init__(self, tiles: int, dim: int) -> None:
        super().__init__(tiles, dim)
        self.register_buffer("fixed", ternarize(torch.randn(tiles, dim)))

    def rows(self, parts: TileParts) -> Tensor:
        return self.fixed


class LinearRouter(_OwnRows):
    """The standard: a learned matrix of scores, tiles weighted by a softmax over *all* of them.

    As in Switch Transformers (Fedus et al. 2022), to be trained with the load-balance loss.
    """

    def __init__(self, tiles: int, dim: int) -> None:
        super().__init__(tiles, dim)
        self.matrix = nn.Parameter(torch.randn(tiles, dim) / math.sqrt(dim))

    def rows(self, parts: TileParts) -> Tensor:
        return self.matrix

    def route(self, x, rows, top_k=1, temperature=1.0, bias=None, labels=None) -> Route:
        """Return the routes; the weights of the chosen tiles need not sum to one."""
        route = flat_route(x, rows, top_k, temperature, bias)
        scores = x @ rows.to(x.dtype).T
        top = scores.detach().amax(dim=-1, keepdim=True)
        total = ((scores - top) / temperature).logsumexp(-1, keepdim=True)
        return route._replace(weight=torch.exp((route.score - top) / temperature - total))


class _Hashed(_OwnRows):
    """Without signatures: all rows are zero, so all scores too, and a hash of a key chooses."""

    zeros: Tensor
    salt: Tensor

    def __init__(self, tiles: int, dim: int) -> None:
        super().__init__(tiles, dim)
        self.register_buffer("zeros", torch.zeros(tiles, dim))
        self.register_buffer("salt", torch.randint(1 << 30, ()))

    def rows(self, parts: TileParts) -> Tensor:
        return self.zeros

    def key(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Return the integer that is hashed, one per token, `[...]`."""
        raise NotImplementedError

    def route(self, x, rows, top_k=1, temperature=1.0, bias=None, labels=None) -> Route:
        """Choose by hash, with equal weights; labels must be integers, one per token."""
        at_most("top_k", top_k, self.tiles)
        first = _hash(self.key(x, labels) + self.salt).remainder(self.tiles)
        # the tiles after the first are its neighbours: k different ones, all equally likely
        index = (first.unsqueeze(-1) + torch.arange(top_k, device=x.device)).remainder(self.tiles)
        score = 0 * x.sum(dim=-1, keepdim=True).expand(index.shape)  # NaN where the token has one
        return Route(index, (score + 1) / top_k, score, index.unsqueeze(-1), x.detach())


class TokenHash(_Hashed):
    """A hash of the token's label chooses, as in Hash Layers (Roller et al. 2021)."""

    def key(self, x: Tensor, labels: Tensor | None) -> Tensor:
        if labels is None:
            raise ValueError(f"labels must be {list(x.shape[:-1])}, one per token, got None")
        shape("labels", labels, *x.shape[:-1])
        integers("labels", labels)
        return labels


class UniformRandom(_Hashed):
    """A tile at random for every token: a hash of the bits of the token's vector, as float32.

    A forward can be repeated, but a text read in parts may take other ways, for rounding differs.
    """

    def key(self, x: Tensor, labels: Tensor | None) -> Tensor:
        bits = x.detach().float().contiguous().view(torch.int32).long()
        place = torch.arange(1, x.shape[-1] + 1, device=x.device)
        return _hash(bits + _hash(place)).sum(dim=-1)


class Shuffled(Source):
    """A trained source with tile `order[i]`'s address for tile i: what addresses were worth."""

    order: Tensor

    def __init__(self, source: Source, order: Tensor) -> None:
        super().__init__()
        if not torch.equal(order.sort().values, torch.arange(len(order), device=order.device)):
            raise ValueError(f"order must be a permutation, got {order.tolist()}")
        self.source = source
        self.register_buffer("order", order)

    def rows(self, parts: TileParts) -> Tensor:
        rows = self.source.rows(parts)
        if len(rows) != len(self.order):
            raise ValueError(f"order must be of {len(rows)} tiles, got {len(self.order)}")
        return rows[self.order]

    def route(self, x, rows, top_k=1, temperature=1.0, bias=None, labels=None) -> Route:
        return self.source.route(x, rows, top_k, temperature, bias, labels)


def _hash(key: Tensor) -> Tensor:
    # two rounds of multiply and shift (splitmix64's constants, as signed numbers): each bit of the
    # key moves about half the bits of the hash
    key = (key ^ (key >> 30)) * -4658895280553007687
    key = (key ^ (key >> 27)) * -7723592293110705685
    return (key ^ (key >> 31)) & 0x7FFFFFFFFFFFFFFF
