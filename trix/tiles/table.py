"""Tables in place of functions of a few numbers, and the compiled loop that reads them."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.ternary import straight_through
from trix.checks import last_dim, positive
from trix.tiles.spline import SplineBank, bits_of, grid, out_of, same_splines


def fused_read(
    x: Tensor, which: Tensor, lead: torch.Size, entries: Tensor, cut: Quantizer
) -> Tensor | None:
    """Return what the compiled loop reads, or None where it does not serve.

    It serves float32 inputs and uint8 codes on the CPU, with float32 entries, when all read one
    spline or `which` has their shape.

    Args:
        x: `[..., dims]`, or `[...]` for one.
        which: int64.
        lead: the shape `[...]`.
        entries: `[splines, levels ** dims]`.
        cut: the quantizer.

    Raises:
        IndexError: a code or `which` is out of range.
    """
    if torch.compiler.is_compiling():
        return None
    if entries.dtype != torch.float32 or x.dtype not in (torch.float32, torch.uint8):
        return None
    if which.shape != lead and (which.numel() != 1 or which.ndim > len(lead)):
        return None
    if not (x.is_cpu and which.is_cpu and entries.is_cpu and entries.is_contiguous()):
        return None
    loop = kernel(x.dtype)
    if loop is None:
        return None
    out = np.empty(lead.numel(), np.float32)
    bad = loop(
        (x.detach() if x.requires_grad else x).numpy().reshape(-1),
        which.numpy().reshape(-1),
        entries.numpy(),
        out,
        *(cut.levels, cut.low, cut.high, cut.steps),
    )
    if bad == 1:
        raise IndexError(out_of("which", len(entries), which))
    if bad == 2:
        raise IndexError(out_of("codes", cut.levels, x))
    return torch.from_numpy(out).view(lead)


@functools.cache
def kernel(dtype: torch.dtype) -> Callable[..., int] | None:
    """Return the loop for float32 inputs or for uint8 codes, or None where numba is not installed.

    It takes the inputs `[n * dims]`, `which [n]` or `[1]`, `entries [splines, levels ** dims]`, the
    result `[n]` to be written, and the quantizer's `levels`, `low`, `high` and `steps`. It returns
    0, or 1 for a spline and 2 for a code that does not exist. The first call compiles, in about a
    second.
    """
    try:
        numba = importlib.import_module("numba")
    except ImportError:
        return None
    floats = dtype == torch.float32
    index, nan = np.uint64, np.float32(np.nan)  # an index with a sign would be wrapped around

    # Without fast mathematics: each step must round as torch's does. The codes are a pass of their
    # own, because it becomes vector instructions, which reading cannot.
    def cut(x: Any, low: Any, high: Any, steps: Any, _levels: int) -> Any:
        codes = np.empty(len(x), np.uint32)
        for i in range(len(x)):
            value = x[i] if x[i] > low else low  # NaN becomes low
            value = value if value < high else high
            codes[i] = np.int32(np.rint((value - low) * steps))
        return codes

    def check(x: Any, _low: Any, _high: Any, _steps: Any, levels: int) -> Any:
        highest = np.uint8(0)
        for i in range(len(x)):
            highest = max(highest, x[i])
        return x if highest < levels else x[:0]

    codes_of = numba.njit(cut if floats else check)

    @numba.njit(
        f"int64({'float32' if floats else 'uint8'}[::1], int64[::1], float32[:, ::1], "
        "float32[::1], int64, float32, float32, float32)",
        nogil=True,
    )
    def loop(
        x: Any, which: Any, entries: Any, out: Any, levels: int, low: Any, high: Any, steps: Any
    ) -> int:
        splines, width = entries.shape
        table, pairs = entries.reshape(-1), len(x) > len(out)
        if len(out) == 0:
            return 0
        if which.min() < 0 or which.max() >= splines:
            return 1
        codes = codes_of(x, low, high, steps, levels)
        if len(codes) == 0:
            return 2
        step = index(len(which) > 1)
        for i in range(len(out)):
            at = index(which[index(i) * step]) * index(width)
            if pairs:
                at += index(codes[2 * i]) * index(levels) + index(codes[2 * i + 1])
                lost = x[2 * i] != x[2 * i] or x[2 * i + 1] != x[2 * i + 1]
            else:
                at += index(codes[i])
                lost = x[i] != x[i]
            out[i] = nan if lost else table[at]
        return 0

    return loop


@dataclass(frozen=True)
class Quantizer:
    """Evenly spaced levels from `low` to `high`, both ends included.

    Args:
        levels: how many, at least two: 16 are 4 bits, 256 are 8.
        low: the first level.
        high: the last.

    Raises:
        TypeError: `levels` is not an integer.
        ValueError: fewer levels than two, or ends that are not finite and in order.
    """

    levels: int
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        if positive("levels", self.levels) < 2:
            raise ValueError(f"levels must be at least 2, got {self.levels}")
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(
                f"low and high must be finite, low first, got {self.low} and {self.high}"
            )

    @property
    def steps(self) -> float:
        """Levels a unit."""
        return (self.levels - 1) / (self.high - self.low)

    def codes(self, x: Tensor) -> Tensor:
        """Return the number of the nearest level, int64; 0 for NaN, the ends' beyond the ends.

        Raises:
            TypeError: `x` is not floating.
        """
        if not x.is_floating_point():
            raise TypeError(f"x must be floating, got {x.dtype}")
        x = x.detach().to(torch.promote_types(x.dtype, torch.float32))
        x = x.nan_to_num(nan=self.low).clamp(self.low, self.high)
        return ((x - self.low) * self.steps).round().long()

    def values(self, codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the levels that the codes number.

        Args:
            codes: integers of any shape.
            dtype: floating, of the result.

        Raises:
            IndexError: a code is out of range (on the CPU, and not when compiled).
            TypeError: the codes are not integers.
        """
        whole("codes", codes)
        levels = torch.linspace(
            self.low, self.high, self.levels, dtype=torch.float64, device=codes.device
        )
        flat = codes.flatten().to(torch.int64)
        try:
            return levels.to(dtype).index_select(0, flat).view(codes.shape)
        except IndexError as error:
            raise IndexError(out_of("codes", self.levels, codes)) from error

    def quantize(self, x: Tensor) -> Tensor:
        """Round to the nearest level; the gradient is the clamp's, as if there were no levels."""
        near = self.values(self.codes(x), x.dtype)
        # through the clamp, since an infinity less itself is NaN; a NaN stays one
        return straight_through(near, x.clamp(self.low, self.high))


