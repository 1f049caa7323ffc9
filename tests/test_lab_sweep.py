import csv
import json
import statistics
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from typer.testing import CliRunner

import trix.cli.common
import trix.lab.train
from tests.test_lab_experiments import CORPUS, TINY
from trix.cli import app
from trix.experiments.arm import TrainedLM
from trix.experiments.grid import grid, parse_settings, read_grid
from trix.lab.corpus import Corpus
from trix.lab.recipes import PROTOCOLS
from trix.ledger.records import read_records
from trix.ledger.sweep import plot, run_sweep, summarize, write_csv

SETTINGS = {"mixer": ["attention", "none"], "steps": [3, 4]}
NAMES = [f"mixer={m},steps={n}" for m in ("attention", "none") for n in (3, 4)]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    monkeypatch.setattr(trix.cli.common, "load", lambda name: CORPUS)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trained(monkeypatch):
    """The runs that were trained, as their folders' names."""
    runs, run = [], TrainedLM.run

    def noted(self, corpus, seed, budget, work):
        runs.append(work.name)
        return run(self, corpus, seed, budget, work)

    monkeypatch.setattr(TrainedLM, "run", noted)
    return runs


def _call(*arguments):
    return CliRunner().invoke(app, ["sweep", *arguments])


# --- the grid


def test_every_combination_is_there_once_in_order():
    points = grid("tiny", SETTINGS)
    assert [point.name for point in points] == NAMES
    assert [(p.arm.changes, p.arm.training) for p in points][1:3] == [
        ({"mixer": "attention"}, {"steps": 4}),
        ({"mixer": "none", "mixer_options": {}}, {"steps": 3}),
    ]
    assert len(grid("tiny", {"layers": [1, 2, 3], "lr": [1e-3, 2], "tied": [True, False]})) == 12


def test_settings_are_read_from_the_command_line():
    assert parse_settings(
        [
            "mixer=attention,routed-memory",
            "layers=2,4",
            "lr=1e-3",
            "tied=true,false",
            "ffn_options.branching=[8,8],[4]",
            "anneal=null,[1.0,0.5]",
        ]
    ) == {
        "mixer": ["attention", "routed-memory"],
        "layers": [2, 4],
        "lr": [0.001],
        "tied": [True, False],
        "ffn_options.branching": [[8, 8], [4]],
        "anneal": [None, [1.0, 0.5]],
    }
    for text in ("layers", "layers=", "=2"):
        with pytest.raises(ValueError, match=f"written name=value,value, got '{text}'"):
            parse_settings([text])
    with pytest.raises(ValueError, match="layers is given twice"):
        parse_settings(["layers=2", "layers=4"])


