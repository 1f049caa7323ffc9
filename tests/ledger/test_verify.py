import dataclasses
import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.experiments.small import CORPUS, TINY
from tests.ledger.test_claims import LEDGER
from trix.cli import app
from trix.experiments.arm import Arm, trained
from trix.experiments.counts import counted
from trix.experiments.table import EXPERIMENTS
from trix.lab.corpus import Corpus, load_corpus
from trix.lab.recipes import PROTOCOLS
from trix.ledger import verify
from trix.ledger.records import Record, read_records

REPOSITORY = Path(__file__).parents[2] / "book" / "claims" / "quick"


@pytest.fixture
def arms(monkeypatch):
    _arms(monkeypatch)


def _arms(monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    monkeypatch.setitem(
        EXPERIMENTS,
        "trial",
        {
            "tiny": trained("tiny", training={"steps": 6}),
            "table": counted(2, "add-one"),
            "other": counted(1, "add-one"),
        },
    )
    monkeypatch.setattr(verify, "VERIFIED", {"trial": ("tiny", "table")})


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    with pytest.MonkeyPatch.context() as monkeypatch:
        _arms(monkeypatch)
        records = verify.store(CORPUS, folder, folder / "work", jobs=1)
        assert verify.stored_runs(CORPUS, folder) == records
    return (folder / "trial.jsonl").read_bytes()


@pytest.fixture
def stored(tmp_path, monkeypatch, arms, lines):
    path = tmp_path / "claims" / "quick" / "trial.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(lines)
    (tmp_path / "claims" / "claims.toml").write_text(LEDGER)
    monkeypatch.setenv("TRIX_CLAIMS", str(tmp_path / "claims"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trix.cli.claims.load_corpus", lambda name: CORPUS)
    monkeypatch.setattr("trix.ledger.run.MOST_JOBS", 1)
    return path


def _call(*arguments):
    return CliRunner().invoke(app, ["claims", "verify", *arguments])


def _change(path, arm, seed, change):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if (row["arm"], row["seed"]) == (arm, seed):
            change(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _record(seed, **metrics):
    return Record("trial", "a", seed, {}, {}, {}, "cpu", 1, 9.0, 7, metrics, [])


def test_what_was_just_stored_is_the_same_and_not_run_again(stored, monkeypatch):
    before = stored.read_bytes()
    result = _call("--all", "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert {row["verdict"] for row in rows} == {"same"}
    runs = {("table", None), *(("tiny", seed) for seed in range(5))}
    assert {(row["arm"], row["seed"]) for row in rows} == runs
    names = {"parameters", "val_nats", "val_perplexity"}
    assert {row["metric"] for row in rows if row["arm"] == "tiny"} == names
    assert "6 of 6 runs repeated on small" in result.stderr
    monkeypatch.setattr(Arm, "run", None)
    assert _call("--store").exit_code == 0
    assert stored.read_bytes() == before


# so wide an error in a record must not hide itself
@pytest.mark.parametrize(
    ("arm", "seed", "factor"),
    [("tiny", 2, 1.2), ("tiny", 4, 1e6), ("tiny", 0, 0.9), ("table", None, 1.0001)],
)
def test_a_wrong_record_is_found(stored, arm, seed, factor):
    def spoil(row):
        figures.append(row["metrics"]["val_nats"])
        row["metrics"]["val_nats"] *= factor
        figures.append(row["metrics"]["val_nats"])

    figures: list[float] = []
    _change(stored, arm, seed, spoil)
    result = _call("--all")
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if " off " in line]
    for words in (f"trial/{arm}", "val_nats", *(f"{value:.6g}" for value in figures)):
        assert words in line, (words, line)
    assert "1 of" in result.stderr
    assert "stored with" in result.stderr


def test_a_change_within_the_spread_of_seeds_passes(stored):
    others = [r.metrics["val_nats"] for r in read_records(stored) if r.seed in (0, 1, 3, 4)]
    near = 0.5 * verify.tolerance(0.0, others)

    def shift(row):
        row["metrics"]["val_nats"] += near

    _change(stored, "tiny", 2, shift)
    result = _call("--all")
    assert result.exit_code == 0
    (line,) = [line for line in result.stdout.splitlines() if "within" in line]
    assert "val_nats" in line


def test_missing_runs_and_arms_are_refused_by_name(stored, monkeypatch):
    lines = stored.read_text().splitlines(keepends=True)
    stored.write_text("".join(line for line in lines if '"seed": 3' not in line))
    result = _call()
    assert result.exit_code == 1
    assert "lacks 1 runs, the first is trial/tiny with seed 3" in result.stderr
    assert "trix claims verify --store" in result.stderr
    stored.unlink()
    assert "lacks 6 runs" in _call().stderr
    monkeypatch.delitem(EXPERIMENTS["trial"], "table")
    assert "trial has no arms ['table'] any more" in _call().stderr


def test_another_text_or_configuration_is_refused(stored, monkeypatch):
    other = Corpus("other", "made up, too", CORPUS.text[::-1])
    with pytest.raises(ValueError, match=r"trial.jsonl was measured on small .*got other"):
        verify.stored_runs(other, stored.parent)
    monkeypatch.setitem(EXPERIMENTS["trial"], "table", counted(2, "witten-bell"))
    with pytest.raises(ValueError, match=r"table with seed None was run with .*add-one.*witten-"):
        verify.stored_runs(CORPUS, stored.parent)


def test_the_sample_is_as_large_as_asked(stored):
    result = _call("--sample", "2", "--json")
    assert result.exit_code == 0
    assert len({(row["arm"], row["seed"]) for row in json.loads(result.stdout)}) == 2
    assert _call("--sample", "0").exit_code == 2


def test_the_tolerance_is_a_prediction_interval():
    # Student's t of three degrees of freedom at 97.5 %, from a printed table
    spread = math.sqrt(((1 - 2.5) ** 2 * 2 + (2 - 2.5) ** 2 * 2) / 3)
    expected = 3.182446 * spread * math.sqrt(1 + 1 / 4)
    assert verify.tolerance(0.0, [1.0, 2.0, 3.0, 4.0]) == pytest.approx(expected, rel=1e-6)
    assert verify.tolerance(-10.0, [2.0, 2.0, 2.0]) == pytest.approx(10 * verify.FLOOR)
    assert verify.tolerance(10.0, []) == verify.tolerance(10.0, [3.0]) == 10 * verify.FLOOR


def test_comparing_leaves_out_times_and_the_runs_own_record():
    stored = [_record(s, loss=2 + s / 100, read_seconds_64=s, time_exponent=s) for s in range(4)]
    stored.append(dataclasses.replace(_record(9, loss=50.0), arm="b"))  # another arm
    checks = verify.compare(
        stored[0], {"parameters": 7.0, "loss": 2.0, "read_seconds_64": 99}, stored
    )
    assert [(c.metric, c.verdict) for c in checks] == [("parameters", "same"), ("loss", "same")]
    half = verify.tolerance(2.0, [2.01, 2.02, 2.03])
    assert (checks[1].low, checks[1].high) == (2.0 - half, 2.0 + half)


def test_a_metric_of_one_side_alone_is_off():
    stored = [_record(s, loss=2.0, old=1.0) for s in range(3)]
    checks = verify.compare(stored[1], {"parameters": 8.0, "loss": 2.0, "new": 3.0}, stored)
    assert [(c.metric, c.verdict, c.received) for c in checks] == [
        ("parameters", "off", 8.0),
        ("loss", "same", 2.0),
        ("old", "off", None),
        ("new", "off", 3.0),
    ]
    assert checks[3].stored is checks[3].low is None


def test_the_choice_takes_every_arm_before_one_again():
    records = [
        dataclasses.replace(_record(seed), arm=arm) for arm in ("a", "b", "c") for seed in range(5)
    ]
    for seed in range(20):
        arms = [r.arm for r in verify.choose(records, 6, seed)]
        assert sorted(arms[:3]) == sorted(arms[3:]) == ["a", "b", "c"]
    drawn = [tuple((r.arm, r.seed) for r in verify.choose(records, 2, s)) for s in range(20)]
    assert len(set(drawn)) > 10
    assert drawn == [
        tuple((r.arm, r.seed) for r in verify.choose(records, 2, s)) for s in range(20)
    ]
    everything = verify.choose(records, 99, 0)
    assert len(everything) == 15
    assert all(record in everything for record in records)
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        verify.choose(records, 0, 0)


@pytest.mark.slow
def test_the_repositorys_records_are_complete_and_one_is_repeated():
    text = load_corpus(verify.CORPUS)
    stored = verify.stored_runs(text, REPOSITORY)
    assert {r.experiment for r in stored} == set(verify.VERIFIED)
    table = [r for r in stored if r.arm == "add-one-3"]
    checks = verify.verify(text, table, stored)
    assert len(checks) == 7
    assert {c.verdict for c in checks} <= {"same", "within"}
