"""Arms about the gate: three gates, and whether they know which tile is best, against loops."""

import copy
import itertools
import math
from typing import Any

import pytest
import torch

import trix
import trix.experiments.arm
from tests import reference
from trix.experiments.islands import Gated, NoGate, SigmoidGate, reliability
from trix.lab.corpus import Corpus
from trix.lab.recipes import PROTOCOLS, Protocol
from trix.models.charlm import CharLM

CORPUS = Corpus(
    "small", "made up", "the cat sat on the mat; " * 30 + "a cat that sat on a hat. " * 9
)
BLOCK = 6
TINY = Protocol(
    trix.lab.LMConfig(dim=8, layers=2, positions=6, mixer_options={"heads": 2}),
    trix.lab.TrainConfig(steps=600, batch=2, context=5, warmup=1, lr=0.01),
    block=BLOCK,
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "probe", TINY)
    monkeypatch.setattr(trix.experiments.arm, "QUICK_STEPS", 90)  # five readings of the loss


def _model(**changes) -> Any:
    torch.manual_seed(0)
    options = {"ffn": "tiled", "ffn_options": {"tiles": 5}} | changes
    model = CharLM(TINY.with_model(vocab_size=CORPUS.vocab_size, **options)).double().eval()
    with torch.no_grad():  # tiles that differ, through gates that do
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


