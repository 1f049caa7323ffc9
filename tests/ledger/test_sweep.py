"""`trix sweep`: its runs, its rows, its files, and what it says of a wrong call."""

import csv
import json
import statistics

import pytest
from typer.testing import CliRunner

import trix.cli.common
from tests.experiments.small import CORPUS, TINY
from tests.experiments.test_grid import NAMES, SETTINGS
from trix.cli import app
from trix.experiments.arm import Arm
from trix.experiments.grid import grid
from trix.lab.recipes import PROTOCOLS
from trix.ledger.run import run_missing
from trix.ledger.sweep import summarize, sweep_runs, write_csv


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    monkeypatch.setattr(trix.cli.common.corpus, "load_corpus", lambda name: CORPUS)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trained(monkeypatch):
    runs, run = [], Arm.run

    def noted(self, corpus, seed, budget, work):
        runs.append(work.name)
        return run(self, corpus, seed, budget, work)

    monkeypatch.setattr(Arm, "run", noted)
    return runs


def _call(*arguments):
    return CliRunner().invoke(app, ["sweep", *arguments])


def _run(points, folder, seeds):
    return run_missing(sweep_runs(points, seeds), CORPUS, folder, folder / "work", jobs=1).records


def test_only_what_is_missing_is_trained(tmp_path, trained):
    points = grid("tiny", SETTINGS)
    assert len(_run(points[:3], tmp_path, 1)) == len(trained) == 3
    records = _run(points, tmp_path, 2)
    assert len(trained) == len(set(trained)) == 8
    assert [(r.arm, r.seed) for r in records] == [(n, s) for n in NAMES for s in (0, 1)]
    alone = points[1].arm.run(CORPUS, 1, "full", tmp_path / "alone")
    record = next(r for r in records if (r.arm, r.seed) == (NAMES[1], 1))
    assert record.metrics == alone.metrics
    assert record.config == points[1].arm.config(CORPUS, "full")
    assert record.config["train"]["steps"] == 4


def test_rows_are_means_over_seeds_and_the_csv_has_a_line_for_each_run(tmp_path):
    points = grid("tiny", {**SETTINGS, "mixer_options": [{}]})
    records = _run(points, tmp_path, 3)
    mine = [r for r in records if r.arm == points[2].name]
    runs = [r.metrics["val_nats"] for r in mine]
    assert summarize(points, records)[2] == {
        "mixer": "none",
        "steps": 3,
        "mixer_options": {},
        "seeds": 3,
        "val_nats": pytest.approx(sum(runs) / 3),
        "spread": pytest.approx(statistics.pstdev(runs) * (3 / 2) ** 0.5),
        "runs": runs,
        # embedding and positions, two feed-forwards four times as wide, three norms
        "parameters": 8 * CORPUS.vocab_size + 8 * 6 + 2 * 2 * 8 * 32 + 3 * 8,
        "seconds": pytest.approx(sum(r.seconds for r in mine) / 3),
    }
    (row,) = summarize(points[1:], records[:4])  # of one run of the second
    assert (row["runs"], row["spread"]) == ([records[3].metrics["val_nats"]], None)
    write_csv(points, records, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    for line, record in zip(lines, records, strict=True):
        assert f"mixer={line['mixer']},steps={line['steps']},mixer_options={{}}" == record.arm
        assert (int(line["seed"]), int(line["parameters"])) == (record.seed, record.parameters)
        assert float(line["val_nats"]) == record.metrics["val_nats"]


def test_the_command_writes_records_table_and_figure(tmp_path, trained):
    arguments = ("tiny", "--set", "mixer=attention,none", "--set", "steps=3,4", "--seeds", "2")
    first = _call(*arguments, "--jobs", "1")
    assert first.exit_code == 0, first.output
    for words in ("attention", "none", "steps", "val_nats", "spread"):
        assert words in first.stdout
    folder = tmp_path / "runs" / "sweep-tiny"
    assert {p.name for p in folder.iterdir() if p.is_file()} == {
        "sweep.jsonl",
        "sweep.csv",
        "sweep.svg",
    }
    assert (folder / "sweep.svg").read_text().count("<svg") == 1
    again = _call(*arguments, "--jobs", "1", "--json")
    assert len(trained) == 8
    rows = json.loads(again.stdout)
    assert [(row["mixer"], row["steps"]) for row in rows] == [
        (m, n) for m in ("attention", "none") for n in (3, 4)
    ]
    assert all(len(row["runs"]) == row["seeds"] == 2 for row in rows)


def test_the_command_reads_a_file_and_lets_settings_replace_its_own(tmp_path):
    (tmp_path / "mine.toml").write_text('protocol = "tiny"\n[set]\nsteps = [3, 4]\nlayers = 1\n')
    result = _call("mine.toml", "--set", "steps=2", "--jobs", "1", "--budget", "quick", "--json")
    assert result.exit_code == 0, result.output
    assert [(row["steps"], row["layers"]) for row in json.loads(result.stdout)] == [(2, 1)]
    assert (tmp_path / "runs" / "sweep-mine" / "sweep.svg").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("huge", "--set", "layers=2"), 1, "protocol must be one of"),
        (("tiny", "--set", "layers=2", "--backend", "ray"), 1, "['dask', 'loky'], got 'ray'"),
        (("tiny", "--set", "layers=2", "--jobs", "0"), 2, "--jobs"),
        (("none.toml", "--set", "layers=2"), 1, "none.toml"),
    ],
)
def test_a_wrong_call_is_told_so(tmp_path, arguments, code, message):
    result = _call(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "runs").exists()
