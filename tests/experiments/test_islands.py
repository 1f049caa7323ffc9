"""What is measured of signatures and of gates, against loops and closed forms."""

import copy
import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch

import trix
import trix.experiments.arm
from tests import reference
from tests.experiments.small import BLOCK, CORPUS, FEW, TINY
from trix.address.signatures import SignatureRows
from trix.experiments.arm import Run
from trix.experiments.islands import (
    ISLANDS,
    NEAR,
    NoGate,
    SigmoidGate,
    _islands,
    island_statistics,
    losses_alone,
    reliability,
    set_gates,
)
from trix.experiments.surgery import PATIENT
from trix.lab.optimize import learning_rate
from trix.models.charlm import CharLM


def _by_hand(rows):
    cut = rows().tolist()
    latent = []
    for row, kept in zip(rows.raw.tolist(), cut, strict=True):
        sizes = [abs(v) for v, c in zip(row, kept, strict=True) if c]
        latent.append([v * len(sizes) / sum(sizes) for v in row])

    def cosines(table):
        return [
            sum(a * b for a, b in zip(first, second, strict=True))
            / math.hypot(*first)
            / math.hypot(*second)
            for n, first in enumerate(table)
            for m, second in enumerate(table)
            if n != m
        ]

    def mean(values):
        return math.fsum(values) / len(values)

    flat, cuts = [v for row in latent for v in row], [v for row in cut for v in row]
    hoyer = [mean([abs(v) for v in r]) / math.sqrt(mean([v * v for v in r])) for r in latent]
    return {
        "ternary_fraction": mean([min(abs(v - g) for g in (-1, 0, 1)) <= NEAR for v in flat]),
        "sparsity_before": mean([abs(v) <= NEAR for v in flat]),
        "hoyer": 1 - mean(hoyer),
        "diversity_before": 1 - mean([c * c for c in cosines(latent)]),
        "ternary_fraction_after": 1.0,
        "sparsity": mean([v == 0 for v in cuts]),
        "diversity": 1 - mean([c * c for c in cosines(cut)]),
        "diversity_linear": 1 - mean([abs(c) for c in cosines(cut)]),
    }


@pytest.mark.parametrize(("tiles", "dim"), [(2, 5), (5, 7), (13, 11)])
def test_statistics_equal_the_loop(tiles, dim):
    torch.manual_seed(tiles)
    rows = SignatureRows(tiles, dim)
    assert island_statistics(rows) == pytest.approx(_by_hand(rows), abs=1e-6)


def _mean(model):
    found = [_by_hand(layer.keys) for layer in model.routed_layers()]
    return {name: sum(f[name] for f in found) / len(found) for name in found[0]}


def test_start_and_random_are_untrained_signatures(tmp_path):
    for name, seed in (("start", 3), ("random", 1003)):
        outcome = ISLANDS["islands"][name].run(CORPUS, 3, "quick", tmp_path)
        fresh = PATIENT.build(CORPUS, seed)
        assert outcome.metrics == pytest.approx(_mean(fresh), abs=1e-6)
        assert (outcome.parameters, outcome.curve) == (fresh.parameter_count(), [])
        assert outcome.seconds > 0
    assert list(tmp_path.iterdir()) == []


def test_training_on_text_is_measured_at_its_end(tmp_path):
    arm: Any = _islands({"sparsity": 0.3, "diversity": 0.2})
    run = Run(CORPUS, 1, "quick", tmp_path).make(arm.recipe)
    nats = trix.lab.evaluate(trix.lab.model_log_probs(run.model), CORPUS.val, BLOCK).nats
    (measure,) = arm.measures
    assert measure(run) == pytest.approx({"val_nats": nats} | _mean(run.model), abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "metric"),
    [("ternary-pull", "ternary_fraction"), ("sparsity", "hoyer"), ("diversity", "diversity")],
)
def test_a_loss_alone_moves_what_it_is_about(tmp_path, monkeypatch, loss, metric):
    monkeypatch.setattr(trix.experiments.arm, "QUICK_STEPS", 60)
    start = ISLANDS["islands"]["start"].run(CORPUS, 0, "quick", tmp_path).metrics
    end = _islands({loss: 1.0}, data="none").run(CORPUS, 0, "quick", tmp_path).metrics
    assert end[metric] > start[metric] + 0.01
    assert "val_nats" not in end


