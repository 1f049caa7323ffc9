import functools
import math
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import trix
from tests import reference
from tests.tiles.helpers import agree, tokens
from trix.address import packed as packed_keys
from trix.tiles import packed_lookup

DIM, TILES = 13, 11


def _layer(top_k=3, dtype=torch.float64, clusters=None, cells: int | None = 6, **options) -> Any:
    torch.manual_seed(3)
    layer = trix.SparseLookupFFN(DIM, TILES, clusters, cells, top_k, **options).to(dtype)
    if layer.activation is not None:
        with torch.no_grad():  # away from where every spline is the same
            knots = layer.activation.knots
            knots.add_(torch.randn_like(knots))
    return layer


@pytest.mark.parametrize(
    ("k", "beam", "cells"),
    [(1, 0, 6), (3, 0, None), (TILES, 0, 6), (1, 1, 6), (3, 1, None), (1, 2, None), (6, 2, 6)],
)
def test_the_layer_equals_the_loop_flat_and_through_clusters(k, beam, cells):
    how = {"clusters": 4, "beam": beam} if beam else {}
    layer, x = _layer(k, cells=cells, **how), 2 * tokens(30)  # some scores beyond the splines' ends
    output, route = layer.routed(x)
    rows = layer.signatures.detach()
    best = [reference.best_tiles(token, rows, k) for token in x]
    nested = [reference.nested_tiles(token, rows, (3, 4), max(beam, 1), k) for token in x]
    assert route.index.tolist() == (nested if beam else best)
    assert k == TILES or nested != best  # clusters miss the best
    assert torch.equal(route.weight, torch.ones_like(route.weight))
    expected = reference.sparse_lookup(x, layer, route.index)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)


def test_with_all_dials_turned_it_is_a_dense_layer_with_ternary_keys():
    layer, x = _layer(TILES, cells=None), tokens(7)
    dense = F.gelu(x @ layer.signatures.T / DIM**0.5) @ layer.values
    agree(layer(x), dense, [layer.values, layer.keys.raw])


def test_splines_are_initially_the_gelu():
    torch.manual_seed(3)
    layer, x = trix.SparseLookupFFN(DIM, TILES, None, 80, TILES).double(), tokens(9)
    plain = _layer(TILES, cells=None)
    plain.load_state_dict(layer.state_dict(), strict=False)
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=1e-4)


def test_reading_from_few_or_from_all_is_the_same():
    # with a gradient, many reads go through a product with all values; without, they are fetched
    layer, x = _layer(3, clusters=4), tokens(30)
    with torch.no_grad():
        fetched = layer(x)
    torch.testing.assert_close(layer(x), fetched, rtol=0, atol=1e-14)
    weight = tokens(30).flip(0)
    parts = [layer.keys.raw, layer.values, layer.activation.knots]
    many = torch.autograd.grad((layer(x) * weight).sum(), parts)
    few = [torch.autograd.grad((layer(x[n : n + 1]) * weight[n]).sum(), parts) for n in range(30)]
    for n, gradient in enumerate(many):
        total = torch.stack([each[n] for each in few]).sum(dim=0)
        torch.testing.assert_close(gradient, total, rtol=0, atol=1e-12)


def test_a_tree_takes_the_place_of_clusters_and_is_saved_with_the_layer():
    layer, x = _layer(clusters=4), tokens(20)
    clusters = layer.routed(x).route
    router = trix.TreeRouter(TILES, DIM, (4, 3), beam=4).double()
    layer.router = router
    with pytest.raises(RuntimeError, match="there is no tree yet"):
        layer(x)
    router.rebuild(layer.signatures, inputs=tokens(50))
    route = layer.routed(x).route
    assert route.index.tolist() == [
        reference.best_tiles(token, layer.signatures.detach(), 3) for token in x
    ]
    assert not torch.equal(route.index, clusters.index)
    torch.manual_seed(8)
    fresh = trix.SparseLookupFFN(DIM, TILES, None, 6, 3).double()
    fresh.router = trix.TreeRouter(TILES, DIM, (4, 3), beam=4).double()
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(x), layer(x))


# Packed, for inference

MANY = 29


@functools.cache
def _uncompiled():
    with pytest.MonkeyPatch.context() as patch:
        as_it_is = SimpleNamespace(njit=lambda *_, **options: lambda function: function)
        patch.setitem(sys.modules, "numba", as_it_is)
        return packed_lookup.kernel.__wrapped__()


