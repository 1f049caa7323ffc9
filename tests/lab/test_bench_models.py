"""Benches of memories and of the sampler, run without a clock: rows, turns, and what was read."""

import importlib
import json

import pytest
import torch
from typer.testing import CliRunner

from trix import cli
from trix.lab.bench import BENCHES
from trix.lab.bench.memory import COPIED, LAYER, READ, STEPS, TOKEN
from trix.lab.bench.sample import PART, PARTS, RECOMPUTED
from trix.lab.corpus import load_corpus
from trix.models.charlm import CharLM, LMConfig
from trix.show.figures.costs import memory_costs

memory = importlib.import_module("trix.lab.bench.memory")
sample = importlib.import_module("trix.lab.bench.sample")


def _places(cases, rounds, turns):
    # a case takes its place in the turn, in seconds
    turns.append((list(cases), rounds))
    return {name: float(place) for place, name in enumerate(cases, start=1)}


@pytest.fixture(scope="module")
def timed():
    # rows, turns and training steps
    turns, steps, train = [], [], memory.train

    def once(cases, rounds):
        for call in cases.values():
            call()
        return _places(cases, rounds, turns)

    def watched(model, data, config, **settings):
        steps.append((model.config.mixer, model.parameter_count(), config))
        return train(model, data, config, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "side_by_side", once)
        patch.setattr(memory, "train", watched)
        return BENCHES["memory"](True), turns, steps


def test_every_row_is_a_ratio_of_cases_that_took_turns(timed):
    rows, turns, steps = timed
    models = [f"{name} step, {slots} slots" for name in ("seed", "nano") for slots in (64, 16)]
    assert [row["what"] for row in rows] == [*models, LAYER, LAYER, *[TOKEN] * 4]
    assert turns[0] == turns[1] == (["attention", "64 slots", "16 slots"], 1)
    assert [row["ratio"] for row in rows[:4]] == [1 / 2, 1 / 3, 1 / 2, 1 / 3]
    assert [(row["size"], row["ratio"]) for row in rows[4:6]] == [(16, 2.0), (40, 2.0)]
    decoded = [(r["size"], r["against"], r["ratio"]) for r in rows[6:]]
    assert decoded[:2] == [(16, COPIED, 2 / 1), (16, READ, 3 / 1)]
    assert decoded[2:] == [(40, COPIED, 5 / 4), (40, READ, 6 / 4)]
    assert len(turns) == 5  # all that decodes takes turns together
    # a training step counts as one of the steps in a call, a token as one of the tokens
    seconds = [2, 3, 2, 3, 1, 1, *[1 / STEPS] * 2, *[4 / STEPS] * 2]
    assert [row["seconds"] for row in rows] == pytest.approx(seconds)
    # bytes are those of states and of what is kept
    for row in rows[6:]:
        assert row["bytes"] == rows[6]["bytes"] < 2**20
        assert row["against_bytes"] == pytest.approx(2 * 4 * 256 * row["size"], abs=64)
    # each layer keeps its tokens and its output before the last projection, at the least
    for row in rows[4:6]:
        assert min(row["bytes"], row["against_bytes"]) > 2 * 4 * 256 * row["size"]
    assert rows[0]["bytes"] > rows[1]["bytes"]  # addresses of 64 and of 16 slots
    # a step is the trainer's own on models of no more parameters
    assert [mixer for mixer, _, _ in steps] == ["attention", *["routed-memory"] * 2] * 2
    for attention, *routed in (steps[:3], steps[3:]):
        for _, size, config in routed:
            assert 0.75 * attention[1] < size <= attention[1]
            assert config == attention[2]
    assert [steps[0][2].weight_decay, steps[3][2].weight_decay] == [0.01, 0.1]


def _points(line):
    return torch.as_tensor(line.get_xydata()).tolist()


