"""Every experiment: its arms say what the records say, its models stand, its arms run."""

import json
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import trix.experiments.arm
from tests.experiments.small import CORPUS, TINY
from trix.experiments.arm import Arm
from trix.experiments.table import EXPERIMENTS
from trix.experiments.tiles import GRID_PARAMETERS, SOURCES, TILES
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
    """The protocols are as the book has them, and so are the few steps of the quick budget."""
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


def _recipes(arm: Arm) -> list[Any]:
    if arm.recipe is not None:
        return [arm.recipe]
    (measure,) = arm.measures
    assert isinstance(measure, partial)
    return list(measure.keywords.get("recipes", {}).values())


def _ffn(experiment, name) -> Any:
    (recipe,) = _recipes(EXPERIMENTS[experiment][name])
    config = recipe.model_config(CORPUS)
    make: Any = FFNS[config.ffn]
    return make(config.dim, **config.ffn_options)


def _size(experiment, name):
    return sum(p.numel() for p in _ffn(experiment, name).parameters())


@pytest.mark.parametrize("experiment", [*SOURCES, *TILES])
def test_every_model_stands_at_full_size_and_speaks(whole, experiment):
    recipes = [recipe for arm in EXPERIMENTS[experiment].values() for recipe in _recipes(arm)]
    for recipe in {json.dumps(recipe.changes): recipe for recipe in recipes}.values():
        model = recipe.build(CORPUS, 0)
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
    # dense layers of the tiles' parameters, and of their multiplications
    tiled = _ffn("sources", "weights")
    one = [part[0].numel() for part in (tiled.bottleneck, tiled.mix, tiled.down)]
    reads = sum(one) + tiled.signatures.numel()
    assert _size("sources", "dense") == pytest.approx(_size("sources", "weights"), rel=0.002)
    assert _size("sources", "narrow-dense") == pytest.approx(reads, rel=0.02)


@pytest.mark.parametrize("name", ["few-tiles", "many-tiles", "few-random-tiles"])
def test_tiles_and_cells_share_the_same_bytes(whole, name):
    arm, dim = EXPERIMENTS["grid"][name], 128
    splines = arm.config(CORPUS, "quick")["splines"]
    for (cells, width), recipe in zip(splines.items(), _recipes(arm), strict=True):
        config = recipe.model_config(CORPUS)
        layer: Any = FFNS[config.ffn](config.dim, **config.ffn_options)  # pyright: ignore[reportOptionalCall]
        assert layer.tiles == (64 if name == "many-tiles" else 8)
        assert layer.bodies.down.shape[1] == width
        assert layer.bodies.activation.spline.cells == int(cells)
        count = sum(p.numel() for p in layer.bodies.parameters())
        # a spline more or less a tile would be farther off
        assert abs(count - GRID_PARAMETERS) <= layer.tiles * (2 * dim + int(cells) + 1) / 2
        assert count == pytest.approx(GRID_PARAMETERS, rel=0.07)


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


def test_splines_of_the_same_bytes_and_addresses_of_the_same_bits(whole):
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
