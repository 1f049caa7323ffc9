"""`trix claims`: the list, one claim, the runs it needs, the scoreboard in a page."""

import json
from dataclasses import dataclass, field

import pytest

import trix.cli.common
from tests.cli.conftest import contents
from trix.experiments.arm import Outcome, trained
from trix.experiments.table import EXPERIMENTS
from trix.lab.corpus import Corpus, load_corpus
from trix.lab.optimize import TrainConfig
from trix.lab.recipes import PROTOCOLS, Protocol
from trix.lab.texts import Unavailable
from trix.ledger.records import read_records
from trix.models.charlm import LMConfig

KEYS = ["id", "statement", "seed", "ours", "control", "verdict", "records"]
LEDGER = """
[[claim]]
id = "T1"
statement = "New is better than old, and so in every way that one can think of, today or not."
seed = "8.09 | 8.21"
source = "a note"
protocol = "seed"
control = "something simple"
chapter = "00-first"

[claim.rule]
metric = "val_nats"
direction = "lower"
kind = "better"
claimed = "trial/new"
baseline = "trial/old"
controls = ["control/simple"]
margin = 0.01
"""
SMALL = Corpus("small", "made up", "the cat sat on the mat; " * 35)
TINY = Protocol(
    LMConfig(dim=8, layers=1, positions=6, mixer_options={"heads": 2}, dropout=0.1),
    TrainConfig(steps=130, batch=2, context=5, warmup=3),
    block=6,
)


@dataclass
class Noted:  # an arm that notes how it was run
    seeded: bool = True
    timed: bool = False
    calls: list = field(default_factory=list)

    def config(self, corpus, budget):
        return {"budget": budget}

    def run(self, corpus, seed, budget, work):
        self.calls.append((corpus.name, seed, budget, work.name))
        return Outcome(0.5, 3, {"val_nats": 2.0 + seed}, [[1, 3.0]], "cpu")


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "claims.toml").write_text(LEDGER)
    monkeypatch.setenv("TRIX_CLAIMS", str(tmp_path / "claims"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    monkeypatch.setattr("trix.ledger.run.MOST_JOBS", 1)  # workers know no made-up protocol
    monkeypatch.setitem(EXPERIMENTS, "trial", {"new": trained("tiny"), "old": Noted()})
    monkeypatch.setitem(EXPERIMENTS, "control", {"simple": Noted(seeded=False)})
    monkeypatch.setattr(trix.cli.common.corpus, "load_corpus", lambda name: SMALL)
    return tmp_path


def test_the_list_has_a_line_for_each_claim_and_the_ledger_is_found(place, call, monkeypatch):
    result = call("claims")
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    assert line.startswith("T1  open           New is better than old, and so")
    assert len(line) == 80
    assert line.endswith("…")
    assert "trix claims show ID" in result.stderr
    (row,) = json.loads(call("claims", "--json").stdout)
    assert list(row) == KEYS
    assert (row["id"], row["verdict"], row["records"]) == ("T1", "open", [])

    monkeypatch.delenv("TRIX_CLAIMS")  # the repository's, from any folder
    rows = json.loads(call("claims", "--json").stdout)
    assert {"A1", "F4", "S6", "L3", "P6", "M8"} <= {row["id"] for row in rows}
    assert all(list(row) == KEYS for row in rows)
    lines = call("claims").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [row["id"] for row in rows]
    assert max(map(len, lines)) <= 80


def test_a_full_run_is_recorded_settled_and_shown_with_everything(place, call, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "trial", {"new": Noted(), "old": Noted()})
    before = "".join(call("claims", "show", "t1").stdout.split())
    assert "open:toofewrunsonrecord" in before
    assert "overbaselinetrial/old:toofewrunsonrecord" in before
    assert call("claims", "run", "T1", "--work", "elsewhere").exit_code == 0
    assert sorted(contents(place / "claims" / "records")) == ["control.jsonl", "trial.jsonl"]
    assert len(read_records(place / "claims" / "records" / "trial.jsonl")) == 10
    (row,) = json.loads(call("claims", "--json").stdout)
    assert row["verdict"] == "refuted"  # the two are the same
    assert row["records"] == ["control.jsonl", "trial.jsonl"]
    result = call("claims", "show", "T1")
    assert result.exit_code == 0
    shown = "".join(result.stdout.split())
    for words in (
        "New is better than old, and so in every way that one can think of, today or not.",
        "8.09 | 8.21 (a note)",
        "something simple",
        "over baseline trial/old: +0.000 (+0.000 … +0.000)",
        "over control control/simple: -",
        "control.jsonl, trial.jsonl",
        "protocol seed",
        "chapter 00-first",
        "trix claims run T1",
    ):
        assert "".join(words.split()) in shown, words
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_quick_run_works_resumes_and_stays_apart(place, call):
    quick = ("--budget", "quick", "--seeds", "2")
    named = call("claims", "run", "trial", *quick)  # an experiment by its name
    assert named.exit_code == 0, named.output
    assert "4 runs" in named.stderr
    assert "T1" in named.stdout  # the claim that reads it
    assert sorted(contents(place / "runs")) == ["quick-records/trial.jsonl"]
    calls = EXPERIMENTS["trial"]["old"].calls  # pyright: ignore[reportAttributeAccessIssue]
    ran = len(calls)
    for _ in range(2):
        result = call("claims", "run", "t1", *quick)
        assert result.exit_code == 0, result.output
        assert "settle nothing" in result.stderr
        assert "8.09 | 8.21" in result.stdout
        assert sorted(contents(place / "runs")) == [
            "quick-records/control.jsonl",
            "quick-records/trial.jsonl",
        ]
    assert len(calls) == ran
    runs = [("new", 0), ("new", 1), ("old", 0), ("old", 1)]
    stored = read_records(place / "runs" / "quick-records" / "trial.jsonl")
    assert [(r.arm, r.seed) for r in stored] == runs
    assert sorted(contents(place / "claims")) == ["claims.toml"]


def test_an_interrupted_run_says_how_to_go_on(place, call, press_at):
    press_at(3)
    result = call("claims", "run", "T1")
    assert result.exit_code == 130
    assert "trix: interrupted; the same command goes on" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("run Z9", 1, "claim must be one of T1, got 'Z9'"),
        ("show Z9", 1, "claim must be one of T1, got 'Z9'"),
        ("run T1 --seeds 0", 2, "--seeds"),
        ("run T1 --budget half", 2, "'half' is not one of 'quick', 'full'"),
        ("run T1 --corpus poems", 1, "unknown corpus 'poems'"),
        ("run T1 --corpus x.txt", 1, "there is none at x.txt"),
        ("run", 2, "ID"),
        ("walk", 2, "walk"),
        ("--update nowhere.md", 1, "nowhere.md"),
        ("--update claims/claims.toml", 1, "must hold <!-- scoreboard -->"),
        ("--update wrong.md", 1, "must hold <!-- scoreboard -->"),
    ],
)
def test_a_wrong_call_is_told_so(place, call, monkeypatch, arguments, code, message):
    monkeypatch.setattr(trix.cli.common.corpus, "load_corpus", load_corpus)
    (place / "wrong.md").write_text("<!-- /scoreboard -->\n<!-- scoreboard -->\n")
    before = contents(place)
    result = call("claims", *arguments.split())
    assert result.exit_code == code
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.output
    assert contents(place) == before


