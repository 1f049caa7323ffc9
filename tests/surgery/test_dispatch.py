"""Compiled dispatch: it never disagrees where it was made, and notices where it was not."""

import math
from typing import Any

import pytest
import torch

import trix
from trix.surgery import LEAST, Claims, Dispatch, compile_dispatch, signatures_sha256

DIM, TILES, CLASSES, N = 13, 6, 5, 1500


def _layer(clusters=None, dtype=torch.float32, **options) -> Any:
    torch.manual_seed(4)
    return trix.SparseLookupFFN(DIM, TILES, clusters, 4, **options).to(dtype)


def _data(seed=1, dtype=torch.float32, n=N):
    # tokens around a centre for each class; the last class is hardly ever seen
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, DIM, generator=torch.Generator().manual_seed(0))
    kinds = torch.randint(CLASSES - 1, (n,), generator=generator)
    kinds[: min(n, LEAST - 1)] = CLASSES - 1
    x = centres[kinds] + 0.8 * torch.randn(n, DIM, generator=generator)
    return x.to(dtype), kinds


def _tracked(layer, x, kinds):
    claims = Claims(layer)
    claims.track_claims(layer.route(x), kinds, CLASSES)
    return claims


def _compiled(layer=None, threshold=0.5, seed=1):
    layer = layer or _layer()
    x, kinds = _data(seed, layer.values.dtype)
    return compile_dispatch(layer, _tracked(layer, x, kinds), threshold), layer, x, kinds


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 1.0])
def test_stable_classes_are_those_of_the_loop(threshold):
    table, layer, x, kinds = _compiled(threshold=threshold)
    chosen = layer.route(x).index[:, 0].tolist()
    rows = layer.signatures.detach().double()
    stable = []
    for kind in range(CLASSES):
        of_it = [n for n in range(N) if kinds[n] == kind]
        reads = [sum(chosen[n] == tile for n in of_it) for tile in range(TILES)]
        tile = reads.index(max(reads))
        if len(of_it) < LEAST or max(reads) < threshold * len(of_it):
            assert table.tile[kind] == -1
            assert table.guard[kind] == math.inf
            continue
        stable.append(kind)
        assert table.tile[kind] == tile
        lost = [float(x[n].double() @ rows[tile]) for n in of_it if chosen[n] != tile]
        assert float(table.guard[kind]) == pytest.approx(max(lost, default=-math.inf), abs=1e-4)
        assert torch.equal(table.rows[kind], layer.signatures[tile])
    assert len(stable) == {0.3: 4, 0.5: 3, 0.8: 1, 1.0: 0}[threshold]
    assert table.threshold == threshold
    assert table.signatures == signatures_sha256(layer.signatures)


@pytest.mark.parametrize(
    ("dtype", "clusters"), [(torch.float32, None), (torch.float64, 3), (torch.bfloat16, 3)]
)
def test_on_tracked_tokens_hits_and_live_routing_never_disagree(dtype, clusters):
    tabled = 0
    for seed in range(8):
        torch.manual_seed(seed)
        layer: Any = trix.SparseLookupFFN(DIM, TILES, clusters, 4).to(dtype)
        table, _, x, kinds = _compiled(layer, 0.3, seed)
        tabled += int((table.tile >= 0).sum())
        live = layer.route(x)
        route, hit = table.route(layer, x, kinds)
        assert hit.any()
        assert not hit.all()
        assert torch.equal(route.index, live.index)
        torch.testing.assert_close(route.score, live.score)
        assert torch.equal(route.score[~hit], layer.route(x[~hit]).score)
        assert route.token is not None
        assert torch.equal(route.token, x)
        assert torch.equal(route.weight, torch.ones_like(route.score))
        # every score above the highest lost is a hit, but for rounding
        scores = (x.double() * table.rows[kinds].double()).sum(dim=-1)
        known = table.tile[kinds] >= 0
        assert torch.equal(hit, known & (scores > table.guard[kinds]))
        found = table.check(layer, x, kinds)
        assert found.agreement == 1.0
        assert found.hit_rate == int(hit.sum()) / N
    assert tabled > 12


@pytest.mark.parametrize("clusters", [None, 3])
def test_what_is_read_through_the_table_is_what_the_layer_reads(clusters):
    table, layer, x, kinds = _compiled(_layer(clusters), 0.3)
    output, route = table.routed(layer, x, kinds)
    torch.testing.assert_close(output, layer(x))
    assert torch.equal(output, layer.read(route))
    other, names = _data(seed=9)
    live = layer.routed(other)
    output, route = table.routed(layer, other, names)
    agree = route.index[:, 0] == live.route.index[:, 0]
    assert agree.float().mean() > 0.9
    torch.testing.assert_close(output[agree], live.output[agree])
    grid = table.routed(layer, other[:12].view(3, 4, DIM), names[:12].view(3, 4))
    torch.testing.assert_close(grid.output.view(12, DIM), output[:12])
    for n in (0, 500):  # a token by itself
        torch.testing.assert_close(table.routed(layer, other[n], names[n]).output, output[n])
    assert table.routed(layer, other[:0], names[:0]).output.shape == (0, DIM)
    table.routed(layer, x, kinds).output.sum().backward()
    assert layer.values.grad is not None


