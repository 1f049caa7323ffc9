"""The compiled loops of `LookupTable`, where numba is installed: the same bits, in one call."""

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trix.tiles.spline import out_of

if TYPE_CHECKING:
    from trix.tiles.table import Quantizer


def fused_read(
    x: Tensor, which: Tensor, lead: torch.Size, entries: Tensor, cut: "Quantizer"
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
