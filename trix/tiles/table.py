"""Tables in place of functions of one or two numbers, and the compiled loop that reads them."""

import functools
import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trix.address.ternary import straight_through
from trix.checks import at_least, floating, indices, integers, one_of, positive, shape
from trix.tiles.spline import SplineBank, check_which, grid, interval


@dataclass(frozen=True)
class Quantizer:
    """Evenly spaced levels from `low` to `high`, both ends included.

    Args:
        levels: how many, at least two: 16 are 4 bits, 256 are 8.

    Raises:
        TypeError: `levels` is not an integer, or a tensor's dtype is wrong.
        ValueError: fewer levels than two, or ends that are not finite and in order.
        IndexError: a code is out of range (on the CPU, and not when compiled).

    Example:
        >>> Quantizer(levels=5).quantize(torch.tensor([-0.9, 0.3, 7.0])).tolist()
        [-1.0, 0.5, 1.0]
    """

    levels: int
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        at_least("levels", self.levels, 2)
        interval(self.low, self.high)

    @property
    def steps(self) -> float:
        """Levels per unit."""
        return (self.levels - 1) / (self.high - self.low)

    def codes(self, x: Tensor) -> Tensor:
        """Return the number of the nearest level, int64; 0 for NaN, the ends' beyond the ends."""
        floating("x", x)
        x = x.detach().to(torch.promote_types(x.dtype, torch.float32))
        x = x.nan_to_num(nan=self.low).clamp(self.low, self.high)
        return ((x - self.low) * self.steps).round().long()

    def values(self, codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the levels that integers number, of their shape, in a floating dtype."""
        integers("codes", codes)
        levels = torch.linspace(
            self.low, self.high, self.levels, dtype=torch.float64, device=codes.device
        )
        flat = codes.flatten().to(torch.int64)
        try:
            return levels.to(dtype).index_select(0, flat).view(codes.shape)
        except IndexError:
            indices("codes", codes, self.levels)
            raise

    def quantize(self, x: Tensor) -> Tensor:
        """Round to the nearest level; the gradient is the clamp's, as if there were no levels."""
        near = self.values(self.codes(x), x.dtype)
        # through the clamp, since an infinity less itself is NaN; a NaN stays one
        return straight_through(near, x.clamp(self.low, self.high))


class LookupTable(nn.Module):
    """The values of a bank of splines at every level, for reading without a gradient.

    Float32 inputs, and uint8 codes, that read one spline or one each take a compiled loop where
    numba is installed. It returns the same bits.

    Args:
        entries: `[splines, levels ** dims]`, floating; the state's only tensor.
        quantizer: how inputs become codes.
        dims: inputs of each spline, 1 or 2.

    Raises:
        IndexError: a code or `which` is out of range (on the CPU, and not when compiled).
        RuntimeError: `load_state_dict` got a table of another size; both are named.
        TypeError: a wrong dtype or count.
        ValueError: a wrong shape.

    Example:
        >>> table = LookupTable(torch.tensor([[5.0, 6.0, 7.0]]).double(), Quantizer(levels=3))
        >>> table(torch.tensor([-0.9, 0.4]), torch.tensor(0)).tolist()
        [5.0, 6.0]
    """

    entries: Tensor

    def __init__(self, entries: Tensor, quantizer: Quantizer, dims: int = 1) -> None:
        super().__init__()
        self.quantizer, self.dims = quantizer, one_of("dims", positive("dims", dims), (1, 2))
        floating("entries", entries)
        shape("entries", entries, "splines >= 1", quantizer.levels**dims)
        self.register_buffer("entries", entries.detach().clone())

    @property
    def splines(self) -> int:
        """How many there are to read."""
        return len(self.entries)

    @property
    def bits(self) -> int:
        """Storage, 32 bits per float32 entry."""
        return 8 * self.entries.nbytes

    def forward(self, x: Tensor, which: Tensor) -> Tensor:
        """Return, as entries, what `SplineBank.forward` gives for `quantizer.quantize(x)`."""
        floating("x", x)
        lead = check_which(x, which, self.dims)
        fused = fused_read(x, which, lead, self.entries, self.quantizer)
        if fused is not None:
            return fused
        lost = x.isnan() if self.dims == 1 else x.isnan().any(dim=-1)
        return self._entry(self.quantizer.codes(x), which).masked_fill(lost, math.nan)

    def read(self, codes: Tensor, which: Tensor) -> Tensor:
        """Return the entries that integers number, `[...]`, or `[..., 2]` for `dims` of 2."""
        integers("codes", codes)
        lead = check_which(codes, which, self.dims, "codes")
        fused = fused_read(codes, which, lead, self.entries, self.quantizer)
        if fused is not None:
            return fused
        if codes.is_cpu:  # elsewhere looking at them would wait for the device
            indices("codes", codes, self.quantizer.levels)
        return self._entry(codes.to(torch.int64), which)  # 256 is 0 to a uint8

    def _entry(self, codes: Tensor, which: Tensor) -> Tensor:
        if self.dims == 2:
            codes = codes[..., 0] * self.quantizer.levels + codes[..., 1]
        index = which * self.entries.shape[1] + codes
        try:
            return self.entries.flatten().index_select(0, index.flatten()).view(index.shape)
        except IndexError:
            indices("which", which, len(self.entries))
            raise

    def extra_repr(self) -> str:
        return f"splines={self.splines}, levels={self.quantizer.levels}, dims={self.dims}"


@torch.no_grad()
def compile_table(
    spline: SplineBank, quantizer: Quantizer, dtype: torch.dtype | None = None
) -> LookupTable:
    """Write down what each spline gives at every level.

    `table(x, which)` then equals `spline(quantizer.quantize(x), which)` bit for bit, for every `x`
    of the dtype that the table was compiled for, by default that of the spline's parameters. Others
    read the same entries, so that there it agrees up to rounding.

    Example:
        >>> from trix import KnotSpline
        >>> compile_table(KnotSpline(splines=3, cells=4), Quantizer(levels=16)).entries.shape
        torch.Size([3, 16])
    """
    parameter = next(spline.parameters())
    codes = torch.arange(quantizer.levels, device=parameter.device)
    levels = grid(quantizer.values(codes, dtype or parameter.dtype), spline.dims)
    which = torch.arange(spline.splines, device=parameter.device)
    return LookupTable(spline(levels.unsqueeze(0), which.unsqueeze(1)), quantizer, spline.dims)


def fused_read(
    x: Tensor, which: Tensor, lead: torch.Size, entries: Tensor, cut: Quantizer
) -> Tensor | None:
    """Return what the compiled loop reads, or None where it does not serve.

    It serves float32 and uint8 on the CPU, with float32 entries, and one `which` or `lead` of them.
    """
    served = entries.dtype == torch.float32 and x.dtype in (torch.float32, torch.uint8)
    if torch.compiler.is_compiling() or not served:
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
        (x.detach() if x.requires_grad else x).contiguous().numpy().reshape(-1),
        which.contiguous().numpy().reshape(-1),
        entries.numpy(),
        out,
        *(cut.levels, cut.low, cut.high, cut.steps),
    )
    if bad:
        indices("which", which, len(entries))
        indices("codes", x, cut.levels)
    return torch.from_numpy(out).view(lead)


