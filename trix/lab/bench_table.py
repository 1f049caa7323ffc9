"""How fast a table reads what a spline computes, where inputs are rounded to a few levels."""

from typing import Any

import torch

from trix.lab.bench import bandwidth, side_by_side
from trix.tiles.spline import CellSpline, KnotSpline
from trix.tiles.table import Quantizer, compile_table
from trix.tiles.table_kernel import kernel

INPUTS, CELLS = 4096, 16


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Time compiled tables against their float splines, rounding included, on one thread.

    One input of 256 levels, and two of 16. A table is read from floats, which it rounds as the
    spline's quantizer does, and from codes of one byte, as they would be stored. All take turns,
    4,096 inputs a call.

    Args:
        quick: few inputs and rounds, to see that it works.

    Returns:
        Rows, one for each spline and way to read. In each stand `what`, `by` ("numba", or "torch"
        where numba is not installed), `size`, `seconds` a call, `against`, `against_seconds`,
        `ratio`, how often the seconds go into those of the spline, and `bound`, the seconds that
        inputs, table and outputs would take to be moved if a copy through memory moved them.
    """
    # A turn stays far below a scheduler's slice. Where the machine is busy a longer one is
    # interrupted in most rounds, a shorter one is not, and the ratio would be the scheduler's.
    inputs, rounds, calls = (37, 3, 1) if quick else (INPUTS, 301, 2)
    by = "torch" if kernel(torch.float32) is None else "numba"
    rows = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        speed = bandwidth(2**16, 1) if quick else bandwidth()
        which = torch.tensor(0)
        for dims, levels in ((1, 256), (2, 16)):
            draw = torch.Generator().manual_seed(dims)
            x = torch.rand(*(inputs, dims)[:dims], generator=draw) * 2.2 - 1.1
            quantizer = Quantizer(levels)
            codes = quantizer.codes(x).to(torch.uint8)
            for spline in (CellSpline(1, CELLS, dims), KnotSpline(1, CELLS, dims)):
                table = compile_table(spline, quantizer)
                cases = {
                    "floats": lambda: table(x, which),  # noqa: B023
                    "codes": lambda: table.read(codes, which),  # noqa: B023
                    "spline": lambda: spline(quantizer.quantize(x), which),  # noqa: B023
                }
                repeated = {
                    name: lambda case=case: [case() for _ in range(calls)]
                    for name, case in cases.items()
                }
                with torch.no_grad():
                    seconds = side_by_side(repeated, rounds)
                for source, given in (("floats", x), ("codes", codes)):
                    moved = given.nbytes + table.entries.nbytes + inputs * table.entries.itemsize
                    rows.append(
                        {
                            "what": f"table from {source}",
                            "by": by,
                            "size": f"{inputs} inputs, {'x'.join([str(levels)] * dims)} levels",
                            "seconds": seconds[source] / calls,
                            "against": f"{type(spline).__name__} float32",
                            "against_seconds": seconds["spline"] / calls,
                            "ratio": seconds["spline"] / seconds[source],
                            "bound": moved / speed,
                        }
                    )
    finally:
        torch.set_num_threads(threads)
    return rows
