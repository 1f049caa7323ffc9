"""Where signatures come from: five sources behind one interface.

A layer of tiles asks its source two things: the effective signatures, given what the tiles are made
of, and the route of some tokens. Three sources read the signatures off the tiles' own numbers, one
learns them apart, one takes them from the data. What they are to be measured against stands in
`trix.address.controls`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.route import Route, flat_route
from trix.address.signatures import SignatureRows
from trix.address.ternary import straight_through, ternarize, weight_signatures
from trix.checks import positive


class TileParts(NamedTuple):
    """What a tile of `TiledFFN` is made of, for a source to read.

    Attributes:
        bottleneck: the first matrix, `[tiles, rank, dim]`: the few directions that a tile looks at.
        mix: from these to its hidden units, `[tiles, hidden, rank]`; `mix @ bottleneck` is what the
            tile computes with.
        spline: the hidden units' activations at their knots, `[tiles, hidden, knots]`.
    """

    bottleneck: Tensor
    mix: Tensor
    spline: Tensor


class Source(nn.Module):
    """The interface, and what most sources share: ternary rows, flat routing, nothing to update."""

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
        """Return the routes of tokens `[..., dim]`, see `flat_route`.

        Args:
            x: tokens.
            rows: what `rows` returned.
            top_k: tiles a token reads.
            temperature: of the blend.
            bias: on the choice alone, `[tiles]`.
            labels: an integer a token, `[...]`; for a source that routes by it.
        """
        return flat_route(x, rows, top_k, temperature, bias)

    def update(self, route: Route) -> None:
        """Learn what is learned outside the gradient; most sources have nothing of the kind."""


class WeightSource(Source):
    """From the computing weights: the sign of the column sum of the ternary first layer.

    The notes' own proposal; chapter one does it by hand.
    """

    def rows(self, parts: TileParts) -> Tensor:
        """Return the votes of the hidden units, `[tiles, dim]`."""
        return weight_signatures(parts.mix @ parts.bottleneck)


class BottleneckSource(Source):
    """From the bottleneck: the same vote, of the few directions that the tile looks at."""

    def rows(self, parts: TileParts) -> Tensor:
        """Return the votes of the bottleneck's rows, `[tiles, dim]`."""
        return weight_signatures(parts.bottleneck)


class SplineSource(Source):
    """From the spline: the vote of the hidden units, each as strong as its activation rises.

    A unit whose spline falls from its first knot to its last votes for the opposite, and one whose
    spline ends where it began does not vote. So the coefficients decide the address.
    """

    def rows(self, parts: TileParts) -> Tensor:
        """Return the weighted votes, `[tiles, dim]`."""
        rise = parts.spline[..., -1] - parts.spline[..., 0]
        votes = ternarize(parts.mix @ parts.bottleneck)
        tally = (rise.unsqueeze(-1) * votes).mean(dim=-2)
        return straight_through(tally.sign(), tally)


class LearnedSource(Source):
    """Decoupled: rows of their own, learned, that can be inserted and frozen.

    Args:
        tiles: rows.
        dim: columns.
    """

    def __init__(self, tiles: int, dim: int) -> None:
        """See the class."""
        super().__init__()
        self.table = SignatureRows(tiles, dim)

    def rows(self, parts: TileParts) -> Tensor:
        """Return the table's rows, `[tiles, dim]`, whatever the tiles compute."""
        return self.table()


class DataSource(Source):
    """From the data: the ternary cut of running means of the tokens that each tile read.

    Online k-means, one step a call of `update`, with the decay of van den Oord et al. (2017). What
    all tokens share is taken off first, for it cannot tell one from another. A tile that reads next
    to nothing starts again at the token that its own tile matches worst.

    Args:
        tiles: rows.
        dim: columns.
        decay: of the running means.

    Raises:
        ValueError: a count below 1, or a decay outside 0 … 1.
    """

    centres: Tensor
    counts: Tensor
    mean: Tensor
    started: Tensor

    def __init__(self, tiles: int, dim: int, decay: float = 0.99) -> None:
        """See the class. The rows are random until the first update."""
        super().__init__()
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        self.decay = decay
        shape = (positive("tiles", tiles), positive("dim", dim))
        self.register_buffer("centres", torch.randn(shape) / math.sqrt(dim))
        self.register_buffer("counts", torch.ones(tiles))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def rows(self, parts: TileParts) -> Tensor:
        """Return the centres, each cut to ternary, `[tiles, dim]`."""
        return ternarize(self.centres)

    def route(
        self,
        x: Tensor,
        rows: Tensor,
        top_k: int = 1,
        temperature: float | Tensor = 1.0,
        bias: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Route:
        """Return the routes of tokens `[..., dim]`, compared without what all have in common."""
        route = flat_route(x - self.mean.to(x.dtype), rows, top_k, temperature, bias)
        return route._replace(token=x.detach())

    @torch.no_grad()
    def update(self, route: Route) -> None:
        """Move each centre towards the tokens that chose it first.

        Raises:
            ValueError: the route does not carry its tokens.
        """
        if route.token is None:
            raise ValueError("k-means needs the tokens of the route, got token=None")
        tiles, dim = self.centres.shape
        score = route.score[..., 0].reshape(-1)
        sound = score.isfinite()  # one NaN would spoil all means for good
        token = route.token.reshape(-1, dim)[sound].to(self.centres)
        best, score = route.index[..., 0].reshape(-1)[sound], score[sound]
        if len(token) == 0:
            return
        keep = self.decay * self.started.to(self.centres.dtype)
        self.mean.lerp_(token.mean(dim=0), 1 - keep)
        token = token - self.mean
        read = F.one_hot(best, tiles).to(token.dtype)
        self.counts.mul_(keep).add_(read.sum(dim=0) * (1 - keep))
        share = read.sum(dim=0, keepdim=True).T * (1 - keep) / self.counts[:, None].clamp(min=1e-9)
        centre = (read.T @ token) / read.sum(dim=0)[:, None].clamp(min=1)
        self.centres.lerp_(centre, share.clamp(0, 1))
        self._revive(token, score)
        self.started.fill_(True)

    def _revive(self, token: Tensor, score: Tensor) -> None:
        tiles = len(self.counts)
        starved = self.counts < 0.1 * self.counts.sum() / tiles
        # the worst served tokens, one for each tile in case all must start again
        worst = token[score.argsort()[:tiles]]
        some = min(len(worst), tiles)
        take = starved[:some, None]
        self.centres[:some] = torch.where(take, worst[:some], self.centres[:some])
        fresh = self.counts.sum() / tiles
        self.counts[:some] = torch.where(take[:, 0], fresh, self.counts[:some])
