"""Speed, as ratios: what is compared runs in one process, turn by turn."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from trix.address import packed as packed_module
from trix.address.packed import PackedTernary
from trix.address.route import flat_route
from trix.address.tree import TreeRouter
from trix.lab.tasks import overlapping_clusters, recall
from trix.models.charlm import FFNS
from trix.surgery import Claims, compile_dispatch
from trix.tiles import table as table_module
from trix.tiles.ffn import DenseFFN
from trix.tiles.lookup import SparseLookupFFN
from trix.tiles.packed_lookup import PackedLookup
from trix.tiles.spline import CellSpline, KnotSpline
from trix.tiles.table import Quantizer, compile_table


def side_by_side(cases: dict[str, Callable[[], Any]], rounds: int = 7) -> dict[str, float]:
    """Return the median seconds of each case; every round runs all of them once, in turn.

    Taking turns lets whatever slows the machine down slow all cases alike, so that ratios of the
    medians mean something where the medians themselves do not.

    Args:
        cases: what to call, by name. Each is called once before the first round.
        rounds: how often each is timed.

    Raises:
        ValueError: no cases, or fewer rounds than one.
    """
    if not cases or rounds < 1:
        raise ValueError(f"expected cases and rounds of at least 1, got {list(cases)} and {rounds}")
    for call in cases.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, call in cases.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def bandwidth(size: int = 64 * 2**20, rounds: int = 7) -> float:
    """Return the bytes a second that a copy moves, reads and writes counted, on torch's threads.

    What a computation must move, divided by this, is a time that it can hardly beat from memory. It
    can from a cache.

    Args:
        size: bytes to copy; more than the caches hold.
        rounds: the median of so many counts.

    Raises:
        ValueError: fewer bytes or rounds than one.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    source = torch.zeros(size, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * size / side_by_side({"copy": lambda: target.copy_(source)}, rounds)["copy"]


DIM, MANY = 512, 4096
TILES, READ, CELLS = 960, 60, 8
"""Scaled with the width from `sparse-lookup/half`: 240 tiles, 15 read, at a width of 128."""
SMALL, TOKENS = 128, 768
"""Width and tokens of a training step: the `nano` protocol's."""

TRAINED: dict[str, dict[str, Any]] = {
    "hierarchical-trix": {},
    "hybrid-kan": {},
    "fractal": {"branching": [4, 4, 4]},
    "funnel": {},
    "codebook": {"entries": 64},
    "lookup": {},
    "mixture": {"tiles": 64},
    "product-keys": {"sub_keys": 8},
    "tiled": {"tiles": 64},
}
"""Layers of 64 tiles, by their name in a `CharLM`."""


def bench_ffn(quick: bool = False) -> list[dict[str, Any]]:
    """Time inference at width 512 and training steps of layers of 64 tiles, turn by turn.

    Float32, on as many threads as torch is set to. The cases of one size take turns. Inference is
    of `PackedLookup`, of layers that were not trained: time does not depend on it. A training
    step is forward, backward and nothing else, beside a dense layer of as many parameters.

    Args:
        quick: small sizes and few rounds, to see that it works.

    Returns:
        Rows, one a case. In each stand `what`, `size`, `seconds`, `against`, `against_seconds`,
        `ratio`, how often the seconds go into those of the dense layer, and for both `bound` and
        `against_bound`: the seconds it would take to move what must be moved at the speed of a
        large copy. That is keys, the values that are read, tokens in and out; in training,
        parameters, twice read and once written as gradients.
    """
    speed = bandwidth()
    return [*_inference(quick, speed), *_training(quick, speed)]


def _inference(quick: bool, speed: float) -> list[dict[str, Any]]:
    dim, tiles, read = (32, 60, 4) if quick else (DIM, TILES, READ)
    torch.manual_seed(0)
    dense = DenseFFN(dim).eval()
    layers = {
        "packed lookup, flat": SparseLookupFFN(dim, tiles, None, CELLS, read),
        # a quarter of the tiles compared, as in `lookup-layer/half-clusters`
        "packed lookup, clusters": SparseLookupFFN(dim, tiles, 15, CELLS, read, tiles // 60),
    }
    packed = {name: PackedLookup(layer) for name, layer in layers.items()}
    rows = []
    for count in (1, 64 if quick else MANY):
        x = torch.randn(count, dim)
        with torch.no_grad():
            cases: dict[str, Callable[[], Any]] = {"dense": lambda: dense(x)}  # noqa: B023
            cases |= {name: lambda p=p: p(x) for name, p in packed.items()}  # noqa: B023
            rounds = 3 if quick else 401 if count == 1 else 11
            seconds = side_by_side(cases, rounds)
        for name, layer in packed.items():
            passing = 8 * count * dim  # tokens in and out
            values = min(count * read, tiles) * 4 * (dim + CELLS + 1)
            keys = layer.keys.packed.nbytes
            rows.append(
                {
                    "what": name,
                    "size": f"{count} tokens of {dim}, {read} of {tiles} read",
                    "seconds": seconds[name],
                    "against": f"dense, {4 * dim} hidden",
                    "against_seconds": seconds["dense"],
                    "ratio": seconds["dense"] / seconds[name],
                    "bound": (keys + values + passing) / speed,
                    "against_bound": (32 * dim * dim + passing) / speed,
                }
            )
    return rows


def _training(quick: bool, speed: float) -> list[dict[str, Any]]:
    dim, tokens = (16, 40) if quick else (SMALL, TOKENS)
    rows = []
    for name, options in tqdm(TRAINED.items(), desc="training steps", unit="layer"):
        torch.manual_seed(0)
        make = FFNS[name]
        if make is None:
            raise ValueError(f"expected a layer, got {name!r}")
        layer = make(dim, **options)
        size = sum(p.numel() for p in layer.parameters())
        hidden = max(1, round(size / (2 * dim)))
        dense, x = DenseFFN(dim, hidden), torch.randn(tokens, dim)
        seconds = side_by_side(
            {name: lambda: _step(layer, x), "dense": lambda: _step(dense, x)},  # noqa: B023
            rounds=2 if quick else 31,
        )
        rows.append(
            {
                "what": f"training step, {name}",
                "size": f"{tokens} tokens of {dim}, {size} parameters",
                "seconds": seconds[name],
                "against": f"dense, {hidden} hidden",
                "against_seconds": seconds["dense"],
                "ratio": seconds["dense"] / seconds[name],
                "bound": 12 * size / speed,
                "against_bound": 24 * hidden * dim / speed,
            }
        )
    return rows


def _step(layer: nn.Module, x: Tensor) -> None:
    layer(x).square().mean().backward()
    layer.zero_grad(set_to_none=True)


INPUTS, TABLE_CELLS = 4096, 16


def bench_table(quick: bool = False) -> list[dict[str, Any]]:
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
    by = "torch" if table_module.kernel(torch.float32) is None else "numba"
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
            for spline in (CellSpline(1, TABLE_CELLS, dims), KnotSpline(1, TABLE_CELLS, dims)):
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


def bench_ternary(quick: bool = False) -> list[dict[str, Any]]:
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
    by = "torch" if packed_module.kernel(torch.float32) is None else "numba"
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


DISPATCH_TILES, DISPATCH_DIM, DISPATCH_TOKENS, CLASSES = 1024, 128, (1, 4096), 64
SHARES = (1.0, 0.5)


def bench_dispatch(quick: bool = False) -> list[dict[str, Any]]:
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
    tiles, dim, counts = (
        (32, 16, (1, 64)) if quick else (DISPATCH_TILES, DISPATCH_DIM, DISPATCH_TOKENS)
    )
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


ROUTING_TILES = (64, 256, 1024, 4096, 16384)
ROUTING_DIM, ROUTING_TOKENS = 256, 4096


def bench_routing(quick: bool = False) -> list[dict[str, Any]]:
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
    sizes, dim, tokens = (
        ((16, 64), 16, 128) if quick else (ROUTING_TILES, ROUTING_DIM, ROUTING_TOKENS)
    )
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
