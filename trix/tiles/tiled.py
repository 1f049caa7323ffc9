"""Tiles with every part that an address could be read from: the testbed of the sources."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address import sources
from trix.address.gate import ScoreGate, cell_of
from trix.address.losses import straight_through_weights
from trix.address.route import Route, Routed
from trix.address.signatures import SignatureRows
from trix.checks import magnitude, one_of, tokens
from trix.tiles.ffn import KeyedFFN, width_of
from trix.tiles.tile import REACH

SOURCES: dict[str, type[sources.Source]] = {
    "weights": sources.WeightSource,
    "bottleneck": sources.BottleneckSource,
    "spline": sources.SplineSource,
    "decoupled": sources.LearnedSource,
    "data": sources.DataSource,
    "frozen-random": sources.FrozenRandom,
    "token-hash": sources.TokenHash,
    "uniform": sources.UniformRandom,
    "learned-router": sources.LinearRouter,
}
READ_OFF = ("weights", "bottleneck", "spline")
"""The sources that add no parameter and no buffer: they read the tiles' own numbers."""

KNOTS = 9
SMALLEST = 1e-30
"""The smallest temperature; one over it is the largest."""


class TiledFFN(KeyedFFN):
    r"""Tiles that look at a few directions through splines, and write: one layer for all sources.

    Tile :math:`t` looks at the input through a bottleneck :math:`B_t` of few rows, mixes what it
    sees into hidden units, gives each unit a spline for its activation, and writes:

    .. math:: f_t(x) = D_t\,\varphi_t(M_t B_t x), \qquad
        y = \sum_{t \in \text{top-}k} w_t\, g(s_t)\, f_t(x), \qquad s_t = x \cdot \sigma_t

    with :math:`w = \mathrm{softmax}(s / T)` over the chosen tiles, :math:`T` learned, and the gate
    :math:`g` of `ScoreGate`. Where the signatures :math:`\sigma` come from is the `source`'s
    business, and nothing else differs between two such layers. Source: the notes on emergent
    routing, which ask what else a signature could be read from.

    Args:
        hidden: units of each tile, `4 * dim / tiles` by default; the bottleneck has a quarter.
        top_k: tiles that each token reads.
        source: a name in `SOURCES`.
        blend: "softmax", or "straight-through": the best tile alone in the forward pass, the
            softmax over `top_k` tiles in the backward.
        temperature: of the softmax, initially, in units of √dim, which is the size of a score.
        balance: step of loss-free balancing (Wang et al. 2024), in units of √dim per call of
            `update`; 0 for none.

    Example:
        >>> layer = TiledFFN(8, tiles=4, top_k=2, source="decoupled")
        >>> layer.insert_signature(0, torch.tensor([1.0, -1, 0, 0, 0, 0, 0, 0]))
        >>> layer.signatures[0].tolist()
        [1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """

    bias: Tensor

    def __init__(
        self,
        dim: int,
        tiles: int = 16,
        hidden: int | None = None,
        top_k: int = 1,
        source: str = "weights",
        blend: str = "softmax",
        temperature: float = 1.0,
        balance: float = 0.0,
    ) -> None:
        super().__init__(dim, tiles, top_k)
        self.hidden = hidden = width_of("hidden", hidden, dim, tiles)
        one_of("source", source, SOURCES)
        self.blend = one_of("blend", blend, ("softmax", "straight-through"))
        self.balance = magnitude("balance", balance, zero=True)
        if balance and top_k == tiles:
            raise ValueError(f"balance needs a choice: top_k below the {tiles} tiles, got {top_k}")
        # Hidden units have an initial standard deviation of a quarter and outputs one of 0.007, as
        # a dense layer's have under GPT-2's scales at this book's sizes.
        rank = max(1, hidden // 4)
        self.bottleneck = nn.Parameter(torch.randn(tiles, rank, dim) / math.sqrt(dim))
        self.mix = nn.Parameter(torch.randn(tiles, hidden, rank) * 0.25 / math.sqrt(rank))
        knots = F.gelu(torch.linspace(-REACH, REACH, KNOTS))
        self.spline = nn.Parameter(knots.repeat(tiles, hidden, 1))
        self.down = nn.Parameter(0.007 * torch.randn(tiles, hidden, dim))
        self.gate = ScoreGate(dim)
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.set_temperature(temperature)
        kind = SOURCES[source]
        self.source: sources.Source = kind() if source in READ_OFF else kind(tiles, dim)
        self.register_buffer("bias", torch.zeros(tiles))

    @property
    def signatures(self) -> Tensor:
        """The tiles' addresses, `[tiles, dim]`."""
        return self.source.rows(sources.TileParts(self.bottleneck, self.mix, self.spline))

    @property
    def rows(self) -> SignatureRows:
        """The rows that a "decoupled" layer learns, see `EditableSignatures`; else `ValueError`."""
        source = self.source
        if not isinstance(source, sources.LearnedSource):
            raise ValueError(f"expected a source with learned rows, got {type(source).__name__}")
        return source.table

    @property
    def temperature(self) -> Tensor:
        """Of the blend, in units of a score."""
        return self.log_temperature.exp() * math.sqrt(self.dim)

    @torch.no_grad()
    def set_temperature(self, temperature: float) -> None:
        """Set the temperature, in units of √dim; `ValueError` unless it is positive and finite."""
        if not SMALLEST <= temperature <= 1 / SMALLEST:
            got = f"{temperature} (of {SMALLEST:g} … {1 / SMALLEST:g})"
            raise ValueError(f"temperature must be positive and finite, got {got}")
        self.log_temperature.fill_(math.log(temperature))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map `[..., dim]` to `[..., dim]`; the output of `routed`."""
        return self.routed(x, labels).output

    def routed(self, x: Tensor, labels: Tensor | None = None) -> Routed:
        """Return the output `[..., dim]` with the `Route` that produced it.

        The token hash alone needs `labels`, an integer per token, `[...]`.
        """
        tokens("x", x, self.dim)
        temperature = self.temperature
        route = self.source.route(x, self.signatures, self.top_k, temperature, self.bias, labels)
        if self.blend == "straight-through":
            route = route._replace(weight=straight_through_weights(route.score, temperature))
        flat, places = x.reshape(-1, self.dim), route.index.reshape(-1, self.top_k)
        share = (route.weight * self.gate(route.score)).reshape(-1, self.top_k)
        # every tile's glance costs less than gathering the chosen tiles' bottlenecks
        glance = flat @ self.bottleneck.flatten(0, 1).to(x.dtype).T
        glance = glance.unflatten(-1, self.bottleneck.shape[:2])
        seen = glance.gather(1, _along(places, glance.shape[-1]))
        units = torch.einsum("nkr,nkhr->nkh", seen, self.mix.to(seen.dtype)[places])
        activated = self._activate(units, places) * share.unsqueeze(-1).to(units.dtype)
        hidden = activated.new_zeros(len(flat), self.tiles, self.hidden)
        hidden = hidden.scatter(1, _along(places, self.hidden), activated)
        output = hidden.flatten(1) @ self.down.flatten(0, 1).to(hidden.dtype)
        return Routed(output.view(x.shape), route)

    def update(self, route: Route) -> None:
        """Let the source learn from the route; move the bias of loss-free balancing.

        A tile that read more than its share loses a little on its next scores, in the choice
        alone, and one that read less gains as much.
        """
        self.source.update(route)
        sound = route.score.isfinite().all(dim=-1)  # a NaN's tile was not chosen
        if self.balance and sound.any():
            reads = torch.bincount(route.index[sound].flatten(), minlength=self.tiles)
            short = reads.to(self.bias.dtype).mean() - reads
            self.bias += self.balance * math.sqrt(self.dim) * short.sign()

    def _activate(self, units: Tensor, places: Tensor) -> Tensor:
        cell, at = cell_of(units, KNOTS, -REACH, REACH)
        unit = torch.arange(self.hidden, device=units.device)
        first = (places.unsqueeze(-1) * self.hidden + unit) * KNOTS + cell
        values = self.spline.flatten().to(units.dtype)
        return torch.lerp(values[first], values[first + 1], at)


def _along(places: Tensor, width: int) -> Tensor:
    return places.unsqueeze(-1).expand(*places.shape, width)
