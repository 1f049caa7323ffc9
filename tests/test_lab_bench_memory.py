"""The bench of memories: what is timed is what the rows say, and the figure shows the rows."""

import json

import pytest
from typer.testing import CliRunner

from trix import cli
from trix.lab import bench_memory
from trix.lab.bench_memory import COPIED, LAYER, READ, STEPS, TOKEN

ROW = {"seconds": 1.0, "against_seconds": 2.0, "ratio": 2.0, "bytes": 8, "against_bytes": 16}
ROWS = [
    {"what": what, "tokens": n, "against": against, **ROW}
    for what, against in ((LAYER, "attention"), (TOKEN, COPIED), (TOKEN, READ))
    for n in (256, 1024)
]


@pytest.fixture(scope="module")
def quick():
    """A quick run without a clock: its rows, its turns, and the training steps it took.

    Each case is called once and takes as many seconds as its place in the turn.
    """
    turns, steps, train = [], [], bench_memory.train

    def once(cases, rounds):
        for call in cases.values():
            call()
        turns.append((list(cases), rounds))
        return {name: float(place) for place, name in enumerate(cases, start=1)}

    def watched(model, data, config, **settings):
        steps.append((model.config.mixer, model.parameter_count(), config))
        return train(model, data, config, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_memory, "side_by_side", once)
        patch.setattr(bench_memory, "train", watched)
        return bench_memory.run(quick=True), turns, steps


def test_every_row_is_a_ratio_of_cases_that_took_turns(quick):
    rows, turns, _ = quick
    models = [f"{name} step, {slots} slots" for name in ("seed", "nano") for slots in (64, 16)]
    assert [row["what"] for row in rows] == [*models, LAYER, LAYER, *[TOKEN] * 4]
    assert turns[0] == turns[1] == (["attention", "64 slots", "16 slots"], 1)
    assert [row["ratio"] for row in rows[:4]] == [1 / 2, 1 / 3, 1 / 2, 1 / 3]
    assert [(row["tokens"], row["ratio"]) for row in rows[4:6]] == [(16, 2.0), (40, 2.0)]
    assert [(r["tokens"], r["against"], r["ratio"]) for r in rows[6:]] == [
        (16, COPIED, 2 / 1),
        (16, READ, 3 / 1),
        (40, COPIED, 5 / 4),
        (40, READ, 6 / 4),
    ]
    assert len(turns) == 5  # all that decodes takes turns together
    # a training step counts as one of the steps in a call, a token as one of the tokens
    assert [row["seconds"] for row in rows] == pytest.approx(
        [2, 3, 2, 3, 1, 1, *[1 / STEPS] * 2, *[4 / STEPS] * 2]
    )
    for row in rows:
        assert row["ratio"] == pytest.approx(row["against_seconds"] / row["seconds"])
        assert row.keys() == rows[0].keys()


def test_bytes_are_those_of_states_and_of_what_is_kept(quick):
    rows = quick[0]
    for row in rows[6:]:
        assert row["bytes"] == rows[6]["bytes"] < 2**20
        assert row["against_bytes"] == pytest.approx(2 * 4 * 256 * row["tokens"], abs=64)
    # each layer keeps its tokens and what it answers before the last projection, at the least
    for row in rows[4:6]:
        assert min(row["bytes"], row["against_bytes"]) > 2 * 4 * 256 * row["tokens"]
    assert rows[0]["bytes"] > rows[1]["bytes"]  # addresses of 64 and of 16 slots


def test_a_step_is_the_trainers_own_on_models_of_no_more_parameters(quick):
    steps = quick[2]
    assert [mixer for mixer, _, _ in steps] == ["attention", *["routed-memory"] * 2] * 2
    for attention, *routed in (steps[:3], steps[3:]):
        for _, size, config in routed:
            assert 0.75 * attention[1] < size <= attention[1]
            assert config == attention[2]
    assert [steps[0][2].weight_decay, steps[3][2].weight_decay] == [0.01, 0.1]


def _points(line, column):
    return line.get_xydata()[:, column].tolist()


def test_the_figure_shows_every_row():
    figure = bench_memory.plot(ROWS)
    lines = [[line.get_label() for line in axes.get_lines()] for axes in figure.axes]
    both = ["routed memory", "attention"]
    assert lines == [both, ["routed memory", COPIED, READ], both]
    for axes in figure.axes:
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        for line in axes.get_lines():
            assert _points(line, 0) == [256, 1024]
    assert _points(figure.axes[0].get_lines()[1], 1) == [2.0, 2.0]
    assert _points(figure.axes[2].get_lines()[0], 1) == [8, 8]
    assert _points(figure.axes[2].get_lines()[1], 1) == [16, 16]


def _call(*words):
    return CliRunner().invoke(cli.app, ["bench", *words])


def test_the_command_writes_the_figure_and_says_where(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_memory, "run", lambda quick: ROWS)
    monkeypatch.chdir(tmp_path)
    chosen = tmp_path / "new" / "figure.png"
    result = _call("memory", "--json", "--plot", str(chosen))
    assert result.exit_code == 0
    assert json.loads(result.stdout) == ROWS
    assert str(chosen) in result.stderr
    assert chosen.read_bytes().startswith(b"\x89PNG")
    assert list(chosen.parent.iterdir()) == [chosen]
    assert _call("memory").exit_code == 0
    assert "<svg" in (tmp_path / "runs" / "bench-memory.svg").read_text()


def test_a_figure_that_cannot_be_is_refused_before_anything_is_timed(monkeypatch):
    def fail(quick):
        raise AssertionError("timed")

    monkeypatch.setattr(bench_memory, "run", fail)
    monkeypatch.setattr("trix.lab.bench.run", fail)
    for words in (("memory", "--plot", "figure.doc"), ("ternary", "--plot", "figure.svg")):
        result = _call(*words)
        assert result.exit_code == 2
        assert words[0] in result.output
        assert isinstance(result.exception, SystemExit)
