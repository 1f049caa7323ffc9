"""Layers beside what they replace: dense layers, splines, dense products, the flat search."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from trix.address import packed
from trix.address.route import flat_route
from trix.address.tree import TreeRouter
from trix.lab.bench.timing import bandwidth, one_thread, row, side_by_side
from trix.lab.tasks import overlapping_clusters, recall
from trix.models.charlm import FFNS
from trix.surgery import Claims, compile_dispatch
from trix.tiles import table as tables
from trix.tiles.ffn import DenseFFN
from trix.tiles.lookup import SparseLookupFFN
from trix.tiles.packed_lookup import PackedLookup
from trix.tiles.spline import CellSpline, KnotSpline

Rows = list[dict[str, Any]]

CELLS = 8
TRAINED: dict[str, dict[str, Any]] = {
    "hierarchical-trix": {},
    "hybrid-kan": {},
    "fractal": {"branching": [4, 4, 4]},
    "funnel": {},
    "codebook": {"entries": 64},
    "lookup": {},
    "product-keys": {"sub_keys": 8},
    "tiled": {"tiles": 64},
}
"""Layers of 64 tiles, by their name in a `CharLM`."""


def ffn(quick: bool = False) -> Rows:
    """Time inference at width 512 and training steps of layers of 64 tiles.

    Float32, on torch's threads. Inference is of an untrained `PackedLookup`; a training step is
    forward and backward, beside a dense layer of as many parameters. `bound` and `against_bound`
    are the seconds in which a large copy moves what must be moved: keys, the values that are read,
    tokens in and out; in training, parameters, twice read and once written as gradients.
    """
    speed = bandwidth()
    return [*_inference(quick, speed), *_training(quick, speed)]


def _inference(quick: bool, speed: float) -> Rows:
    # scaled with the width from `sparse-lookup/half`: 240 tiles, 15 read, at a width of 128
    dim, tiles, read = (32, 60, 4) if quick else (512, 960, 60)
    torch.manual_seed(0)
    dense = DenseFFN(dim).eval()
    layers = {
        "packed lookup, flat": SparseLookupFFN(dim, tiles, None, CELLS, read),
        # a quarter of the tiles compared, as in `lookup-layer/half-clusters`
        "packed lookup, clusters": SparseLookupFFN(dim, tiles, 15, CELLS, read, tiles // 60),
    }
    packed_layers = {name: PackedLookup(layer) for name, layer in layers.items()}
    rows = []
    for count in (1, 64 if quick else 4096):
        x = torch.randn(count, dim)
        timed = {"dense": dense, **packed_layers}
        cases = {name: lambda layer=layer, x=x: layer(x) for name, layer in timed.items()}
        with torch.no_grad():
            seconds = side_by_side(cases, rounds=3 if quick else 401 if count == 1 else 11)
        for name, layer in packed_layers.items():
            size = f"{count} tokens of {dim}, {read} of {tiles} read"
            passing = 8 * count * dim  # tokens in and out
            moved = layer.keys.packed.nbytes + min(count * read, tiles) * 4 * (dim + CELLS + 1)
            bounds = {"bound": moved + passing, "against_bound": 32 * dim * dim + passing}
            found = row(name, size, seconds[name], f"dense, {4 * dim} hidden", seconds["dense"])
            rows.append(found | {key: value / speed for key, value in bounds.items()})
    return rows


def _training(quick: bool, speed: float) -> Rows:
    # width and tokens of the `nano` protocol
    dim, tokens = (16, 40) if quick else (128, 768)
    rows = []
    for name, options in tqdm(TRAINED.items(), desc="training steps", unit="layer"):
        torch.manual_seed(0)
        layer = cast(Callable[..., nn.Module], FFNS[name])(dim, **options)
        parameters = sum(p.numel() for p in layer.parameters())
        hidden = max(1, round(parameters / (2 * dim)))
        both, x = {"layer": layer, "dense": DenseFFN(dim, hidden)}, torch.randn(tokens, dim)
        cases = {case: lambda m=m, x=x: _step(m, x) for case, m in both.items()}
        seconds = side_by_side(cases, rounds=2 if quick else 31)
        size = f"{tokens} tokens of {dim}, {parameters} parameters"
        found = f"training step, {name}", size, seconds["layer"]
        bounds = {"bound": 12 * parameters / speed, "against_bound": 24 * hidden * dim / speed}
        rows.append(row(*found, f"dense, {hidden} hidden", seconds["dense"]) | bounds)
    return rows


def _step(layer: nn.Module, x: Tensor) -> None:
    layer(x).square().mean().backward()
    layer.zero_grad(set_to_none=True)


def table(quick: bool = False) -> Rows:
    """Time compiled tables against their float splines, rounding included, on one thread.

    A table of one input of 256 levels, or two of 16, is read from floats, which it rounds, and from
    codes of one byte, as they would be stored; `by` "numba", or "torch" where that is not
    installed. `bound` is the seconds in which a copy moves inputs, table and outputs.
    """
    # A turn stays far below a scheduler's slice. Where the machine is busy a longer one is
    # interrupted in most rounds, a shorter one is not, and the ratio would be the scheduler's.
    inputs, rounds, calls = (37, 3, 1) if quick else (4096, 301, 2)
    by = "torch" if tables.kernel(torch.float32) is None else "numba"
    rows = []
    with one_thread(), torch.no_grad():
        speed = bandwidth(2**16, 1) if quick else bandwidth()
        for dims, levels in ((1, 256), (2, 16)):
            draw = torch.Generator().manual_seed(dims)
            x = torch.rand(*(inputs, dims)[:dims], generator=draw) * 2.2 - 1.1
            quantizer = tables.Quantizer(levels)
            given = {"floats": x, "codes": quantizer.codes(x).to(torch.uint8)}
            for spline in (CellSpline(1, 16, dims), KnotSpline(1, 16, dims)):
                cases, entries = _table_cases(spline, quantizer, given)
                repeated = {k: lambda c=c: [c() for _ in range(calls)] for k, c in cases.items()}
                seconds = side_by_side(repeated, rounds)
                size = f"{inputs} inputs, {'x'.join([str(levels)] * dims)} levels"
                against = f"{type(spline).__name__} float32", seconds["spline"] / calls
                for source in given:
                    moved = given[source].nbytes + entries.nbytes + inputs * entries.itemsize
                    found = row(f"table from {source}", size, seconds[source] / calls, *against)
                    rows.append(found | {"by": by, "bound": moved / speed})
    return rows


def _table_cases(
    spline: CellSpline | KnotSpline, quantizer: tables.Quantizer, given: dict[str, Tensor]
) -> tuple[dict[str, Callable[[], Tensor]], Tensor]:
    # the three ways to evaluate a spline at quantized inputs, and the entries of its table
    which, compiled = torch.tensor(0), tables.compile_table(spline, quantizer)
    cases = {
        "floats": lambda: compiled(given["floats"], which),
        "codes": lambda: compiled.read(given["codes"], which),
        "spline": lambda: spline(quantizer.quantize(given["floats"]), which),
    }
    return cases, compiled.entries


def ternary(quick: bool = False) -> Rows:
    """Time `PackedTernary` against `x @ W.T` in float32, on one thread, `by` "numba" or "torch".

    A dense matrix larger than the cache pushes the packed one out of it, whose weights are cold,
    then, as between the layers of a larger model.
    """
    sizes = [(48, 1), (64, 2)] if quick else [(512, 1), (1024, 1), (2048, 1), (4096, 1), (4096, 16)]
    by = "torch" if packed.kernel(torch.float32) is None else "numba"
    rows = []
    with one_thread():
        for dim, batch in sizes:
            draw = torch.Generator().manual_seed(dim)
            weights = packed.PackedTernary.from_weights(torch.randn(dim, dim, generator=draw))
            dense = (weights.scale * weights.unpack()).T
            x = torch.randn(batch, dim, generator=draw)
            cases = {"packed": lambda w=weights, x=x: w(x), "dense": lambda w=dense, x=x: x @ w}
            seconds = side_by_side(cases, rounds=3 if quick else 51)
            found = "packed ternary mat-vec", f"{dim}x{dim}, batch {batch}", seconds["packed"]
            rows.append(row(*found, "dense float32", seconds["dense"]) | {"by": by})
    return rows


def dispatch(quick: bool = False) -> Rows:
    """Route the same tokens live and through a compiled table.

    The tokens of a class lie near one tile's signature, so that the table knows them all; to halve
    the `hits`, half the tokens are given as of no class. A row holds microseconds a token: of the
    layer's own routing, `live`; of a `search` among ternary keys; of its product and argmax alone,
    `bare`; of the `table`; and the `ratio` of search and table.
    """
    tiles, dim, many, classes = (32, 16, 64, 64) if quick else (1024, 128, 4096, 64)
    torch.manual_seed(0)
    layer = SparseLookupFFN(dim, tiles, tiles_per_cluster=None)
    signatures = layer.signatures.detach()
    rows = []
    with torch.no_grad():
        label = torch.arange(classes).repeat(200)
        near = signatures[label % tiles] + 0.3 * torch.randn(len(label), dim)
        claims = Claims(layer)
        claims.track_claims(layer.route(near), label, classes)
        compiled = compile_dispatch(layer, claims, threshold=0.5)
        cases = [(1, 1.0), (many, 1.0), (many, 0.5)]
        for count, share in tqdm(cases, desc="dispatch", unit="case"):
            x, known = near[-count:], label[-count:]
            given = torch.where(torch.arange(count) < share * count, known, -1)
            route, hit = compiled.route(layer, x, given)
            if not torch.equal(route.index, layer.route(x).index):
                raise RuntimeError("expected the table to agree with live routing")
            calls = {
                "live": lambda x=x: layer.route(x),
                "search": lambda x=x: flat_route(x, signatures),
                "bare": lambda x=x: (x @ signatures.T).argmax(dim=-1),
                "table": lambda x=x, given=given: compiled.route(layer, x, given),
            }
            seconds = side_by_side(calls, rounds=3 if quick else 51 if count == 1 else 15)
            found = {"tiles": tiles, "tokens": count, "hits": float(hit.double().mean())}
            found |= {name: 1e6 * value / count for name, value in seconds.items()}
            rows.append(found | {"ratio": seconds["search"] / seconds["table"]})
    return rows


def routing(quick: bool = False) -> Rows:
    """Route overlapping clusters by a flat search, by two levels and by three, on torch's threads.

    A row holds `comparisons` a token, `seconds` for all, flat routing's `ratio` to these, and
    `recall`, the share of tokens sent where flat routing sends them.
    """
    sizes, dim, tokens = ((16, 64), 16, 128) if quick else ((64, 256, 1024, 4096, 16384), 256, 4096)
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
        cases = {
            name: lambda call=call, data=data: call(data.tokens, data.signatures)
            for name, call in {**routers, "flat": flat_route}.items()
        }
        with torch.no_grad():
            seconds = side_by_side(cases, rounds=3 if quick else 7)
        for name, router in routers.items():
            found = {"tiles": tiles, "router": name, "comparisons": router.comparisons}
            found |= {"seconds": seconds[name], "ratio": seconds["flat"] / seconds[name]}
            rows.append(found | {"recall": recall(router, data.tokens, data.signatures)})
    return rows
