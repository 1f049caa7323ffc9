"""Benches: what is timed is what the rows say, and each case does what it says."""

import itertools
import math

import pytest
import torch

from trix.address import packed
from trix.lab.bench import BENCHES, bandwidth, layers, side_by_side, timing
from trix.models.charlm import FFNS
from trix.tiles import table as tables


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_cases_take_turns_after_a_call_of_each(monkeypatch):
    calls, spent = [], (3, 30, 1, 10, 2, 20)  # seconds of the timed calls
    ticks = itertools.chain(*((100 * i, 100 * i + seconds) for i, seconds in enumerate(spent)))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks))
    cases = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    assert side_by_side(cases, rounds=3) == {"a": 2, "b": 20}
    assert calls == list("abababab")
    for bad in ({}, 3), (cases, 0):
        with pytest.raises(ValueError, match="expected cases and rounds"):
            side_by_side(*bad)

    # a copy is what is read and what is written
    def look(cases, rounds):
        assert rounds == 5
        assert len(cases["copy"]()) == 1000
        return {"copy": 0.5}

    monkeypatch.setattr(timing, "side_by_side", look)
    assert bandwidth(1000, 5) == 4000.0
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        bandwidth(0)


@pytest.mark.slow  # what numba compiles takes a while
def test_feed_forwards_are_called_and_bounds_are_what_must_be_moved(monkeypatch):
    # a "time" is 1 where a dense layer alone was called, else 10
    calls = []

    class Watched(layers.DenseFFN):
        def forward(self, x):
            calls.append("dense")
            return super().forward(x)

    def spent(call):
        calls.clear()
        call()
        return 1.0 if calls == ["dense"] else 10.0

    def once(cases, rounds):
        return {name: spent(call) for name, call in cases.items()}

    monkeypatch.setattr(layers, "DenseFFN", Watched)
    monkeypatch.setattr(layers, "side_by_side", once)
    monkeypatch.setattr(layers, "bandwidth", lambda: 1.0)
    rows = BENCHES["ffn"](True)
    assert [row["what"] for row in rows] == [
        *["packed lookup, flat", "packed lookup, clusters"] * 2,
        *(f"training step, {name}" for name in layers.TRAINED),
    ]
    assert {(r["seconds"], r["against_seconds"], r["ratio"]) for r in rows} == {(10.0, 1.0, 0.1)}
    one = rows[0]  # a token of 32 by 60 tiles of which 4 are read: keys of 2 bits, a spline each
    moved = 60 * 32 // 4 + 4 * 4 * (32 + layers.CELLS + 1) + 2 * 4 * 32
    assert one["bound"] == pytest.approx(moved)
    assert one["against_bound"] == 4 * 2 * 32 * 4 * 32 + 2 * 4 * 32
    for row in rows[4:]:
        size, hidden = int(row["size"].split()[-2]), int(row["against"].split()[1])
        assert abs(2 * 16 * hidden - size) <= 16  # as many parameters
        assert row["bound"] == 3 * 4 * size
        assert row["against_bound"] == 3 * 4 * 2 * 16 * hidden


def test_tables_are_timed_on_one_thread_and_compute_the_same(monkeypatch, two_threads):
    seen = []

    def look(cases, rounds):
        floats, codes, spline = (cases[name]() for name in ("floats", "codes", "spline"))
        assert torch.equal(floats[0], spline[0])
        assert torch.equal(codes[0], spline[0])
        seen.append((torch.get_num_threads(), rounds, len(floats[0]), len(floats[0].unique()) > 9))
        return {"floats": 2.0, "codes": 1.0, "spline": 30.0}

    monkeypatch.setattr(layers, "side_by_side", look)
    monkeypatch.setattr(layers, "bandwidth", lambda *_: 100.0)
    rows = BENCHES["table"](True)
    assert [(row["what"], row["against"], row["size"]) for row in rows] == [
        (f"table from {source}", f"{kind}Spline float32", f"37 inputs, {levels} levels")
        for levels in ("256", "16x16")
        for kind in ("Cell", "Knot")
        for source in ("floats", "codes")
    ]
    assert seen == [(1, 3, 37, True)] * 4
    assert [row["ratio"] for row in rows] == [15.0, 30.0] * 4
    moved = [37 * 4 + 1024 + 37 * 4, 37 + 1024 + 37 * 4] * 2
    moved += [37 * 8 + 1024 + 37 * 4, 37 * 2 + 1024 + 37 * 4] * 2
    assert [row["bound"] for row in rows] == pytest.approx([size / 100 for size in moved])


def test_packed_products_are_timed_on_one_thread_and_compute_the_same(monkeypatch, two_threads):
    def look(cases, rounds):
        assert torch.get_num_threads() == 1
        torch.testing.assert_close(cases["packed"](), cases["dense"]())
        return {"packed": 2.0, "dense": 3.0}

    monkeypatch.setattr(layers, "side_by_side", look)
    rows = BENCHES["ternary"](True)
    found = [(row["size"], row["ratio"]) for row in rows]
    assert found == [("48x48, batch 1", 1.5), ("64x64, batch 2", 1.5)]


@pytest.mark.parametrize(("name", "module"), [("table", tables), ("ternary", packed)])
def test_rows_say_what_computed_them_and_the_threads_come_back(
    name, module, monkeypatch, two_threads
):
    expected = "torch" if module.kernel(torch.float32) is None else "numba"
    assert {row["by"] for row in BENCHES[name](True)} == {expected}
    monkeypatch.setattr(module, "kernel", lambda dtype: None)
    assert {row["by"] for row in BENCHES[name](True)} == {"torch"}
    monkeypatch.setattr(layers, "side_by_side", lambda cases, rounds: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        BENCHES[name](True)


def test_a_dispatch_row_says_how_much_the_table_knew_and_a_wrong_table_is_not_timed(monkeypatch):
    rows = BENCHES["dispatch"](True)
    assert [(r["tokens"], r["hits"]) for r in rows] == [(1, 1.0), (64, 1.0), (64, 0.5)]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["search"] / row["table"])
    compile_dispatch = layers.compile_dispatch

    def swapped(*args, **kwargs):
        table = compile_dispatch(*args, **kwargs)
        table.tile.copy_(table.tile.roll(1))
        return table

    monkeypatch.setattr(layers, "compile_dispatch", swapped)
    with pytest.raises(RuntimeError, match="agree"):
        BENCHES["dispatch"](True)


def test_what_is_trained_has_sixty_four_tiles_and_routing_has_a_row_for_each_router_and_size():
    for name, options in layers.TRAINED.items():
        assert FFNS[name](16, **options).tiles == 64, name  # pyright: ignore[reportOptionalCall]
    rows = BENCHES["routing"](True)
    routers = ("flat", "hierarchical", "fractal")
    assert [(r["tiles"], r["router"]) for r in rows] == [(n, r) for n in (16, 64) for r in routers]
    for row in rows:
        assert row["seconds"] > 0
        assert 0 < row["recall"] <= 1
        assert math.isfinite(row["ratio"])
        if row["router"] == "flat":
            assert (row["comparisons"], row["recall"]) == (row["tiles"], 1)
