"""What routing and memories cost: every size is measured, and laws that are known are found."""

import math

import pytest

from tests.experiments.small import CORPUS
from trix.experiments import cost as cost_arms
from trix.experiments.cost import COST, _memory_cost_arm
from trix.lab.cost import exponent, multiply_adds


@pytest.mark.parametrize(
    ("router", "cost"), [("flat", 1.0), ("hierarchical", 0.5), ("fractal", None)]
)
def test_routing_cost_measures_every_size(router, cost, tmp_path, monkeypatch):
    monkeypatch.setattr(cost_arms, "QUICK_TILES", (64, 256, 1024))
    arm = COST["routing-cost"][router]
    outcome = arm.run(CORPUS, 1, "quick", tmp_path)
    for tiles in (64, 256, 1024):
        assert outcome.metrics[f"seconds_{tiles}"] > 0
        found = outcome.metrics[f"recall_{tiles}"]
        assert found == 1.0 if router == "flat" else found > 0.85
    if cost is None:
        assert outcome.metrics["cost_exponent"] < 0.5
    else:
        assert outcome.metrics["cost_exponent"] == pytest.approx(cost)
        assert outcome.metrics["comparisons_64"] == (64 if router == "flat" else 40)
    assert math.isfinite(outcome.metrics["time_exponent"])
    assert arm.seeded
    assert arm.timed
    config = arm.config(CORPUS, "quick")
    assert (config["router"], config["beam"]) == (router, 4)
    assert arm.config(CORPUS, "full")["tiles"] == (64, 256, 1024, 4096, 16384)


def test_the_seed_draws_the_clusters(tmp_path, monkeypatch):
    monkeypatch.setattr(cost_arms, "BEAM", 1)
    arm = COST["routing-cost"]["fractal"]
    first, again, other = (arm.run(CORPUS, seed, "quick", tmp_path).metrics for seed in (0, 0, 1))
    assert first["recall_256"] == again["recall_256"] != other["recall_256"]
    assert first["cost_exponent"] == other["cost_exponent"]


@pytest.fixture
def clock(monkeypatch):

    def seconds(call, tokens, rounds):
        call()
        return float(tokens**3) if tokens >= 64 else 1.0

    monkeypatch.setattr(cost_arms, "QUICK_LENGTHS", (13, 64, 128, 192))
    monkeypatch.setattr(cost_arms, "LONG", 64)
    monkeypatch.setattr(cost_arms, "LONGEST_TRAINED", {"attention": 128, "routed-memory": 192})
    monkeypatch.setattr(cost_arms, "_seconds", seconds)


def test_every_length_is_measured(clock, tmp_path):
    arm = _memory_cost_arm("routed-memory")
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
    outcome = _memory_cost_arm("attention").run(CORPUS, 0, "quick", tmp_path)
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
        drawn.append([float(part.detach().sum()) for part in (call()[0], *layer.parameters())])
        return 1

    monkeypatch.setattr(cost_arms, "kept_bytes", look)
    for seed in (0, 0, 1):
        _memory_cost_arm("attention").run(CORPUS, seed, "quick", tmp_path)
    first, again, other = drawn[::3]
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_the_median_of_fewer_rounds_where_texts_are_longer(monkeypatch):
    ticks = iter([0, 9, 10, 11, 20, 22])
    monkeypatch.setattr(cost_arms.time, "perf_counter", lambda: next(ticks))
    assert cost_arms._seconds(lambda: None, 20000, 51) == 2  # of 9, 1 and 2
    ticks = iter([0, 7])
    assert cost_arms._seconds(lambda: None, 65536, 51) == 7
    ticks = iter([0, 7, 10, 12, 20, 21, 30, 31])
    assert cost_arms._seconds(lambda: None, 1, 2) == 4.5
