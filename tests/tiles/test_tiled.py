import math

import pytest
import torch

import trix
from tests import reference
from tests.tiles.helpers import grad, tokens
from trix.tiles.tiled import SOURCES

DIM, TILES, HIDDEN = 13, 5, 6
DIFFERENTIABLE = ("weights", "bottleneck", "spline", "decoupled", "learned-router")


def _layer(source="weights", top_k=2, dtype=torch.float64, **options):
    torch.manual_seed(3)
    layer = trix.TiledFFN(DIM, TILES, HIDDEN, top_k, source, **options).to(dtype)
    with torch.no_grad():  # away from where every spline is the same
        layer.spline.add_(0.3 * torch.randn_like(layer.spline))
        layer.gate.steps.add_(torch.randn_like(layer.gate.steps))
    return layer


def _labels(x):
    return torch.arange(x[..., 0].numel()).view(x.shape[:-1])


@pytest.mark.parametrize("source", sorted(SOURCES))
@pytest.mark.parametrize("k", [1, 3])
def test_the_layer_equals_the_loop_whatever_the_source(source, k):
    layer, x = _layer(source, k), tokens(13)
    output, route = layer.routed(x, _labels(x))
    expected = reference.tiled_ffn(x, layer, route.index, route.weight)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    if source in ("token-hash", "uniform"):
        return
    chosen = [reference.best_tiles(token, layer.signatures, k) for token in x]
    assert route.index.tolist() == chosen
    if source != "learned-router":
        weight = torch.softmax(route.score / layer.temperature, dim=-1)
        torch.testing.assert_close(route.weight, weight)


@pytest.mark.parametrize(("source", "k"), [("weights", 1), *((s, 3) for s in DIFFERENTIABLE)])
def test_the_task_moves_the_signature_of_every_tile_that_was_read(source, k, monkeypatch):
    layer, x = _layer(source, k), tokens(300)
    seen = []
    rows = layer.source.rows

    def watched(parts):
        seen.append(rows(parts))
        seen[-1].retain_grad()
        return seen[-1]

    monkeypatch.setattr(layer.source, "rows", watched)
    output, route = layer.routed(x)
    (output - tokens(300).flip(0)).square().mean().backward()
    gradient = seen[0].grad
    read = route.index.unique()
    assert len(read) >= 4
    assert gradient.isfinite().all()
    assert (gradient[read].abs().sum(-1) > 0).all()
    assert (grad(layer.gate.steps) != 0).any()
    assert grad(layer.gate.first) != 0
    assert [grad(p) for p in layer.parameters()]
    # one term is 1 whatever the temperature; the learned router's softmax always has all terms
    assert (grad(layer.log_temperature).abs() > 0) == (k > 1 or source == "learned-router")


@pytest.mark.parametrize("source", sorted(set(SOURCES) - {"token-hash", "uniform"}))
def test_small_temperatures_are_hard_and_one_is_the_full_softmax(source):
    x = tokens(50)
    cold, hard = _layer(source, TILES, temperature=1e-4), _layer(source, 1)
    if source != "learned-router":
        best = (x @ hard.signatures.T).topk(2).values
        clear = best[:, 0] - best[:, 1] > 0.01  # off ties
        assert clear.double().mean() > 0.5
        torch.testing.assert_close(cold(x)[clear], hard(x)[clear], rtol=0, atol=1e-4)
    warm = _layer(source, TILES, temperature=1 / math.sqrt(DIM))
    weight = torch.softmax(x @ warm.signatures.to(x).T, dim=-1)
    everything = torch.arange(TILES).expand(50, TILES)
    expected = reference.tiled_ffn(x, warm, everything, weight)
    torch.testing.assert_close(warm(x), expected, rtol=0, atol=1e-7)


