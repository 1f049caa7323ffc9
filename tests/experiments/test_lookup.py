import math
from typing import Any

import pytest
import torch

from trix.counts.match import ECHOES
from trix.counts.words import ADDRESSES
from trix.experiments import lookup as lookup_arms
from trix.experiments.arm import Run
from trix.experiments.lookup import (
    LookupTraining,
    attention_step,
    forbidden_losses,
    microseconds,
    sizes,
    weights,
)
from trix.lab.corpus import Corpus
from trix.lab.evaluate import evaluate_dynamic, model_log_probs
from trix.lab.optimize import TrainConfig
from trix.lab.recipes import PRESETS, Preset
from trix.models.charlm import LMConfig
from trix.models.lookup import BlockDraw, LookupConfig, LookupLM, count

CORPUS = Corpus("toy", "made up", "the cat sat on the mat, and the dog lay on the log. " * 30)
VOCAB, ORDER, BLOCK = CORPUS.vocab_size, 3, 13
NETWORK = LMConfig(
    dim=12,
    layers=1,
    positions=0,
    mixer="routed-memory",
    mixer_options={"heads": 3, "slots": 5},
    ffn="lookup",
    ffn_options={"tiles": 7, "tiles_per_cluster": None, "top_k": 2},
)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    training = TrainConfig(steps=11, batch=5, context=7, lr=1e-2, warmup=2)
    kinds = {"tiny": (NETWORK, False), "tiny-tables": (None, False), "tiny-words": (None, True)}
    for name, (network, words) in kinds.items():
        config = LookupConfig(
            order=ORDER, folds=3, hidden=5, network=network, words=words, echoes=words
        )
        monkeypatch.setitem(PRESETS, name, Preset(config, training, "for tests"))
    monkeypatch.setattr(lookup_arms, "BLOCK", BLOCK)
    monkeypatch.setattr("trix.experiments.arm.QUICK_STEPS", 6)
    monkeypatch.setattr(lookup_arms, "_TIMED", 7)