def test_the_command_draws_every_row_and_says_where(tmp_path, monkeypatch):
    numbers = {"seconds": 1.0, "against_seconds": 2.0, "ratio": 2.0}
    numbers |= {"bytes": 8, "against_bytes": 16}
    rows = [
        {"what": what, "size": n, "against": against, **numbers}
        for what, against in ((LAYER, "attention"), (TOKEN, COPIED), (TOKEN, READ))
        for n in (256, 1024)
    ]
    figure = memory_costs(rows)
    lines = [[line.get_label() for line in axes.get_lines()] for axes in figure.axes]
    both = ["routed memory", "attention"]
    assert lines == [both, ["routed memory", COPIED, READ], both]
    drawn = [[_points(line) for line in axes.get_lines()] for axes in figure.axes]
    assert drawn[0] == [[[256, y], [1024, y]] for y in (1.0, 2.0)]
    assert drawn[2] == [[[256, y], [1024, y]] for y in (8, 16)]
    assert {(axes.get_xscale(), axes.get_yscale()) for axes in figure.axes} == {("log", "log")}

    monkeypatch.setitem(BENCHES, "memory", lambda quick: pytest.fail("timed"))
    assert CliRunner().invoke(cli.app, ["bench", "memory", "--plot", "a.doc"]).exit_code == 2
    monkeypatch.setitem(BENCHES, "memory", lambda quick: rows)
    monkeypatch.chdir(tmp_path)
    chosen = tmp_path / "new" / "figure.png"
    result = CliRunner().invoke(cli.app, ["bench", "memory", "--json", "--plot", str(chosen)])
    assert json.loads(result.stdout) == rows
    assert str(chosen) in result.stderr
    assert chosen.read_bytes().startswith(b"\x89PNG")
    assert list(chosen.parent.iterdir()) == [chosen]
    assert CliRunner().invoke(cli.app, ["bench", "memory"]).exit_code == 0
    assert "<svg" in (tmp_path / "runs" / "bench-memory.svg").read_text()


CASES = ["ours"]
CASES += [f"{RECOMPUTED} {n}" for n in (16, 24)]
CASES += [f"{what} {n}" for n in (16, 40) for what in (COPIED, READ)]


@pytest.fixture(scope="module")
def cats(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "cats.txt"
    path.write_text("the cat sat on the mat; a hat on the cat. " * 40)
    return load_corpus(path)


@pytest.fixture(scope="module")
def written(cats):
    # rows, turns, and what attention was shown
    turns, shown, ticks, routed = [], [], iter(range(1000)), CharLM.routed

    def once(cases, rounds):
        assert torch.get_num_threads() == 1
        for name, call in cases.items():
            shown.append((name, []))
            call()
        return _places(cases, rounds, turns)

    def watched(model, tokens, state=None):
        shown[-1][1].append((tokens.shape[1], state.seen if state else 0))
        return routed(model, tokens, state)

    shown.append(("before", []))
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample, "side_by_side", once)
        patch.setattr(sample, "load_corpus", lambda: cats)
        # the i-th part takes 4 i + 1 seconds
        patch.setattr(sample.time, "perf_counter", lambda: next(ticks) ** 2)
        patch.setattr(CharLM, "routed", watched)
        rows = BENCHES["sample"](True)
    assert torch.get_num_threads() == threads
    return rows, turns, dict(shown)


def test_every_character_is_a_ratio_of_cases_that_took_turns(written):
    rows, turns, shown = written
    assert turns == [(CASES, 1)]
    for row in rows[:6]:
        place = 1 + CASES.index(f"{row['against']} {row['context']}")
        assert row["what"] == "character"
        assert row["microseconds"] == pytest.approx(1e6 / STEPS)
        assert row["against_microseconds"] == pytest.approx(place * 1e6 / STEPS)
        assert row["ratio"] == pytest.approx(place)
    assert [f"{row['against']} {row['context']}" for row in rows[:6]] == [
        *(f"{RECOMPUTED} {n}" for n in (16, 24)),
        *(f"{what} {n}" for what in (COPIED, READ) for n in (16, 40)),
    ]
    for i, row in enumerate(rows[6:]):
        assert (row["what"], row["context"]) == (PART, 4 * i)
        assert row["microseconds"] == pytest.approx((4 * i + 1) * 1e6 / 4)
        assert row["ratio"] == pytest.approx(1 / (4 * i + 1))
    assert len(rows) == 6 + PARTS
    # windows are computed again, and caches go on
    assert shown["before"] == [(16, 0), (40, 0)]
    for n in (16, 24):
        assert shown[f"{RECOMPUTED} {n}"] == [(n, 0)] * STEPS
    for n in (16, 40):
        assert shown[f"{COPIED} {n}"] == [(1, n + i) for i in range(STEPS)]
        assert shown[f"{READ} {n}"] == []
    assert shown["ours"] == []  # not even its network


def test_windows_move_on_with_what_is_written_and_models_are_of_one_size(monkeypatch, cats):
    torch.manual_seed(0)
    model = CharLM(LMConfig(vocab_size=7, dim=8, layers=1, positions=5, mixer_options={"heads": 2}))
    seen = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0][0].tolist()))
    text, more = [1, 2, 3, 4, 5], sample._recomputed(model, torch.tensor([[1, 2, 3, 4, 5]]))
    for i in range(9):
        text.append(int(next(more)))
        assert seen[-1] == text[i : i + 5]
    monkeypatch.setattr(sample, "load_corpus", lambda: cats)
    ours, _ = sample._ours(None)
    theirs = sample._attention(ours.config.vocab_size, 64)
    assert 0.8 < theirs.parameter_count() / ours.parameter_count() <= 1
