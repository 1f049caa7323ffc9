import math

import pytest
import torch

import trix
from trix.address.packed import unpack
from trix.tiles import packed_lookup

DIM, TILES = 13, 29


@pytest.fixture(params=["numba", "torch"])
def way(request, monkeypatch):
    """Both ways of computing: the compiled pass, and torch's own operations."""
    if request.param == "torch":
        monkeypatch.setattr(packed_lookup, "kernel", lambda: None)
    elif packed_lookup.kernel() is None:
        pytest.skip("numba is not installed")
    return request.param


def _layer(top_k=5, cells: int | None = 7, **options):
    torch.manual_seed(3)
    options = {"tiles_per_cluster": None, **options}
    layer = trix.SparseLookupFFN(DIM, TILES, cells=cells, top_k=top_k, **options)
    with torch.no_grad():
        layer.values.normal_()
        if layer.activation is not None:
            layer.activation.knots.normal_()
    return layer.eval()


def _tokens(count, scale=1.0):
    return scale * torch.randn(count, DIM, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("count", [1, 3, 8, 9, 150])  # both sides of what counts as few
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": TILES},
        {"top_k": 1},
        {"cells": None},
        {"tiles_per_cluster": 5, "beam": 2},  # 29 tiles: clusters of five and of four
        {"tiles_per_cluster": 5, "beam": 6, "top_k": 20},
    ],
    ids=str,
)
def test_it_says_what_the_layer_says(way, options, count):
    layer = _layer(**options)
    packed, x = trix.PackedLookup(layer), _tokens(count, 3.0)  # beyond the splines' ends, too
    with torch.no_grad():
        torch.testing.assert_close(packed(x), layer(x), rtol=1e-4, atol=1e-4)


def test_among_equal_scores_the_lower_tiles_are_read(way):
    layer = _layer(top_k=3)
    with torch.no_grad():
        layer.keys.raw[7:20] = layer.keys.raw[7]  # thirteen tiles of one key
    x = layer.signatures[7].repeat(12, 1)  # and tokens that want it
    torch.testing.assert_close(trix.PackedLookup(layer)(x), layer(x).detach(), rtol=1e-5, atol=1e-5)
    loud = layer.coefficients(layer.routed(x).route).detach()
    expected = (loud[:1, :, None] * layer.values[7:10]).sum(1).detach()
    torch.testing.assert_close(trix.PackedLookup(layer)(x[:1]), expected, rtol=1e-5, atol=1e-5)


def test_among_equal_scores_in_two_clusters_the_lower_tiles_are_read(way):
    layer = _layer(top_k=3, tiles_per_cluster=5, beam=2)
    with torch.no_grad():
        layer.keys.raw[:] = -layer.keys.raw[7]
        layer.keys.raw[5:15] = layer.keys.raw[7].neg()  # the second cluster and the third, alike
    x = layer.signatures[7].repeat(12, 1)
    torch.testing.assert_close(trix.PackedLookup(layer)(x), layer(x).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 500, 2001])
def test_threads_share_the_tokens_and_lose_none(monkeypatch, count):
    if packed_lookup.kernel() is None:
        pytest.skip("numba is not installed")
    packed, x = trix.PackedLookup(_layer()), _tokens(count)
    alone = packed(x)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(packed_lookup, "GRAIN", 100)
    assert torch.equal(packed(x), alone)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("options", [{}, {"tiles_per_cluster": 5, "beam": 2}], ids=str)
@pytest.mark.parametrize("count", [4, 70])
def test_what_is_not_finite_spoils_its_own_token_alone(way, count, options, bad):
    packed, x = trix.PackedLookup(_layer(**options)), _tokens(count)
    clean = packed(x)
    x[2, 5] = bad
    spoilt = packed(x)
    assert spoilt[2].isnan().all()
    others = [i for i in range(count) if i != 2]
    assert torch.equal(spoilt[others], clean[others])


def test_shapes_types_and_no_tokens(way):
    packed, x = trix.PackedLookup(_layer()), _tokens(6)
    torch.testing.assert_close(packed(x.view(2, 3, DIM)).view(6, DIM), packed(x))
    torch.testing.assert_close(packed(x[4]), packed(x)[4])
    assert packed(x[:0]).shape == (0, DIM)
    assert packed(x.double()).dtype == torch.float64
    assert packed(x.bfloat16()).dtype == torch.bfloat16


def test_keys_take_two_bits_and_reload(way):
    layer, x = _layer(tiles_per_cluster=5, beam=2), _tokens(5)
    packed, other = trix.PackedLookup(layer), trix.PackedLookup(_layer(tiles_per_cluster=5, beam=2))
    assert packed.keys.packed.numel() == TILES * math.ceil(DIM / 4)
    assert torch.equal(unpack(packed.keys.packed, DIM), layer.signatures.detach())
    with torch.no_grad():
        other.values.zero_()
    other.load_state_dict(packed.state_dict(), strict=True)
    assert torch.equal(other(x), packed(x))


def test_what_it_was_made_from_may_change_afterwards():
    layer, x = _layer(), _tokens(5)
    packed = trix.PackedLookup(layer)
    before = packed(x)
    with torch.no_grad():
        layer.values.zero_()
        layer.keys.raw.neg_()
    assert torch.equal(packed(x), before)


def test_bad_arguments_are_named():
    layer = _layer()
    layer.router = trix.TreeRouter(TILES, DIM, (6, 5))
    with pytest.raises(ValueError, match="must be a NestedRouter, got TreeRouter"):
        trix.PackedLookup(layer)
    packed = trix.PackedLookup(_layer())
    with pytest.raises(ValueError, match=r"\[\.\.\., 13\], got \[4, 6\]"):
        packed(torch.randn(4, 6))
    with pytest.raises(TypeError, match=r"floating, got torch\.int64"):
        packed(torch.ones(4, DIM, dtype=torch.int64))