def _state(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


@torch.no_grad()
def _by_hand(model, text, count):
    """Force each tile by hand upon the last layer and return all that `reliability` says."""
    rows = text[:count].view(-1, BLOCK)
    last = model.blocks[-1]
    x = model.embed(rows) + model.position.weight[:BLOCK]
    x = model.blocks[0](x)[0]
    x = x + last.mixer(last.mixer_norm(x))[0]
    normed = last.ffn_norm(x)
    whole = model.head(model.norm(x + last.ffn(normed)))
    torch.testing.assert_close(whole, model(rows))
    x, normed = x.flatten(0, 1), normed.flatten(0, 1)
    signatures, gates = last.ffn.signatures, last.ffn.gate.values().tolist()
    losses = []
    for tile in range(5):
        index = torch.full((count, 1), tile)
        read = reference.tiled_ffn(normed, last.ffn, index, torch.ones(count, 1))
        logits = model.head(model.norm(x + read))
        losses.append([-float(logits[n].log_softmax(-1)[text[n + 1]]) for n in range(count)])
    tokens = []
    for n in range(count):
        scores = (signatures @ normed[n]).tolist()
        chosen = scores.index(max(scores))
        gate = reference.spline_value(max(scores) / math.sqrt(8), gates, 4.0)
        costs = [losses[tile][n] for tile in range(5)]
        tokens.append((gate, costs[chosen] == min(costs), costs[chosen] - min(costs)))
    found = {"best_share": sum(t[1] for t in tokens) / count}
    found["regret"] = sum(t[2] for t in tokens) / count
    tokens.sort(key=lambda token: token[0])
    groups, at = [], 0
    for number in range(10):
        size = count // 10 + (number < count % 10)
        groups.append(tokens[at : at + size])
        at += size
        found[f"gate_{number}"] = sum(t[0] for t in groups[-1]) / size
        found[f"best_share_{number}"] = sum(t[1] for t in groups[-1]) / size
    loud, quiet = [[t for g in third for t in g] for third in (groups[-3:], groups[:3])]
    found["gate_rise"] = sum(t[1] for t in loud) / len(loud) - sum(t[1] for t in quiet) / len(quiet)
    return found


@pytest.mark.parametrize(
    ("length", "judged", "count"), [(100, 200, 96), (97, 200, 96), (96, 200, 90), (100, 7, 42)]
)
def test_reliability_equals_forcing_each_tile_by_hand(monkeypatch, length, judged, count):
    monkeypatch.setattr("trix.experiments.islands.JUDGED", judged)
    model, text = _model(), CORPUS.val[:length]
    if len(text) < length:
        text = CORPUS.train[:length]
    before, source = _state(model), model.blocks[-1].ffn.source
    found = reliability(model, text, BLOCK)
    assert found == pytest.approx(_by_hand(model, text, count), abs=1e-9)
    assert 0 < found["best_share"] < 1
    assert found["regret"] > 0
    assert model.blocks[-1].ffn.source is source
    after = model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert reliability(model, text, BLOCK) == found  # nothing is left hanging on the model


def test_only_tiles_can_be_judged():
    for changes in ({"ffn": "dense", "ffn_options": {}}, {"ffn": "lookup", "ffn_options": {}}):
        with pytest.raises(TypeError, match="expected a last feed-forward of tiles"):
            reliability(_model(**changes), CORPUS.train[:50], BLOCK)


def test_gates_are_one_or_the_logistic_function():
    score = torch.tensor([[-20.0, -1.5], [0.0, 7.0]], dtype=torch.float64, requires_grad=True)
    gate = SigmoidGate(7)(score)
    expected = [[1 / (1 + math.exp(-v / math.sqrt(7))) for v in row] for row in score.tolist()]
    torch.testing.assert_close(gate, torch.tensor(expected, dtype=torch.float64))
    assert list(SigmoidGate(7).parameters()) == []
    knots = torch.linspace(-4, 4, 9) * math.sqrt(7)
    torch.testing.assert_close(SigmoidGate(7)(knots), trix.ScoreGate(7)(knots))
    one = NoGate()(score)
    assert one.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert not one.requires_grad
    assert NoGate()(torch.tensor([torch.nan, 2.0])).isnan().tolist() == [True, False]


@pytest.mark.parametrize("gate", ["spline", "sigmoid", "none"])
def test_every_layer_gets_the_gate_of_the_arm(gate):
    model = _model()
    Gated(gate)._set_gates(model)
    kinds = {"spline": trix.ScoreGate, "sigmoid": SigmoidGate, "none": NoGate}
    assert [type(layer.gate) for layer in model.routed_layers()] == [kinds[gate]] * 2
    layer = model.blocks[1].ffn
    x = torch.randn(9, 8, dtype=torch.float64)
    output, route = layer.routed(x)
    plain: Any = copy.deepcopy(layer)
    plain.gate.values = lambda: torch.ones(9) if gate == "none" else torch.zeros(9)
    if gate == "none":  # the chosen tile at full volume
        expected = reference.tiled_ffn(x, plain, route.index, torch.ones_like(route.score))
    elif gate == "sigmoid":
        plain.gate.values = lambda: torch.ones(9)
        expected = reference.tiled_ffn(x, plain, route.index, (route.score / 8**0.5).sigmoid())
    else:
        expected = reference.tiled_ffn(x, layer, route.index, torch.ones_like(route.score))
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gate", ["spline", "sigmoid", "none"])
def test_a_run_trains_with_its_gate_and_says_what_it_measured(tmp_path, monkeypatch, gate):
    kept: list[Any] = []
    real = trix.experiments.islands.trained_with_result  # pyright: ignore[reportAttributeAccessIssue]

    def watched(*arguments):
        kept.append(real(*arguments))
        return kept[-1]

    monkeypatch.setattr("trix.experiments.islands.trained_with_result", watched)
    arm = Gated(gate)
    outcome = arm.run(CORPUS, 2, "quick", tmp_path)
    ((model, result),) = kept
    kinds = {"spline": trix.ScoreGate, "sigmoid": SigmoidGate, "none": NoGate}
    assert [type(layer.gate) for layer in model.routed_layers()] == [kinds[gate]] * 2
    metrics = dict(outcome.metrics)
    nats = trix.lab.evaluate(trix.lab.model_log_probs(model), CORPUS.val, BLOCK).nats
    assert metrics.pop("val_nats") == nats
    tail = [loss for _, loss in result.curve]
    tail = tail[len(tail) // 2 :]
    assert len(tail) > 1
    jumps = [abs(b - a) for a, b in itertools.pairwise(tail)]
    assert metrics.pop("curve_roughness") == pytest.approx(sum(jumps) / len(jumps), rel=1e-5)
    assert metrics == reliability(model, CORPUS.val, BLOCK)
    assert outcome.curve == [list(point) for point in result.curve]
    assert outcome.parameters == model.parameter_count()
    assert arm.config(CORPUS, "quick")["gate"] == gate
    if gate == "none":
        assert metrics["gate_0"] == metrics["gate_9"] == 1.0


def test_unknown_gates_and_layers_are_named():
    with pytest.raises(ValueError, match="gate must be spline, sigmoid or none, got 'relu'"):
        Gated("relu")
    with pytest.raises(TypeError, match="expected TiledFFN, got SparseLookupFFN"):
        Gated("none")._set_gates(_model(ffn="lookup", ffn_options={}))
