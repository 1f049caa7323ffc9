import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import trix.cli.common
from tests.test_lab_claims import LEDGER
from tests.test_lab_experiments import CORPUS, TINY, Noted
from trix.cli import app
from trix.experiments.arm import TrainedLM
from trix.experiments.table import EXPERIMENTS
from trix.lab.recipes import PROTOCOLS
from trix.lab.texts import Unavailable
from trix.ledger.records import read_records

KEYS = ["id", "statement", "seed", "ours", "control", "verdict", "records"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A ledger of one claim, three small experiments' arms, and an empty folder to run in."""
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "claims.toml").write_text(LEDGER)
    monkeypatch.setenv("TRIX_CLAIMS", str(tmp_path / "claims"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    monkeypatch.setitem(EXPERIMENTS, "trial", {"new": TrainedLM("tiny"), "old": Noted()})
    monkeypatch.setitem(EXPERIMENTS, "control", {"simple": Noted(seeded=False)})
    monkeypatch.setattr(trix.cli.common, "load", lambda name: CORPUS)
    return tmp_path


def _call(*arguments):
    return CliRunner().invoke(app, arguments)


def _files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_no_arguments_print_the_help():
    for arguments in ([], ["--help"]):
        result = _call(*arguments)
        assert "Usage" in result.output
        assert "claims" in result.output
    assert result.exit_code == 0


def test_help_names_every_option():
    listing, run = _call("claims", "--help"), _call("claims", "run", "--help")
    assert listing.exit_code == run.exit_code == 0
    for option in ("--json", "--update", "run"):
        assert option in listing.output
    for option in ("ID", "--budget", "--seeds", "--corpus", "--work"):
        assert option in run.output
    assert "where an earlier call stopped" in run.output
    verify, sweep = _call("claims", "verify", "--help"), _call("sweep", "--help")
    for option in ("--sample", "--seed", "--all", "--json", "--store"):
        assert option in verify.output
    for option in ("PROTOCOL", "--set", "--seeds", "--budget", "--jobs", "--backend", "--out"):
        assert option in sweep.output


def test_json_has_exactly_the_promised_keys(place):
    result = _call("claims", "--json")
    assert result.exit_code == 0
    (row,) = json.loads(result.stdout)
    assert list(row) == KEYS
    assert (row["id"], row["verdict"], row["records"]) == ("T1", "open", [])


def test_the_repositorys_ledger_is_printed_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("TRIX_CLAIMS", raising=False)
    monkeypatch.chdir(tmp_path)
    rows = json.loads(_call("claims", "--json").stdout)
    assert {"A1", "F4", "S6", "L3", "P6", "M8"} <= {row["id"] for row in rows}
    assert all(list(row) == KEYS for row in rows)


def test_the_table_shows_the_whole_of_every_cell(place):
    _call("claims", "run", "T1", "--budget", "quick")
    result = _call("claims", "run", "T1", "--budget", "quick")
    shown = "".join(result.stdout.split())
    for words in ("T1", "New is better than old.", "8.09 | 8.21", "[gain over baseline trial/old:"):
        assert "".join(words.split()) in shown, words


def test_a_quick_run_works_resumes_and_stays_apart(place):
    first = _call("claims", "run", "t1", "--budget", "quick", "--seeds", "2")
    assert first.exit_code == 0, first.output
    assert "settle nothing" in first.stderr
    records = place / "runs" / "quick-records"
    assert [(r.arm, r.seed) for r in read_records(records / "trial.jsonl")] == [
        ("new", 0),
        ("new", 1),
        ("old", 0),
        ("old", 1),
    ]
    assert _files(place / "claims") == ["claims.toml"]
    assert _files(place / "runs") == ["quick-records/control.jsonl", "quick-records/trial.jsonl"]
    before = {path: path.read_bytes() for path in records.iterdir()}

    calls = EXPERIMENTS["trial"]["old"].calls  # pyright: ignore[reportAttributeAccessIssue]
    ran = len(calls)
    again = _call("claims", "run", "T1", "--budget", "quick", "--seeds", "2")
    assert again.exit_code == 0
    assert len(calls) == ran
    assert {path: path.read_bytes() for path in records.iterdir()} == before


def test_an_experiment_can_be_run_by_its_name(place):
    result = _call("claims", "run", "trial", "--budget", "quick", "--seeds", "2")
    assert result.exit_code == 0, result.output
    assert "4 runs" in result.stderr
    assert "T1" in result.stdout  # the claim that reads it
    assert _files(place / "runs") == ["quick-records/trial.jsonl"]


def test_a_full_run_writes_the_books_records_and_settles(place, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "trial", {"new": Noted(), "old": Noted()})
    result = _call("claims", "run", "T1", "--work", "elsewhere")
    assert result.exit_code == 0
    assert _files(place / "claims" / "records") == ["control.jsonl", "trial.jsonl"]
    assert len(read_records(place / "claims" / "records" / "trial.jsonl")) == 10
    (row,) = json.loads(_call("claims", "--json").stdout)
    assert row["verdict"] == "refuted"  # the two are the same
    assert row["records"] == ["control.jsonl", "trial.jsonl"]


def test_an_interrupted_run_says_how_to_go_on(place, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("trix.lab.train._step", interrupted)
    result = _call("claims", "run", "T1")
    assert result.exit_code == 130
    assert "interrupted; the same command goes on" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["claims", "run", "Z9"], 1, "claim must be one of T1, got 'Z9'"),
        (["claims", "run", "T1", "--seeds", "0"], 2, "--seeds"),
        (["claims", "run", "T1", "--budget", "half"], 2, "'half' is not one of 'quick', 'full'"),
        (["claims", "run"], 2, "ID"),
        (["claim"], 2, "claim"),
        (["claims", "--update", "nowhere.md"], 1, "nowhere.md"),
        (["claims", "--update", "claims/claims.toml"], 1, "must hold <!-- scoreboard -->"),
    ],
)
def test_a_wrong_call_is_told_so(place, arguments, code, message):
    before = _files(place)
    result = _call(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert _files(place) == before


def test_experiments_that_are_not_written_yet_are_named(place, monkeypatch):
    monkeypatch.delitem(EXPERIMENTS, "control")
    result = _call("claims", "run", "T1")
    assert result.exit_code == 1
    assert "claim T1 needs experiments that are not written yet: control" in result.stderr
    assert not (place / "runs").exists()


@pytest.mark.parametrize("arguments", [["claims"], ["claims", "--json"], ["claims", "run", "T1"]])
def test_corrupt_files_are_named_in_one_line(place, arguments):
    (place / "claims" / "records").mkdir()
    (place / "claims" / "records" / "trial.jsonl").write_text("{\n")
    result = _call(*arguments)
    assert result.exit_code == 1
    assert "trix: corrupt record in trial.jsonl, line 1" in result.stderr
    (place / "claims" / "records" / "trial.jsonl").unlink()
    (place / "claims" / "claims.toml").write_text("[[claim")
    result = _call(*arguments)
    assert result.exit_code == 1
    assert "trix: corrupt ledger claims.toml" in result.stderr


def test_a_missing_ledger_says_where_it_belongs(place, monkeypatch):
    monkeypatch.setenv("TRIX_CLAIMS", "nowhere")
    result = _call("claims")
    assert result.exit_code == 1
    assert "$TRIX_CLAIMS must be a folder that holds claims.toml, got 'nowhere'" in result.stderr


def test_without_a_network_it_says_what_to_do(place, monkeypatch):
    def unavailable(name):
        raise Unavailable(f"{name} cannot be had")

    monkeypatch.setattr(trix.cli.common, "load", unavailable)
    result = _call("claims", "run", "T1")
    assert result.exit_code == 1
    assert "tinyshakespeare cannot be had. Set $TRIX_DATA" in result.stderr
    assert "--corpus plays" in result.stderr


def test_a_corpus_that_is_not_there_is_named(place, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("TRIX_CLAIMS", str(place / "claims"))
    monkeypatch.setitem(EXPERIMENTS, "trial", {})
    monkeypatch.setitem(EXPERIMENTS, "control", {})
    for name, message in (("poems", "unknown corpus 'poems'"), ("x.txt", "there is none at x.txt")):
        result = _call("claims", "run", "T1", "--corpus", name)
        assert result.exit_code == 1
        assert message in result.stderr


def test_the_scoreboard_is_rewritten_between_its_marks(place):
    page = place / "README.md"
    page.write_text("above\n<!-- scoreboard -->\nold\n<!-- /scoreboard -->\nbelow\n")
    for _ in range(2):  # a second call changes nothing
        result = _call("claims", "--update", "README.md")
        assert result.exit_code == 0
        assert "1 claims" in result.stdout
        lines = page.read_text().splitlines()
        assert lines[:2] == ["above", "<!-- scoreboard -->"]
        assert lines[4].startswith("| T1 | **open** | New is better than old.")
        assert lines[5:] == ["<!-- /scoreboard -->", "below"]


def test_marks_in_the_wrong_order_are_refused(place):
    page = place / "README.md"
    page.write_text("<!-- /scoreboard -->\n<!-- scoreboard -->\n")
    assert _call("claims", "--update", "README.md").exit_code == 1
    assert page.read_text() == "<!-- /scoreboard -->\n<!-- scoreboard -->\n"


def test_a_bare_install_says_what_is_missing():
    code = "import sys; sys.modules['typer'] = None; import trix.cli"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        env={**os.environ},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'trix: typer is missing; install it with: pip install "trix-routing[lab]"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def rows(monkeypatch):
    """Two rows in the place of either bench; what it was called with."""
    calls = []

    def run(quick=False):
        calls.append(quick)
        return [
            {"tiles": 16384, "router": "flat", "seconds": 0.012345},
            {"tiles": 64, "router": "[tree]", "seconds": 2.0},
        ]

    monkeypatch.setenv("COLUMNS", "200")
    for name in ("dispatch", "routing", "ternary"):
        monkeypatch.setattr(f"trix.lab.bench_{name}.run", run)
    return calls


@pytest.mark.parametrize("name", ["dispatch", "routing", "ternary"])
def test_bench_prints_a_table_or_json(rows, name):
    table = _call("bench", name)
    assert table.exit_code == 0
    for words in ("tiles", "router", "seconds", "16,384", "0.0123", "[tree]"):
        assert words in table.stdout
    printed = json.loads(_call("bench", name, "--json", "--quick").stdout)
    assert printed[0] == {"tiles": 16384, "router": "flat", "seconds": 0.012345}
    assert rows == [False, True]


def test_bench_says_what_it_can_time():
    help_text = _call("bench", "--help")
    assert help_text.exit_code == 0
    for words in ("routing", "ternary", "--quick", "--json"):
        assert words in help_text.output
    wrong = _call("bench", "nothing")
    assert wrong.exit_code == 2
    assert "'nothing' is not one of" in wrong.output


def test_bench_runs_for_real():
    result = _call("bench", "routing", "--quick", "--json")
    assert result.exit_code == 0
    assert {row["router"] for row in json.loads(result.stdout)} == {
        "flat",
        "hierarchical",
        "fractal",
    }