def _model(network=True, **changes) -> Any:
    settings = {"vocab_size": VOCAB, "order": ORDER, "folds": 3, "hidden": 5, **changes}
    inner = LMConfig(**{**NETWORK.__dict__, "vocab_size": VOCAB}) if network else None
    config = LookupConfig(**settings, network=inner)
    torch.manual_seed(1)
    model = LookupLM(config, *count(config, CORPUS.train, CORPUS.alphabet)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def _slow_loss(log_probs, text, block):
    # the mean loss, one prediction at a time
    total = 0.0
    with torch.no_grad():
        for t in range(len(text) - 1):
            row = text[t // block * block : t + 1]
            total -= float(log_probs(row[None])[0, -1, text[t + 1]])
    return total / (len(text) - 1)


@pytest.mark.parametrize("name", ["tiny", "tiny-tables", "tiny-words"])
def test_a_run_measures_everything(name, tmp_path, monkeypatch):
    monkeypatch.setattr(lookup_arms, "attention_step", lambda: 0.25)
    arm: Any = lookup_arms._arm(name, closely=True, block=BLOCK)
    outcome = arm.run(CORPUS, 1, "quick", tmp_path / "run")
    found = outcome.metrics
    tables = [*range(1, ORDER + 1), *(ADDRESSES + ECHOES if name == "tiny-words" else ())]
    places = [*tables, *(["network"] if name == "tiny" else [])]
    assert set(found) == {
        *("val_nats", "val_perplexity", "val_nats_dynamic", "us_per_character", "tokens"),
        *("seconds_counting", "seconds_in_all", "seconds_attention_step", "peak_megabytes"),
        *(f"weight_{place}" for place in places),
        *(f"val_nats_without_{place}" for place in places),
        *("bytes", "bytes_tables", *(f"bytes_order_{n}" for n in tables)),
    }
    assert all(math.isfinite(value) and value >= 0 for value in found.values())
    # the same run again, by hand
    run = Run(CORPUS, 1, "quick", tmp_path / "again").make(arm.recipe)
    model, result = run.model, run.result
    assert result is not None
    assert arm.timed
    assert not model.training
    assert found["val_nats"] == pytest.approx(_slow_loss(model, CORPUS.val, BLOCK), abs=1e-5)
    assert found["val_perplexity"] == pytest.approx(math.exp(found["val_nats"]))
    assert found["val_nats_dynamic"] == evaluate_dynamic(model, CORPUS.val, BLOCK).nats
    for metrics in (weights(model, CORPUS.val), forbidden_losses(model, CORPUS.val), sizes(model)):
        assert metrics.items() <= found.items()
    assert outcome.curve == [list(point) for point in result.curve]
    assert outcome.curve[-1][0] == 6
    assert found["tokens"] == 6 * 5 * 7
    assert found["seconds_attention_step"] == 0.25
    assert found["seconds_in_all"] > outcome.seconds
    assert found["seconds_in_all"] > found["seconds_counting"] > 0
    assert outcome.parameters == model.parameter_count()
    other = Run(CORPUS, 2, "quick", tmp_path / "other").make(arm.recipe).model
    assert not torch.equal(other.gate.read.weight, model.gate.read.weight)


def test_training_leaves_each_window_s_own_block_out(tmp_path, monkeypatch):
    given = []

    def look(model, draw, config, seed, folder, **options):
        given.append((model, draw, config, seed, folder))

    monkeypatch.setattr("trix.experiments.arm.train", look)
    for changes in ({}, {"folds": 0}):
        Run(CORPUS, 3, "full", tmp_path).make(LookupTraining("tiny", changes, {"steps": 22}))
    for (model, draw, config, seed, folder), folds in zip(given, (3, 0), strict=True):
        assert isinstance(draw, BlockDraw)
        assert torch.equal(draw.text, CORPUS.train)
        assert draw.folds == model.memory.folds == model.config.folds == folds
        assert (config.steps, seed, folder) == (22, 3, tmp_path)


def test_an_order_can_be_gone_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(lookup_arms, "attention_step", lambda: 0.25)
    arm: Any = lookup_arms._arm("tiny-tables", without="order 2")
    outcome = arm.run(CORPUS, 1, "quick", tmp_path)
    assert outcome.metrics["weight_2"] == 0
    assert outcome.metrics["weight_1"] > 0
    assert not [name for name in outcome.metrics if "without" in name or "dynamic" in name]
    model = Run(CORPUS, 1, "quick", tmp_path / "again").make(arm.recipe).model
    assert model.dropped == {"order 2"}
    whole = Run(CORPUS, 1, "quick", tmp_path / "whole").make(LookupTraining("tiny-tables")).model
    assert not torch.equal(whole.gate.score.weight, model.gate.score.weight)


@pytest.mark.parametrize("network", [False, True])
def test_weights_are_means_over_the_first_blocks_and_sum_to_one(network):
    model = _model(network)
    got = weights(model, CORPUS.val, looked=3)
    total = [0.0] * model.gate.places
    with torch.no_grad():
        for block in range(3):
            route = model.routed(CORPUS.val[None, block * BLOCK : (block + 1) * BLOCK]).gate
            for index, weight in zip(
                route.index[0].tolist(), route.weight[0].tolist(), strict=True
            ):
                for place, share in zip(index, weight, strict=True):
                    total[place] += share / (3 * BLOCK)
    assert list(got) == ["weight_1", "weight_2", "weight_3", *(["weight_network"] * network)]
    assert list(got.values()) == pytest.approx(total, abs=1e-6)
    assert sum(got.values()) == pytest.approx(1, abs=1e-5)
    short = weights(model, CORPUS.val[: 2 * BLOCK + 5])
    assert short == pytest.approx(weights(model, CORPUS.val, looked=2))


@pytest.mark.parametrize("network", [False, True])
def test_losses_without_a_place_leave_the_model_as_it_was(network):
    model, text = _model(network), CORPUS.val[:70]
    before = model(text[None])
    got = forbidden_losses(model, text)
    assert torch.equal(model(text[None]), before)
    assert model.dropped == frozenset()
    assert not model.gate.forbidden.any()
    assert len(got) == model.gate.places
    for order in range(1, ORDER + 1):
        gone = _model(network)
        gone.drop(f"order {order}")
        loss = _slow_loss(model_log_probs(gone), text, BLOCK)
        assert got[f"val_nats_without_{order}"] == pytest.approx(loss, abs=1e-5)
    if network:
        model.gate.forbid(ORDER)  # the tables may be asked, and tell the network in vain
        loss = _slow_loss(model_log_probs(model), text, BLOCK)
        assert got["val_nats_without_network"] == pytest.approx(loss, abs=1e-5)
    assert len({round(loss, 6) for loss in got.values()}) == len(got)


def test_a_character_takes_the_median_on_one_thread(monkeypatch):
    ticks = iter([0.0, 9.0, 10.0, 11.0, 20.0, 22.0])
    used = []

    def clock():
        used.append(torch.get_num_threads())
        return next(ticks)

    monkeypatch.setattr(lookup_arms, "_TIMED", 3)
    monkeypatch.setattr(lookup_arms.time, "perf_counter", clock)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert microseconds(_model(), CORPUS.val) == 2e6  # of 9, 1 and 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert used == [1] * 6


def test_an_attention_step_is_the_better_of_two_rounds(monkeypatch):
    ticks = iter([0.0, 16.0, 20.0, 28.0])
    trained = []
    monkeypatch.setattr(lookup_arms.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(
        lookup_arms, "train", lambda model, text, config, **_: trained.append((model, config))
    )
    assert attention_step() == 1.0  # 8 steps in 16 and in 8 seconds
    for model, config in trained:
        assert model.config.mixer == "attention"
        assert (config.steps, config.batch) == (8, lookup_arms.protocol("nano").train.batch)
