"""Every bad argument of a layer, a spline or a table is named, with what was expected."""

import math
from typing import Any

import pytest
import torch

import trix
from trix.tiles.fractal import BinnedFFN
from trix.tiles.tile import ContentCells
from trix.tiles.two_level import FixedRoutingFFN

X, ZERO = torch.zeros(4), torch.tensor(0)
PAIRS = torch.zeros(4, 2)


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


def _packed(edit: Any = lambda packed, scales: (packed, scales)) -> Any:
    spline = trix.TernarySpline(6, 5, scale="tile", per_tile=3)
    return spline.load_packed_(*edit(*spline.packed()))


def _routed_by(router: trix.TreeRouter | None) -> trix.SparseLookupFFN:
    layer = trix.SparseLookupFFN(8, 11, None, top_k=3)
    layer.router = router
    return layer


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: trix.DenseFFN(8.0), TypeError, r"dim must be an integer, got 8\.0"),  # pyright: ignore
    (lambda: trix.DenseFFN(8, 0), ValueError, "hidden must be at least 1, got 0"),
    (lambda: trix.TriXFFN(8, tiles=0), ValueError, "tiles must be at least 1, got 0"),
    (lambda: trix.TriXFFN(8, tiles=4, top_k=5), ValueError, "at most the 4 tiles, got 5"),
    (lambda: trix.TriXFFN(8, 4, 0), ValueError, "hidden must be at least 1, got 0"),
    (lambda: trix.ProductKeyFFN(7), ValueError, "dim must be even, got 7"),
    (lambda: trix.ProductKeyFFN(8, 0), ValueError, "sub_keys must be at least 1, got 0"),
    (
        lambda: trix.ProductKeyFFN(8, 4, 5),
        ValueError,
        "top_k must be at most the 4 sub-keys, got 5",
    ),
    # two levels
    (lambda: trix.HierarchicalTriXFFN(8, 0), ValueError, "tiles must be at least 1, got 0"),
    (lambda: trix.HierarchicalTriXFFN(8, 4, 0), ValueError, "tiles_per_cluster must be at least 1"),
    (lambda: trix.HierarchicalTriXFFN(8, 4, hidden=-1), ValueError, "hidden must be at least 1"),
    (lambda: trix.HierarchicalTriXFFN(8, 4, 2, beam=0), ValueError, "beam must be at least 1"),
    (lambda: trix.HybridKANFFN(8, -3), ValueError, "tiles must be at least 1, got -3"),
    (lambda: trix.HybridKANFFN(8, 4, cells=0), ValueError, "cells must be at least 1, got 0"),
    (lambda: trix.HybridKANFFN(8, 4, bottleneck=0), ValueError, "bottleneck must be at least 1"),
    (lambda: trix.HybridKANFFN(8, 4, spline="wavy"), ValueError, "spline must be one of .*'wavy'"),
    (lambda: FixedRoutingFFN(8, "dense"), ValueError, "reading must be one of .*, got 'dense'"),
    (
        lambda: FixedRoutingFFN(8, "kan", "best"),
        ValueError,
        "routing must be one of .*, got 'best'",
    ),
    (
        lambda: FixedRoutingFFN(8, "kan").set_signatures(PAIRS),
        ValueError,
        r"\[64, 8\], got \[4, 2\]",
    ),
    (
        lambda: FixedRoutingFFN(8, "kan", "uniform").set_signatures(torch.zeros(64, 8)),
        ValueError,
        "routing='signatures', got 'uniform'",
    ),
    (lambda: trix.AdaptiveKANFFN(8, choose="luck"), ValueError, "choose must be one of .*'luck'"),
    (lambda: trix.AdaptiveKANFFN(8, 6, 1), ValueError, "two tiles to compare, got 1 per cluster"),
    (lambda: trix.AdaptiveKANFFN(8, 6, 3, coarse=0), ValueError, "cells must be at least 1, got 0"),
    (lambda: trix.AdaptiveKANFFN(8, 6, 3, fine=0), ValueError, "fine must be at least 1, got 0"),
    (lambda: _without_tokens(trix.AdaptiveKANFFN(8, 6, 3)), ValueError, "tokens, got token=None"),
    (lambda: ContentCells(2, 3, 4, "nearest"), ValueError, "choose must be one of .*'nearest'"),
    (lambda: ContentCells(0, 3, 4), ValueError, "tiles must be at least 1, got 0"),
    (lambda: ContentCells(2, 0, 4), ValueError, "rank must be at least 1, got 0"),
    (lambda: ContentCells(2, 3, 0), ValueError, "cells must be at least 1, got 0"),
    # fractal, funnel, codebook
    (lambda: trix.FractalFFN(0), ValueError, "dim must be at least 1, got 0"),
    (lambda: trix.FractalFFN(8, (2, 0)), ValueError, "branching must be at least 1, got 0"),
    (lambda: trix.FractalFFN(8, ()), ValueError, r"must have room for 1 tiles, got \[\]"),
    (lambda: BinnedFFN(8, cells=0), ValueError, "cells must be at least 1, got 0"),
    (lambda: _funnel(0), ValueError, "tiles must be at least 1, got 0"),
    (lambda: _funnel(4.0), TypeError, r"tiles must be an integer, got 4\.0"),
    (lambda: _funnel(levels=1), ValueError, "levels must be at least 2, got 1"),
    (lambda: _funnel(pairs=0), ValueError, "pairs must be at least 1, got 0"),
    (lambda: _funnel(width=0), ValueError, "width must be at least 1, got 0"),
    (lambda: _funnel().stages(torch.zeros(3, 4)), ValueError, r"\[\.\.\., 8\], got \[3, 4\]"),
    (lambda: _funnel().stages(torch.ones(3, 8).int()), TypeError, r"floating, got torch\.int32"),
    (lambda: trix.CodebookFFN(8, 0), ValueError, "entries must be at least 1, got 0"),
    (lambda: _codebook(top_k=5), ValueError, "top_k must be at most the 4 entries, got 5"),
    (lambda: _codebook(top_k=0), ValueError, "top_k must be at least 1, got 0"),
    (lambda: _codebook(groups=0), ValueError, "groups must be at least 1, got 0"),
    (lambda: _codebook(learn="hope"), ValueError, "learn must be one of .*, got 'hope'"),
    (lambda: _codebook(temperature=0.0), ValueError, "positive and finite, got 0.0"),
    (lambda: _codebook().set_temperature(-1.0), ValueError, "positive and finite, got -1.0"),
    (lambda: _codebook().set_temperature(math.inf), ValueError, "positive and finite, got inf"),
    (lambda: _without_tokens(_codebook()), ValueError, "tokens of the route, got token=None"),
    (lambda: _codebook().export_table()(PAIRS), ValueError, r"\[\.\.\., 8\], got \[4, 2\]"),
    # lookup
    (lambda: trix.SparseLookupFFN(8, tiles=0), ValueError, "tiles must be at least 1, got 0"),
    (lambda: trix.SparseLookupFFN(8, 4, top_k=5), ValueError, "at most the 4 tiles, got 5"),
    (lambda: trix.SparseLookupFFN(8, 4, 0), ValueError, "tiles_per_cluster must be at least 1"),
    (lambda: trix.SparseLookupFFN(8, cells=0), ValueError, "cells must be at least 1, got 0"),
    (lambda: trix.SparseLookupFFN(8, beam=0), ValueError, "beam must be at least 1, got 0"),
    (
        lambda: trix.SparseLookupFFN(8, 9, None, beam=0),
        ValueError,
        "beam must be at least 1, got 0",
    ),
    (
        lambda: trix.SparseLookupFFN(8, 11, 4, top_k=4),
        ValueError,
        "most the 3 tiles that a token reaches through 1 clusters, got 4",
    ),
    (
        lambda: _routed_by(trix.TreeRouter(12, 8, (4, 3)))(torch.randn(2, 8)),
        ValueError,
        r"signatures must .*\[12, 8\], got \[11, 8\]",
    ),
    (
        lambda: _routed_by(trix.TreeRouter(11, 8, (4, 3), beam=1))(torch.randn(2, 8)),
        ValueError,
        "most the 2 tiles that beam 1 .*, got 3",
    ),
    (
        lambda: trix.PackedLookup(_routed_by(trix.TreeRouter(11, 8, (4, 3)))),
        ValueError,
        "must be a NestedRouter, got TreeRouter",
    ),
    (
        lambda: trix.PackedLookup(_routed_by(None))(PAIRS),
        ValueError,
        r"\[\.\.\., 8\], got \[4, 2\]",
    ),
    (
        lambda: trix.PackedLookup(_routed_by(None))(torch.ones(4, 8, dtype=torch.int64)),
        TypeError,
        r"floating, got torch\.int64",
    ),
    # tiled
    (lambda: trix.TiledFFN(8, 0), ValueError, "tiles must be at least 1, got 0"),
    (lambda: trix.TiledFFN(8, 4, top_k=5), ValueError, "at most the 4 tiles, got 5"),
    (lambda: trix.TiledFFN(8, source="oracle"), ValueError, "source must be one of .*'oracle'"),
    (lambda: trix.TiledFFN(8, blend="mean"), ValueError, "blend must be one of .*, got 'mean'"),
    (lambda: trix.TiledFFN(8, temperature=0.0), ValueError, "positive and finite, got 0.0"),
    (lambda: trix.TiledFFN(8, temperature=-1.0), ValueError, "positive and finite, got -1.0"),
    (lambda: trix.TiledFFN(8, temperature=1e-46), ValueError, "positive and finite, got 1e-46"),
    (lambda: trix.TiledFFN(8, temperature=math.inf), ValueError, "positive and finite, got inf"),
    (lambda: trix.TiledFFN(8, balance=-0.1), ValueError, "finite and not negative, got -0.1"),
    (lambda: trix.TiledFFN(8, balance=math.inf), ValueError, "finite and not negative, got inf"),
    (
        lambda: trix.TiledFFN(8, 4, top_k=4, balance=0.1),
        ValueError,
        "top_k below the 4 tiles, got 4",
    ),
    (lambda: trix.TiledFFN(8).rows, ValueError, "learned rows, got WeightSource"),
    # splines
    (lambda: trix.TernarySpline(6, 5, scale="row"), ValueError, "scale must be one of .*'row'"),
    (lambda: trix.TernarySpline(6, 5, per_tile=4), ValueError, "multiple of per_tile=4, got 6"),
    (
        lambda: trix.TernarySpline(6, 5, per_tile=0),
        ValueError,
        "per_tile must be at least 1, got 0",
    ),
    (lambda: trix.KnotSpline(1, 5).refined(0), ValueError, "factor must be at least 1, got 0"),
    (
        lambda: _packed(lambda p, s: (p[:5], s)),
        ValueError,
        r"packed must .*\[6, .*\], got \[5, 3\]",
    ),
    (lambda: _packed(lambda p, s: (p[:, :2], s)), ValueError, r"\[\.\.\., 3\], got \[6, 2\]"),
    (lambda: _packed(lambda p, s: (p * 0 + 2, s)), ValueError, "codes"),
    (lambda: _packed(lambda p, s: (p.long(), s)), TypeError, "uint8, got .*int64"),
    (lambda: _packed(lambda p, s: (p, s[:1])), ValueError, r"scales must .*\[2\], got \[1\]"),
    # quantizers and tables
    (lambda: _quantizer(1), ValueError, "levels must be at least 2, got 1"),
    (lambda: _quantizer(2.5), TypeError, r"levels must be an integer, got 2\.5"),
    (lambda: _quantizer(16).codes(ZERO), TypeError, "x must be floating, got .*int64"),
    (lambda: _quantizer(16).values(torch.tensor([16, 3])), IndexError, "0 … 15, got 3 … 16"),
    (lambda: _quantizer(16).values(torch.tensor([-1, 3])), IndexError, "0 … 15, got -1 … 3"),
    (lambda: _quantizer(16).values(ZERO.bool()), TypeError, "codes must be integers, got .*bool"),
    (lambda: _table(5, 1, 4), ValueError, r"\[splines, 4\], got \[2, 5\]"),
    (lambda: _table(4, 2, 4), ValueError, r"\[splines, 16\], got \[2, 4\]"),
    (lambda: _table(64, 3, 4), ValueError, r"dims must be one of \[1, 2\], got 3"),
    (lambda: trix.LookupTable(X, _quantizer(4)), ValueError, r"\[splines, 4\], got \[4\]"),
    (lambda: trix.LookupTable(X[None][:0], _quantizer(4)), ValueError, r"got \[0, 4\]"),
    (lambda: trix.LookupTable(X[None].int(), _quantizer(4)), TypeError, "floating, got .*int32"),
    (lambda: _table()(X.int(), ZERO), TypeError, "x must be floating, got .*int32"),
    (lambda: _table().read(X, ZERO), TypeError, "codes must be integers, got .*float32"),
    (lambda: _table(256, 2)(X, ZERO), ValueError, r"x must have shape \[\.\.\., 2\], got \[4\]"),
    (
        lambda: _table(256, 2).read(X.int(), ZERO),
        ValueError,
        r"codes must have shape \[\.\.\., 2\]",
    ),
    (lambda: _table()(X, torch.tensor([0, 0, 0])), ValueError, r"broadcast with \[4\], got \[3\]"),
    (lambda: _table()(X, X.int()), TypeError, "which must be int64, got .*int32"),
]
_kind: Any
for _kind in (trix.CellSpline, trix.KnotSpline, trix.TernarySpline):
    REFUSED += [
        (lambda kind=_kind: kind(0, 5), ValueError, "splines must be at least 1, got 0"),
        (lambda kind=_kind: kind(1, 2.0), TypeError, r"cells must be an integer, got 2\.0"),
        (lambda kind=_kind: kind(1, 5, 3), ValueError, r"dims must be one of \[1, 2\], got 3"),
        (lambda kind=_kind: kind(3, 5)(X, X.int()), TypeError, "which must be int64, got .*int32"),
        (lambda kind=_kind: kind(3, 5)(ZERO, ZERO), TypeError, "x must be floating, got .*int64"),
        (lambda kind=_kind: kind(3, 5)(X, X[:3].long()), ValueError, r"with \[4\], got \[3\]"),
        (lambda kind=_kind: kind(3, 5, 2)(X, ZERO), ValueError, r"\[\.\.\., 2\], got \[4\]"),
        (
            lambda kind=_kind: kind(3, 5)(X, ZERO - 1),
            IndexError,
            "which must be in 0 … 2, got -1 …",
        ),
        (lambda kind=_kind: kind(3, 5, 2)(PAIRS, ZERO + 3), IndexError, "in 0 … 2, got 3 … 3"),
        (
            lambda kind=_kind: kind(3, 5).fit_(lambda at: at[:, None]),
            ValueError,
            r"function must return shape \[\d+\], got \[\d+, 1\]",
        ),
    ]
for _low, _high in [(1.0, 1.0), (2.0, 1.0), (-math.inf, 1.0), (0.0, math.nan)]:
    _said = f"low first, got {_low} and {_high}"
    REFUSED += [
        (lambda a=_low, b=_high: trix.KnotSpline(1, 5, 1, a, b), ValueError, _said),
        (lambda a=_low, b=_high: trix.Quantizer(16, a, b), ValueError, _said),
    ]


@pytest.mark.parametrize(("call", "error", "match"), REFUSED)
def test_bad_arguments_are_named(call, error, match):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize("scale", [-1.0, 0.0, math.nan, math.inf])
def test_a_scale_that_training_cannot_reach_is_refused_and_changes_nothing(scale):
    spline = trix.TernarySpline(6, 5, scale="tile", per_tile=3)
    packed, before = spline.packed()[0], spline.raw.detach().clone()
    with pytest.raises(ValueError, match=rf"scales must be finite.* got \[{scale}\]"):
        spline.load_packed_(packed, torch.tensor([1.0, scale]))
    assert torch.equal(spline.raw, before)