def test_the_losses_alone_take_as_many_steps_and_no_other(monkeypatch, tmp_path):
    rates, step = [], torch.optim.AdamW.step

    def counted(self, *arguments, **options):
        (group,) = self.param_groups
        rates.append((group["lr"], group["weight_decay"], [p.shape for p in group["params"]]))
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    recipe: Any = _islands({"sparsity": 0.3}, data="none").recipe
    run = Run(CORPUS, 0, "quick", tmp_path).make(recipe)
    fresh = [p.detach().clone() for p in run.model.parameters()]
    assert losses_alone(run) == {}
    settings = recipe.train_config("quick")
    assert settings.steps == FEW
    expected = [learning_rate(settings, n) for n in range(FEW)]
    assert [rate for rate, _, _ in rates] == pytest.approx(expected)
    assert all(tuple(group) == (settings.weight_decay, [(64, 8)] * 2) for _, *group in rates)
    moved = [not torch.equal(a, b) for a, b in zip(fresh, run.model.parameters(), strict=True)]
    assert sum(moved) == 2


# Gates


def _model(**changes) -> Any:
    torch.manual_seed(0)
    options = {"ffn": "tiled", "ffn_options": {"tiles": 5}} | changes
    model = CharLM(TINY.with_model(vocab_size=CORPUS.vocab_size, **options)).double().eval()
    with torch.no_grad():  # tiles that differ, through gates that do
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


@torch.no_grad()
def _forced(model, text, count):
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
    model, text = _model(), CORPUS.train[:length]
    before, source = copy.deepcopy(model.state_dict()), model.blocks[-1].ffn.source
    found = reliability(model, text, BLOCK)
    assert found == pytest.approx(_forced(model, text, count), abs=1e-9)
    assert model.blocks[-1].ffn.source is source
    after = model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert reliability(model, text, BLOCK) == found  # nothing is left hanging on the model


def test_only_tiles_are_judged_and_get_gates():
    for changes in ({"ffn": "dense", "ffn_options": {}}, {"ffn": "lookup", "ffn_options": {}}):
        with pytest.raises(TypeError, match="expected a last feed-forward of tiles"):
            reliability(_model(**changes), CORPUS.train[:50], BLOCK)
    with pytest.raises(TypeError, match="must be a TiledFFN, got a SparseLookupFFN"):
        set_gates(_model(ffn="lookup", ffn_options={}), "spline")


@pytest.mark.parametrize("gate", ["spline", "sigmoid", "none"])
def test_every_layer_gets_the_gate_of_the_arm(gate):
    model = _model()
    set_gates(model, gate)
    kinds = {"spline": trix.ScoreGate, "sigmoid": SigmoidGate, "none": NoGate}
    assert [type(layer.gate) for layer in model.routed_layers()] == [kinds[gate]] * 2
    layer = model.blocks[1].ffn
    x = torch.randn(9, 8, dtype=torch.float64)
    output, route = layer.routed(x)
    plain, weight = copy.deepcopy(layer), torch.ones_like(route.score)
    if gate != "spline":
        plain.gate.values = lambda: torch.ones(9)  # the chosen tile at full volume
    if gate == "sigmoid":
        weight = (route.score / 8**0.5).sigmoid()
    expected = reference.tiled_ffn(x, plain, route.index, weight)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    assert gate == "spline" or list(layer.gate.parameters()) == []
    one = NoGate()(torch.tensor([torch.nan, 2.0], requires_grad=True))
    assert (one.isnan().tolist(), one.requires_grad) == ([True, False], False)


def test_a_run_trains_with_its_gate_and_says_what_it_measured(tmp_path):
    arm: Any = ISLANDS["calibration"]["none"]
    long = dataclasses.replace(arm.recipe, training={"steps": 90})  # five readings of the loss
    run = Run(CORPUS, 2, "full", tmp_path).make(long)
    assert [type(layer.gate) for layer in run.model.routed_layers()] == [NoGate] * 2
    assert run.result is not None
    curve = [loss for _, loss in run.result.curve]
    assert len(curve) == 5
    (measure,) = arm.measures
    metrics = measure(run)
    assert metrics.pop("val_nats") == run.score().nats
    jumps = [abs(b - a) for a, b in itertools.pairwise(curve[2:])]
    assert metrics.pop("curve_roughness") == pytest.approx(sum(jumps) / len(jumps), rel=1e-5)
    assert metrics == reliability(run.model, CORPUS.val, BLOCK)
    assert metrics["gate_0"] == metrics["gate_9"] == 1.0
