import math

import pytest

from trix.lab import bench
from trix.models.charlm import FFNS


def test_every_row_is_a_ratio_of_its_own_seconds():
    rows = bench.bench_ffn(quick=True)
    kinds = [row["what"] for row in rows]
    assert kinds[:4] == ["packed lookup, flat", "packed lookup, clusters"] * 2
    assert kinds[4:] == [f"training step, {name}" for name in bench.TRAINED]
    for row in rows:
        assert math.isclose(row["ratio"], row["against_seconds"] / row["seconds"])
        assert min(row["bound"], row["against_bound"]) > 0


def test_the_dense_layer_beside_a_training_step_has_as_many_parameters():
    for row in bench.bench_ffn(quick=True)[4:]:
        size = int(row["size"].split()[-2])
        hidden = int(row["against"].split()[1])
        assert abs(2 * 16 * hidden - size) <= 16


def test_what_is_trained_has_sixty_four_tiles():
    for name, options in bench.TRAINED.items():
        make = FFNS[name]
        assert make is not None
        assert make(16, **options).tiles == 64, name


def test_what_is_timed_is_called_and_bounds_are_what_must_be_moved(monkeypatch):
    # a "time" is how often a dense layer was called, plus ten times how often another was
    calls = []

    class Watched(bench.DenseFFN):
        def forward(self, x):
            calls.append("dense")
            return super().forward(x)

    def once(cases, rounds):
        spent = {}
        for name, call in cases.items():
            calls.clear()
            call()
            spent[name] = 1.0 if calls == ["dense"] else 10.0
        return spent

    monkeypatch.setattr(bench, "DenseFFN", Watched)
    monkeypatch.setattr(bench, "side_by_side", once)
    monkeypatch.setattr(bench, "bandwidth", lambda: 1.0)
    rows = bench.bench_ffn(quick=True)
    assert {(row["seconds"], row["against_seconds"]) for row in rows} == {(10.0, 1.0)}
    one = rows[0]  # a token of 32 by 60 tiles of which 4 are read: keys of 2 bits, a spline each
    moved = 60 * 32 // 4 + 4 * 4 * (32 + bench.CELLS + 1) + 2 * 4 * 32
    assert one["bound"] == pytest.approx(moved)
    assert one["against_bound"] == 4 * 2 * 32 * 4 * 32 + 2 * 4 * 32
    for row in rows[4:]:
        size = int(row["size"].split()[-2])
        assert row["bound"] == 3 * 4 * size
        assert row["against_bound"] == 3 * 4 * 2 * 16 * int(row["against"].split()[1])
