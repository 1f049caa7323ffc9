from typing import Any

import pytest
import torch
from torch.nn import functional as F

import trix
from tests import reference
from trix.tiles.tile import SplineBodies, TernaryBodies, scaled_ternary

DIM = 13


def _apart(layer) -> Any:
    # away from where every gate and every spline is the same
    torch.manual_seed(5)
    with torch.no_grad():
        layer.gate.steps.add_(torch.randn_like(layer.gate.steps))
        if isinstance(layer.bodies, SplineBodies):
            for parameter in layer.bodies.activation.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return layer.double()


def _trix(beam=1):
    torch.manual_seed(3)
    return _apart(trix.HierarchicalTriXFFN(DIM, 11, 4, hidden=5, beam=beam))


def _kan(spline="knots"):
    torch.manual_seed(3)
    return _apart(trix.HybridKANFFN(DIM, 11, 4, bottleneck=5, cells=7, spline=spline))


def _fixed(reading, routing):
    torch.manual_seed(3)
    return _apart(trix.tiles.two_level.FixedRoutingFFN(DIM, reading, routing, 11, 4, cells=7))


MADE = {
    "trix": _trix,
    "trix-beam": lambda: _trix(2),
    "kan": _kan,
    "kan-cells": lambda: _kan("cells"),
    "kan-content": lambda: _kan("content-cells"),
    "fixed-trix": lambda: _fixed("trix", "signatures"),
    "fixed-kan": lambda: _fixed("kan", "signatures"),
    "chance-trix": lambda: _fixed("trix", "uniform"),
    "chance-kan": lambda: _fixed("kan", "uniform"),
}


def _tokens(*shape, seed=1):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, DIM, dtype=torch.float64, generator=draw)


def _loop(layer, x, index):
    """Read one tile a token, with a gradient."""
    out, bodies, signatures = [], layer.bodies, layer.signatures
    for token, tile in zip(x, index.tolist(), strict=True):
        if isinstance(bodies, TernaryBodies):
            hidden = F.gelu(scaled_ternary(bodies.up[tile]) @ token)
            said = hidden @ scaled_ternary(bodies.down[tile])
        else:
            activated = bodies.activation(
                (bodies.bottleneck[tile] @ token)[None], torch.tensor([tile])
            )
            said = activated[0] @ bodies.down[tile]
        out.append(layer.gate(token @ signatures[tile].to(token)) * said)
    return torch.stack(out)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("size", [7, 60])
def test_routes_outputs_and_gradients_equal_the_loop(name, size):
    layer, x = MADE[name](), _tokens(size).requires_grad_()
    output, route = layer.routed(x)
    index = route.index[:, 0]
    if not name.startswith("chance"):
        rows, beam = layer.signatures.detach(), 2 if name == "trix-beam" else 1
        expected = [reference.nested_tiles(token, rows, (3, 4), beam)[0] for token in x.detach()]
        assert index.tolist() == expected
    assert len(index.unique()) > 3
    slow = _loop(layer, x, index)
    torch.testing.assert_close(output, slow, rtol=0, atol=1e-12)
    weight = _tokens(size, seed=2)
    moved = [x, *(p for p in layer.parameters())]
    ours = torch.autograd.grad((output * weight).sum(), moved, materialize_grads=True)
    theirs = torch.autograd.grad((slow * weight).sum(), moved, materialize_grads=True)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_a_ternary_tile_is_what_a_reader_works_out_by_hand():
    layer, x = _trix(), _tokens(7)
    output, route = layer.routed(x)
    up, down = layer.bodies.up.detach(), layer.bodies.down.detach()
    torch.testing.assert_close(layer.signatures.detach(), reference.weight_signatures(up, 0.5))
    gates = layer.gate.values().tolist()
    for n, tile in enumerate(route.index[:, 0].tolist()):
        hidden = [reference.gelu(float(row @ x[n])) for row in reference.scaled_ternary(up[tile])]
        said = torch.tensor(hidden, dtype=x.dtype) @ reference.scaled_ternary(down[tile])
        score = float(x[n] @ layer.signatures[tile].detach()) / DIM**0.5
        expected = reference.spline_value(score, gates, 4.0) * said
        torch.testing.assert_close(output[n], expected, rtol=0, atol=1e-12)


