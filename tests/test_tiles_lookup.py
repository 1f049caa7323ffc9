from typing import Any

import pytest
import torch
from torch.nn import functional as F

import trix
from tests import reference

DIM, TILES = 13, 11


def _layer(top_k=3, dtype=torch.float64, clusters=None, cells: int | None = 6, **options) -> Any:
    torch.manual_seed(3)
    layer = trix.SparseLookupFFN(DIM, TILES, clusters, cells, top_k, **options).to(dtype)
    if layer.activation is not None:
        with torch.no_grad():  # away from where every spline is the same
            knots = layer.activation.knots
            knots.add_(torch.randn_like(knots))
    return layer


def _tokens(*shape, dtype=torch.float64):
    g = torch.Generator().manual_seed(1)
    return torch.randn(*shape, DIM, dtype=torch.float64, generator=g).to(dtype)


@pytest.mark.parametrize("k", [1, 3, TILES])
@pytest.mark.parametrize("cells", [6, None])
def test_the_flat_layer_equals_the_loop(k, cells):
    layer, x = _layer(k, cells=cells), 2 * _tokens(7)  # some scores beyond the splines' ends
    output, route = layer.routed(x)
    chosen = [reference.best_tiles(token, layer.signatures.detach(), k) for token in x]
    assert route.index.tolist() == chosen
    expected = reference.sparse_lookup(x, layer, route.index)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("k", "beam"), [(1, 1), (3, 1), (1, 2), (6, 2)])
@pytest.mark.parametrize("cells", [6, None])
def test_through_clusters_the_layer_equals_the_loop(k, beam, cells):
    layer, x = _layer(k, clusters=4, beam=beam, cells=cells), _tokens(30)
    output, route = layer.routed(x)
    rows = layer.signatures.detach()
    chosen = [reference.nested_tiles(token, rows, (3, 4), beam, k) for token in x]
    assert route.index.tolist() == chosen
    flat = [reference.best_tiles(token, rows, k) for token in x]
    assert chosen != flat  # clusters may miss the best
    expected = reference.sparse_lookup(x, layer, route.index)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)


def test_with_all_dials_turned_it_is_a_dense_layer_with_ternary_keys():
    layer, x = _layer(TILES, cells=None), _tokens(7)
    dense = F.gelu(x @ layer.signatures.T / DIM**0.5) @ layer.values
    torch.testing.assert_close(layer(x), dense, rtol=0, atol=1e-12)
    ffn = trix.DenseFFN(DIM, TILES).double()
    with torch.no_grad():
        ffn.up.weight.copy_(layer.signatures / DIM**0.5)
        ffn.down.weight.copy_(layer.values.T)
    torch.testing.assert_close(layer(x), ffn(x), rtol=0, atol=1e-12)
    ours, theirs = (
        torch.autograd.grad(each.square().sum(), p)
        for each, p in ((layer(x), [layer.values]), (ffn(x), [ffn.down.weight]))
    )
    torch.testing.assert_close(ours[0], theirs[0].T, rtol=0, atol=1e-12)


def test_splines_begin_as_the_gelu_and_are_the_tiles_own():
    torch.manual_seed(3)
    layer: Any = trix.SparseLookupFFN(DIM, TILES, None, 80, TILES).double()
    score = torch.linspace(-3.9, 3.9, 200, dtype=torch.float64) * DIM**0.5
    for tile in (0, TILES - 1):
        index = torch.full((200, 1), tile)
        route = trix.Route(index, score[:, None], score[:, None], index[..., None])
        loud = layer.coefficients(route)[:, 0]
        gap = (loud - F.gelu(score / DIM**0.5)).abs().max()
        assert gap < 2e-3
    x, plain = _tokens(9), _layer(TILES, cells=None)
    plain.load_state_dict(layer.state_dict(), strict=False)
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=1e-4)
    with torch.no_grad():
        layer.activation.knots[4] += 1.0
    changed = layer(x) - plain(x)
    expected = layer.values[4].detach().expand(9, DIM)
    torch.testing.assert_close(changed, expected, rtol=0, atol=1e-4)


