"""How fast a packed ternary matrix multiplies a vector, beside the dense product."""

from typing import Any

import torch

from trix.address.packed import PackedTernary, kernel
from trix.lab.bench import side_by_side


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Time `PackedTernary` against `x @ W.T` in float32, on one thread, in one run.

    The two take turns, so a dense matrix larger than the cache pushes the packed one out of it:
    the packed product is timed with its weights cold, as between the layers of a larger model.

    Args:
        quick: small matrices and few rounds, to see that it works.

    Returns:
        Rows, one for each size. In each stand `what`, `by` ("numba", or "torch" where numba is
        not installed), `size`, `seconds`, `against`, `against_seconds`, and `ratio`, how often
        the seconds go into those of the dense product.
    """
    sizes = [(48, 1), (64, 2)] if quick else [(512, 1), (1024, 1), (2048, 1), (4096, 1), (4096, 16)]
    by = "torch" if kernel(torch.float32) is None else "numba"
    rows = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for dim, batch in sizes:
            draw = torch.Generator().manual_seed(dim)
            packed = PackedTernary.from_weights(torch.randn(dim, dim, generator=draw))
            dense = (packed.scale * packed.unpack()).T
            x = torch.randn(batch, dim, generator=draw)
            cases = {"packed": lambda: packed(x), "dense": lambda: x @ dense}  # noqa: B023
            seconds = side_by_side(cases, rounds=3 if quick else 51)
            rows.append(
                {
                    "what": "packed ternary mat-vec",
                    "by": by,
                    "size": f"{dim}x{dim}, batch {batch}",
                    "seconds": seconds["packed"],
                    "against": "dense float32",
                    "against_seconds": seconds["dense"],
                    "ratio": seconds["dense"] / seconds["packed"],
                }
            )
    finally:
        torch.set_num_threads(threads)
    return rows
