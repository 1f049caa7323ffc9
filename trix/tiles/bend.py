"""What a tile does to the few numbers that it sees: the kinds of spline, under one interface.

A bend maps `units` `[..., rank]` and `tile` `[...]`, the tile each row of units belongs to, to
`[..., rank]`. Unless it says otherwise, each unit has a spline of its own on −3 … 3.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.checks import positive
from trix.address.interpolate import cell_of
from trix.address.ternary import ternarize
from trix.tiles.spline import CellSpline, KnotSpline
from trix.tiles.ternary_spline import TernarySpline

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
        """Bend each unit by its own spline."""
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


BENDS: dict[str, Callable[[int, int, int], nn.Module]] = {
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
"""Kinds of bend by name; each is called with tiles, rank and cells."""