@pytest.fixture(params=["python", "torch", pytest.param("numba", marks=pytest.mark.slow)])
def way(request, monkeypatch):
    if request.param == "numba":
        pytest.importorskip("numba")
    else:
        passed = _uncompiled() if request.param == "python" else None
        monkeypatch.setattr(packed_lookup, "kernel", lambda: passed)
        monkeypatch.setattr(packed_keys, "kernel", lambda dtype: None)


def _trained(top_k=5, cells: int | None = 7, **options):
    torch.manual_seed(3)
    options = {"tiles_per_cluster": None, **options}
    layer = trix.SparseLookupFFN(DIM, MANY, cells=cells, top_k=top_k, **options)
    with torch.no_grad():
        layer.values.normal_()
        if layer.activation is not None:
            layer.activation.knots.normal_()
    return layer.eval()


def _some(count, scale=1.0):
    return scale * torch.randn(count, DIM, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": MANY},
        {"top_k": 1},
        {"cells": None},
        {"tiles_per_cluster": 5, "beam": 2},  # 29 tiles: clusters of five and of four
        {"tiles_per_cluster": 5, "beam": 6, "top_k": 20},
    ],
    ids=str,
)
def test_its_output_is_the_layers(way, options):
    layer = _trained(**options)
    packed = trix.PackedLookup(layer)
    for count in (1, 8, 9, 70):  # both sides of what counts as few
        x = _some(count, 3.0)  # beyond the splines' ends, too
        with torch.no_grad():
            torch.testing.assert_close(packed(x), layer(x), rtol=1e-4, atol=1e-4)


def test_among_equal_scores_the_lower_tiles_are_read(way):
    layer = _trained(top_k=3)
    with torch.no_grad():
        layer.keys.raw[7:20] = layer.keys.raw[7]  # thirteen tiles of one key
    x = layer.signatures[7].repeat(12, 1)  # and tokens that want it
    coefficient = layer.coefficients(layer.routed(x).route).detach()
    expected = (coefficient[:, :, None] * layer.values[7:10]).sum(1).detach()
    packed = trix.PackedLookup(layer)
    for count in (1, 12):
        torch.testing.assert_close(packed(x[:count]), expected[:count], rtol=1e-5, atol=1e-5)
    layer = _trained(top_k=3, tiles_per_cluster=5, beam=2)
    with torch.no_grad():
        layer.keys.raw[:] = -layer.keys.raw[7]
        layer.keys.raw[5:15] = layer.keys.raw[7].neg()  # the second cluster and the third, alike
    x = layer.signatures[7].repeat(12, 1)
    torch.testing.assert_close(trix.PackedLookup(layer)(x), layer(x).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 99, 501])
def test_threads_share_the_tokens_and_lose_none(way, monkeypatch, count):
    packed, x = trix.PackedLookup(_trained()), _some(count)
    alone = packed(x)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(packed_lookup, "GRAIN", 50)
    assert torch.equal(packed(x), alone)


@pytest.mark.filterwarnings("ignore:invalid value")  # in the pass as Python runs it
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("options", [{}, {"tiles_per_cluster": 5, "beam": 2}], ids=str)
def test_what_is_not_finite_spoils_its_own_token_alone(way, options, bad):
    packed = trix.PackedLookup(_trained(**options))
    for count in (4, 33):
        x = _some(count)
        clean = packed(x)
        x[2, 5] = bad
        spoilt = packed(x)
        assert spoilt[2].isnan().all()
        others = torch.arange(count) != 2
        assert torch.equal(spoilt[others], clean[others])


def test_shapes_types_and_no_tokens(way):
    packed, x = trix.PackedLookup(_trained()), _some(6)
    torch.testing.assert_close(packed(x.view(2, 3, DIM)).view(6, DIM), packed(x))
    torch.testing.assert_close(packed(x[4]), packed(x)[4])
    assert packed(x[:0]).shape == (0, DIM)
    assert packed(x.double()).dtype == torch.float64
    assert packed(x.bfloat16()).dtype == torch.bfloat16


def test_keys_take_two_bits_and_reload_and_what_was_packed_may_change(way):
    layer, x = _trained(tiles_per_cluster=5, beam=2), _some(5)
    packed, other = trix.PackedLookup(layer), trix.PackedLookup(layer)
    assert packed.keys.packed.numel() == MANY * math.ceil(DIM / 4)
    assert torch.equal(packed_keys.unpack(packed.keys.packed, DIM), layer.signatures.detach())
    assert "dim=13, tiles=29, top_k=5" in repr(packed)
    before = packed(x)
    with torch.no_grad():
        layer.values.zero_()
        layer.keys.raw.neg_()
        other.values.zero_()
    assert torch.equal(packed(x), before)
    other.load_state_dict(packed.state_dict(), strict=True)
    assert torch.equal(other(x), before)