def test_a_spline_tile_is_what_a_reader_works_out_by_hand():
    layer, x = _kan(), _tokens(7)
    output, route = layer.routed(x)
    bodies, gates = layer.bodies, layer.gate.values().tolist()
    expected = reference.weight_signatures(bodies.bottleneck.detach(), 0.5)
    torch.testing.assert_close(layer.signatures.detach(), expected)
    for n, tile in enumerate(route.index[:, 0].tolist()):
        said = torch.zeros(DIM, dtype=x.dtype)
        for unit, u in enumerate((bodies.bottleneck[tile] @ x[n]).tolist()):
            knots = bodies.activation.spline.knots[tile * 5 + unit].tolist()
            activated = reference.spline_value(min(max(u, -3.0), 3.0), knots, 3.0)
            said += activated * bodies.down[tile, unit].detach()
        score = float(x[n] @ layer.signatures[tile].detach()) / DIM**0.5
        expected = reference.spline_value(score, gates, 4.0) * said
        torch.testing.assert_close(output[n], expected, rtol=0, atol=1e-12)


def test_tiles_share_the_weight_of_a_dense_layer():
    dense = 2 * 4 * 16 * 16
    for layer, part in (
        (trix.HierarchicalTriXFFN(16, 8), "up"),
        (trix.HybridKANFFN(16, 8), "bottleneck"),
        (trix.tiles.two_level.FixedRoutingFFN(16, "trix", tiles=8), "up"),
    ):
        bodies = layer.bodies
        assert getattr(bodies, part).numel() + bodies.down.numel() == dense
    assert trix.HierarchicalTriXFFN(4, 64).bodies.down.shape[1] == 1  # and never none


@pytest.mark.parametrize("reading", ["trix", "kan"])
def test_borrowed_signatures_route_as_their_owner_does_and_never_learn(reading):
    owner = _trix() if reading == "trix" else _kan()
    layer, x = _fixed(reading, "signatures"), _tokens(40)
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


def test_chance_sends_tokens_everywhere_and_the_same_token_to_the_same_tile():
    layer, x = _fixed("trix", "uniform"), _tokens(2000)
    index = layer.routed(x).route.index
    reads = torch.bincount(index[:, 0], minlength=11)
    assert (reads - 2000 / 11).abs().max() < 5 * (2000 / 11) ** 0.5
    order = torch.randperm(2000)
    assert torch.equal(layer.routed(x[order]).route.index, index[order])
    nudged = layer.routed(x + 1e-3).route.index
    assert (nudged == index).double().mean() < 0.2  # and neighbours have nothing in common


def test_a_wider_beam_finds_better_tiles():
    narrow, wide, x = _trix(), _trix(3), _tokens(200)
    best = (x @ wide.signatures.T).amax(dim=-1)
    found = [layer.routed(x).route.score[:, 0] for layer in (narrow, wide)]
    torch.testing.assert_close(found[1], best)
    assert (found[0] <= best + 1e-12).all()
    assert (found[0] < best - 0.1).any()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="reading must be trix or kan, got 'dense'"):
        trix.tiles.two_level.FixedRoutingFFN(8, "dense")
    with pytest.raises(ValueError, match="routing must be signatures or uniform, got 'best'"):
        trix.tiles.two_level.FixedRoutingFFN(8, "trix", "best")
    with pytest.raises(ValueError, match=r"signatures must be \[11, 13\], got \[11, 12\]"):
        _fixed("trix", "signatures").set_signatures(torch.zeros(11, 12))
    with pytest.raises(ValueError, match="routing='signatures', got 'uniform'"):
        _fixed("trix", "uniform").set_signatures(torch.zeros(11, 13))
    with pytest.raises(ValueError, match="beam must be at least 1, got 0"):
        trix.HierarchicalTriXFFN(8, 4, 2, beam=0)
