"""What `speed` builds, what it pairs with, and that its figures are those of a clock."""

import itertools
import json

import pytest
import torch

import trix.experiments.speed as speed
from tests.experiments.small import CORPUS
from trix.counts.ngram import CountTables
from trix.experiments.arm import Arm, Training, trained
from trix.experiments.counts import Counting, counted
from trix.experiments.speed import (
    CHARACTERS,
    QUICK_CHARACTERS,
    ROUNDS,
    _speed_arm,
    built,
    speed_arms,
)
from trix.experiments.table import EXPERIMENTS
from trix.ledger.run import run_experiment
from trix.models.sampler.sampler import Sampler
from trix.tiles.codebook import CodebookTable
from trix.tiles.packed_lookup import PackedLookup


@pytest.fixture
def fresh(monkeypatch):
    kept, build = [], Training.build
    monkeypatch.setattr(
        Training, "build", lambda *given, **more: kept.append(build(*given, **more)) or kept[-1]
    )
    return kept


def _run(arm, tmp_path, budget="quick"):
    return arm.run(CORPUS, 0, budget, tmp_path)


@pytest.mark.parametrize(
    ("budget", "characters"), [("quick", QUICK_CHARACTERS), ("full", CHARACTERS)]
)
def test_microseconds_are_the_clocks(tmp_path, monkeypatch, budget, characters):
    # a clock that moves by 1, 2, 3, … milliseconds between two looks: rounds of known lengths
    looks = itertools.accumulate(itertools.count(0), lambda at, step: at + step / 1e3)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(looks))
    found = _run(_speed_arm(Training("nano")), tmp_path, budget).metrics
    rounds = 2 if budget == "quick" else ROUNDS
    spent = [1e3 * (2 + 2 * i) / characters for i in range(rounds)]
    middle = sorted(spent)[rounds // 2] if rounds % 2 else sum(spent) / 2
    assert found["us_per_character"] == pytest.approx(middle)
    assert found["us_least"] == pytest.approx(spent[0])
    assert found["us_most"] == pytest.approx(spent[-1])


def test_one_thread_writes_and_the_others_come_back(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        speed, "_microseconds", lambda write, n: seen.append(torch.get_num_threads()) or 1.0
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        _run(_speed_arm(Training("nano")), tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


def test_a_table_reads_on_as_its_own_probabilities_say(tmp_path):
    tables = CountTables(CORPUS.train, 4, CORPUS.vocab_size)
    generator, again = (torch.Generator().manual_seed(3) for _ in range(2))
    start = CORPUS.val[None, :1]
    text = speed._read_on(tables, "witten-bell", start, generator, length=9)
    slow = start
    for _ in range(9):
        shares = tables.probabilities(slow)[:, -1]  # all of the past, of which it needs three
        slow = torch.cat([slow, torch.multinomial(shares, 1, generator=again)], dim=1)
    assert text.tolist() == slow.tolist()
    outcome = _run(_speed_arm(Counting(4, "witten-bell")), tmp_path)
    assert outcome.metrics["bytes"] == sum(
        part.numel() * part.element_size() for table in tables.tables for part in table
    )
    assert outcome.parameters == sum(len(table.count) for table in tables.tables)


@pytest.mark.parametrize(
    ("ffn", "options", "form"),
    [
        pytest.param(
            *("lookup", {"tiles": 8, "tiles_per_cluster": 4}, PackedLookup), marks=pytest.mark.slow
        ),  # its kernel is compiled
        ("codebook", {"entries": 8}, CodebookTable),
    ],
)
def test_a_compiled_arm_replaces_every_feed_forward(tmp_path, fresh, ffn, options, form):
    recipe = Training("nano", {"ffn": ffn, "ffn_options": options})
    plain = _run(_speed_arm(recipe), tmp_path)
    compiled = _run(_speed_arm(recipe, compiled=True), tmp_path)
    replaced = [isinstance(block.ffn, form) for model in fresh for block in model.blocks]
    assert replaced == [False, False, True, True]
    assert plain.parameters == compiled.parameters == recipe.build(CORPUS, 0).parameter_count() > 0


def test_every_lookup_has_its_form_for_inference_and_a_hardened_arm_is_timed_hard(tmp_path, fresh):
    soft = {"ffn": "tiled", "ffn_options": {"tiles": 4, "top_k": 4, "hidden": 3}}
    _run(_speed_arm(Training("probe", soft, after="harden")), tmp_path)
    assert [layer.top_k for layer in fresh[0].routed_layers()] == [1, 1]
    model = Training("nano", {"ffn": "lookup"}).build(CORPUS, 0).eval()
    for block in model.blocks:
        speed._compile(block)
    assert [type(block.ffn) for block in model.blocks] == [PackedLookup] * 2
    with pytest.raises(TypeError, match="block must be a Block, got a Linear"):
        speed._compile(torch.nn.Linear(2, 2))


# What belongs together


def test_what_is_built_the_same_has_one_arm_and_is_found_again():
    dense = {"ffn": "dense", "ffn_options": {"hidden": 5}}
    part, other = Training("probe", dense, shared="part"), Training("probe")
    experiments = {
        "one": {
            "long": trained("nano", dense),
            "short": trained("probe", dense),
            "other": trained("probe", dense, {"loss_weights": {"sparsity": 1.0}}),
            "shuffled": trained("probe", after="shuffle"),
            "notes": trained("seed"),
        },
        "two": {
            "gain": Arm(part, (), against=other),
            "staged": Arm(Training("probe", {"ffn": "none"}), (), {"stage": "input"}),
            "codebook": trained("nano", {"ffn": "codebook"}),
            "table": counted(3, "witten-bell"),
            "add-one": counted(3, "add-one"),
        },
    }
    arms = speed_arms(experiments)
    assert list(arms) == ["one-long", "two-codebook", "two-codebook-compiled", "two-table"]
    timed = {name: arm.config(CORPUS, "full") for name, arm in arms.items()}
    found = {
        ("one", "long"): "one-long",
        ("one", "other"): "one-long",
        ("two", "gain"): "one-long",
        ("two", "codebook"): "two-codebook",
        ("two", "table"): "two-table",
    }
    for (experiment, name), wanted in found.items():
        key = built(experiments[experiment][name].config(CORPUS, "full"))
        assert next(n for n in timed if timed[n]["built"] == key) == wanted
    for experiment, name in (("one", "shuffled"), ("two", "add-one")):
        key = built(experiments[experiment][name].config(CORPUS, "full"))
        assert key not in [config["built"] for config in timed.values()]


def test_what_has_no_one_model_has_no_speed():
    assert built({"mixer": "attention", "lengths": [1]}) is None
    model = {"model": {"dim": 8}}
    assert built({**model, "routing": "trix"}) is None
    assert built({"with": model, "without": {"model": {"dim": 9}}}) == {**model, "after": ""}


def test_every_timed_arm_of_the_book_is_another_model_and_runs_by_name(tmp_path, monkeypatch):
    arms = EXPERIMENTS["speed"]
    assert all(arm.timed and not arm.seeded for arm in arms.values())
    configs = {json.dumps(arm.config(CORPUS, "full"), sort_keys=True) for arm in arms.values()}
    assert len(arms) == len(configs) == 84
    assert not any("without" in name for name in arms)
    monkeypatch.setitem(EXPERIMENTS, "speed", {"a": _speed_arm(Training("nano"))})
    place = (CORPUS, tmp_path / "r", tmp_path / "w", 5, "quick")
    (record,) = run_experiment("speed", *place).records
    assert (record.seed, record.arm) == (None, "a")
    assert record.metrics["us_per_character"] > 0
    assert run_experiment("speed", *place).records == [record]


def test_a_look_it_up_model_writes_with_the_sampler(monkeypatch, tmp_path):
    read, used = Sampler.read, []

    def watched(sampler, tokens):
        used.append(tokens.shape)
        return read(sampler, tokens)

    monkeypatch.setattr(Sampler, "read", watched)
    (arm,) = (a for n, a in EXPERIMENTS["speed"].items() if n == "lookup-tables-orders-alone")
    outcome = arm.run(CORPUS, 0, "quick", tmp_path)
    assert outcome.parameters > 0
    assert outcome.metrics["us_per_character"] > 0
    assert used == [(1, 1)] * 3 * QUICK_CHARACTERS  # to warm up, and two rounds