def test_reading_from_few_or_from_all_is_the_same():
    # with a gradient, many reads go through a product with all values; without, they are fetched
    layer, x = _layer(3, clusters=4), _tokens(30)
    with torch.no_grad():
        fetched = layer(x)
    torch.testing.assert_close(layer(x), fetched, rtol=0, atol=1e-14)
    weight = _tokens(30).flip(0)
    parts = [layer.keys.raw, layer.values, layer.activation.knots]
    many = torch.autograd.grad((layer(x) * weight).sum(), parts)
    few = [torch.autograd.grad((layer(x[n : n + 1]) * weight[n]).sum(), parts) for n in range(30)]
    for n, gradient in enumerate(many):
        total = torch.stack([each[n] for each in few]).sum(dim=0)
        torch.testing.assert_close(gradient, total, rtol=0, atol=1e-12)


@pytest.mark.parametrize("k", [1, 3])
def test_the_task_moves_every_part_that_was_read(k, monkeypatch):
    layer, x = _layer(k), _tokens(300)
    rows = layer.keys()
    rows.retain_grad()
    monkeypatch.setattr(layer.keys, "forward", lambda: rows)
    output, route = layer.routed(x)
    (output - _tokens(300).flip(0)).square().mean().backward()
    read = route.index.unique()
    assert len(read) == TILES
    for gradient in (
        rows.grad,
        layer.keys.raw.grad,
        layer.values.grad,
        layer.activation.knots.grad,
    ):
        assert gradient is not None
        assert gradient.isfinite().all()
        assert (gradient[read].abs().sum(-1) > 0).all()
    assert torch.equal(route.weight, torch.ones_like(route.weight))


def test_a_value_that_was_not_chosen_is_not_touched():
    layer, x = _layer(1), _tokens(1)
    output, route = layer.routed(x)
    output.sum().backward()
    others = torch.ones(TILES, dtype=torch.bool)
    others[route.index[0, 0]] = False
    assert layer.values.grad is not None
    assert (layer.values.grad[others] == 0).all()


def test_forward_writes_nothing_and_is_the_routed_output():
    layer, x = _layer(), _tokens(2, 3)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    first = layer(x)
    assert torch.equal(first, layer.routed(x).output)
    layer.update(layer.routed(x).route)
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())


def test_shapes_dtypes_and_no_tokens():
    layer, x = _layer(), _tokens(6)
    torch.testing.assert_close(layer(x.view(2, 3, DIM)).view(6, DIM), layer(x))
    torch.testing.assert_close(layer(x[4]), layer(x)[4])
    assert layer(x[:0]).shape == (0, DIM)
    for dtype in (torch.float32, torch.bfloat16):
        assert layer.to(dtype)(x.to(dtype)).dtype == dtype


def test_autocast_comes_near_and_trains():
    layer, x = _layer(dtype=torch.float32), _tokens(30, dtype=torch.float32)
    exact = layer.routed(x)
    with torch.autocast("cpu", torch.bfloat16):
        output, route = layer.routed(x)
    same = (route.index == exact.route.index).all(dim=-1)
    assert same.float().mean() > 0.5
    torch.testing.assert_close(output.float()[same], exact.output[same], rtol=0.05, atol=0.05)
    output.float().sum().backward()
    assert layer.values.grad is not None
    assert layer.values.grad.isfinite().all()


def test_compiles_as_one_graph():
    layer, x = _layer(), _tokens(4)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), layer(x))


