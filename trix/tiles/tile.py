"""What a tile does to the few numbers that it sees: the kinds of spline, under one interface.

An activation maps `units` `[..., rank]` and `tile` `[...]`, the tile each row of units belongs to,
to `[..., rank]`. Unless it says otherwise, each unit has a spline of its own on −3 … 3.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.gate import cell_of
from trix.address.kmeans import blocks_of
from trix.address.ternary import row_scale, ternarize, weight_signatures
from trix.checks import positive, renamed
from trix.tiles.spline import CellSpline, KnotSpline, TernarySpline

REACH = 3.0


class UnitBend(nn.Module):
    """A spline for each unit, started at the GELU.

    Args:
        spline: a bank of `tiles · rank` splines on one input.
        rank: units of a tile.
    """

    def __init__(self, spline: CellSpline | KnotSpline | TernarySpline, rank: int) -> None:
        """See the class."""
        super().__init__()
        self.spline, self.rank = spline, rank
        spline.fit_(F.gelu)

    def forward(self, units: Tensor, tile: Tensor) -> Tensor:
        """Pass each unit through its own spline."""
        unit = torch.arange(self.rank, device=tile.device)
        return self.spline(units, tile.unsqueeze(-1) * self.rank + unit)


class ConstantBend(nn.Module):
    """A number for each unit, whatever it sees: a tile that is an entry and no function.

    Args:
        tiles: how many tiles.
        rank: units of a tile.
    """

    def __init__(self, tiles: int, rank: int) -> None:
        """See the class. All begin at a half."""
        super().__init__()
        self.value = nn.Parameter(torch.full((tiles, rank), 0.5))

    def forward(self, units: Tensor, tile: Tensor) -> Tensor:
        """Return the tile's numbers; NaN where a unit is NaN."""
        return F.embedding(tile, self.value.to(units.dtype)) + 0 * units


class ContentCells(nn.Module):
    r"""Cells chosen by content: :math:`c = \arg\max_c\, h \cdot \sigma_c`, the notes' idea.

    A cell holds a base and a slope for each unit, and answers :math:`b_c + m_c \odot h`. Its
    signature is the ternary cut of its own slopes: the cell that would answer most. `choose` gives
    the controls: "floor" cuts the first unit's range into equal cells, as a spline does;
    "random" keeps signatures that were drawn once.

    Args:
        tiles: how many tiles.
        rank: units of a tile.
        cells: of a tile.
        choose: "content", "floor" or "random".

    Raises:
        ValueError: a number below 1, or another name.
    """

    fixed: Tensor

    def __init__(self, tiles: int, rank: int, cells: int, choose: str = "content") -> None:
        """See the class. Bases begin small, slopes normal."""
        super().__init__()
        if choose not in ("content", "floor", "random"):
            raise ValueError(f"choose must be content, floor or random, got {choose!r}")
        shape = (positive("tiles", tiles), positive("cells", cells), positive("rank", rank))
        self.choose, self.cells = choose, cells
        self.base = nn.Parameter(0.1 * torch.randn(shape))
        self.slope = nn.Parameter(torch.randn(shape))
        if choose == "random":
            self.register_buffer("fixed", ternarize(torch.randn(shape)))

    def forward(self, units: Tensor, tile: Tensor) -> Tensor:
        """Answer from the chosen cell of each tile."""
        row = tile * self.cells + self.choice(units, tile)
        base, slope = (F.embedding(row, p.flatten(0, 1)) for p in (self.base, self.slope))
        return base.to(units.dtype) + slope.to(units.dtype) * units

    @torch.no_grad()
    def choice(self, units: Tensor, tile: Tensor) -> Tensor:
        """Return the cell for each row of units, int64 `[...]`."""
        if self.choose == "floor":
            return cell_of(units[..., 0], self.cells + 1, -REACH, REACH)[0]
        rows = ternarize(self.slope) if self.choose == "content" else self.fixed
        signature = F.embedding(tile, rows.flatten(1)).unflatten(-1, rows.shape[1:])
        return (signature.to(units.dtype) @ units.unsqueeze(-1)).squeeze(-1).argmax(dim=-1)


def _ternary(scale: str) -> Callable[[int, int, int], nn.Module]:
    return lambda tiles, rank, cells: UnitBend(
        TernarySpline(tiles * rank, cells, 1, -REACH, REACH, scale, per_tile=rank), rank
    )


def _content(choose: str) -> Callable[[int, int, int], nn.Module]:
    return lambda tiles, rank, cells: ContentCells(tiles, rank, cells, choose)


ACTIVATIONS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "knots": lambda t, r, c: UnitBend(KnotSpline(t * r, c, 1, -REACH, REACH), r),
    "cells": lambda t, r, c: UnitBend(CellSpline(t * r, c, 1, -REACH, REACH), r),
    "ternary-cell": _ternary("cell"),
    "ternary-tile": _ternary("tile"),
    "ternary-layer": _ternary("layer"),
    "constant": lambda tiles, rank, cells: ConstantBend(tiles, rank),
    "content-cells": _content("content"),
    "floor-cells": _content("floor"),
    "random-cells": _content("random"),
}
"""Kinds of activation function by name; each is called with tiles, rank and cells."""


Activation = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`activation(units, tile, visit)`: what a tile does between its two layers.

`units` is `[..., seen]`, `tile` and `visit` are int64 `[...]`: the tile, and which of all the
reads this is. It returns `[..., written]`, which may be wider or narrower.
"""

FEW = 2
"""Up to so many reads a tile, on average, each read gathers its tile's weights."""


