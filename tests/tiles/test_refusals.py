import math
from typing import Any

import pytest
import torch

import trix
from trix.tiles.fractal import BinnedFFN
from trix.tiles.tile import ContentCells
from trix.tiles.two_level import FixedRoutingFFN

LOOKUP, FIXED, TREE = trix.SparseLookupFFN, FixedRoutingFFN, trix.TreeRouter
X, ZERO = torch.zeros(4), torch.tensor(0)
PAIRS, X8 = torch.zeros(4, 2), torch.zeros(4, 8)


def _funnel(*args: Any, **options: Any) -> trix.FunnelFFN:
    return trix.FunnelFFN(8, *args, **options)


def _quantizer(*args: Any) -> trix.Quantizer:
    return trix.Quantizer(*args)


def _table(entries: int = 16, dims: int = 1, levels: int = 16) -> trix.LookupTable:
    return trix.LookupTable(torch.zeros(2, entries), trix.Quantizer(levels), dims)


def _codebook(**options: Any) -> trix.CodebookFFN:
    return trix.CodebookFFN(8, 4, **options)


def _without_tokens(layer: Any) -> Any:
    return layer.update(layer.routed(torch.randn(3, 8)).route._replace(token=None))


def _read_entry(entry: int) -> Any:
    table = _codebook(groups=2).export_table()
    route = table.address(torch.zeros(1, 8))
    return table.read(route._replace(index=torch.tensor([[7, entry]])))


def _packed(edit: Any = lambda packed, scales: (packed, scales)) -> Any:
    spline = trix.TernarySpline(6, 5, scale="tile", per_tile=3)
    return spline.load_packed_(*edit(*spline.packed()))


def _routed_by(router: trix.TreeRouter | None) -> trix.SparseLookupFFN:
    layer = trix.SparseLookupFFN(8, 11, None, top_k=3)
    layer.router = router
    return layer