def test_what_is_missing_or_corrupt_is_named_in_one_line(place, call, monkeypatch):
    def told(message, *arguments):
        result = call("claims", *arguments)
        assert result.exit_code == 1
        assert f"trix: {message}" in result.stderr

    def unavailable(name):
        raise Unavailable(f"{name} cannot be had")

    with monkeypatch.context() as patch:
        patch.setenv("TRIX_CLAIMS", "nowhere")
        told("$TRIX_CLAIMS must be a folder that holds claims.toml, got 'nowhere'")
    with monkeypatch.context() as patch:
        patch.setattr(trix.cli.common.corpus, "load_corpus", unavailable)
        advice = "Set $TRIX_DATA to a copy of the file, or measure on a text that needs no network"
        told(f"tinyshakespeare cannot be had. {advice}: --corpus plays", "run", "T1")
    with monkeypatch.context() as patch:
        patch.delitem(EXPERIMENTS, "control")
        told("claim T1 needs experiments that are not written yet: control", "run", "T1")
    assert not (place / "runs").exists()
    (place / "claims" / "records").mkdir()
    (place / "claims" / "records" / "trial.jsonl").write_text("{\n")
    for arguments in (), ("--json",), ("show", "T1"), ("run", "T1"):
        told("corrupt record in trial.jsonl, line 1", *arguments)
    (place / "claims" / "records" / "trial.jsonl").unlink()
    (place / "claims" / "claims.toml").write_text("[[claim")
    for arguments in (), ("--json",), ("show", "T1"), ("run", "T1"):
        told("corrupt ledger claims.toml", *arguments)


def test_the_scoreboard_is_rewritten_between_its_marks(place, call):
    page = place / "README.md"
    page.write_text("above\n<!-- scoreboard -->\nold\n<!-- /scoreboard -->\nbelow\n")
    for _ in range(2):  # a second call changes nothing
        result = call("claims", "--update", "README.md")
        assert result.exit_code == 0
        assert "1 claims" in result.stdout
        lines = page.read_text().splitlines()
        assert lines[:2] == ["above", "<!-- scoreboard -->"]
        assert lines[4].startswith("| T1 | **open** | New is better than old, and")
        assert lines[5:] == ["<!-- /scoreboard -->", "below"]
