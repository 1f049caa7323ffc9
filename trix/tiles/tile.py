"""Tiles as two-layer functions: the way through their weights, their activations, their bodies."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.gate import cell_of
from trix.address.kmeans import blocks_of
from trix.address.ternary import row_scale, ternarize, weight_signatures
from trix.checks import one_of, positive, renamed
from trix.tiles.spline import CellSpline, KnotSpline, SplineBank, TernarySpline

FEW = 2
"""Up to so many tokens per tile, on average, each token gathers its tile's weights."""
REACH = 3.0
"""The activations of units span −3 … 3."""


def through_tiles(
    x: Tensor,
    tile: Tensor,
    first: Tensor,
    activation: Callable[[Tensor, Tensor, Tensor], Tensor],
    second: Tensor,
) -> Tensor:
    r"""Send each token through its tile: :math:`D_t^\top\, \mathrm{activation}_t(U_t x)`.

    Up to `FEW` tokens per tile, every token gathers the weights of its tile, so that a single token
    touches nothing but the tile that it reads. With more, tokens are sorted by tile and cut into
    blocks as long as the average queue, so that each tile's weights are copied once per block:
    `2.5 · tiles` copies at most, and one batched product for all (`trix.address.kmeans`).

    Tokens `x [tokens, dim]` read `tile [tokens]` of `first [tiles, seen, dim]` and `second [tiles,
    written, dim]`; `activation(units, tile, token)` maps `[..., seen]` to `[..., written]`, where
    `tile` and `token` are int64 `[...]` and say whose units these are.
    """
    tiles = len(first)
    first, second = first.to(x.dtype), second.to(x.dtype)
    if len(x) <= FEW * tiles:
        units = (x.unsqueeze(1) @ _of(first, tile).transpose(1, 2)).squeeze(1)
        activated = activation(units, tile, torch.arange(len(x), device=x.device))
        return (activated.unsqueeze(1) @ _of(second, tile)).squeeze(1)
    blocks = blocks_of(tile, tiles, len(x) // tiles)
    units = F.embedding(blocks.visit, x) @ _of(first, blocks.owner).transpose(1, 2)
    activated = activation(units, blocks.owner.unsqueeze(1).expand_as(blocks.visit), blocks.visit)
    return blocks.collect(activated @ _of(second, blocks.owner))


def _of(weights: Tensor, tile: Tensor) -> Tensor:
    # an embedding's gradient is several times faster than that of indexing
    return F.embedding(tile, weights.flatten(1)).unflatten(-1, weights.shape[1:])


class UnitSplines(nn.Module):
    """A spline for each unit, initialized to the GELU; `spline` is a bank of `tiles · rank`.

    Like every activation it maps `units [..., rank]` of `tile [...]` to `[..., rank]`.
    """

    def __init__(self, spline: SplineBank, rank: int) -> None:
        super().__init__()
        self.spline, self.rank = spline, rank
        spline.fit_(F.gelu)

    def forward(self, units: Tensor, tile: Tensor) -> Tensor:
        unit = torch.arange(self.rank, device=tile.device)
        return self.spline(units, tile.unsqueeze(-1) * self.rank + unit)


class ConstantUnits(nn.Module):
    """One learned number per unit, whatever it sees, but NaN for NaN: a tile that is an entry."""

    def __init__(self, tiles: int, rank: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.full((tiles, rank), 0.5))

    def forward(self, units: Tensor, tile: Tensor) -> Tensor:
        return F.embedding(tile, self.value.to(units.dtype)) + 0 * units


class ContentCells(nn.Module):
    r"""Cells chosen by content: :math:`c = \arg\max_c\, h \cdot \sigma_c`, the notes' idea.

    A cell holds a base and a slope for each unit, and returns :math:`b_c + m_c \odot h`. Its
    signature is the ternary cut of its own slopes: the cell whose output would be largest. `choose`
    gives the controls: "floor" cuts the first unit's range into equal cells, as a spline does;
    "random" keeps signatures that were drawn once.
    """

    fixed: Tensor

    def __init__(self, tiles: int, rank: int, cells: int, choose: str = "content") -> None:
        super().__init__()
        self.choose = one_of("choose", choose, ("content", "floor", "random"))
        shape = (positive("tiles", tiles), positive("cells", cells), positive("rank", rank))
        self.cells = cells
        self.base = nn.Parameter(0.1 * torch.randn(shape))
        self.slope = nn.Parameter(torch.randn(shape))
        if choose == "random":
            self.register_buffer("fixed", ternarize(torch.randn(shape)))

    def forward(self, units: Tensor, tile: Tensor) -> Tensor:
        row = tile * self.cells + self.choice(units, tile)
        base, slope = (F.embedding(row, p.flatten(0, 1)) for p in (self.base, self.slope))
        return base.to(units.dtype) + slope.to(units.dtype) * units

    @torch.no_grad()
    def choice(self, units: Tensor, tile: Tensor) -> Tensor:
        """Return the cell for each row of units, int64 `[...]`."""
        if self.choose == "floor":
            return cell_of(units[..., 0], self.cells + 1, -REACH, REACH)[0]
        rows = ternarize(self.slope) if self.choose == "content" else self.fixed
        signature = _of(rows, tile).to(units.dtype)
        return (signature @ units.unsqueeze(-1)).squeeze(-1).argmax(dim=-1)


def _splines(kind: type[KnotSpline] | type[CellSpline]) -> Callable[[int, int, int], nn.Module]:
    return lambda tiles, rank, cells: UnitSplines(kind(tiles * rank, cells, 1, -REACH, REACH), rank)


def _ternary(scale: str) -> Callable[[int, int, int], nn.Module]:
    return lambda tiles, rank, cells: UnitSplines(
        TernarySpline(tiles * rank, cells, 1, -REACH, REACH, scale, per_tile=rank), rank
    )


ACTIVATIONS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "knots": _splines(KnotSpline),
    "cells": _splines(CellSpline),
    "ternary-cell": _ternary("cell"),
    "ternary-tile": _ternary("tile"),
    "ternary-layer": _ternary("layer"),
    "constant": lambda tiles, rank, cells: ConstantUnits(tiles, rank),
    "content-cells": ContentCells,
    "floor-cells": partial(ContentCells, choose="floor"),
    "random-cells": partial(ContentCells, choose="random"),
}
"""Kinds of activation function by name; each is called with tiles, rank and cells."""


