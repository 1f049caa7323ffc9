"""Splines: the address is the cell that an input falls in, the reading is a line."""

import math
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from trix.address.gate import cell_of
from trix.address.packed import pack, unpack
from trix.address.ternary import row_scale, ternarize
from trix.checks import floating, indices, last_dim, one_of, positive, shape, typed

Axes = tuple[Tensor, ...]
"""One tensor for each input of a spline."""

SAMPLES = 8
"""A cell's line is fitted to this many points along each axis."""


class SplineBank(nn.Module):
    """Many splines of one size; each input says which of them it reads.

    A subclass names its only parameter in `trained`, says how it is made of cells, and how it is
    read and fitted. Initially every spline is y = x, or x₀ + x₁.

    Args:
        splines, cells: how many splines, and cells along each of their axes.
        dims: inputs of each spline, 1 or 2.
        low, high: where cells begin and end; inputs outside are read at the nearer end.

    Raises:
        TypeError: a count is not an integer, or an input's dtype is wrong.
        ValueError: a count below 1, `dims` above 2, ends that are not finite and in order, or a
            wrong shape of inputs.
        IndexError: an input reads a spline that is not there (on the CPU, and not when compiled).
    """

    trained: str

    def __init__(
        self, splines: int, cells: int, dims: int = 1, low: float = -1.0, high: float = 1.0
    ) -> None:
        super().__init__()
        self.splines, self.cells = positive("splines", splines), positive("cells", cells)
        self.dims = one_of("dims", positive("dims", dims), (1, 2))
        self.low, self.high = interval(low, high)
        self.register_parameter(self.trained, nn.Parameter(torch.empty(splines, *self._numbers())))
        self.fit_(lambda at: at if dims == 1 else at.sum(-1))

    @property
    def bits(self) -> int:
        """Storage, 32 bits per float32 number."""
        return 8 * getattr(self, self.trained).nbytes

    def forward(self, x: Tensor, which: Tensor) -> Tensor:
        """Return what each input reads, `[...]`, in the dtype of `x` promoted with the parameters'.

        Args:
            x: floating `[...]`, or `[..., 2]` for `dims` of 2; NaN gives NaN.
            which: the spline that each input reads, int64, of a shape that broadcasts with `[...]`.
        """
        floating("x", x)
        check_which(x, which, self.dims)
        table = self._table()
        x = x.to(torch.promote_types(x.dtype, table.dtype)).clamp(self.low, self.high)
        cell, place = cell_of(x, self.cells + 1, self.low, self.high)
        axes = ((cell,), (place,)) if self.dims == 1 else (cell.unbind(-1), place.unbind(-1))
        return self._read(table.to(x.dtype), which, *axes)

    @torch.no_grad()
    def fit_(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Bring every spline as near to a function as its cells allow.

        It maps positions `[m]`, or `[m, 2]`, to values `[m]`. A `KnotSpline` takes those at its
        knots, the others in each cell the best line, in least squares on a small grid.
        """
        parameter = getattr(self, self.trained)
        parameter.copy_(self._fitted(function, parameter))
        return self

    def extra_repr(self) -> str:
        ends = f"low={self.low}, high={self.high}"
        return f"splines={self.splines}, cells={self.cells}, dims={self.dims}, {ends}"

    def _numbers(self) -> tuple[int, ...]:
        # the shape of what is trained of one spline
        raise NotImplementedError

    def _table(self) -> Tensor:
        return getattr(self, self.trained)

    def _read(self, table: Tensor, which: Tensor, cell: Axes, place: Axes) -> Tensor:
        # from cells, int64, and the places in them, 0 … 1, axis by axis
        raise NotImplementedError

    def _fitted(self, function: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
        raise NotImplementedError


class KnotSpline(SplineBank):
    """Splines that are continuous: values at the knots, and straight between them.

    The parameter `knots [splines, (cells + 1) ** dims]` holds the values at the edges of the cells,
    or at their corners, row by row. A square's diagonal cuts it in two triangles (the triangulation
    of Freudenthal and of Kuhn), on each of which the corners make a plane; a bilinear patch would
    bend. The arguments are those of `SplineBank`.

    Example:
        >>> square = KnotSpline(splines=1, cells=4).fit_(lambda at: at**2)
        >>> square(torch.tensor([0.5, 0.75]), torch.tensor(0))  # at a knot, and between two
        tensor([0.2500, 0.6250], grad_fn=<AddBackward0>)
    """

    trained = "knots"
    knots: nn.Parameter

    def _numbers(self) -> tuple[int, ...]:
        return ((self.cells + 1) ** self.dims,)

    def _read(self, table: Tensor, which: Tensor, cell: Axes, place: Axes) -> Tensor:
        across = self.cells + 1
        if self.dims == 1:
            first = which * across + cell[0]
            start, end = read(table, [first, first + 1], which)
            return start + (end - start) * place[0]
        # From a corner of the square along its longer side, then along the shorter one: the two
        # edges of the triangle that the input falls in.
        first = which * across**2 + cell[0] * across + cell[1]
        turn = torch.where(place[0] >= place[1], first + across, first + 1)
        start, corner, end = read(table, [first, turn, first + across + 1], which)
        longer, shorter = torch.maximum(*place), torch.minimum(*place)
        return start + (corner - start) * longer + (end - corner) * shorter

    def _fitted(self, function: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
        return _values(function, self._knots_at(like))

    def _knots_at(self, like: Tensor) -> Tensor:
        axis = torch.linspace(self.low, self.high, self.cells + 1, dtype=torch.float64)
        return grid(axis.to(like), self.dims)

    @torch.no_grad()
    def refined(self, factor: int) -> "KnotSpline":
        """Return the same functions, to rounding, on `factor` times as many cells per axis."""
        cells = self.cells * positive("factor", factor)
        finer = KnotSpline(self.splines, cells, self.dims, self.low, self.high).to(self.knots)
        which = torch.arange(self.splines, device=self.knots.device).unsqueeze(1)
        finer.knots.copy_(self(finer._knots_at(self.knots).unsqueeze(0), which))
        return finer


class LineSpline(SplineBank):
    """What the splines share that have a line per cell: `[splines, cells ** dims, 1 + dims]`."""

    def _numbers(self) -> tuple[int, ...]:
        return self.cells**self.dims, 1 + self.dims

    def _read(self, table: Tensor, which: Tensor, cell: Axes, place: Axes) -> Tensor:
        inside = cell[0] if self.dims == 1 else cell[0] * self.cells + cell[1]
        first = (which * self.cells**self.dims + inside) * (1 + self.dims)
        y, *slopes = read(table, [first + number for number in range(1 + self.dims)], which)
        for slope, at in zip(slopes, place, strict=True):
            # Never fused: a loop's vectors and its tail would then round differently.
            y = y + slope * (2 * at - 1)
        return y

    def _fitted(self, function: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
        cells, dims = self.cells, self.dims
        inside = (torch.arange(SAMPLES, dtype=torch.float64) * 2 + 1) / SAMPLES - 1
        at = torch.arange(cells, dtype=torch.float64).unsqueeze(1) + (inside + 1) / 2
        axis = self.low + (self.high - self.low) / cells * at.flatten()
        values = _values(function, grid(axis.to(like), dims))
        if dims == 2:
            values = values.view(cells, SAMPLES, cells, SAMPLES).transpose(1, 2)
        values = values.reshape(cells**dims, SAMPLES**dims)
        place = grid(inside.to(like), dims).reshape(SAMPLES**dims, dims)
        # one and the places are at right angles on the grid, so each is fitted by itself
        basis = torch.cat([torch.ones_like(place[:, :1]), place], dim=1)
        return values @ basis / basis.square().sum(0)


class CellSpline(LineSpline):
    """Splines with a line per cell, :math:`y = b_c + a_c u` with :math:`u` the place there, −1 … 1.

    A cell is free of its neighbours, so that a spline may jump. The parameter `coefficients
    [splines, cells ** dims, 1 + dims]` holds each cell's base, its value in the middle, and a slope
    per axis: how much is gained on the way from there to the edge. With two inputs, `[i, j]` is
    cell `i * cells + j`. The arguments are those of `SplineBank`.

    Example:
        >>> step = CellSpline(splines=1, cells=2).fit_(torch.sign)
        >>> step(torch.tensor([-0.1, 0.1]), torch.tensor(0)).tolist()
        [-1.0, 1.0]
    """

    trained = "coefficients"
    coefficients: nn.Parameter


class TernarySpline(LineSpline):
    r"""A `CellSpline` with ternary coefficients, and scales that they share.

    .. math:: y = s\,(b_c + a_c u), \qquad b_c, a_c \in \{-1, 0, 1\}

    Trained is the parameter `raw [splines, cells ** dims, 1 + dims]`. Forward cuts each group with
    one scale at half its mean size (`ternarize`, straight-through) and scales it to fit best
    (`row_scale`). `raw` is fitted as a `CellSpline`'s coefficients are, and the cut comes after: it
    leaves steps where a cell's base is large.

    Args:
        splines, cells, dims, low, high: those of `SplineBank`.
        scale: what shares a scale: "cell", the 1 + dims numbers of a cell; "tile", all numbers of
            `per_tile` neighbouring splines; "layer", the whole bank.
        per_tile: how many splines a tile has, a divisor of `splines`.

    Example:
        >>> spline = TernarySpline(splines=6, cells=4, scale="tile", per_tile=3)
        >>> spline.groups, spline.bits  # scales; 2 bits per coefficient and 32 per scale
        (2, 160)
    """

    trained = "raw"
    raw: nn.Parameter

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
        super().__init__(splines, cells, dims, low, high)
        self.scale = one_of("scale", scale, ("cell", "tile", "layer"))
        self.per_tile = positive("per_tile", per_tile)
        if splines % per_tile:
            raise ValueError(f"splines must be a multiple of per_tile={per_tile}, got {splines}")

    @property
    def groups(self) -> int:
        """How many scales there are."""
        tiles = self.splines // self.per_tile
        return {"cell": self.splines * self.cells**self.dims, "tile": tiles, "layer": 1}[self.scale]

    @property
    def bits(self) -> int:
        """Storage as `packed` leaves it: 2 bits per coefficient and 32 per scale."""
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

    def _table(self) -> Tensor:
        return self.coefficients

    @torch.no_grad()
    def packed(self) -> tuple[Tensor, Tensor]:
        """Return what forward needs: codes `[splines, bytes]`, uint8, and scales `[groups]`."""
        ternary, scale = self.cut()
        return pack(ternary.reshape(self.splines, -1)), scale.flatten()

    @torch.no_grad()
    def load_packed_(self, packed: Tensor, scales: Tensor) -> Self:
        """Take what `packed` returned; forward then gives the same values, bit for bit.

        Raises:
            TypeError: the codes are not uint8.
            ValueError: a shape or a code is wrong, or a scale is one that the forward pass does not
                arrive at: it is not finite, negative, or zero where values are not.
        """
        shape("packed", packed, self.splines, "bytes")
        shape("scales", scales, self.groups)
        ternary = unpack(packed, self.raw[0].numel(), self.raw.dtype).view(self.groups, -1)
        raw = ternary * scales.to(self.raw).unsqueeze(1)
        wrong = (ternarize(raw) != ternary).any(dim=1)  # NaN differs, and an infinity cuts to 0
        if wrong.any():
            wanted, got = "finite, and positive where values are not 0", scales[wrong][:5].tolist()
            raise ValueError(f"scales must be {wanted}, got {got}")
        self.raw.copy_(raw.view(self.raw.shape))
        return self

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale!r}, per_tile={self.per_tile}"


def interval(low: float, high: float) -> tuple[float, float]:
    """Return both ends; raise `ValueError` unless they are finite and in order."""
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"low and high must be finite, low first, got {low} and {high}")
    return float(low), float(high)


def check_which(x: Tensor, which: Tensor, dims: int, name: str = "x") -> torch.Size:
    """Return `[...]` of inputs `[...]` or `[..., 2]`; raise unless `which` broadcasts with it."""
    if dims == 2:
        last_dim(name, x, 2)
    lead = x.shape[:-1] if dims == 2 else x.shape
    typed("which", which, torch.int64)
    if which.shape != lead and which.ndim > 0:
        pairs = zip(reversed(lead), reversed(which.shape), strict=False)
        if any(a != b and 1 not in (a, b) for a, b in pairs):
            raise ValueError(f"which must broadcast with {list(lead)}, got {list(which.shape)}")
    return lead


def read(table: Tensor, places: list[Tensor], which: Tensor) -> tuple[Tensor, ...]:
    """Return `table[index]` for each tensor of indices, counted through all rows of the table.

    A row is a spline, so that the indices leave the table just when `which` does. Numbers are
    gathered one by one and at once: their gradients in rows took up to four times as long.
    """
    index = torch.stack(places)
    try:
        return table.flatten().index_select(0, index.flatten()).view(index.shape).unbind()
    except IndexError:
        indices("which", which, len(table))
        raise


def grid(axis: Tensor, dims: int) -> Tensor:
    """Return the points of an axis, `[m]`, or those of its square, `[m², 2]`, row by row."""
    return axis if dims == 1 else torch.cartesian_prod(axis, axis)


def _values(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    values = function(at)
    if values.shape != at.shape[:1]:
        raise ValueError(f"function must return shape {[len(at)]}, got {list(values.shape)}")
    return values.to(at)
