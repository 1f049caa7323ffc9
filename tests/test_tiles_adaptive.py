from typing import Any

import pytest
import torch

import trix
from tests import reference
from trix.tiles.adaptive import KEEP

DIM = 13


def _layer(choose="confidence", threshold=1.0) -> Any:
    torch.manual_seed(3)
    layer: Any = trix.AdaptiveKANFFN(DIM, 11, 4, coarse=3, fine=10, choose=choose)
    with torch.no_grad():
        for parameter in (
            *layer.bodies.activation.parameters(),
            *layer.fine_activation.parameters(),
        ):
            parameter.add_(0.3 * torch.randn_like(parameter))
        layer.gate.steps.add_(torch.randn_like(layer.gate.steps))
        layer.threshold.fill_(threshold)
    return layer.double()


def _tokens(*shape, seed=1):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, DIM, dtype=torch.float64, generator=draw)


def _margins(layer, x):
    rows, margins = layer.signatures.detach(), []
    for token in x:
        first, second = reference.nested_tiles(token, rows, (3, 4), 1, 2)
        margins.append(float(token @ rows[first] - token @ rows[second]))
    return torch.tensor(margins, dtype=torch.float64)


@pytest.mark.parametrize("choose", ["confidence", "chance"])
@pytest.mark.parametrize("size", [7, 60])
def test_routes_outputs_and_gradients_equal_the_loop(choose, size):
    layer, x = _layer(choose), _tokens(size).requires_grad_()
    output, route = layer.routed(x)
    sure = layer.sure(x)
    assert sure.any()
    assert not sure.all()
    if choose == "confidence":
        assert torch.equal(sure, _margins(layer, x.detach()) > 1.0)
    rows, bodies, out = layer.signatures, layer.bodies, []
    for n, token in enumerate(x):
        tile = reference.nested_tiles(token.detach(), rows.detach(), (3, 4), 1)[0]
        assert route.index[n].tolist() == [tile]
        activation = bodies.activation if sure[n] else layer.fine_activation
        activated = activation((bodies.bottleneck[tile] @ token)[None], torch.tensor([tile]))[0]
        out.append(layer.gate(token @ rows[tile]) * (activated @ bodies.down[tile]))
    slow, weight, moved = torch.stack(out), _tokens(size, seed=2), [x, *layer.parameters()]
    torch.testing.assert_close(output, slow, rtol=0, atol=1e-12)
    ours = torch.autograd.grad((output * weight).sum(), moved, materialize_grads=True)
    theirs = torch.autograd.grad((slow * weight).sum(), moved, materialize_grads=True)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_each_resolution_has_its_own_cells():
    layer = _layer()
    assert layer.bodies.activation.spline.cells == 3
    assert layer.fine_activation.spline.cells == 10
    x = _tokens(60)
    sure, before = layer.sure(x), layer(x)
    with torch.no_grad():
        layer.fine_activation.spline.knots.add_(1.0)
    changed = (layer(x) != before).any(dim=-1)
    assert torch.equal(changed, ~sure)


def test_an_update_goes_a_step_towards_the_median_margin_and_in_the_end_halves_the_tokens():
    layer, x = _layer(threshold=0.25), _tokens(301)
    route = layer.routed(x).route
    layer.update(route)
    median = _margins(layer, x).median()
    expected = 0.25 + (1 - KEEP) * (median - 0.25)
    torch.testing.assert_close(layer.threshold, expected)
    for _ in range(400):
        layer.update(route)
    torch.testing.assert_close(layer.threshold, median, rtol=0, atol=1e-3)
    assert abs(layer.sure(x).double().mean() - 0.5) < 0.02
    others = _tokens(4000, seed=7)
    assert abs(layer.sure(others).double().mean() - 0.5) < 0.1


def test_tokens_with_a_nan_teach_nothing():
    layer, x = _layer(), _tokens(31)
    x[4, 0] = float("nan")
    layer.update(layer.routed(x[4:5]).route)
    assert layer.threshold == 1.0
    layer.update(layer.routed(x).route)
    others = torch.arange(31) != 4
    expected = 1.0 + (1 - KEEP) * (_margins(layer, x[others]).median() - 1.0)
    torch.testing.assert_close(layer.threshold, expected)


def test_a_tossed_coin_is_fair_and_does_not_know_the_margin():
    layer, x = _layer("chance"), _tokens(2000)
    sure = layer.sure(x)
    assert abs(sure.double().mean() - 0.5) < 0.05
    assert torch.equal(sure, layer.sure(x))
    margin = _margins(layer, x)
    assert abs(margin[sure].mean() - margin[~sure].mean()) < 0.2 * margin.mean()


def test_an_address_costs_the_bits_of_the_cells():
    layer, x = _layer(), _tokens(60)
    layer.coarse, layer.fine = 4, 16
    layer.threshold.fill_(-1.0)
    assert layer.address_bits(x) == pytest.approx(2.0)
    layer.threshold.fill_(1e9)
    assert layer.address_bits(x) == pytest.approx(4.0)
    layer.threshold.copy_(_margins(layer, x).sort().values[29])  # 30 are above
    assert layer.address_bits(x) == pytest.approx(3.0)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="confidence or chance, got 'luck'"):
        _layer("luck")
    with pytest.raises(ValueError, match="margin needs two tiles to compare, got 1 a cluster"):
        trix.AdaptiveKANFFN(8, 6, 1)
    with pytest.raises(ValueError, match="cells must be at least 1, got 0"):
        trix.AdaptiveKANFFN(8, 6, 3, coarse=0)
    with pytest.raises(ValueError, match="fine must be at least 1, got 0"):
        trix.AdaptiveKANFFN(8, 6, 3, fine=0)
    layer = _layer()
    route = layer.routed(_tokens(3)).route._replace(token=None)
    with pytest.raises(ValueError, match="needs the route's tokens, got token=None"):
        layer.update(route)