def test_a_grid_is_read_from_a_file(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(
        'protocol = "tiny"\n[set]\nmixer = ["attention", "none"]\nlayers = 2\n'
        "ffn_options.hidden = [4, 8]\n"
    )
    assert read_grid(path) == (
        "tiny",
        {"mixer": ["attention", "none"], "layers": [2], "ffn_options.hidden": [4, 8]},
    )
    for text, message in (
        ("protocol = ", "corrupt grid"),
        ('protocol = "tiny"', r"must hold protocol and a table \[set\], got \['protocol'\]"),
        ('protocol = "tiny"\nset = 3', "must hold protocol"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_grid(path)


def test_single_options_join_those_of_the_protocol():
    (point,) = grid("tiny", {"mixer_options.bias": [True]})
    assert point.arm.changes == {"mixer_options": {"heads": 2, "bias": True}}
    (point,) = grid("tiny", {"mixer_options": [{"heads": 4}], "ffn_options.hidden": [3]})
    assert point.arm.changes == {"mixer_options": {"heads": 4}, "ffn_options": {"hidden": 3}}


def test_options_that_another_mixer_does_not_take_go_with_the_first():
    points = grid("seed", {"mixer": ["attention", "routed-memory"], "layers": [1]})
    assert points[0].arm.changes == {"mixer": "attention", "layers": 1}
    assert points[1].arm.changes["mixer_options"] == {"heads": 4}  # neither bias nor dropout


def test_losses_and_annealing_can_be_set():
    both = {"ffn": ["tiled"], "ffn_options.tiles": [4]}
    points = grid("tiny", {**both, "loss_weights.load-balance": [0.1, 0.2]})
    assert [p.arm.training for p in points] == [
        {"loss_weights": {"load-balance": w}} for w in (0.1, 0.2)
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "at least one setting, got none"),
        ({"depth": [2]}, r"unknown setting 'depth'; known are \['bias', 'dim'.*'lr'.*mixer_opti"),
        ({"vocab_size": [9]}, "unknown setting 'vocab_size'"),
        ({"layers.x": [9]}, "unknown setting 'layers.x'"),
        ({"mixer_options.": [9]}, "unknown setting 'mixer_options.'"),
        ({"mixer": ["lstm"]}, r"mixer=lstm: mixer must be one of \['attention', .*'routed-memory'"),
        ({"ffn": ["moe"]}, r"ffn=moe: ffn must be one of .*'tiled'"),
        ({"mixer_options.slots": [4]}, r"of attention must be among \['bias', 'dropout', 'heads'"),
        ({"mixer_options.heads": [3]}, "mixer_options.heads=3: .*3"),
        ({"layers": [1, 0]}, "layers=0: layers must be"),
        ({"layers": ["two"]}, "layers must be of type int, got 'two'"),
        ({"layers": [True]}, "layers must be of type int, got True"),
        ({"tied": [1]}, "tied must be of type bool, got 1"),
        ({"lr": [-1.0]}, "lr must be finite and at least 0, got -1.0"),
        ({"schedule": ["square"]}, "schedule must be one of"),
        ({"loss_weights.speed": [1.0]}, "unknown routing losses .*known are .*load-balance"),
        ({"positions": [4]}, "positions must be 0 or at least 6"),
        ({"context": [7]}, "positions must be 0 or at least 7"),
        ({"layers": []}, r"layers needs values, none of them twice, got \[\]"),
        ({"layers": [1, 2, 1]}, r"layers needs values, none of them twice, got \['1', '2', '1'\]"),
    ],
)
def test_bad_settings_say_what_is_allowed(settings, message):
    with pytest.raises(ValueError, match=message):
        grid("tiny", settings)


def test_a_random_lookup_takes_the_options_of_a_lookup():
    (point,) = grid("tiny", {"ffn": ["random-lookup"], "ffn_options": [{"tiles": 64}]})
    assert point.arm.changes == {"ffn": "random-lookup", "ffn_options": {"tiles": 64}}
    with pytest.raises(ValueError, match="unexpected keyword argument 'hidden'"):
        grid("tiny", {"ffn": ["random-lookup"], "ffn_options.hidden": [64]})


# --- the runs


def test_only_what_is_missing_is_trained(tmp_path, trained):
    points = grid("tiny", SETTINGS)
    assert len(run_sweep(points[:3], CORPUS, tmp_path, seeds=1).records) == 3
    assert len(trained) == 3
    found = run_sweep(points, CORPUS, tmp_path, seeds=2)
    assert len(trained) == len(set(trained)) == 8
    assert [(r.arm, r.seed) for r in found.records] == [(n, s) for n in NAMES for s in (0, 1)]
    assert found.diverged == []
    assert run_sweep(points, CORPUS, tmp_path, seeds=2) == found
    assert len(trained) == 8


def test_a_run_is_that_of_its_arm(tmp_path):
    points = grid("tiny", SETTINGS)
    found = run_sweep(points, CORPUS, tmp_path / "out", seeds=2)
    alone = points[1].arm.run(CORPUS, 1, "full", tmp_path / "alone")
    record = next(r for r in found.records if (r.arm, r.seed) == (NAMES[1], 1))
    assert record.metrics == alone.metrics
    assert record.config == points[1].arm.config(CORPUS, "full")
    assert record.config["train"]["steps"] == 4


def test_a_killed_sweep_goes_on(tmp_path, monkeypatch, trained):
    points = grid("tiny", SETTINGS)
    step, count = trix.lab.train._step, []

    def killed(*arguments):
        count.append(0)
        if len(count) == 9:  # within the third run
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(trix.lab.train, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(points, CORPUS, tmp_path, seeds=1)
    kept = read_records(tmp_path / "sweep.jsonl")
    assert [r.arm for r in kept] == NAMES[:2]
    found = run_sweep(points, CORPUS, tmp_path, seeds=1)
    assert len(trained) == 5  # the third one twice
    assert found.records[:2] == kept


def test_one_that_diverges_keeps_no_other_from_running(tmp_path, monkeypatch):
    step = trix.lab.train._step

    def diverging(model, draw, config, *rest):
        loss = step(model, draw, config, *rest)
        return loss * torch.nan if config.lr == 0.5 else loss

    monkeypatch.setattr(trix.lab.train, "_step", diverging)
    settings = ("--set", "lr=0.5,0.001", "--set", "steps=3")
    result = _call("tiny", *settings, "--seeds", "2", "--jobs", "1", "--json")
    assert result.exit_code == 1
    assert "trix: lr=0.5,steps=3 with seed 1: loss is nan at step 3" in result.stderr
    (row,) = json.loads(result.stdout)
    assert (row["lr"], row["seeds"]) == (0.001, 2)


def test_threads_are_given_back(tmp_path, monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr("joblib.cpu_count", lambda: 3)
    torch.set_num_threads(4)
    try:
        (record,) = run_sweep(grid("tiny", {"steps": [2]}), CORPUS, tmp_path / "a", seeds=1).records
        assert (record.threads, torch.get_num_threads()) == (3, 4)
    finally:
        torch.set_num_threads(before)


def test_records_of_something_else_are_refused(tmp_path):
    run_sweep(grid("tiny", {"steps": [2]}), CORPUS, tmp_path, seeds=1)
    other = Corpus("other", "made up", CORPUS.text[::-1])
    with pytest.raises(ValueError, match=r"steps=2 with seed 0 was run on small .*expected other"):
        run_sweep(grid("tiny", {"steps": [2]}), other, tmp_path, seeds=1)
    with pytest.raises(ValueError, match="choose another folder"):
        run_sweep(grid("probe", {"steps": [2]}), CORPUS, tmp_path, seeds=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": "half"}, "budget must be one of .*'half'"),
        ({"backend": "ray"}, r"backend must be one of \('loky', 'dask'\), got 'ray'"),
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"jobs": 0}, "jobs must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        run_sweep(grid("tiny", {"steps": [2]}), CORPUS, tmp_path, **changes)


def test_processes_find_what_one_finds(tmp_path):
    # workers do not know the protocol that was made up above
    points = grid("probe", {"dim": [8], "layers": [1, 2], "steps": [2]})
    text = Corpus("longer", "made up", CORPUS.text * 2)
    alone = run_sweep(points, text, tmp_path / "one", seeds=1)
    together = run_sweep(points, text, tmp_path / "two", seeds=1, jobs=2)
    assert [r.metrics for r in together.records] == [
        {name: pytest.approx(value, rel=1e-6) for name, value in r.metrics.items()}
        for r in alone.records
    ]
    assert len(together.records) == 2


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    result = _call("tiny", "--set", "steps=2", "--backend", "dask")
    assert result.exit_code == 1
    assert 'pip install "trix-routing[cluster]"' in result.stderr
    assert "Traceback" not in result.output


# --- what is made of them


def test_rows_are_means_over_seeds(tmp_path):
    points = grid("tiny", SETTINGS)
    records = run_sweep(points, CORPUS, tmp_path, seeds=3).records
    rows = summarize(points, records)
    runs = [r.metrics["val_nats"] for r in records if r.arm == NAMES[2]]
    assert rows[2] == {
        "mixer": "none",
        "steps": 3,
        "seeds": 3,
        "val_nats": pytest.approx(sum(runs) / 3),
        "spread": pytest.approx(statistics.pstdev(runs) * (3 / 2) ** 0.5),
        "runs": runs,
        # embedding and positions, a feed-forward four times as wide, two norms
        "parameters": 8 * CORPUS.vocab_size + 8 * 6 + 2 * 8 * 32 + 2 * 8,
        "seconds": pytest.approx(sum(r.seconds for r in records if r.arm == NAMES[2]) / 3),
    }
    assert summarize(points[1:], records[:4])[0]["runs"] == [
        r.metrics["val_nats"] for r in records[3:4]
    ]
    assert summarize(points, records[:1])[0]["spread"] is None


def test_the_csv_has_a_line_for_each_run(tmp_path):
    points = grid("tiny", {**SETTINGS, "mixer_options": [{}]})
    records = run_sweep(points, CORPUS, tmp_path, seeds=2).records
    write_csv(points, records, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8
    for line, record in zip(lines, records, strict=True):
        assert f"mixer={line['mixer']},steps={line['steps']},mixer_options={{}}" == record.arm
        assert (int(line["seed"]), int(line["parameters"])) == (record.seed, record.parameters)
        assert float(line["val_nats"]) == record.metrics["val_nats"]


def _row(runs, **settings):
    mean = sum(runs) / len(runs)
    return {
        **settings,
        "seeds": len(runs),
        "val_nats": mean,
        "spread": None,
        "runs": runs,
        "parameters": 1,
        "seconds": 0.5,
    }


def _drawn(figure: Figure):
    (axes,) = figure.axes
    legend = axes.get_legend()
    dots = {
        (round(float(x), 3), float(y))
        for line in axes.lines
        if str(line.get_marker()) in "os^"
        for x, y in np.asarray(line.get_xydata())
    }
    ticks = [text.get_text() for text in axes.get_xticklabels()]
    labels = [text.get_text() for text in legend.get_texts()] if legend else []
    return axes.get_xlabel(), ticks, labels, dots


def test_one_setting_is_drawn_along_the_axis():
    rows = [_row([2.0, 3.0], mixer=m, lr=0.1) for m in ("attention", "none")]
    figure = plot(rows)
    assert _drawn(figure) == (
        "mixer",
        ["attention", "none"],
        [],
        {(0.0, 2.0), (0.0, 3.0), (1.0, 2.0), (1.0, 3.0)},
    )
    assert figure.axes[0].get_title() == "lr 0.1"
    means = [line for line in figure.axes[0].lines if line.get_marker() == "_"]
    assert [np.asarray(line.get_ydata()).tolist() for line in means] == [[2.5, 2.5]]


def test_of_two_settings_the_numbers_go_along_the_axis():
    rows = [_row([len(m) + n], mixer=m, layers=n) for m in ("a", "bb", "ccc") for n in (2.0, 4.0)]
    along, ticks, labels, dots = _drawn(plot(rows))
    assert (along, ticks) == ("layers", ["2.0", "4.0"])
    assert labels == ["mixer a", "mixer bb", "mixer ccc"]
    assert {(round(x), y) for x, y in dots} == {
        (i, k + n) for i, n in ((0, 2), (1, 4)) for k in (1, 2, 3)
    }
    assert len({x for x, _ in dots}) == 6  # side by side, none upon another


def test_a_single_point_can_be_drawn():
    assert _drawn(plot([_row([2.0], layers=3)])) == ("layers", ["3"], [], {(0.0, 2.0)})


# --- the command


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
        (("tiny",), 1, "at least one setting"),
        (("tiny", "--set", "depth=2"), 1, "unknown setting 'depth'; known are"),
        (("tiny", "--set", "layers"), 1, "written name=value,value"),
        (("tiny", "--set", "layers=2", "--backend", "ray"), 1, "('loky', 'dask'), got 'ray'"),
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