class LookupTable(nn.Module):
    """The values of a bank of splines at every level, for reading without a gradient.

    Args:
        entries: `[splines, levels ** dims]`, floating; the state's only tensor.
        quantizer: how inputs become codes.
        dims: inputs of each spline, 1 or 2.

    Raises:
        TypeError: a wrong dtype or count.
        ValueError: a wrong shape. `load_state_dict` refuses a table of another size with a
            `RuntimeError` that names both.
    """

    entries: Tensor

    def __init__(self, entries: Tensor, quantizer: Quantizer, dims: int = 1) -> None:
        """See the class."""
        super().__init__()
        if positive("dims", dims) > 2:
            raise ValueError(f"dims must be 1 or 2, got {dims}")
        if not entries.is_floating_point():
            raise TypeError(f"entries must be floating, got {entries.dtype}")
        width = quantizer.levels**dims
        if entries.ndim != 2 or entries.shape[1] != width or not len(entries):
            raise ValueError(
                f"entries must have shape [splines, {width}], got {list(entries.shape)}"
            )
        self.quantizer, self.dims = quantizer, dims
        self.register_buffer("entries", entries.detach().clone())

    @property
    def splines(self) -> int:
        """How many there are to read."""
        return len(self.entries)

    @property
    def bits(self) -> int:
        """Storage, 32 bits a float32 entry."""
        return bits_of(self.entries)

    def forward(self, x: Tensor, which: Tensor) -> Tensor:
        """Return what the splines give for `quantizer.quantize(x)`.

        Float32 inputs that read one spline, or one each, take a compiled loop where numba is
        installed. It returns the same bits.

        Args:
            x: floating `[...]`, or `[..., 2]` for `dims` of 2. Beyond the ends it is clamped; NaN
                gives NaN.
            which: the spline that each input reads, int64, of a shape that broadcasts with `[...]`.

        Returns:
            `[...]`, in the dtype of the entries.

        Raises:
            IndexError: `which` names no spline (on the CPU, and not when compiled).
            TypeError: a dtype is wrong.
            ValueError: a shape is wrong.
        """
        if not x.is_floating_point():
            raise TypeError(f"x must be floating, got {x.dtype}")
        lead = self._lead("x", x, which)
        fused = fused_read(x, which, lead, self.entries, self.quantizer)
        if fused is not None:
            return fused
        read = self._entry(self.quantizer.codes(x), which)
        lost = x.isnan() if self.dims == 1 else x.isnan().any(dim=-1)
        return read.masked_fill(lost, math.nan)

    def read(self, codes: Tensor, which: Tensor) -> Tensor:
        """Return the entries that codes number: no arithmetic on floats.

        Args:
            codes: integers, uint8 among them, `[...]`, or `[..., 2]` for `dims` of 2.
            which: as in `forward`.

        Returns:
            `[...]`, in the dtype of the entries.

        Raises:
            IndexError: a code or `which` is out of range (on the CPU, and not when compiled).
            TypeError: a dtype is wrong.
            ValueError: a shape is wrong.
        """
        whole("codes", codes)
        lead = self._lead("codes", codes, which)
        fused = fused_read(codes, which, lead, self.entries, self.quantizer)
        if fused is not None:
            return fused
        if codes.is_cpu and not torch.compiler.is_compiling() and codes.numel():
            low, high = (int(end) for end in codes.aminmax())  # 256 is 0 to a uint8
            if low < 0 or high >= self.quantizer.levels:
                raise IndexError(out_of("codes", self.quantizer.levels, codes))
        return self._entry(codes.to(torch.int64), which)

    def _lead(self, name: str, x: Tensor, which: Tensor) -> torch.Size:
        if self.dims == 2:
            last_dim(name, x, 2)
        lead = x.shape[:-1] if self.dims == 2 else x.shape
        same_splines(lead, which)
        return lead

    def _entry(self, codes: Tensor, which: Tensor) -> Tensor:
        if self.dims == 2:
            codes = codes[..., 0] * self.quantizer.levels + codes[..., 1]
        index = which * self.entries.shape[1] + codes
        try:
            return self.entries.flatten().index_select(0, index.flatten()).view(index.shape)
        except IndexError as error:
            raise IndexError(out_of("which", self.splines, which)) from error

    def extra_repr(self) -> str:
        """Return the sizes for `repr`."""
        return f"splines={self.splines}, dims={self.dims}, {self.quantizer}"