def test_nan_tokens_spoil_no_others():
    layer, x = _layer(), _tokens(6)
    clean = layer(x)
    x[2, 0] = float("nan")
    output, route = layer.routed(x)
    assert output[2].isnan().all()
    others = [0, 1, 3, 4, 5]
    assert torch.equal(output[others], clean[others])
    assert ((route.index >= 0) & (route.index < TILES)).all()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="tiles must be at least 1, got 0"):
        trix.SparseLookupFFN(8, tiles=0)
    with pytest.raises(ValueError, match="at most the 4 tiles, got 5"):
        trix.SparseLookupFFN(8, tiles=4, top_k=5)
    with pytest.raises(ValueError, match="tiles_per_cluster must be at least 1, got 0"):
        trix.SparseLookupFFN(8, tiles=4, tiles_per_cluster=0)
    with pytest.raises(ValueError, match="cells must be at least 1, got 0"):
        trix.SparseLookupFFN(8, cells=0)
    for clusters in (8, None):
        with pytest.raises(ValueError, match="beam must be at least 1, got 0"):
            trix.SparseLookupFFN(8, tiles_per_cluster=clusters, beam=0)
    with pytest.raises(
        ValueError, match=r"most the 3 tiles that a token reaches .* 1 clusters, got 4"
    ):
        _layer(4, clusters=4)
    with pytest.raises(TypeError, match=r"x must be floating, got torch\.int64"):
        _layer()(torch.ones(2, DIM, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"\[\.\.\., 13\], got \[4, 6\]"):
        _layer()(torch.randn(4, 6))
    layer = _layer()
    with torch.no_grad():
        layer.keys.frozen_rows[3, 0] = float("inf")
        layer.keys.is_frozen[3] = True
    with pytest.raises(ValueError, match=r"signatures must be finite, got \[inf"):
        layer(_tokens(2))


# With a tree in the place of flat routing


def _treed(top_k=3, dtype=torch.float64):
    torch.manual_seed(0)
    layer = _layer(top_k, dtype)
    layer.router = trix.TreeRouter(TILES, DIM, (4, 3), beam=2)
    layer.router.rebuild(layer.signatures.float())
    return layer.to(dtype)


def test_a_tree_as_wide_as_it_goes_changes_nothing():
    layer, x = _treed(), _tokens(20)
    layer.router = trix.TreeRouter(TILES, DIM, (4, 3), beam=4).double()
    layer.router.rebuild(layer.signatures)
    assert torch.equal(layer.routed(x).route.index, _layer().routed(x).route.index)
    torch.testing.assert_close(layer(x), _layer()(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("k", [1, 3])
def test_through_a_tree_the_task_moves_every_part_that_was_read(k, monkeypatch):
    layer, x = _treed(k), _tokens(300)
    rows = layer.keys()
    rows.retain_grad()
    monkeypatch.setattr(layer.keys, "forward", lambda: rows)
    output, route = layer.routed(x)
    (output - _tokens(300).flip(0)).square().mean().backward()
    read = route.index.unique()
    assert len(read) > TILES // 2
    for gradient in (rows.grad, layer.values.grad):
        assert gradient is not None
        assert gradient.isfinite().all()
        assert (gradient[read].abs().sum(-1) > 0).all()


def test_through_a_tree_shapes_nan_low_precision_and_one_graph():
    layer, x = _treed(), _tokens(6)
    clean = layer(x)
    torch.testing.assert_close(layer(x.view(2, 3, DIM)).view(6, DIM), clean)
    torch.testing.assert_close(layer(x[4]), clean[4])
    assert layer(x[:0]).shape == (0, DIM)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), clean)
    spoilt = x.clone()
    spoilt[2, 0] = float("nan")
    output = layer(spoilt)
    assert output[2].isnan().all()
    torch.testing.assert_close(output[[0, 1, 3, 4, 5]], clean[[0, 1, 3, 4, 5]])
    single = _treed(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        route = single.routed(_tokens(200, dtype=torch.float32)).route
    assert (route.score.float().diff(dim=-1) <= 0).all()  # the best first


def test_a_tree_takes_the_place_of_clusters_and_is_saved_with_the_layer():
    layer, x = _layer(clusters=4), _tokens(20)
    clusters = layer.routed(x).route
    router = trix.TreeRouter(TILES, DIM, (4, 3), beam=4).double()
    layer.router = router
    with pytest.raises(RuntimeError, match="there is no tree yet"):
        layer(x)
    router.rebuild(layer.signatures, inputs=_tokens(50))
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


def test_a_router_for_other_tiles_is_refused():
    layer = _layer()
    layer.router = trix.TreeRouter(12, DIM, (4, 3))
    with pytest.raises(ValueError, match=r"signatures must have shape \[12, 13\], got \[11, 13\]"):
        layer(_tokens(2))
    layer.router = trix.TreeRouter(TILES, DIM, (4, 3), beam=1)
    with pytest.raises(ValueError, match=r"at most the 2 tiles that beam 1 .*, got 3"):
        layer(_tokens(2))