def test_classes_below_zero_and_untabled_ones_are_routed_live():
    table, layer, x, kinds = _compiled(threshold=0.5)
    live = layer.route(x)
    route, hit = table.route(layer, x, torch.full_like(kinds, -1))
    assert not hit.any()
    assert torch.equal(route.index, live.index)
    assert torch.equal(route.score, live.score)
    untabled = int((table.tile < 0).nonzero()[0])
    assert not table.route(layer, x, torch.full_like(kinds, untabled))[1].any()
    assert not table.route(layer, x * torch.nan, kinds)[1].any()
    found = table.check(layer, x, torch.full_like(kinds, -3))
    assert found.hit_rate == 0.0
    assert math.isnan(found.agreement)


def test_a_class_that_its_tile_never_lost_always_hits():
    layer = _layer()
    layer.insert_signature(2, torch.ones(DIM))
    x, kinds = torch.ones(LEAST, DIM), torch.zeros(LEAST, dtype=torch.int64)  # just enough
    claims = Claims(layer)
    claims.track_claims(layer.route(x), kinds, 2)
    table = compile_dispatch(layer, claims, 1.0)
    assert (table.tile.tolist(), table.guard.tolist()) == ([2, -1], [-math.inf, math.inf])
    again = Dispatch.from_json(table.to_json(), layer)
    assert again.guard.tolist() == table.guard.tolist()
    # whatever the token: a hit that live routing would have sent elsewhere
    found = again.check(layer, torch.cat([x, -x[:25]]), torch.zeros(125, dtype=torch.int64))
    assert found == (1.0, 0.8)


def test_json_gives_back_every_bit():
    table, layer, _, _ = _compiled(threshold=1 / 3)
    again = Dispatch.from_json(table.to_json(), layer)
    assert torch.equal(again.tile, table.tile)
    assert again.guard.numpy().tobytes() == table.guard.numpy().tobytes()
    assert (again.threshold, again.signatures) == (1 / 3, table.signatures)
    assert again.to_json() == table.to_json()
    assert torch.equal(again.rows[again.tile >= 0], table.rows[table.tile >= 0])


def test_every_changed_character_is_refused():
    table, layer, _, _ = _compiled(threshold=0.5)
    text = table.to_json()
    assert len(text) > 300
    damaged = ["", "[]", "3", "null", "{}", text + " ", '"a"']
    for place, character in enumerate(text):
        before, after = text[:place], text[place + 1 :]
        others = {"0", "1", " ", '"', "e", character.swapcase()} - {character}
        damaged += [before, before + after, *(before + other + after for other in others)]
    for changed in damaged:
        with pytest.raises(ValueError, match="corrupt dispatch table"):
            Dispatch.from_json(changed, layer)


def test_other_signatures_are_refused_and_training_is_noticed():
    table, layer, x, kinds = _compiled()
    table.verify(layer)
    text = table.to_json()
    for other in (
        trix.SparseLookupFFN(DIM, TILES, None),
        trix.SparseLookupFFN(DIM, 2, None),
        trix.SparseLookupFFN(3, TILES, None),
    ):
        expected = f"SHA-256 {table.signatures}, got {signatures_sha256(other.signatures)}"
        with pytest.raises(ValueError, match=expected):
            table.verify(other)
        with pytest.raises(ValueError, match=expected):
            Dispatch.from_json(text, other)
    claims = _tracked(layer, x, kinds)
    layer.insert_signature(3, -layer.signatures[3])
    with pytest.raises(ValueError, match="compile it again"):
        table.verify(layer)
    with pytest.raises(ValueError, match="claims must be tracked with signatures of SHA-256"):
        compile_dispatch(layer, claims)
    claims.track_claims(layer.route(x), kinds, CLASSES)  # before and after
    with pytest.raises(ValueError, match="then track again"):
        compile_dispatch(layer, claims)
    layer.undo_surgery()
    table.verify(layer)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.02, weight_decay=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        (layer(x[:100]) - x[:100]).square().mean().backward()
        optimizer.step()
    with pytest.raises(ValueError, match="compile it again"):
        Dispatch.from_json(text, layer)


@pytest.fixture(scope="module")
def compiled():
    table, layer, x, kinds = _compiled()
    return table, layer, x, kinds, _tracked(layer, x, kinds)


OTHER: Any = trix.FunnelFFN(DIM, TILES)
REFUSED = [
    (lambda d, n, x, k, c: compile_dispatch(n, Claims(n)), ValueError, r"\[\]: reset_claim_trac"),
    (lambda d, n, x, k, c: compile_dispatch(_layer(top_k=2), c), ValueError, "got top_k=2"),
    (lambda d, n, x, k, c: compile_dispatch(OTHER, c), TypeError, "Lookup.*, got a FunnelFFN"),
    *(
        (lambda d, n, x, k, c, t=t: compile_dispatch(n, c, t), ValueError, f"at most 1, got {t}")
        for t in (0.0, -0.1, 1.1, math.nan)
    ),
    (lambda d, n, x, k, c: d.route(n, x, k * 0 + 5), IndexError, "classes .* 0 … 4, got 5 … 5"),
    (lambda d, n, x, k, c: d.routed(n, x, k[1:]), ValueError, r"\[1500\], got \[1499\]"),
    (lambda d, n, x, k, c: d.check(n, x[:, 1:], k), ValueError, r"13\], got \[1500, 12\]"),
    (lambda d, n, x, k, c: d.route(n, x, k.float()), TypeError, r"got torch\.float32"),
    (lambda d, n, x, k, c: d.check(n, x[:0], k[:0]), ValueError, r"one token, got \[0\]"),
]


@pytest.mark.parametrize(("call", "error", "match"), REFUSED)
def test_bad_arguments_are_named(call, error, match, compiled):
    with pytest.raises(error, match=match):
        call(*compiled)
