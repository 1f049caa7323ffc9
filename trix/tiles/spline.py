r"""Splines: the address is the cell that an input falls in, the reading is a line.

A bank holds many splines of one size, and each input says which of them it reads. `CellSpline`
gives every cell a line of its own, as the notes do, :math:`y = b_c + a_c u` with :math:`u` the
place in the cell, −1 … 1; it may jump from cell to cell. `KnotSpline` learns values at the edges
and draws straight lines between them, so it never jumps. With two inputs a cell is a square that
its diagonal cuts in two triangles (the triangulation of Freudenthal and of Kuhn), and on each of
them the values at the corners make a plane. A bilinear patch would bend.
"""

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from trix.address.gate import cell_of
from trix.address.packed import pack, unpack
from trix.address.ternary import row_scale, ternarize
from trix.checks import last_dim, positive

SAMPLES = 8
"""A cell's line is fitted to this many points along each axis."""


class SplineBank(nn.Module):
    """What the splines of a bank share: how many, their cells, and where an input falls.

    Args:
        splines: how many.
        cells: along each axis.
        dims: inputs of each spline, 1 or 2.
        low: where the first cell begins.
        high: where the last one ends. Inputs outside `low … high` are read at the nearer end.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a count below 1, `dims` above 2, or ends that are not finite and in order.
    """

    def __init__(
        self, splines: int, cells: int, dims: int = 1, low: float = -1.0, high: float = 1.0
    ) -> None:
        """See the class."""
        super().__init__()
        self.splines, self.cells = positive("splines", splines), positive("cells", cells)
        if positive("dims", dims) > 2:
            raise ValueError(f"dims must be 1 or 2, got {dims}")
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"low and high must be finite, low first, got {low} and {high}")
        self.dims, self.low, self.high = dims, float(low), float(high)

    def locate(
        self, x: Tensor, which: Tensor, dtype: torch.dtype
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the cell, int64, and the place in it, 0 … 1, of each input, axis by axis.

        Places are in `dtype` promoted with that of `x`, and NaN for NaN.

        Raises:
            TypeError: `x` is not floating or `which` not int64.
            ValueError: `x` or `which` has the wrong shape.
        """
        if not x.is_floating_point():
            raise TypeError(f"x must be floating, got {x.dtype}")
        if self.dims == 2:
            last_dim("x", x, 2)
        same_splines(x.shape[:-1] if self.dims == 2 else x.shape, which)
        x = x.to(torch.promote_types(x.dtype, dtype)).clamp(self.low, self.high)
        cell, place = cell_of(x, self.cells + 1, self.low, self.high)
        return ((cell,), (place,)) if self.dims == 1 else (cell.unbind(-1), place.unbind(-1))

    def extra_repr(self) -> str:
        """Return the sizes for `repr`."""
        return (
            f"splines={self.splines}, cells={self.cells}, dims={self.dims}, low={self.low}, "
            f"high={self.high}"
        )


class CellSpline(SplineBank):
    """Splines with a line a cell, free of its neighbours.

    The parameter `coefficients [splines, cells ** dims, 1 + dims]` holds each cell's base, its
    value in the middle, and a slope an axis: how much is gained on the way from there to the edge.
    They begin as y = x, or x₀ + x₁. With two inputs, `[i, j]` is cell `i * cells + j`. The
    arguments are those of `SplineBank`.
    """

    def __init__(
        self, splines: int, cells: int, dims: int = 1, low: float = -1.0, high: float = 1.0
    ) -> None:
        """See the class."""
        super().__init__(splines, cells, dims, low, high)
        self.coefficients = nn.Parameter(torch.empty(splines, cells**dims, 1 + dims))
        self.fit_(identity)

    @property
    def bits(self) -> int:
        """Storage, 32 bits a float32 number."""
        return bits_of(self.coefficients)

    def forward(self, x: Tensor, which: Tensor) -> Tensor:
        """Return what each input reads.

        Args:
            x: floating `[...]`, or `[..., 2]` for `dims` of 2. Beyond the ends it is clamped; NaN
                gives NaN.
            which: the spline that each input reads, int64, of a shape that broadcasts with `[...]`.

        Returns:
            `[...]`, in the dtype of `x` promoted with the parameters'.

        Raises:
            IndexError: `which` names no spline (on the CPU, and not when compiled).
            TypeError: a dtype is wrong.
            ValueError: a shape is wrong.
        """
        return read_lines(self, self.coefficients, x, which)

    @torch.no_grad()
    def fit_(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Make every spline the best line in each cell, in least squares on a small grid.

        Args:
            function: maps positions `[m]`, or `[m, 2]`, in the parameters' dtype, to values `[m]`.

        Raises:
            ValueError: the function returns another shape.
        """
        self.coefficients.copy_(fitted_lines(self, function, self.coefficients))
        return self


class KnotSpline(SplineBank):
    """Splines that are continuous: values at the knots, and straight between them.

    The parameter `knots [splines, (cells + 1) ** dims]` holds the values at the edges of the cells,
    or at their corners, row by row. They begin as y = x, or x₀ + x₁. The arguments are those of
    `SplineBank`.
    """

    def __init__(
        self, splines: int, cells: int, dims: int = 1, low: float = -1.0, high: float = 1.0
    ) -> None:
        """See the class."""
        super().__init__(splines, cells, dims, low, high)
        self.knots = nn.Parameter(torch.empty(splines, (cells + 1) ** dims))
        self.fit_(identity)

    @property
    def bits(self) -> int:
        """Storage, 32 bits a float32 number."""
        return bits_of(self.knots)

    def forward(self, x: Tensor, which: Tensor) -> Tensor:
        """Return what each input reads; arguments, result and errors as in `CellSpline`."""
        cell, place = self.locate(x, which, self.knots.dtype)
        across = self.cells + 1
        knots = self.knots.to(place[0].dtype)
        if self.dims == 1:
            first = which * across + cell[0]
            start, end = read(knots, [first, first + 1], which)
            return start + (end - start) * place[0]
        # From a corner of the square along its longer side, then along the shorter one: the two
        # edges of the triangle that the input falls in.
        first = which * across**2 + cell[0] * across + cell[1]
        turn = torch.where(place[0] >= place[1], first + across, first + 1)
        start, corner, end = read(knots, [first, turn, first + across + 1], which)
        longer, shorter = torch.maximum(*place), torch.minimum(*place)
        return start + (corner - start) * longer + (end - corner) * shorter

    @torch.no_grad()
    def fit_(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Give every spline the function's values at the knots; `function` as in `CellSpline`."""
        axis = torch.linspace(self.low, self.high, self.cells + 1, dtype=torch.float64)
        self.knots.copy_(values_of(function, grid(axis.to(self.knots), self.dims)))
        return self

    @torch.no_grad()
    def refined(self, factor: int) -> "KnotSpline":
        """Return the same functions, to rounding, on `factor` times as many cells an axis.

        Raises:
            TypeError: the factor is not an integer.
            ValueError: it is below 1.
        """
        cells = self.cells * positive("factor", factor)
        finer = KnotSpline(self.splines, cells, self.dims, self.low, self.high).to(self.knots)
        axis = torch.linspace(self.low, self.high, cells + 1, dtype=torch.float64)
        which = torch.arange(self.splines, device=self.knots.device)
        at = grid(axis.to(self.knots), self.dims)
        finer.knots.copy_(self(at.unsqueeze(0), which.unsqueeze(1)))
        return finer


def identity(position: Tensor) -> Tensor:
    """Return the position itself, or the sum of its two numbers: what a spline begins as."""
    return position if position.ndim == 1 else position.sum(-1)


def same_splines(lead: torch.Size, which: Tensor) -> None:
    """Raise unless `which` is int64 and broadcasts with inputs of shape `lead`."""
    if which.dtype != torch.int64:
        raise TypeError(f"which must be int64, got {which.dtype}")
    if which.shape == lead or which.ndim == 0:
        return
    pairs = zip(reversed(lead), reversed(which.shape), strict=False)
    if any(a != b and 1 not in (a, b) for a, b in pairs):
        raise ValueError(f"which must broadcast with {list(lead)}, got {list(which.shape)}")


def read(table: Tensor, places: list[Tensor], which: Tensor) -> tuple[Tensor, ...]:
    """Return `table[index]` for each tensor of indices, counted through all rows of the table.

    A row is a spline, so that the indices leave the table just when `which` does: checking them
    checks `which`. Numbers are gathered one by one and at once, which is the quickest way back for
    their gradients; gathered in rows they took up to four times as long.
    """
    index = torch.stack(places)
    try:
        return table.flatten().index_select(0, index.flatten()).view(index.shape).unbind()
    except IndexError as error:
        raise IndexError(out_of("which", len(table), which)) from error


def out_of(name: str, count: int, index: Tensor) -> str:
    """Return the words for an index that is not below `count`."""
    return f"{name} must be 0 to {count - 1}, got {int(index.min())} to {int(index.max())}"


def read_lines(bank: SplineBank, coefficients: Tensor, x: Tensor, which: Tensor) -> Tensor:
    """Return base + slope · place of each input's cell; see `CellSpline.forward`."""
    cell, place = bank.locate(x, which, coefficients.dtype)
    inside = cell[0] if bank.dims == 1 else cell[0] * bank.cells + cell[1]
    first = (which * bank.cells**bank.dims + inside) * (1 + bank.dims)
    indices = [first + number for number in range(1 + bank.dims)]
    y, *slopes = read(coefficients.to(place[0].dtype), indices, which)
    for slope, at in zip(slopes, place, strict=True):
        # Never fused: a loop's vectors and its tail would then round differently.
        y = y + slope * (2 * at - 1)
    return y


def fitted_lines(bank: SplineBank, function: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """Return each cell's line of least squares, `[cells ** dims, 1 + dims]`, see `CellSpline`."""
    cells, dims = bank.cells, bank.dims
    inside = (torch.arange(SAMPLES, dtype=torch.float64) * 2 + 1) / SAMPLES - 1
    at = torch.arange(cells, dtype=torch.float64).unsqueeze(1) + (inside + 1) / 2
    axis = bank.low + (bank.high - bank.low) / cells * at.flatten()
    values = values_of(function, grid(axis.to(like), dims))
    if dims == 2:
        values = values.view(cells, SAMPLES, cells, SAMPLES).transpose(1, 2)
    values = values.reshape(cells**dims, SAMPLES**dims)
    place = grid(inside.to(like), dims).reshape(SAMPLES**dims, dims)
    # one and the places are at right angles on the grid, so each is fitted by itself
    basis = torch.cat([torch.ones_like(place[:, :1]), place], dim=1)
    return values @ basis / basis.square().sum(0)


def grid(axis: Tensor, dims: int) -> Tensor:
    """Return the points of an axis, `[m]`, or those of its square, `[m², 2]`, row by row."""
    return axis if dims == 1 else torch.cartesian_prod(axis, axis)


def values_of(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Call a vectorised function, and raise `ValueError` unless it returns a value a position."""
    values = function(at)
    if values.shape != at.shape[:1]:
        raise ValueError(f"function must return shape {[len(at)]}, got {list(values.shape)}")
    return values.to(at)


def bits_of(table: Tensor) -> int:
    """Return the bits that a tensor takes."""
    return table.numel() * table.element_size() * 8


SCALES = ("cell", "tile", "layer")


class TernarySpline(SplineBank):
    r"""A `CellSpline` with ternary coefficients, and scales that they share.

    .. math:: y = s\,(b_c + a_c u), \qquad b_c, a_c \in \{-1, 0, 1\}

    The notes ask how many numbers may share a scale. Trained is the parameter `raw
    [splines, cells ** dims, 1 + dims]`. Forward cuts each group with one scale at half its mean
    size (`ternarize`, straight-through) and scales it to fit best (`row_scale`). `raw` begins as
    the lines of y = x, or x₀ + x₁, of which the cut leaves steps where a cell's base is large.

    Args:
        splines: how many.
        cells: along each axis.
        dims: inputs of each spline, 1 or 2.
        low: where the first cell begins.
        high: where the last one ends. Inputs outside `low … high` are read at the nearer end.
        scale: what shares a scale: "cell", the 1 + dims numbers of a cell; "tile", all numbers of
            `per_tile` neighbouring splines; "layer", the whole bank.
        per_tile: how many splines a tile has.

    Raises:
        TypeError: a count is not an integer.
        ValueError: an argument that `SplineBank` refuses, another `scale`, or `splines` that are
            not a multiple of `per_tile`.
    """

    def __init__(
        self,
        splines: int,
        cells: int,
        dims: int = 1,
        low: float = -1.0,
        high: float = 1.0,
        scale: str = "cell",
        per_tile: int = 1,
    ) -> None:
        """See the class."""
        super().__init__(splines, cells, dims, low, high)
        if scale not in SCALES:
            raise ValueError(f"scale must be one of {list(SCALES)}, got {scale!r}")
        if splines % positive("per_tile", per_tile):
            raise ValueError(f"splines must be a multiple of per_tile={per_tile}, got {splines}")
        self.scale, self.per_tile = scale, per_tile
        self.raw = nn.Parameter(torch.empty(splines, cells**dims, 1 + dims))
        self.fit_(identity)

    @property
    def groups(self) -> int:
        """How many scales there are."""
        tiles = self.splines // self.per_tile
        return {"cell": self.splines * self.cells**self.dims, "tile": tiles, "layer": 1}[self.scale]

    @property
    def bits(self) -> int:
        """Storage as `packed` leaves it: 2 bits a coefficient and 32 a scale."""
        return 2 * self.raw.numel() + 32 * self.groups

    def cut(self) -> tuple[Tensor, Tensor]:
        """Return the ternary values, `[groups, numbers]`, and their scales, `[groups, 1]`."""
        raw = self.raw.reshape(self.groups, -1)
        if self.scale == "cell":  # the few numbers of a row are summed quicker when laid out apart
            raw = raw.T.contiguous().T
        ternary = ternarize(raw)
        # A mean of equal numbers need not round to that number. The mean of what is left over makes
        # up for it, so that a scale survives `load_packed_` to the last bit.
        rough = row_scale(raw, ternary).detach()
        return ternary, rough + row_scale(raw - rough * ternary.detach(), ternary)

    @property
    def coefficients(self) -> Tensor:
        """Bases and slopes as they are read, `[splines, cells ** dims, 1 + dims]`."""
        ternary, scale = self.cut()
        return (ternary * scale).view(self.raw.shape)

    def forward(self, x: Tensor, which: Tensor) -> Tensor:
        """Return what each input reads; arguments, result and errors as in `CellSpline`."""
        return read_lines(self, self.coefficients, x, which)

    @torch.no_grad()
    def fit_(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Set `raw` to each cell's best line, as `CellSpline.fit_` does; the cut comes after."""
        self.raw.copy_(fitted_lines(self, function, self.raw))
        return self

    @torch.no_grad()
    def packed(self) -> tuple[Tensor, Tensor]:
        """Return what forward needs: codes `[splines, bytes]`, uint8, and scales `[groups]`."""
        ternary, scale = self.cut()
        return pack(ternary.reshape(self.splines, -1)), scale.flatten()

    @torch.no_grad()
    def load_packed_(self, packed: Tensor, scales: Tensor) -> Self:
        """Take what `packed` returned; forward then gives the same values, bit for bit.

        Args:
            packed: codes, `[splines, bytes]`, uint8.
            scales: `[groups]`.

        Raises:
            TypeError: `packed` is not uint8.
            ValueError: a shape or a code is wrong, or a scale is one that the forward pass does not
                arrive at: it is not finite, negative, or zero where values are not.
        """
        if packed.ndim != 2 or len(packed) != self.splines:
            raise ValueError(f"packed must have {self.splines} rows, got {list(packed.shape)}")
        if scales.shape != (self.groups,):
            raise ValueError(f"scales must have shape {[self.groups]}, got {list(scales.shape)}")
        ternary = unpack(packed, self.raw[0].numel(), self.raw.dtype).view(self.groups, -1)
        raw = ternary * scales.to(self.raw).unsqueeze(1)
        wrong = (ternarize(raw) != ternary).any(dim=1)  # NaN differs, and an infinity cuts to 0
        if wrong.any():
            raise ValueError(
                "scales must be finite, and positive wherever values are not 0, got "
                f"{scales[wrong][:5].tolist()}"
            )
        self.raw.copy_(raw.view(self.raw.shape))
        return self

    def extra_repr(self) -> str:
        """Return the sizes for `repr`."""
        return f"{super().extra_repr()}, scale={self.scale!r}, per_tile={self.per_tile}"