class TernaryBodies(nn.Module):
    r"""Two ternary layers with a GELU between them, :math:`D_t^\top\,\mathrm{gelu}(U_t x)`.

    Every row of :math:`U_t` and :math:`D_t` has one scale; the signature is the vote of
    :math:`U_t`'s rows. Hidden units have an initial standard deviation of a quarter.
    """

    def __init__(self, dim: int, tiles: int, hidden: int) -> None:
        super().__init__()
        shape = (positive("tiles", tiles), positive("hidden", hidden), positive("dim", dim))
        self.up = nn.Parameter(0.25 * torch.randn(shape) / math.sqrt(dim))
        self.down = nn.Parameter(0.02 * torch.randn(shape))

    @property
    def signatures(self) -> Tensor:
        """The addresses that these tiles would choose, `[tiles, dim]`, exactly −1, 0 or 1."""
        return weight_signatures(self.up)

    def forward(self, x: Tensor, tile: Tensor) -> Tensor:
        """Map tokens `[tokens, dim]` by tiles `[tokens]` to `[tokens, dim]`."""
        up, down = scaled_ternary(self.up), scaled_ternary(self.down)
        return through_tiles(x, tile, up, lambda units, tile, token: F.gelu(units), down)


class SplineBodies(nn.Module):
    r"""A bottleneck, splines, and an output matrix: :math:`D_t^\top\varphi_t(B_t x)`.

    The signature is the vote of the bottleneck's `rank` rows: "the bottleneck projection" of the
    notes. What the splines see has an initial standard deviation of one.
    """

    def __init__(self, dim: int, tiles: int, rank: int, cells: int, spline: str = "knots") -> None:
        super().__init__()
        one_of("spline", spline, ACTIVATIONS)
        shape = (positive("tiles", tiles), positive("rank", rank), positive("dim", dim))
        self.bottleneck = nn.Parameter(torch.randn(shape) / math.sqrt(dim))
        renamed(self, {"bend": "activation"})
        self.activation = ACTIVATIONS[spline](tiles, rank, cells)
        self.down = nn.Parameter(0.02 * torch.randn(shape))

    @property
    def signatures(self) -> Tensor:
        """The addresses that these tiles would choose, `[tiles, dim]`, exactly −1, 0 or 1."""
        return weight_signatures(self.bottleneck)

    def forward(self, x: Tensor, tile: Tensor) -> Tensor:
        activation = self.activation
        return through_tiles(x, tile, self.bottleneck, lambda u, t, _: activation(u, t), self.down)


def scaled_ternary(weights: Tensor) -> Tensor:
    """Return the ternary cut of `weights` `[..., dim]` times the scale of each row."""
    ternary = ternarize(weights)
    return ternary * row_scale(weights, ternary)
