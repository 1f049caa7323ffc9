import math

from trix.lab import bench_ffn
from trix.lab.charlm import FFNS


def test_every_row_is_a_ratio_of_its_own_seconds():
    rows = bench_ffn.run(quick=True)
    kinds = [row["what"] for row in rows]
    assert kinds[:4] == ["packed lookup, flat", "packed lookup, clusters"] * 2
    assert kinds[4:] == [f"training step, {name}" for name in bench_ffn.TRAINED]
    for row in rows:
        assert math.isclose(row["ratio"], row["against_seconds"] / row["seconds"])
        assert min(row["bound"], row["against_bound"]) > 0


def test_the_dense_layer_beside_a_training_step_has_as_many_parameters():
    for row in bench_ffn.run(quick=True)[4:]:
        size = int(row["size"].split()[-2])
        hidden = int(row["against"].split()[1])
        assert abs(2 * 16 * hidden - size) <= 16


def test_what_is_trained_has_sixty_four_tiles():
    for name, options in bench_ffn.TRAINED.items():
        make = FFNS[name]
        assert make is not None
        assert make(16, **options).tiles == 64, name
