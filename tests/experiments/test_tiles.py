"""Arms about tiles: what is kept, what is chosen, and what is measured, on tiny models."""

import math
from typing import Any

import pytest
import torch

import trix
import trix.experiments.arm
from tests.experiments.small import BLOCK, CORPUS, FEW, saved
from trix.experiments import tiles as arms
from trix.experiments.arm import Run, Training
from trix.experiments.tiles import (
    STAGES,
    TILES,
    _transplant,
    best_cells,
    bottleneck,
    linear_information,
    table_bits,
)
from trix.lab.metrics import explained_variance, information
from trix.lab.train import TrainResult, train
from trix.tiles.tile import SplineBodies, TernaryBodies

DESIGNS = {"trix": "hierarchical-trix", "kan": "hybrid-kan"}


@pytest.mark.parametrize(
    ("routing", "reading"), [("trix", "trix"), ("trix", "kan"), ("kan", "trix")]
)
def test_a_transplant_keeps_the_donors_routing_and_everything_else(
    tmp_path, monkeypatch, routing, reading
):
    seen: list[Any] = []

    def watched(model, *arguments, **options):
        state = {name: value.detach().clone() for name, value in model.state_dict().items()}
        seen.append((model, state))
        return train(model, *arguments, **options)

    monkeypatch.setattr(trix.experiments.arm, "train", watched)
    arm: Any = TILES["transplant"][f"{routing}-routes-{reading}-tiles"]
    outcome = arm.run(CORPUS, 5, "quick", tmp_path / "work")
    (shared,) = tmp_path.glob("transplant-*")
    assert arm.recipe.changes["ffn"] == DESIGNS[routing]
    donor = saved(shared, arm.recipe)

    # where the second training began
    (_, (model, start)) = seen
    elsewhere = [name for name in start if ".ffn." not in name]
    assert len(elsewhere) > 10
    for name in elsewhere:
        assert torch.equal(start[name], donor.state_dict()[name]), name
    kind = TernaryBodies if reading == "trix" else SplineBodies
    bodies = [name for name in start if ".ffn.bodies." in name]
    for block, (old, new) in enumerate(
        zip(donor.routed_layers(), model.routed_layers(), strict=True)
    ):
        assert torch.equal(start[f"blocks.{block}.ffn.address.fixed"], old.signatures)
        assert isinstance(new.bodies, kind)
        # and where it ended
        assert torch.equal(new.signatures, old.signatures)
        assert not any(p is new.address.fixed for p in model.parameters())
    end = model.state_dict()
    for name in [*bodies, "embed.weight", "blocks.1.mixer.out.weight"]:
        assert not torch.equal(end[name], start[name]), name
    # fresh tiles: those of a donor of the same design stay behind
    for name in set(bodies) & set(donor.state_dict()):
        assert not torch.equal(start[name], donor.state_dict()[name]), name
    nats = trix.lab.evaluate(trix.lab.model_log_probs(model), CORPUS.val, BLOCK).nats
    assert outcome.metrics["val_nats"] == nats
    assert outcome.parameters == model.parameter_count()
    config = arm.config(CORPUS, "quick")
    assert (config["model"]["ffn"], config["reading"]) == (DESIGNS[routing], reading)


def test_only_fixed_routing_takes_a_transplant():
    donor, model = (Training("probe", {"ffn": n}).build(CORPUS, 0) for n in DESIGNS.values())
    with pytest.raises(TypeError, match="must be a FixedRoutingFFN, got a HybridKANFFN"):
        _transplant(donor, model)


# Cells


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ({2: 2.0, 8: 1.9, 32: 1.8, 128: 1.85}, 32),
        ({2: 1.7, 8: 1.9, 32: 1.8, 128: 1.85}, 2),
        ({2: 2.0, 8: 1.9, 32: 1.9, 128: 1.95}, 8),
    ],
)
def test_the_best_cells_are_those_of_the_least_loss(tmp_path, monkeypatch, losses, best):
    folders = []

    def make(self, run, folder):
        cells = self.changes["cells"]
        folders.append(folder)
        run.model, run.parameters = cells, cells + 1
        run.result = TrainResult([(1, float(cells))], 10.0)

    class Score:
        def __init__(self, nats):
            self.nats = nats

    monkeypatch.setattr(Training, "make", make)
    monkeypatch.setattr(Run, "score", lambda run: Score(losses[run.model]))
    run = Run(CORPUS, 3, "quick", tmp_path)
    found = best_cells(run, {cells: Training("tiny", {"cells": cells}) for cells in losses})
    assert found == {
        "best_cells": math.log2(best),
        "val_nats": losses[best],
        **{f"val_nats_{cells}": loss for cells, loss in losses.items()},
    }
    assert folders == [tmp_path / f"cells-{cells}" for cells in losses]
    assert run.result == TrainResult([(1, float(best))], 40.0)
    assert (run.parameters, run.model) == (best + 1, best)


# Stages


