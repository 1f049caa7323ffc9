"""What `speed` builds, what it pairs with, and that its figures are those of a clock."""

import itertools

import pytest
import torch

import trix.experiments.speed as speed
from trix.counts.ngram import CountTables
from trix.experiments.arm import Counted, TrainedLM
from trix.experiments.memory import Gain
from trix.experiments.speed import CHARACTERS, QUICK_CHARACTERS, ROUNDS, Speed, built, speed_arms
from trix.experiments.table import EXPERIMENTS
from trix.lab.corpus import Corpus
from trix.lab.optimize import TrainConfig
from trix.lab.recipes import PROTOCOLS, Protocol
from trix.ledger.run import run_experiment
from trix.models.charlm import LMConfig
from trix.tiles.codebook import CodebookTable
from trix.tiles.packed_lookup import PackedLookup

CORPUS = Corpus("small", "made up", "the cat sat on the mat; " * 30)
TINY = Protocol(
    LMConfig(dim=8, layers=2, positions=6, mixer_options={"heads": 2}),
    TrainConfig(steps=60, batch=2, context=5, warmup=1),
    block=6,
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "nano", TINY)
    monkeypatch.setitem(PROTOCOLS, "probe", TINY)


def _run(arm, tmp_path, budget="quick"):
    return arm.run(CORPUS, 0, budget, tmp_path)


@pytest.mark.parametrize(
    ("budget", "characters"), [("quick", QUICK_CHARACTERS), ("full", CHARACTERS)]
)
def test_microseconds_are_the_clocks(tmp_path, monkeypatch, budget, characters):
    # a clock that moves by 1, 2, 3, … milliseconds between two looks: rounds of known lengths
    looks = itertools.accumulate(itertools.count(0), lambda at, step: at + step / 1e3)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(looks))
    found = _run(Speed(TrainedLM("nano")), tmp_path, budget).metrics
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
        _run(Speed(TrainedLM("nano")), tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


def test_a_table_reads_on_as_its_own_probabilities_say(tmp_path):
    tables = CountTables(CORPUS.train, 4, CORPUS.vocab_size)
    generator, again = (torch.Generator().manual_seed(3) for _ in range(2))
    start = CORPUS.val[None, :1]
    text = speed._read_on(tables, "witten-bell", start, 9, generator)
    slow = start
    for _ in range(9):
        shares = tables.probabilities(slow)[:, -1]  # all of the past, of which it needs three
        slow = torch.cat([slow, torch.multinomial(shares, 1, generator=again)], dim=1)
    assert text.tolist() == slow.tolist()
    outcome = _run(Speed(Counted(4, "witten-bell")), tmp_path)
    assert outcome.metrics["bytes"] == sum(
        part.numel() * part.element_size() for table in tables.tables for part in table
    )
    assert outcome.parameters == sum(len(table.count) for table in tables.tables)


@pytest.mark.parametrize(
    ("ffn", "options", "form"),
    [
        ("lookup", {"tiles": 8, "tiles_per_cluster": 4}, PackedLookup),
        ("codebook", {"entries": 8}, CodebookTable),
    ],
)
def test_a_compiled_arm_replaces_every_feed_forward(tmp_path, monkeypatch, ffn, options, form):
    kept = []
    fresh = speed._fresh
    monkeypatch.setattr(speed, "_fresh", lambda *given: kept.append(fresh(*given)) or kept[-1])
    arm = TrainedLM("nano", {"ffn": ffn, "ffn_options": options})
    plain = _run(Speed(arm), tmp_path)
    compiled = _run(Speed(arm, compiled=True), tmp_path)
    assert [isinstance(block.ffn, form) for model in kept for block in model.blocks] == [
        False, False, True, True,
    ]  # fmt: skip
    assert plain.parameters == compiled.parameters == kept[0].parameter_count() > 0


def test_a_hardened_arm_is_timed_hard(tmp_path, monkeypatch):
    kept = []
    fresh = speed._fresh
    monkeypatch.setattr(speed, "_fresh", lambda *given: kept.append(fresh(*given)) or kept[-1])
    soft = {"ffn": "tiled", "ffn_options": {"tiles": 4, "top_k": 4, "hidden": 3}}
    _run(Speed(TrainedLM("probe", soft, after="harden")), tmp_path)
    assert [layer.top_k for layer in kept[0].routed_layers()] == [1, 1]


# What belongs together


def test_what_is_built_the_same_has_one_arm_and_is_found_again():
    dense = {"ffn": "dense", "ffn_options": {"hidden": 5}}
    models = {"a": TrainedLM("probe", dense), "b": TrainedLM("probe")}
    experiments = {
        "one": {
            "long": TrainedLM("nano", dense),
            "short": TrainedLM("probe", dense),
            "other": TrainedLM("probe", dense, {"loss_weights": {"sparsity": 1.0}}),
            "shuffled": TrainedLM("probe", after="shuffle"),
            "notes": TrainedLM("seed"),
        },
        "two": {
            "gain": Gain("a", "b", models),
            "codebook": TrainedLM("nano", {"ffn": "codebook"}),
            "table": Counted(3, "witten-bell"),
            "add-one": Counted(3, "add-one"),
        },
    }
    arms = speed_arms(experiments)
    assert list(arms) == ["one-long", "two-codebook", "two-codebook-compiled", "two-table"]
    timed = {name: arm.config(CORPUS, "full") for name, arm in arms.items()}
    for experiment, name, wanted in (
        ("one", "long", "one-long"),
        ("one", "other", "one-long"),
        ("two", "gain", "one-long"),
        ("two", "codebook", "two-codebook"),
        ("two", "table", "two-table"),
    ):
        key = built(experiments[experiment][name].config(CORPUS, "full"))
        assert key == timed[wanted]["built"]
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
    assert all(isinstance(arm, Speed) and not arm.seeded for arm in arms.values())
    configs = [arm.config(CORPUS, "full") for arm in arms.values()]
    assert all(config not in configs[:i] for i, config in enumerate(configs))
    for name in (
        "attention-nano-attention",
        "memory-nano-routed",
        "sparse-lookup-quality-compiled",
    ):
        assert name in arms
    monkeypatch.setitem(EXPERIMENTS, "speed", {"a": Speed(TrainedLM("nano"))})
    (record,) = run_experiment("speed", CORPUS, tmp_path / "r", tmp_path / "w", 5, "quick")
    assert (record.seed, record.arm) == (None, "a")
    assert record.metrics["us_per_character"] > 0
    assert run_experiment("speed", CORPUS, tmp_path / "r", tmp_path / "w", 5, "quick") == [record]
