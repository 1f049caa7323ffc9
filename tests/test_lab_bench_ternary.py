import pytest
import torch

from trix.address import packed
from trix.lab import bench


def test_a_row_a_size_and_the_threads_as_before():
    threads = torch.get_num_threads()
    rows = bench.bench_ternary(quick=True)
    assert torch.get_num_threads() == threads
    assert [row["size"] for row in rows] == ["48x48, batch 1", "64x64, batch 2"]
    for row in rows:
        assert row["what"] == "packed ternary mat-vec"
        assert row["against"] == "dense float32"
        assert row["by"] == ("torch" if packed.kernel(torch.float32) is None else "numba")
        assert row["seconds"] > 0
        assert row["ratio"] == pytest.approx(row["against_seconds"] / row["seconds"])


def test_both_ways_are_timed_on_one_thread_and_compute_the_same(monkeypatch):
    seen = []

    def look(cases, rounds):
        seen.append((torch.get_num_threads(), rounds))
        torch.testing.assert_close(cases["packed"](), cases["dense"]())
        return dict.fromkeys(cases, 1.0)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        monkeypatch.setattr(bench, "side_by_side", look)
        bench.bench_ternary(quick=True)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [(1, 3), (1, 3)]


def test_the_threads_come_back_after_an_error(monkeypatch):
    def fail(cases, rounds):
        raise RuntimeError("stopped")

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        monkeypatch.setattr(bench, "side_by_side", fail)
        with pytest.raises(RuntimeError, match="stopped"):
            bench.bench_ternary(quick=True)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_without_numba_the_row_says_so(monkeypatch):
    for module in (packed,):
        monkeypatch.setattr(module, "kernel", lambda dtype: None)
    assert {row["by"] for row in bench.bench_ternary(quick=True)} == {"torch"}
