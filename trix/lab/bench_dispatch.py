"""How fast a compiled dispatch table routes what it knows, beside live routing."""

from typing import Any

import torch
from tqdm import tqdm

from trix.address.route import flat_route
from trix.lab.bench import side_by_side
from trix.surgery.claims import Claims
from trix.surgery.compiled import compile_dispatch
from trix.tiles.lookup import SparseLookupFFN

TILES, DIM, TOKENS, CLASSES = 1024, 128, (1, 4096), 64
SHARES = (1.0, 0.5)


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Route the same tokens live and through a table, turn by turn.

    The tokens of a class lie near one tile's signature, so that the table knows them all; to halve
    the hits, half the tokens are given as of no class, which the table routes live.

    Args:
        quick: few tiles and tokens, to see that it works.

    Returns:
        Rows with `tiles`, `tokens`, `hits` (share of the tokens); microseconds a token of the
        layer's own routing, `live`, of a search among keys that were cut to ternary beforehand,
        `search`, of that search's product and argmax without checks or weights, `bare`, and of the
        `table`; `ratio`, how often the last goes into the search.
    """
    tiles, dim, counts = (32, 16, (1, 64)) if quick else (TILES, DIM, TOKENS)
    torch.manual_seed(0)
    layer = SparseLookupFFN(dim, tiles, tiles_per_cluster=None)
    signatures = layer.signatures.detach()
    rows = []
    with torch.no_grad():
        label = torch.arange(CLASSES).repeat(200)
        near = signatures[label % tiles] + 0.3 * torch.randn(len(label), dim)
        claims = Claims(layer)
        claims.track_claims(layer.route(near), label, CLASSES)
        table = compile_dispatch(layer, claims, threshold=0.5)
        for count in tqdm(counts, desc="dispatch", unit="size"):
            x, known = near[-count:], label[-count:]
            for share in SHARES if count > 1 else SHARES[:1]:
                classes = torch.where(torch.arange(count) < share * count, known, -1)
                route, hit = table.route(layer, x, classes)
                if not torch.equal(route.index, layer.route(x).index):
                    raise RuntimeError("expected the table to agree with live routing")
                seconds = side_by_side(
                    {
                        "live": lambda: layer.route(x),  # noqa: B023
                        "search": lambda: flat_route(x, signatures),  # noqa: B023
                        "bare": lambda: (x @ signatures.T).argmax(dim=-1),  # noqa: B023
                        "table": lambda: table.route(layer, x, classes),  # noqa: B023
                    },
                    rounds=3 if quick else 51 if count == 1 else 15,
                )
                rows.append(
                    {
                        "tiles": tiles,
                        "tokens": count,
                        "hits": float(hit.double().mean()),
                        **{name: 1e6 * value / count for name, value in seconds.items()},
                        "ratio": seconds["search"] / seconds["table"],
                    }
                )
    return rows