def _by_hand(model, tokens):
    found = [([], [], []) for _ in model.routed_layers()]
    after = []
    for begin in range(0, tokens // BLOCK * BLOCK, BLOCK):
        block = CORPUS.train[begin : begin + BLOCK]
        after += CORPUS.train[begin + 1 : begin + BLOCK + 1].tolist()
        for layer, route, (seen, tile, cell) in zip(
            model.routed_layers(), model.routed(block[None]).routes, found, strict=True
        ):
            stages = layer.stages(route.token[0])
            seen += list(route.token[0])
            tile += stages.route.index[:, 0].tolist()
            cell += [tuple(c) for c in stages.cells[:, 0].tolist()]
    return found, torch.tensor(after)


@pytest.mark.parametrize("tokens", [100, 10**6])
def test_stages_are_what_a_trained_funnel_keeps(tmp_path, steps, tokens):
    recipe: Any = TILES["bottleneck"]["routed"].recipe
    runs = {s: Run(CORPUS, 2, "quick", tmp_path / s).make(recipe) for s in STAGES}
    got = {stage: bottleneck(run, stage, tokens) for stage, run in runs.items()}
    assert len(steps) == FEW  # one funnel for all
    (shared,) = tmp_path.glob("bottleneck-*")
    model = saved(shared, recipe)
    with torch.no_grad():
        layers, after = _by_hand(model, min(tokens, len(CORPUS.train) - 1))
    assert len(layers) == 2
    expected: dict[str, list] = {name: [] for name in (*STAGES, "within", "globally")}
    states: dict[str, list] = {"routed": [], "quantized": []}
    for seen, tile, cell in layers:
        seen, tile = torch.stack(seen), torch.tensor(tile)
        pairs = [(t, *c) for t, c in zip(tile.tolist(), cell, strict=True)]
        names = {pair: n for n, pair in enumerate(sorted(set(pairs)))}
        entry = torch.tensor([names[pair] for pair in pairs])
        expected["input"].append(linear_information(seen, after))
        for stage, state in (("routed", tile), ("quantized", entry)):
            expected[stage].append(information(state, after).corrected)
            states[stage].append(len(state.unique()))
        expected["shuffled-labels"].append(information(entry, after).shuffled)
        expected["within"].append(explained_variance(seen, tile, 2))
        expected["globally"].append(explained_variance(seen, torch.zeros_like(tile), 2))
    for stage in STAGES:
        # the reader of the input is searched for, not worked out, and so short a text lets it stray
        near: dict[str, Any] = {"rel": 0.1, "abs": 2e-2} if stage == "input" else {"abs": 1e-9}
        metrics = got[stage]
        for number, value in enumerate(expected[stage]):
            assert metrics[f"mutual_information_{number}"] == pytest.approx(value, **near)
        mean = sum(expected[stage]) / 2
        assert metrics["mutual_information"] == pytest.approx(mean, **near)
        for name in ("within", "globally"):
            assert metrics[f"explained_{name}"] == pytest.approx(sum(expected[name]) / 2)
        counted = states.get("quantized" if stage == "shuffled-labels" else stage)
        assert metrics.get("states") == (sum(counted) / 2 if counted else None)


def test_a_linear_reader_tells_all_of_what_is_spelt_out():
    # one feature a state: the best linear reader is the table of shares
    generator = torch.Generator().manual_seed(0)
    state = torch.randint(5, (700,), generator=generator)
    label = torch.where(torch.rand(700, generator=generator) < 0.6, state % 3, 2 - state % 2)
    tokens = torch.nn.functional.one_hot(state).float()
    plug_in = information(state, label).plug_in
    assert plug_in > 0.1
    assert linear_information(tokens.repeat(2, 1), label.repeat(2)) == pytest.approx(
        plug_in, abs=2e-3
    )
    # and nothing of what has nothing to do with the label
    state, label = torch.arange(4).repeat(15), torch.arange(3).repeat_interleave(20)
    tokens = torch.nn.functional.one_hot(state).float().repeat(2, 1)
    nothing = linear_information(tokens, label.repeat(2))
    assert nothing == pytest.approx(0.0, abs=1e-5)
    # a state that decides the label tells its entropy, in the limit
    label = torch.tensor([0, 0, 1, 2])[state]
    all_of_it = linear_information(tokens, label.repeat(2))
    assert all_of_it == pytest.approx(information(label, label).plug_in, abs=1e-3)


def test_a_linear_reader_finds_nothing_where_there_is_nothing():
    # as many weights as a tenth of the tokens: judged on its own text it would find 0.1 nats
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randn(4000, 40, generator=generator)
    label = torch.randint(10, (4000,), generator=generator)
    with torch.no_grad():  # the reader is fitted all the same
        assert -0.2 < linear_information(tokens, label) < 0


# Tables


def test_a_table_reads_the_splines_own_bits_where_inputs_are_rounded(tmp_path, monkeypatch):
    monkeypatch.setattr(arms, "_INPUTS", 5000)
    runs = [Run(CORPUS, seed, "quick", tmp_path) for seed in (0, 1)]
    assert [table_bits(run, quantized=True) for run in runs] == [{"mismatched_bits": 0.0}] * 2
    # inputs are of 5,000 values each way, and next to none is a level
    first, other = (table_bits(run, quantized=False)["mismatched_bits"] for run in runs)
    assert 7_500 < first <= 10_000
    assert first != other
