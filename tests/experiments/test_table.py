"""Every experiment: its arms say what the records say, its models stand, its arms run."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import trix.experiments.arm
from tests.experiments.small import CORPUS, TINY
from trix.experiments.table import EXPERIMENTS
from trix.experiments.tiles import SOURCES, TILES
from trix.lab.recipes import PROTOCOLS
from trix.ledger.claims import load_claims
from trix.ledger.records import read_all_records
from trix.ledger.run import plain
from trix.models.charlm import FFNS

LEDGER = Path(__file__).parents[2] / "book" / "claims"
WHOLE = {name: PROTOCOLS[name] for name in ("probe", "nano")}
ARMS = [(experiment, name) for experiment, arms in (SOURCES | TILES).items() for name in arms]


@pytest.fixture
def whole(monkeypatch):
    for name, known in WHOLE.items():
        monkeypatch.setitem(PROTOCOLS, name, known)
    monkeypatch.setattr(trix.experiments.arm, "QUICK_STEPS", 60)


@pytest.mark.parametrize(
    ("folder", "budget", "vocab"),
    [("records", "full", 65), ("quick", "quick", 64), ("all-plays", "full", 70)],
)
def test_every_record_was_made_with_the_configuration_that_its_arm_has(
    whole, folder, budget, vocab
):
    known: dict[tuple[str, str], list[Any]] = {}
    text: Any = SimpleNamespace(vocab_size=vocab)
    for record in read_all_records(LEDGER / folder):
        key = record.experiment, record.arm
        if key not in known:
            arm = EXPERIMENTS[record.experiment][record.arm]
            known[key] = [arm.seeded, plain(arm.config(text, budget))]
        assert known[key] == [record.seed is not None, record.config], key
    assert len(known) > 5


def test_rules_name_only_arms_that_are_written():
    for claim in load_claims(LEDGER):
        for arm in (claim.rule.claimed, claim.rule.baseline, *claim.rule.controls):
            experiment, _, name = str(arm).partition("/")
            assert isinstance(arm, float | int) or name in EXPERIMENTS[experiment], (claim.id, arm)


def test_what_measures_time_runs_alone():
    timed = {name for name, arms in EXPERIMENTS.items() if any(a.timed for a in arms.values())}
    assert timed == {
        *("routing-cost", "memory-cost", "speed", "lookup-tables", "lookup-model"),
        *("lookup-small", "lookup-parts", "lookup-long", "lookup-base"),
    }


# Arms about tiles, at full size and at a tiny one


def _ffn(experiment, name) -> Any:
    recipe: Any = EXPERIMENTS[experiment][name].recipe
    config = recipe.model_config(CORPUS)
    make: Any = FFNS[config.ffn]
    return make(config.dim, **config.ffn_options)


def _size(experiment, name):
    return sum(p.numel() for p in _ffn(experiment, name).parameters())


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.mark.parametrize(("experiment", "name"), ARMS)
def test_every_arm_runs_and_gives_what_the_rules_ask_of_it(work, monkeypatch, experiment, name):
    monkeypatch.setattr(trix.experiments.arm, "QUICK_STEPS", 1)
    monkeypatch.setitem(PROTOCOLS, "seed", TINY)
    arm = EXPERIMENTS[experiment][name]
    outcome = arm.run(CORPUS, 0, "quick", work / f"{experiment}-{name}")
    assert outcome.metrics
    for metric, value in outcome.metrics.items():
        assert math.isfinite(value), metric
    for claim in load_claims(LEDGER):
        rule = claim.rule
        if f"{experiment}/{name}" in (rule.claimed, rule.baseline, *rule.controls):
            assert rule.metric in outcome.metrics, claim.id


# Sizes that the comments of the experiments and the claims speak of


def test_sizes_are_as_said(whole):
    layer = dict.fromkeys(("dense", "codebook", "product"), 131_072)
    layer |= dict.fromkeys(("sparse-lookup", "random-keys"), 127_200)
    assert {name: _size("lookup-layer", name) for name in layer} == layer
    assert [_size("sparse-lookup", name) for name in ("quality", "half")] == [127_200, 63_600]
    same = _size("sparse-lookup", "dense-same-size")
    assert same == pytest.approx(_size("sparse-lookup", "sparse-lookup"), rel=0.01)
    assert not _ffn("lookup-layer", "random-keys").keys.raw.requires_grad
    tied, untied = (_size("hybrid", name) for name in ("hybrid-kan", "random-routes"))
    assert tied == untied
    # dense layers of the tiles' parameters, and of their multiplications
    tiled = _ffn("sources", "weights")
    one = [part[0].numel() for part in (tiled.bottleneck, tiled.mix, tiled.down)]
    reads = sum(one) + tiled.signatures.numel()
    assert _size("sources", "dense") == pytest.approx(_size("sources", "weights"), rel=0.002)
    assert _size("sources", "narrow-dense") == pytest.approx(reads, rel=0.02)
