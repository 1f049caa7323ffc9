from typing import Any

import pytest
import torch
from torch.nn import functional as F

import trix
from tests import reference
from tests.tiles.helpers import agree, tokens
from trix.tiles.tile import TernaryBodies, scaled_ternary
from trix.tiles.two_level import KEEP, FixedRoutingFFN

DIM = 13


def _apart(layer) -> Any:
    # away from where every gate and every spline is the same
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name == "gate.steps" or "activation" in name:
                parameter.add_(torch.randn_like(parameter) * (1 if "gate" in name else 0.3))
    return layer.double()


def _kan(spline="knots"):
    torch.manual_seed(3)
    return _apart(trix.HybridKANFFN(DIM, 11, 4, bottleneck=5, cells=7, spline=spline))


def _fixed(reading, routing):
    torch.manual_seed(3)
    return _apart(FixedRoutingFFN(DIM, reading, routing, 11, 4, cells=7))


def _trix(beam=1):
    torch.manual_seed(3)
    return _apart(trix.HierarchicalTriXFFN(DIM, 11, 4, hidden=5, beam=beam))


def _adaptive(choose="confidence", threshold=1.0):
    torch.manual_seed(3)
    layer = _apart(trix.AdaptiveKANFFN(DIM, 11, 4, coarse=3, fine=10, choose=choose))
    layer.threshold.fill_(threshold)
    return layer


MADE: dict[str, Any] = {
    "trix": _trix,
    "trix-beam": lambda: _trix(2),
    "kan": _kan,
    "kan-cells": lambda: _kan("cells"),
    "kan-content": lambda: _kan("content-cells"),
    "fixed-trix": lambda: _fixed("trix", "signatures"),
    "fixed-kan": lambda: _fixed("kan", "signatures"),
    "uniform-trix": lambda: _fixed("trix", "uniform"),
    "uniform-kan": lambda: _fixed("kan", "uniform"),
    "adaptive": _adaptive,
    "adaptive-chance": lambda: _adaptive("chance"),
}


def _loop(layer, x, index):
    out, bodies, signatures = [], layer.bodies, layer.signatures
    sure = layer.sure(x) if hasattr(layer, "sure") else [True] * len(x)
    for n, (token, tile) in enumerate(zip(x, index.tolist(), strict=True)):
        if isinstance(bodies, TernaryBodies):
            hidden = F.gelu(scaled_ternary(bodies.up[tile]) @ token)
            read = hidden @ scaled_ternary(bodies.down[tile])
        else:
            activation = bodies.activation if sure[n] else layer.fine_activation
            units = (bodies.bottleneck[tile] @ token)[None]
            read = activation(units, torch.tensor([tile]))[0] @ bodies.down[tile]
        out.append(layer.gate(token @ signatures[tile].to(token)) * read)
    return torch.stack(out)


def _margins(layer, x):
    rows, margins = layer.signatures.detach(), []
    for token in x:
        first, second = reference.nested_tiles(token, rows, (3, 4), 1, 2)
        margins.append(float(token @ rows[first] - token @ rows[second]))
    return torch.tensor(margins, dtype=torch.float64)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("size", [7, 60])
def test_routes_outputs_and_gradients_equal_the_loop(name, size):
    layer, x = MADE[name](), tokens(size).requires_grad_()
    output, route = layer.routed(x)
    index, bodies = route.index[:, 0], layer.bodies
    weights = bodies.up if isinstance(bodies, TernaryBodies) else bodies.bottleneck
    voted = reference.weight_signatures(weights.detach(), 0.5)
    assert torch.equal(layer.bodies.signatures.detach(), voted)
    own = not name.startswith(("fixed", "uniform"))
    assert torch.equal(layer.signatures.detach(), voted) == own
    if not name.startswith("uniform"):
        rows, beam = layer.signatures.detach(), 2 if name == "trix-beam" else 1
        expected = [reference.nested_tiles(token, rows, (3, 4), beam)[0] for token in x.detach()]
        assert index.tolist() == expected
    if name.startswith("adaptive"):
        sure = layer.sure(x)
        assert sure.unique().tolist() == [False, True]
        splines: Any = [bodies.activation.spline, layer.fine_activation.spline]  # pyright: ignore
        assert [spline.cells for spline in splines] == [3, 10]
        assert name == "adaptive-chance" or torch.equal(sure, _margins(layer, x.detach()) > 1.0)
    assert len(index.unique()) > 3
    agree(output, _loop(layer, x, index), [x, *layer.parameters()])