def test_straight_through_reads_hard_and_learns_soft_whatever_its_bias():
    x = tokens(40)
    layer, hard, soft = (
        _layer(top_k=k, blend=blend)
        for k, blend in ((4, "straight-through"), (1, "softmax"), (4, "softmax"))
    )
    assert torch.equal(layer(x), layer(x))
    for bias in ([0.0] * TILES, [5.0, -5.0, 0.0, 3.0, 0.0]):
        for each in (layer, hard, soft):
            each.bias.copy_(torch.tensor(bias))
        torch.testing.assert_close(layer(x), hard(x), rtol=0, atol=1e-12)
    assert not torch.equal(_layer(top_k=1).routed(x).route.index, hard.routed(x).route.index)
    for each in (layer, soft):  # through the weights alone: tiles and gates held still
        (each.routed(x).route.weight * tokens(40, dim=4, seed=2)).sum().backward()
    torch.testing.assert_close(grad(layer.mix), grad(soft.mix))
    assert grad(layer.mix).abs().sum() > 0


def test_loss_free_balancing_evens_the_reads_without_a_gradient():
    torch.manual_seed(0)
    layer = trix.TiledFFN(DIM, 8, 4, source="decoupled", balance=0.02)
    x = torch.randn(500, DIM) + 2 * torch.randn(DIM)
    uneven = trix.lab.normalized_entropy(trix.lab.usage(layer.routed(x).route, 8))
    for _ in range(300):
        layer.update(layer.routed(x).route)
    route = layer.routed(x).route
    even = trix.lab.normalized_entropy(trix.lab.usage(route, 8))
    assert uneven < 0.8
    assert even > 0.95
    assert not layer.bias.requires_grad
    # the bias chooses, but the score that is passed on is the raw one
    raw = (x @ layer.signatures.T).gather(1, route.index)
    torch.testing.assert_close(route.score, raw)


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_every_source_keeps_shapes_and_types_and_its_neighbours_from_a_nan(source):
    layer, x = _layer(source, balance=0.1), tokens(6)
    labels, before = _labels(x), {k: v.clone() for k, v in layer.state_dict().items()}
    whole = layer(x, labels)
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())
    torch.testing.assert_close(layer(x.view(2, 3, DIM), labels.view(2, 3)).view(6, DIM), whole)
    torch.testing.assert_close(layer(x[4], labels[4]), whole[4])
    assert layer(x[:0], labels[:0]).shape == (0, DIM)
    spoilt = x.clone()
    spoilt[2, 0] = float("nan")
    output, route = layer.routed(spoilt, labels)
    assert output[2].isnan().all()
    others = [0, 1, 3, 4, 5]
    torch.testing.assert_close(output[others], whole[others], rtol=0, atol=1e-14)
    assert ((route.index >= 0) & (route.index < TILES)).all()
    exact = layer.float().routed(x.float(), labels)
    with torch.autocast("cpu", torch.bfloat16):
        output, route = layer.routed(x.float(), labels)
    same = (route.index == exact.route.index).all(dim=-1)
    assert same.any()
    torch.testing.assert_close(output.float()[same], exact.output[same], rtol=0.1, atol=0.05)
    low = layer.to(torch.bfloat16)(x.to(torch.bfloat16), labels)
    assert low.dtype == torch.bfloat16
    assert low.isfinite().all()


@pytest.mark.parametrize("source", ["token-hash", "learned-router"])
def test_compiles_as_one_graph(source):
    torch.compiler.reset()
    layer, x = _layer(source), tokens(9)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x, _labels(x)), layer(x, _labels(x)))


def test_no_later_token_changes_an_earlier_address():
    torch.manual_seed(0)
    for source in SOURCES:
        options = {"tiles": 4, "hidden": 4, "source": source}
        config = trix.lab.LMConfig(dim=16, layers=2, positions=12, ffn="tiled", ffn_options=options)
        model, text = trix.lab.CharLM(config).eval(), torch.randint(65, (2, 12))
        changed = torch.cat([text[:, :8], (text[:, 8:] + 1) % 65], dim=1)
        for a, b in zip(model.routed(text).routes, model.routed(changed).routes, strict=True):
            assert torch.equal(a.index[:, :8], b.index[:, :8]), source