def through_tiles(
    x: Tensor, index: Tensor, first: Tensor, activation: Activation, second: Tensor
) -> Tensor:
    r"""Send each token through its tiles: :math:`D_t^\top\, \mathrm{activation}_t(U_t x)`.

    One rule decides how. Up to `FEW` reads a tile, every read gathers the weights of its tile:
    `reads × weights of a tile` numbers are copied, and a single token touches nothing but
    the tiles it reads. With more, reads are sorted by tile and cut into blocks as long as the
    average queue, so that each tile's weights are copied for a block and not for a read:
    `2.5 · tiles` copies at the most, and one batched product for all (`trix.address.kmeans`).

    Args:
        x: tokens `[tokens, dim]`.
        index: the tiles that each token reads, int64 `[tokens, k]`.
        first: `[tiles, seen, dim]`.
        activation: see `Activation`.
        second: `[tiles, written, dim]`.

    Returns:
        What each of its tiles says to each token, `[tokens, k, dim]`.
    """
    reads, tiles = index.numel(), len(first)
    first, second = first.to(x.dtype), second.to(x.dtype)
    if reads <= FEW * tiles:
        tile, visit = index.flatten(), torch.arange(reads, device=x.device)
        token = x.unsqueeze(1).expand(*index.shape, -1).reshape(reads, 1, x.shape[-1])
        units = (token @ _of(first, tile).transpose(1, 2)).squeeze(1)
        said = activation(units, tile, visit).unsqueeze(1) @ _of(second, tile)
        return said.view(*index.shape, second.shape[-1])
    blocks = blocks_of(index.flatten(), tiles, reads // tiles)
    units = F.embedding(blocks.visit // index.shape[1], x) @ _of(first, blocks.owner).transpose(
        1, 2
    )
    activated = activation(units, blocks.owner.unsqueeze(1).expand_as(blocks.visit), blocks.visit)
    return blocks.collect(activated @ _of(second, blocks.owner)).view(
        *index.shape, second.shape[-1]
    )


def _of(weights: Tensor, tile: Tensor) -> Tensor:
    # an embedding's gradient is several times faster than that of indexing
    return F.embedding(tile, weights.flatten(1)).unflatten(-1, weights.shape[1:])


class TernaryBodies(nn.Module):
    r"""Two ternary layers with a GELU between them, :math:`D_t^\top\,\mathrm{gelu}(U_t x)`.

    Every row of :math:`U_t` and :math:`D_t` has one scale. The signature is the vote of the rows of
    :math:`U_t`, see `weight_signatures`.

    Args:
        dim: input and output features.
        tiles: how many.
        hidden: hidden units of each.
    """

    def __init__(self, dim: int, tiles: int, hidden: int) -> None:
        """See the class. Hidden units begin with a standard deviation of a quarter."""
        super().__init__()
        shape = (positive("tiles", tiles), positive("hidden", hidden), positive("dim", dim))
        self.up = nn.Parameter(0.25 * torch.randn(shape) / math.sqrt(dim))
        self.down = nn.Parameter(0.02 * torch.randn(shape))

    @property
    def signatures(self) -> Tensor:
        """The addresses that these tiles would choose, `[tiles, dim]`, exactly −1, 0 or 1."""
        return weight_signatures(self.up)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Return what tiles `index` `[tokens, k]` say to tokens `[tokens, dim]`: `[…, k, dim]`."""
        up, down = scaled_ternary(self.up), scaled_ternary(self.down)
        return through_tiles(x, index, up, lambda units, tile, visit: F.gelu(units), down)


class SplineBodies(nn.Module):
    r"""A bottleneck, splines, and writes: :math:`D_t^\top\varphi_t(B_t x)`.

    The signature is the vote of the bottleneck's rows: "the bottleneck projection" of the notes.

    Args:
        dim: input and output features.
        tiles: how many.
        rank: directions that each looks at.
        cells: of each spline.
        spline: a name in `ACTIVATIONS`.
    """

    def __init__(self, dim: int, tiles: int, rank: int, cells: int, spline: str = "knots") -> None:
        """See the class. What the splines see begins with a standard deviation of one."""
        super().__init__()
        if spline not in ACTIVATIONS:
            raise ValueError(f"spline must be one of {sorted(ACTIVATIONS)}, got {spline!r}")
        shape = (positive("tiles", tiles), positive("rank", rank), positive("dim", dim))
        self.bottleneck = nn.Parameter(torch.randn(shape) / math.sqrt(dim))
        renamed(self, {"bend": "activation"})
        self.activation = ACTIVATIONS[spline](tiles, rank, cells)
        self.down = nn.Parameter(0.02 * torch.randn(shape))

    @property
    def signatures(self) -> Tensor:
        """The addresses that these tiles would choose, `[tiles, dim]`, exactly −1, 0 or 1."""
        return weight_signatures(self.bottleneck)

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Return what tiles `index` `[tokens, k]` say to tokens `[tokens, dim]`: `[…, k, dim]`."""
        return through_tiles(
            x,
            index,
            self.bottleneck,
            lambda units, tile, visit: self.activation(units, tile),
            self.down,
        )


def scaled_ternary(weights: Tensor) -> Tensor:
    """Return the ternary cut of `weights` `[..., dim]` times the scale of each row."""
    ternary = ternarize(weights)
    return ternary * row_scale(weights, ternary)
