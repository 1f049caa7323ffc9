"""Every experiment about tiles: its models stand at full size, and its arms run at a tiny one."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import trix
import trix.experiments.arm
from trix.experiments.arm import TrainedLM
from trix.experiments.tiles import FUNNEL, TILES, BestCells, Stage, TableBits, Transplant
from trix.lab.corpus import Corpus
from trix.lab.recipes import PROTOCOLS, Protocol, protocol
from trix.ledger.claims import load_claims
from trix.models.charlm import FFNS, CharLM

CORPUS = Corpus(
    "small", "made up", "the cat sat on the mat; " * 30 + "a cat that sat on a hat. " * 9
)
TINY = Protocol(
    trix.lab.LMConfig(dim=8, layers=1, positions=6, mixer_options={"heads": 2}),
    trix.lab.TrainConfig(steps=600, batch=2, context=5, warmup=1),
    block=6,
)
ARMS = [(experiment, name) for experiment, arms in TILES.items() for name in arms]
LEDGER = Path(__file__).parents[1] / "book" / "claims"


def _models(arm: Any) -> dict[str, TrainedLM]:
    """Return every model that an arm trains."""
    if isinstance(arm, TrainedLM):
        return {"": arm}
    if isinstance(arm, BestCells):
        return {str(cells): arm._arm(cells) for cells in arm.cells}
    if isinstance(arm, Transplant):
        options = {"ffn": "fixed-routing", "ffn_options": {"reading": arm.reading}}
        return {"donor": arm._first(), "second": TrainedLM("probe", options)}
    assert isinstance(arm, (Stage, TableBits))
    return {"": FUNNEL} if isinstance(arm, Stage) else {}


def _ffn(experiment, name) -> Any:
    (arm,) = _models(TILES[experiment][name]).values()
    config = arm._model(CORPUS)
    make: Any = FFNS[config.ffn]
    return make(config.dim, **config.ffn_options)


def _size(experiment, name):
    return sum(p.numel() for p in _ffn(experiment, name).parameters())


@pytest.mark.parametrize(("experiment", "name"), ARMS)
def test_every_model_stands_at_full_size_and_speaks(experiment, name):
    arm = TILES[experiment][name]
    config = arm.config(CORPUS, "full")
    assert json.loads(json.dumps(config, allow_nan=False)) == json.loads(json.dumps(config))
    for trains in _models(arm).values():
        model = CharLM(trains._model(CORPUS))
        out = model.routed(CORPUS.val[:64][None])
        assert out.logits.isfinite().all()
        assert len(out.routes) == len(model.routed_layers()) in (0, 4)
        for layer, route in zip(model.routed_layers(), out.routes, strict=True):
            assert 0 <= int(route.index.min()) <= int(route.index.max()) < len(layer.signatures)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.mark.parametrize(("experiment", "name"), ARMS)
def test_every_arm_runs_and_gives_what_the_rules_ask_of_it(work, monkeypatch, experiment, name):
    monkeypatch.setattr(trix.experiments.arm, "QUICK_STEPS", 2)
    for known in ("probe", "nano"):
        monkeypatch.setitem(PROTOCOLS, known, TINY)
    arm = TILES[experiment][name]
    outcome = arm.run(CORPUS, 0, "quick", work / f"{experiment}-{name}")
    assert outcome.metrics
    for metric, value in outcome.metrics.items():
        assert math.isfinite(value), metric
    for claim in load_claims(LEDGER):
        rule = claim.rule
        if f"{experiment}/{name}" in (rule.claimed, rule.baseline, *rule.controls):
            assert rule.metric in outcome.metrics, claim.id


def test_rules_name_only_arms_that_are_written():
    for claim in load_claims(LEDGER):
        for arm in (claim.rule.claimed, claim.rule.baseline, *claim.rule.controls):
            experiment, _, name = str(arm).partition("/")
            if experiment in TILES:
                assert name in TILES[experiment], (claim.id, arm)
    named = {name for claim in load_claims(LEDGER) for name in claim.rule.experiments()}
    # a transplant is measured beside the claims
    assert set(TILES) - named <= {"transplant"}


def test_arms_have_their_experiments_protocol():
    for experiment, name in ARMS:
        for arm in _models(TILES[experiment][name]).values():
            wanted = "nano" if experiment in ("sparse-lookup", "hybrid") else "probe"
            assert arm.protocol == wanted
    assert protocol("probe").train.steps == 600
    assert protocol("nano").train.steps == 2000
    assert protocol("probe").model == protocol("nano").model


# Sizes that the comments of the experiments and the claims speak of


def test_sizes_are_as_said():
    dense = _size("lookup-layer", "dense")
    assert dense == 131_072
    assert _size("sparse-lookup", "quality") == _size("lookup-layer", "sparse-lookup") == 127_200
    assert _size("sparse-lookup", "half") == 63_600
    assert _size("lookup-layer", "random-keys") == _size("lookup-layer", "sparse-lookup")
    for name in ("codebook", "product"):
        assert _size("lookup-layer", name) == dense
    same = _size("sparse-lookup", "dense-same-size")
    assert same == pytest.approx(_size("sparse-lookup", "sparse-lookup"), rel=0.01)
    for experiment, name in (("sparse-lookup", "quality"), ("lookup-layer", "sparse-lookup")):
        layer = _ffn(experiment, name)
        assert layer.tiles == 16 * layer.top_k
    tied, untied = (_size("hybrid", name) for name in ("hybrid-kan", "random-routes"))
    assert tied == untied


@pytest.mark.parametrize(("arm", "moves"), [("random-keys", False), ("sparse-lookup", True)])
def test_random_keys_stay_and_learned_ones_move(arm, moves):
    layer = _ffn("lookup-layer", arm)
    rows, values = layer.signatures.clone(), layer.values.detach().clone()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.5)
    x = torch.randn(40, layer.dim, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        layer(x).square().mean().backward()
        optimizer.step()
    assert torch.equal(layer.signatures, rows) is not moves
    assert not torch.equal(layer.values, values)


def test_splines_of_the_same_bytes_and_addresses_of_the_same_bits():
    ternary = _ffn("splines", "ternary").bodies.activation.spline
    line = _ffn("splines", "float-same-bytes").bodies.activation.spline
    # a scale a tile is shared by its splines
    assert line.bits < ternary.bits <= 1.2 * line.bits
    assert _ffn("splines", "float-same-cells").bodies.activation.spline.bits == 16 * line.bits
    sure, fixed = _ffn("resolution", "confidence"), _ffn("resolution", "fixed")
    bits = [math.log2(cells) for cells in (sure.coarse, sure.fine)]
    assert math.log2(fixed.bodies.activation.spline.cells) == sum(bits) / 2


def test_funnels_differ_in_what_their_names_say():
    two, eight, one = (_ffn("funnel", n) for n in ("two-dims", "eight-dims", "two-dims-unrouted"))
    assert (2 * two.pairs, 2 * eight.pairs, 2 * one.pairs) == (2, 8, 2)
    assert (two.tiles, eight.tiles, one.tiles) == (64, 64, 1)
    assert two.levels == eight.levels == one.levels