REFUSED: list[tuple[Any, ...]] = [
    (lambda: trix.DenseFFN(8.0), r"dim must be an integer, got 8\.0", TypeError),  # pyright: ignore
    (lambda: trix.DenseFFN(8, 0), "hidden must be at least 1, got 0"),
    (lambda: trix.TriXFFN(8, tiles=0), "tiles must be at least 1, got 0"),
    (lambda: trix.TriXFFN(8, tiles=4, top_k=5), "at most the 4 tiles, got 5"),
    (lambda: trix.TriXFFN(8, 4, 0), "hidden must be at least 1, got 0"),
    (lambda: trix.ProductKeyFFN(7), "dim must be even, got 7"),
    (lambda: trix.ProductKeyFFN(8, 0), "sub_keys must be at least 1, got 0"),
    (lambda: trix.ProductKeyFFN(8, 4, 5), "top_k must be at most the 4 sub-keys, got 5"),
    # two levels
    (lambda: trix.HierarchicalTriXFFN(8, 0), "tiles must be at least 1, got 0"),
    (lambda: trix.HierarchicalTriXFFN(8, 4, 0), "tiles_per_cluster must be at least 1"),
    (lambda: trix.HierarchicalTriXFFN(8, 4, hidden=-1), "hidden must be at least 1"),
    (lambda: trix.HierarchicalTriXFFN(8, 4, 2, beam=0), "beam must be at least 1"),
    (lambda: trix.HybridKANFFN(8, 4, cells=0), "cells must be at least 1, got 0"),
    (lambda: trix.HybridKANFFN(8, 4, bottleneck=0), "bottleneck must be at least 1"),
    (lambda: trix.HybridKANFFN(8, 4, spline="wavy"), "spline must be one of .*'wavy'"),
    (lambda: FIXED(8, "dense"), "reading must be one of .*, got 'dense'"),
    (lambda: FIXED(8, "kan", "best"), "routing must be one of .*, got 'best'"),
    (lambda: FIXED(8, "kan").set_signatures(PAIRS), r"\[64, 8\], got \[4, 2\]"),
    (lambda: FIXED(8, "kan", "uniform").set_signatures(X8), "routing='signatures', got"),
    (lambda: trix.AdaptiveKANFFN(8, choose="luck"), "choose must be one of .*'luck'"),
    (lambda: trix.AdaptiveKANFFN(8, 6, 1), "two tiles per cluster, got 1"),
    (lambda: trix.AdaptiveKANFFN(8, 6, 3, coarse=0), "cells must be at least 1, got 0"),
    (lambda: trix.AdaptiveKANFFN(8, 6, 3, fine=0), "fine must be at least 1, got 0"),
    (lambda: _without_tokens(trix.AdaptiveKANFFN(8, 6, 3)), "tokens, got token=None"),
    (lambda: ContentCells(2, 3, 4, "nearest"), "choose must be one of .*'nearest'"),
    (lambda: ContentCells(0, 3, 4), "tiles must be at least 1, got 0"),
    (lambda: ContentCells(2, 0, 4), "rank must be at least 1, got 0"),
    (lambda: ContentCells(2, 3, 0), "cells must be at least 1, got 0"),
    # fractal, funnel, codebook
    (lambda: trix.FractalFFN(0), "dim must be at least 1, got 0"),
    (lambda: trix.FractalFFN(8, (2, 0)), "branching must be at least 1, got 0"),
    (lambda: trix.FractalFFN(8, ()), r"must have room for 1 tiles, got \(\)"),
    (lambda: BinnedFFN(8, cells=0), "cells must be at least 1, got 0"),
    (lambda: _funnel(4.0), r"tiles must be an integer, got 4\.0", TypeError),
    (lambda: _funnel(levels=1), "levels must be at least 2, got 1"),
    (lambda: _funnel(pairs=0), "pairs must be at least 1, got 0"),
    (lambda: _funnel(width=0), "width must be at least 1, got 0"),
    (lambda: _funnel().stages(torch.zeros(3, 4)), r"\[\.\.\., 8\], got \[3, 4\]"),
    (lambda: _funnel().stages(torch.ones(3, 8).int()), r"floating, got torch\.int32", TypeError),
    (lambda: trix.CodebookFFN(8, 0), "entries must be at least 1, got 0"),
    (lambda: _codebook(top_k=5), "top_k must be at most the 4 entries, got 5"),
    (lambda: _codebook(top_k=0), "top_k must be at least 1, got 0"),
    (lambda: _codebook(groups=0), "groups must be at least 1, got 0"),
    (lambda: _codebook(learn="hope"), "learn must be one of .*, got 'hope'"),
    (lambda: _codebook(temperature=0.0), "positive and finite, got 0.0"),
    (lambda: _codebook().set_temperature(-1.0), "positive and finite, got -1.0"),
    (lambda: _codebook().set_temperature(math.inf), "positive and finite, got inf"),
    (lambda: _without_tokens(_codebook()), "tokens of the route, got token=None"),
    (lambda: _codebook().export_table()(PAIRS), r"\[\.\.\., 8\], got \[4, 2\]"),
    (lambda: _read_entry(8), "entries must be in 0 … 7, got 7 … 8", IndexError),
    (lambda: _read_entry(-1), "entries must be in 0 … 7, got -1 … 7", IndexError),
    # lookup
    (lambda: LOOKUP(8, 4, 0), "tiles_per_cluster must be at least 1"),
    (lambda: LOOKUP(8, cells=0), "cells must be at least 1, got 0"),
    (lambda: LOOKUP(8, 9, None, beam=0), "beam must be at least 1, got 0"),
    (lambda: LOOKUP(8, 11, 4, top_k=4), "most the 3 tiles .* through 1 clusters, got 4"),
    (lambda: _routed_by(TREE(12, 8, (4, 3)))(X8), r"signatures must .*\[12, 8\], got \[11, 8\]"),
    (lambda: _routed_by(TREE(11, 8, (4, 3), beam=1))(X8), "most the 2 tiles that beam 1 .*, got 3"),
    (
        lambda: trix.PackedLookup(_routed_by(TREE(11, 8, (4, 3)))),
        "must be a NestedRouter, got TreeRouter",
    ),
    (lambda: trix.PackedLookup(_routed_by(None))(PAIRS), r"\[\.\.\., 8\], got \[4, 2\]"),
    (
        lambda: trix.PackedLookup(_routed_by(None))(torch.ones(4, 8).int()),
        r"floating, got torch\.int32",
        TypeError,
    ),
    # tiled
    (lambda: trix.TiledFFN(8, source="oracle"), "source must be one of .*'oracle'"),
    (lambda: trix.TiledFFN(8, blend="mean"), "blend must be one of .*, got 'mean'"),
    (lambda: trix.TiledFFN(8, temperature=0.0), "positive and finite, got 0.0"),
    (lambda: trix.TiledFFN(8, temperature=-1.0), "positive and finite, got -1.0"),
    (lambda: trix.TiledFFN(8, temperature=1e-46), "positive and finite, got 1e-46"),
    (lambda: trix.TiledFFN(8, temperature=math.inf), "positive and finite, got inf"),
    (lambda: trix.TiledFFN(8, balance=-0.1), "finite and not negative, got -0.1"),
    (lambda: trix.TiledFFN(8, balance=math.inf), "finite and not negative, got inf"),
    (lambda: trix.TiledFFN(8, 4, top_k=4, balance=0.1), "top_k below the 4 tiles, got 4"),
    (lambda: trix.TiledFFN(8).rows, "learned rows, got WeightSource"),
    # splines
    (lambda: trix.TernarySpline(6, 5, scale="row"), "scale must be one of .*'row'"),
    (lambda: trix.TernarySpline(6, 5, per_tile=4), "multiple of per_tile=4, got 6"),
    (lambda: trix.TernarySpline(6, 5, per_tile=0), "per_tile must be at least 1, got 0"),
    (lambda: trix.KnotSpline(1, 5).refined(0), "factor must be at least 1, got 0"),
    (lambda: _packed(lambda p, s: (p[:5], s)), r"packed must .*\[6, .*\], got \[5, 3\]"),
    (lambda: _packed(lambda p, s: (p[:, :2], s)), r"\[\.\.\., 3\], got \[6, 2\]"),
    (lambda: _packed(lambda p, s: (p * 0 + 2, s)), "codes"),
    (lambda: _packed(lambda p, s: (p.long(), s)), "uint8, got .*int64", TypeError),
    (lambda: _packed(lambda p, s: (p, s[:1])), r"scales must .*\[2\], got \[1\]"),
    # quantizers and tables
    (lambda: _quantizer(1), "levels must be at least 2, got 1"),
    (lambda: _quantizer(2.5), r"levels must be an integer, got 2\.5", TypeError),
    (lambda: _quantizer(16).codes(ZERO), "x must be floating, got .*int64", TypeError),
    (lambda: _quantizer(16).values(torch.tensor([16, 3])), "0 … 15, got 3 … 16", IndexError),
    (lambda: _quantizer(16).values(torch.tensor([-1, 3])), "0 … 15, got -1 … 3", IndexError),
    (lambda: _quantizer(16).values(ZERO.bool()), "codes must be integers, got .*bool", TypeError),
    (lambda: _table(5, 1, 4), r"\[splines >= 1, 4\], got \[2, 5\]"),
    (lambda: _table(4, 2, 4), r"\[splines >= 1, 16\], got \[2, 4\]"),
    (lambda: _table(64, 3, 4), r"dims must be one of \[1, 2\], got 3"),
    (lambda: trix.LookupTable(X, _quantizer(4)), r"\[splines >= 1, 4\], got \[4\]"),
    (lambda: trix.LookupTable(X[None][:0], _quantizer(4)), r"got \[0, 4\]"),
    (lambda: trix.LookupTable(X[None].int(), _quantizer(4)), "floating, got .*int32", TypeError),
    (lambda: _table()(X.int(), ZERO), "x must be floating, got .*int32", TypeError),
    (lambda: _table().read(X, ZERO), "codes must be integers, got .*float32", TypeError),
    (lambda: _table(256, 2)(X, ZERO), r"x must have shape \[\.\.\., 2\], got \[4\]"),
    (lambda: _table(256, 2).read(X.int(), ZERO), r"codes must have shape \[\.\.\., 2\]"),
    (lambda: _table()(X, torch.tensor([0, 0, 0])), r"broadcast with \[4\], got \[3\]"),
    (lambda: _table()(X, X.int()), "which must be int64, got .*int32", TypeError),
]
_kind: Any
for _kind in (trix.CellSpline, trix.KnotSpline, trix.TernarySpline):
    REFUSED += [
        (lambda kind=_kind: kind(0, 5), "splines must be at least 1, got 0"),
        (lambda kind=_kind: kind(1, 2.0), r"cells must be an integer, got 2\.0", TypeError),
        (lambda kind=_kind: kind(1, 5, 3), r"dims must be one of \[1, 2\], got 3"),
        (lambda kind=_kind: kind(3, 5)(X, X.int()), "which must be int64, got .*int32", TypeError),
        (lambda kind=_kind: kind(3, 5)(ZERO, ZERO), "x must be floating, got .*int64", TypeError),
        (lambda kind=_kind: kind(3, 5)(X, X[:3].long()), r"with \[4\], got \[3\]"),
        (lambda kind=_kind: kind(3, 5, 2)(X, ZERO), r"\[\.\.\., 2\], got \[4\]"),
        (
            lambda kind=_kind: kind(3, 5)(X, ZERO - 1),
            "which must be in 0 … 2, got -1 …",
            IndexError,
        ),
        (lambda kind=_kind: kind(3, 5, 2)(PAIRS, ZERO + 3), "in 0 … 2, got 3 … 3", IndexError),
        (
            lambda kind=_kind: kind(3, 5).fit_(lambda at: at[:, None]),
            r"function must return shape \[\d+\], got \[\d+, 1\]",
        ),
    ]
for _low, _high in [(1.0, 1.0), (2.0, 1.0), (-math.inf, 1.0), (0.0, math.nan)]:
    _told = f"low first, got {_low} and {_high}"
    REFUSED += [
        (lambda a=_low, b=_high: trix.KnotSpline(1, 5, 1, a, b), _told),
        (lambda a=_low, b=_high: trix.Quantizer(16, a, b), _told),
    ]


@pytest.mark.parametrize("refused", REFUSED)
def test_bad_arguments_are_named(refused):
    call, match, *error = refused
    with pytest.raises(error[0] if error else ValueError, match=match):
        call()


@pytest.mark.parametrize("scale", [-1.0, 0.0, math.nan, math.inf])
def test_a_scale_that_training_cannot_reach_is_refused_and_changes_nothing(scale):
    spline = trix.TernarySpline(6, 5, scale="tile", per_tile=3)
    packed, before = spline.packed()[0], spline.raw.detach().clone()
    with pytest.raises(ValueError, match=rf"scales must be finite.* got \[{scale}\]"):
        spline.load_packed_(packed, torch.tensor([1.0, scale]))
    assert torch.equal(spline.raw, before)