@functools.cache
def kernel(dtype: torch.dtype) -> Callable[..., int] | None:
    """Return the loop for float32 inputs or for uint8 codes, or None where numba is not installed.

    From inputs `[n * dims]` and `which`, `[n]` or `[1]`, it writes `[n]`; it returns 1 for a spline
    or a code that does not exist, else 0. The first call compiles, in a second.
    """
    try:
        numba = importlib.import_module("numba")
    except ImportError:
        return None
    floats = dtype == torch.float32
    index, nan = np.uint64, np.float32(np.nan)  # an index with a sign would be wrapped around

    # Without fast mathematics: each step must round as torch's does. The codes are a pass of their
    # own, because it becomes vector instructions, which reading cannot.
    def cut(x, low, high, steps, _levels):
        codes = np.empty(len(x), np.uint32)
        for i in range(len(x)):
            value = x[i] if x[i] > low else low  # NaN becomes low
            value = value if value < high else high
            codes[i] = np.int32(np.rint((value - low) * steps))
        return codes

    def check(x, _low, _high, _steps, levels):
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
    def loop(x, which, entries, out, levels, low, high, steps):
        splines, width = entries.shape
        table, pairs = entries.reshape(-1), len(x) > len(out)
        if len(out) == 0:
            return 0
        if which.min() < 0 or which.max() >= splines:
            return 1
        codes = codes_of(x, low, high, steps, levels)
        if len(codes) == 0:
            return 1
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