@torch.no_grad()
def compile_table(
    spline: SplineBank, quantizer: Quantizer, dtype: torch.dtype | None = None
) -> LookupTable:
    """Write down what each spline gives at every level.

    `table(x, which)` then equals `spline(quantizer.quantize(x), which)` bit for bit, for every `x`
    of the dtype that the table was compiled for. Others read the same entries, so that there it
    agrees up to rounding.

    Args:
        spline: a `CellSpline`, `KnotSpline` or `TernarySpline`.
        quantizer: the levels.
        dtype: of the inputs to come; that of the spline's parameters if not given.
    """
    parameter = next(spline.parameters())
    codes = torch.arange(quantizer.levels, device=parameter.device)
    levels = grid(quantizer.values(codes, dtype or parameter.dtype), spline.dims)
    which = torch.arange(spline.splines, device=parameter.device)
    return LookupTable(spline(levels.unsqueeze(0), which.unsqueeze(1)), quantizer, spline.dims)


class ProductTable(nn.Module):
    r"""Several small tables whose entries add up, :math:`y = \sum_g T_{g, c_g}`.

    With `groups` tables of `entries` rows there are `entries ** groups` addresses, and only
    `groups * entries` rows to keep. The parameter `table [groups, entries, dim]` begins normal,
    scaled so that sums have a standard deviation of 0.02.

    Args:
        groups: tables, and codes of an address.
        entries: rows of each.
        dim: output features.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a count below 1.
    """

    def __init__(self, groups: int, entries: int, dim: int) -> None:
        """See the class."""
        super().__init__()
        self.groups, self.entries = positive("groups", groups), positive("entries", entries)
        start = torch.randn(groups, entries, positive("dim", dim))
        self.table = nn.Parameter(0.02 / math.sqrt(groups) * start)

    @property
    def bits(self) -> int:
        """Storage, 32 bits a float32 number."""
        return bits_of(self.table)

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes `[..., groups]`, int64, to `[..., dim]`.

        Raises:
            IndexError: a code is out of range (not when compiled).
            TypeError: the codes are not int64.
            ValueError: the last axis is not `groups` long.
        """
        if codes.dtype != torch.int64:
            raise TypeError(f"codes must be int64, got {codes.dtype}")
        last_dim("codes", codes, self.groups)
        if not torch.compiler.is_compiling() and codes.numel():
            low, high = codes.aminmax()
            if low < 0 or high >= self.entries:
                raise IndexError(out_of("codes", self.entries, codes))
        rows = codes + torch.arange(self.groups, device=codes.device) * self.entries
        flat = F.embedding_bag(rows.reshape(-1, self.groups), self.table.flatten(0, 1), mode="sum")
        return flat.view(*codes.shape[:-1], self.table.shape[-1])

    def extra_repr(self) -> str:
        """Return the sizes for `repr`."""
        return f"groups={self.groups}, entries={self.entries}, dim={self.table.shape[-1]}"


def whole(name: str, x: Tensor) -> None:
    """Raise `TypeError` unless a tensor holds integers."""
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        raise TypeError(f"{name} must be integers, got {x.dtype}")