def test_tiles_share_the_weight_of_a_dense_layer():
    dense = 2 * 4 * 16 * 16
    for layer, part in (
        (trix.HierarchicalTriXFFN(16, 8), "up"),
        (trix.HybridKANFFN(16, 8), "bottleneck"),
        (FixedRoutingFFN(16, "trix", tiles=8), "up"),
    ):
        bodies = layer.bodies
        assert getattr(bodies, part).numel() + bodies.down.numel() == dense
    assert trix.HierarchicalTriXFFN(4, 64).bodies.down.shape[1] == 1  # and never none


@pytest.mark.parametrize("reading", ["trix", "kan"])
def test_borrowed_signatures_route_as_their_owner_does_and_never_learn(reading):
    owner = _trix() if reading == "trix" else _kan()
    layer, x = _fixed(reading, "signatures"), tokens(40)
    drawn = layer.signatures.clone()
    route = owner.routed(x).route
    assert not torch.equal(layer.routed(x).route.index, route.index)
    layer.set_signatures(owner.signatures)
    borrowed = layer.routed(x).route
    assert torch.equal(borrowed.index, route.index)
    assert torch.equal(borrowed.path, route.path)
    assert not torch.equal(drawn, layer.signatures)
    optimizer = torch.optim.SGD(layer.parameters(), 1.0)
    layer(x).square().sum().backward()
    optimizer.step()
    assert torch.equal(layer.signatures, owner.signatures)
    fresh = _fixed(reading, "signatures")
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(x), layer(x))


def test_an_update_goes_a_step_towards_the_median_margin_and_in_the_end_halves_the_tokens():
    layer, x = _adaptive(threshold=0.25), tokens(301)
    route = layer.routed(x).route
    layer.update(route)
    median = _margins(layer, x).median()
    torch.testing.assert_close(layer.threshold, 0.25 + (1 - KEEP) * (median - 0.25))
    for _ in range(400):
        layer.update(route)
    torch.testing.assert_close(layer.threshold, median, rtol=0, atol=1e-3)
    assert abs(layer.sure(x).double().mean() - 0.5) < 0.02
    others = tokens(4000, seed=7)
    assert abs(layer.sure(others).double().mean() - 0.5) < 0.1


def test_tokens_with_a_nan_teach_nothing():
    layer, x = _adaptive(), tokens(31)
    x[4, 0] = float("nan")
    layer.update(layer.routed(x[4:5]).route)
    assert layer.threshold == 1.0
    layer.update(layer.routed(x).route)
    median = _margins(layer, x[torch.arange(31) != 4]).median()
    torch.testing.assert_close(layer.threshold, 1.0 + (1 - KEEP) * (median - 1.0))


def test_a_tossed_coin_is_fair_and_the_same_for_the_same_token():
    layer, x = _adaptive("chance"), tokens(2000)
    assert abs(layer.sure(x).double().mean() - 0.5) < 0.05
    assert torch.equal(layer.sure(x), layer.sure(x))


def test_an_address_costs_the_bits_of_the_cells():
    layer, x = _adaptive(), tokens(60)
    layer.coarse, layer.fine = 4, 16
    layer.threshold.fill_(-1.0)
    assert layer.address_bits(x) == pytest.approx(2.0)
    layer.threshold.fill_(1e9)
    assert layer.address_bits(x) == pytest.approx(4.0)
    layer.threshold.copy_(_margins(layer, x).sort().values[29])  # 30 are above
    assert layer.address_bits(x) == pytest.approx(3.0)


def test_a_state_that_was_saved_under_old_names_still_loads():
    layer, fresh, x = _adaptive(), _adaptive(threshold=-1.0), tokens(9)
    with torch.no_grad():
        fresh.fine_activation.spline.knots.zero_()
        fresh.bodies.activation.spline.knots.zero_()
    state = layer.state_dict()
    old = {
        k.replace("fine_activation", "fine_bend").replace(".activation.", ".bend."): state[k]
        for k in state
    }
    assert old.keys() != state.keys()
    fresh.load_state_dict(old)
    assert torch.equal(fresh(x), layer(x))
