import pytest
import torch

from trix.lab import bench
from trix.tiles import table as table_kernel


def test_a_row_a_spline_and_way_and_the_threads_as_before():
    threads = torch.get_num_threads()
    rows = bench.bench_table(quick=True)
    assert torch.get_num_threads() == threads
    assert [(row["what"], row["against"], row["size"]) for row in rows] == [
        (f"table from {source}", f"{kind}Spline float32", f"37 inputs, {levels} levels")
        for levels in ("256", "16x16")
        for kind in ("Cell", "Knot")
        for source in ("floats", "codes")
    ]
    for row in rows:
        assert row["by"] == ("torch" if table_kernel.kernel(torch.float32) is None else "numba")
        assert row["seconds"] > 0
        assert row["ratio"] == pytest.approx(row["against_seconds"] / row["seconds"])


def test_all_ways_are_timed_on_one_thread_and_compute_the_same(monkeypatch):
    seen = []

    def look(cases, rounds):
        floats, codes, spline = (cases[name]() for name in ("floats", "codes", "spline"))
        assert len(floats) == 1
        assert torch.equal(floats[0], spline[0])
        assert torch.equal(codes[0], spline[0])
        seen.append((torch.get_num_threads(), rounds, len(floats[0]), len(floats[0].unique()) > 9))
        return {"floats": 2.0, "codes": 1.0, "spline": 30.0}

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        monkeypatch.setattr(bench, "side_by_side", look)
        monkeypatch.setattr(bench, "bandwidth", lambda *_: 100.0)
        rows = bench.bench_table(quick=True)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [(1, 3, 37, True)] * 4
    assert [row["ratio"] for row in rows] == [15.0, 30.0] * 4
    moved = [37 * 4 + 1024 + 37 * 4, 37 + 1024 + 37 * 4] * 2
    moved += [37 * 8 + 1024 + 37 * 4, 37 * 2 + 1024 + 37 * 4] * 2
    assert [row["bound"] for row in rows] == pytest.approx([size / 100 for size in moved])


def test_the_threads_come_back_after_an_error(monkeypatch):
    def fail(cases, rounds):
        raise RuntimeError("stopped")

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        monkeypatch.setattr(bench, "side_by_side", fail)
        with pytest.raises(RuntimeError, match="stopped"):
            bench.bench_table(quick=True)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_without_numba_the_row_says_so(monkeypatch):
    for module in (table_kernel,):
        monkeypatch.setattr(module, "kernel", lambda dtype: None)
    assert {row["by"] for row in bench.bench_table(quick=True)} == {"torch"}


def test_bandwidth_counts_what_is_read_and_what_is_written(monkeypatch):
    def look(cases, rounds):
        assert rounds == 5
        assert len(cases["copy"]()) == 1000
        return {"copy": 0.5}

    monkeypatch.setattr(bench, "side_by_side", look)
    assert bench.bandwidth(1000, 5) == 4000.0
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        bench.bandwidth(0)
