"""How fast trees route, beside flat routing, and how often they find what it finds."""

from typing import Any

import torch
from tqdm import tqdm

from trix.address.route import flat_route
from trix.address.tree import TreeRouter
from trix.lab.bench import side_by_side
from trix.lab.overlapping import overlapping_clusters, recall

TILES = (64, 256, 1024, 4096, 16384)
DIM, TOKENS = 256, 4096


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Route overlapping clusters by a flat search, by two levels and by three, turn by turn.

    Float32, without gradient, on as many threads as torch is set to. Building the trees is not
    timed. A bar on stderr shows how far it is.

    Args:
        quick: few tiles and tokens, to see that it works.

    Returns:
        Rows, one for each router and number of tiles. In each stand `tiles`, `router`,
        `comparisons` a token, `seconds` for all tokens, `ratio`, how often these go into flat
        routing's, and `recall`, the share of tokens sent where flat routing sends them.
    """
    sizes, dim, tokens = ((16, 64), 16, 128) if quick else (TILES, DIM, TOKENS)
    rows = []
    for tiles in tqdm(sizes, desc="routing", unit="size"):
        data = overlapping_clusters(tiles, dim, tokens)
        routers = {
            "flat": TreeRouter(tiles, dim, (tiles,)),
            "hierarchical": TreeRouter.hierarchical(tiles, dim),
            "fractal": TreeRouter.fractal(tiles, dim),
        }
        for router in routers.values():
            router.rebuild(data.signatures)
        calls = {**routers, "flat": flat_route}
        with torch.no_grad():
            seconds = side_by_side(
                {
                    name: lambda call=call: call(data.tokens, data.signatures)  # noqa: B023
                    for name, call in calls.items()
                },
                rounds=3 if quick else 7,
            )
        for name, router in routers.items():
            rows.append(
                {
                    "tiles": tiles,
                    "router": name,
                    "comparisons": router.comparisons,
                    "seconds": seconds[name],
                    "ratio": seconds["flat"] / seconds[name],
                    "recall": recall(router, data.tokens, data.signatures),
                }
            )
    return rows
