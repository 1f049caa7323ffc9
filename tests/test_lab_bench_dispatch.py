"""The bench of compiled dispatch: the table and the search it is timed beside agree."""

import pytest

from trix.lab import bench


def test_rows_say_how_much_of_the_tokens_the_table_knew():
    rows = bench.bench_dispatch(quick=True)
    assert [(r["tokens"], r["hits"]) for r in rows] == [(1, 1.0), (64, 1.0), (64, 0.5)]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["search"] / row["table"])


def test_a_table_that_disagrees_is_not_timed(monkeypatch):
    compile_dispatch = bench.compile_dispatch

    def swapped(*args, **kwargs):
        table = compile_dispatch(*args, **kwargs)
        table.tile.copy_(table.tile.roll(1))
        return table

    monkeypatch.setattr(bench, "compile_dispatch", swapped)
    with pytest.raises(RuntimeError, match="agree"):
        bench.bench_dispatch(quick=True)
