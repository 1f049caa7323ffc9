import pytest
import torch

import trix
from tests import reference

DIM, TILES = 13, 11


def _layer(top_k=3, dtype=torch.float64, **options):
    torch.manual_seed(3)
    layer = trix.SparseLookupFFN(DIM, TILES, top_k, **options).to(dtype)
    with torch.no_grad():
        layer.gate.steps.add_(torch.randn_like(layer.gate.steps))
    return layer


def _tokens(*shape, dtype=torch.float64):
    g = torch.Generator().manual_seed(1)
    return torch.randn(*shape, DIM, dtype=torch.float64, generator=g).to(dtype)


@pytest.mark.parametrize("k", [1, 3, TILES])
def test_the_layer_equals_the_loop(k):
    layer, x = _layer(k), _tokens(7)
    torch.testing.assert_close(layer(x), reference.sparse_lookup(x, layer, k), rtol=0, atol=1e-12)


def test_reading_every_tile_is_a_dense_layer_with_ternary_keys():
    layer, x = _layer(TILES), _tokens(7)
    dense = layer.gate(x @ layer.signatures.to(x).T) @ layer.values
    torch.testing.assert_close(layer(x), dense, rtol=0, atol=1e-12)


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
    for gradient in (rows.grad, layer.keys.raw.grad, layer.values.grad):
        assert gradient is not None
        assert gradient.isfinite().all()
        assert (gradient[read].abs().sum(-1) > 0).all()
    assert layer.gate.steps.grad is not None
    assert (layer.gate.steps.grad.abs() > 0).any()
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
    with pytest.raises(ValueError, match=r"\[\.\.\., 13\], got \[4, 6\]"):
        _layer()(torch.randn(4, 6))
    layer = _layer()
    with torch.no_grad():
        layer.keys.frozen_rows[3, 0] = float("inf")
        layer.keys.is_frozen[3] = True
    with pytest.raises(ValueError, match=r"finite, got other values in rows \[3\]"):
        layer(_tokens(2))


# With a tree in the place of flat routing


def _treed(top_k=3, dtype=torch.float64):
    torch.manual_seed(0)
    router = trix.TreeRouter(TILES, DIM, (4, 3), beam=2)
    layer = _layer(top_k, dtype, router=router)
    router.rebuild(layer.signatures.float())
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


def test_a_router_for_other_tiles_is_refused():
    with pytest.raises(ValueError, match="for 11 tiles of 13 features, got 12 of 13"):
        _layer(router=trix.TreeRouter(12, DIM, (4, 3)))
    with pytest.raises(ValueError, match="at most the 2 tiles that the router reaches, got 3"):
        _layer(router=trix.TreeRouter(TILES, DIM, (4, 3), beam=1))
    with pytest.raises(TypeError, match=r"x must be floating, got torch\.int64"):
        _layer()(torch.ones(2, DIM, dtype=torch.int64))
