"""Splines whose bases and slopes are −1, 0 or 1 times a scale: two bits a number."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from trix.address.checks import positive
from trix.address.packed import pack, unpack
from trix.address.ternary import row_scale, ternarize
from trix.tiles.spline import SplineBank, fitted_lines, identity, read_lines

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
