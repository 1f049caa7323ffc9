"""The bench of samplers: what is timed is what the rows say, and each case does what it says."""

import pytest
import torch

from trix.cli.bench import Bench
from trix.lab import bench_sample
from trix.lab.bench_sample import COPIED, PART, PARTS, READ, RECOMPUTED, STEPS
from trix.lab.corpus import load_corpus
from trix.models.charlm import CharLM, LMConfig

CASES = ["ours"]
CASES += [f"{RECOMPUTED} {n}" for n in (16, 24)]
CASES += [f"{what} {n}" for n in (16, 40) for what in (COPIED, READ)]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A quick run without a clock: its rows, its turns, and the lengths that attention was shown.

    Each case is called once and takes as many seconds as its place in the turn.
    """
    path = tmp_path_factory.mktemp("text") / "cats.txt"
    path.write_text("the cat sat on the mat; a hat on the cat. " * 40)
    turns, shown, ticks, routed = [], [], iter(range(1000)), CharLM.routed

    def once(cases, rounds):
        assert torch.get_num_threads() == 1
        for name, call in cases.items():
            shown.append((name, []))
            call()
        turns.append((list(cases), rounds))
        return {name: float(place) for place, name in enumerate(cases, start=1)}

    def watched(model, tokens, state=None):
        shown[-1][1].append((tokens.shape[1], state.seen if state else 0))
        return routed(model, tokens, state)

    def clock():
        return next(ticks) ** 2  # the i-th part takes 4 i + 1 seconds

    shown.append(("before", []))
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_sample, "side_by_side", once)
        patch.setattr(bench_sample, "load", lambda: load_corpus(path))
        patch.setattr(bench_sample.time, "perf_counter", clock)
        patch.setattr(CharLM, "routed", watched)
        rows = bench_sample.run(quick=True)
    assert torch.get_num_threads() == threads
    return rows, turns, dict(shown)


def test_every_row_is_a_ratio_of_cases_that_took_turns(quick):
    rows, turns, _ = quick
    assert turns == [(CASES, 1)]
    beside = [
        (RECOMPUTED, 16),
        (RECOMPUTED, 24),
        (COPIED, 16),
        (COPIED, 40),
        (READ, 16),
        (READ, 40),
    ]
    assert [(r["against"], r["context"]) for r in rows[:6]] == beside
    for row in rows[:6]:
        place = 1 + CASES.index(f"{row['against']} {row['context']}")
        assert row["what"] == "character"
        assert row["microseconds"] == pytest.approx(1e6 / STEPS)
        assert row["against_microseconds"] == pytest.approx(place * 1e6 / STEPS)
        assert row["ratio"] == pytest.approx(place)
    assert all(row.keys() == rows[0].keys() for row in rows)


def test_a_long_text_is_told_in_ten_parts_beside_the_first(quick):
    rows = quick[0][6:]
    assert [row["what"] for row in rows] == [PART] * PARTS
    assert [row["context"] for row in rows] == [4 * i for i in range(PARTS)]
    for i, row in enumerate(rows):
        assert row["microseconds"] == pytest.approx((4 * i + 1) * 1e6 / 4)
        assert row["ratio"] == pytest.approx(1 / (4 * i + 1))


def test_windows_are_computed_again_and_caches_go_on(quick):
    shown = quick[2]
    assert shown["before"] == [(16, 0), (40, 0)]
    for n in (16, 24):
        assert shown[f"{RECOMPUTED} {n}"] == [(n, 0)] * STEPS
    for n in (16, 40):
        assert shown[f"{COPIED} {n}"] == [(1, n + i) for i in range(STEPS)]
        assert shown[f"{READ} {n}"] == []
    assert shown["ours"] == []  # not even its network


def test_windows_move_on_with_what_is_written():
    torch.manual_seed(0)
    model = CharLM(LMConfig(vocab_size=7, dim=8, layers=1, positions=5, mixer_options={"heads": 2}))
    seen = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0][0].tolist()))
    text, more = [1, 2, 3, 4, 5], bench_sample._recomputed(model, torch.tensor([[1, 2, 3, 4, 5]]))
    for i in range(9):
        text.append(int(next(more)))
        assert seen[-1] == text[i : i + 5]


def test_the_two_models_are_of_one_size(monkeypatch, tmp_path):
    path = tmp_path / "cats.txt"
    path.write_text("the cat sat on the mat; a hat on the cat. " * 40)
    monkeypatch.setattr(bench_sample, "load", lambda: load_corpus(path))
    ours, _ = bench_sample._ours(None)
    theirs = bench_sample._attention(ours.config.vocab_size, 64)
    assert 0.8 < theirs.parameter_count() / ours.parameter_count() <= 1


def test_the_command_knows_it():
    assert Bench("sample").value == "sample"
