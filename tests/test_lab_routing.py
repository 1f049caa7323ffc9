import math

import pytest

import trix
import trix.experiments.cost
import trix.lab.bench
from tests.test_lab_experiments import CORPUS
from trix.experiments.cost import RoutingCost


@pytest.mark.parametrize(
    ("router", "cost"), [("flat", 1.0), ("hierarchical", 0.5), ("fractal", None)]
)
def test_routing_cost_measures_every_size(router, cost, tmp_path, monkeypatch):
    monkeypatch.setattr(trix.experiments.cost, "QUICK_TILES", (64, 256, 1024))
    arm = RoutingCost(router)
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
    config = arm.config(CORPUS, "quick")
    assert (config["router"], config["beam"]) == (router, 4)
    assert arm.config(CORPUS, "full")["tiles"] == (64, 256, 1024, 4096, 16384)


def test_the_seed_draws_the_clusters(tmp_path):
    arm = RoutingCost("fractal", beam=1)
    first, again, other = (arm.run(CORPUS, seed, "quick", tmp_path).metrics for seed in (0, 0, 1))
    assert first["recall_256"] == again["recall_256"] != other["recall_256"]
    assert first["cost_exponent"] == other["cost_exponent"]


def test_an_unknown_router_is_named():
    with pytest.raises(ValueError, match="got 'round'"):
        RoutingCost("round")
