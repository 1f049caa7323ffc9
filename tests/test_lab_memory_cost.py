"""What reading the past costs: counts that follow from the shapes, and laws that are known."""

import json
import math
from typing import Any

import pytest

from trix.experiments import cost as memory_cost
from trix.experiments.cost import MemoryCost
from trix.experiments.table import EXPERIMENTS
from trix.lab.corpus import Corpus
from trix.lab.cost import (
    exponent,
    multiply_adds,
)

CORPUS = Corpus("small", "made up", "abc " * 30)


@pytest.fixture
def clock(monkeypatch):
    """A clock that obeys a law: what is long takes the cube of its tokens, what is not, 1."""

    def seconds(call, tokens, rounds):
        call()
        return float(tokens**3) if tokens >= 64 else 1.0

    monkeypatch.setattr(memory_cost, "QUICK_LENGTHS", (13, 64, 128, 192))
    monkeypatch.setattr(memory_cost, "LONG", 64)
    monkeypatch.setattr(memory_cost, "LONGEST_TRAINED", {"attention": 128, "routed-memory": 192})
    monkeypatch.setattr(memory_cost, "_seconds", seconds)


def test_every_length_is_measured(clock, tmp_path):
    arm = MemoryCost("routed-memory")
    metrics = arm.run(CORPUS, 1, "quick", tmp_path).metrics
    for n in (13, 64, 128, 192):
        assert metrics[f"multiply_adds_{n}"] == multiply_adds("routed-memory", n)
        spent = n**3 if n >= 64 else 1
        assert metrics[f"forward_seconds_{n}"] == metrics[f"train_seconds_{n}"] == spent
        assert metrics[f"decode_seconds_{n}"] == 1
        assert metrics[f"state_bytes_{n}"] == metrics["state_bytes_13"] < 2**20
        assert f"read_seconds_{n}" not in metrics
    assert metrics["kept_bytes_128"] > 1.9 * metrics["kept_bytes_64"]
    assert metrics["cost_exponent"] == pytest.approx(1, abs=0.05)
    assert metrics["time_exponent"] == pytest.approx(3)
    again, other = (arm.run(CORPUS, seed, "quick", tmp_path).metrics for seed in (1, 2))
    assert metrics == again == other  # what is counted does not depend on the seed


def test_attention_is_trained_as_far_as_is_said(clock, tmp_path):
    outcome = MemoryCost("attention").run(CORPUS, 0, "quick", tmp_path)
    metrics = outcome.metrics
    assert {name for name in metrics if name.startswith(("train", "kept"))} == {
        f"{what}_{n}" for what in ("train_seconds", "kept_bytes") for n in (13, 64, 128)
    }
    for n in (13, 64, 128, 192):
        assert metrics[f"forward_seconds_{n}"] > 0
        assert metrics[f"read_seconds_{n}"] == 1
        assert metrics[f"state_bytes_{n}"] == pytest.approx(8 * 256 * n, abs=64)
    laws = {n: float(n * (1024 + n + 1)) for n in (13, 64, 128, 192)}
    assert metrics["cost_exponent"] == pytest.approx(exponent(laws))
    assert metrics["time_exponent"] == pytest.approx(3)
    assert outcome.parameters == 4 * 256 * 256
    assert all(math.isfinite(value) for value in metrics.values())


def test_the_seed_draws_weights_and_tokens(clock, tmp_path, monkeypatch):
    drawn = []

    def look(layer, call):
        drawn.append(
            [
                float(call()[0].detach().sum()),
                *(float(p.detach().sum()) for p in layer.parameters()),
            ]
        )
        return 1

    monkeypatch.setattr(memory_cost, "kept_bytes", look)
    for seed in (0, 0, 1):
        MemoryCost("attention").run(CORPUS, seed, "quick", tmp_path)
    first, again, other = drawn[::3]
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_the_median_of_fewer_rounds_where_texts_are_longer(monkeypatch):
    ticks = iter([0, 9, 10, 11, 20, 22])
    monkeypatch.setattr(memory_cost.time, "perf_counter", lambda: next(ticks))
    assert memory_cost._seconds(lambda: None, 20000, 51) == 2  # of 9, 1 and 2
    ticks = iter([0, 7])
    assert memory_cost._seconds(lambda: None, 65536, 51) == 7
    ticks = iter([0, 7, 10, 12, 20, 21, 30, 31])
    assert memory_cost._seconds(lambda: None, 1, 2) == 4.5


def test_the_experiment_has_both_and_its_configuration_is_plain():
    arms: dict[str, Any] = EXPERIMENTS["memory-cost"]
    assert {(arm.mixer, arm.options.get("slots")) for arm in arms.values()} == {
        ("attention", None),
        *(("routed-memory", slots) for slots in (16, 64, 256)),
    }
    for arm in arms.values():
        config = arm.config(CORPUS, "full")
        assert json.loads(json.dumps(config))["lengths"] == [256, 1024, 4096, 16384, 65536]
        assert set(config["trained"]) <= set(config["lengths"])
        assert arm.seeded


def test_an_unknown_mixer_is_named():
    with pytest.raises(ValueError, match="got 'none'"):
        MemoryCost("none")
