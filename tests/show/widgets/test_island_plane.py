"""What `IslandPlane` checks and sends; the losses and the descent are tested in a browser."""

import math

import numpy as np
import pytest
import torch

from trix.show.figures import style
from trix.show.widgets.island_plane import MOST_POINTS, SEEDS, IslandPlane

POINTS = torch.tensor([[-2.0, 0.5], [0.25, 1.0], [1.5, -0.75], [0.0, 0.0], [3.0, 7.0]])


def island_plane(points=POINTS, **options) -> IslandPlane:
    return IslandPlane(points, **{"alt": "Two planes.", **options})


def test_points_and_colours_are_sent_as_given():
    made = island_plane(signatures=7)
    assert np.frombuffer(made.points, "<f4").reshape(-1, 2).tolist() == POINTS.tolist()
    assert made.palette == list(style.PALETTE[:7])
    assert made.alt == "Two planes."
    assert {"_esm", "_css", "points", "weights", "seed", "start"} <= made.get_state().keys()


@pytest.mark.parametrize(
    "change",
    [torch.Tensor.double, torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.requires_grad_],
)
def test_tensors_arrays_and_lists_are_the_same(change):
    assert island_plane(change(POINTS.clone())).points == island_plane().points


def test_the_choices_are_those_asked_for():
    made = island_plane(seed=13, weights=(0, 0.5, 1))
    assert (made.seed, made.weights) == (13, [0.0, 0.5, 1.0])
    assert made.start == {"seed": 13, "weights": [0.0, 0.5, 1.0]}
    plain = island_plane()
    assert (plain.seed, plain.weights, len(plain.palette)) == (0, [0.0, 0.0, 0.0], 6)


def test_the_ends_are_allowed():
    assert island_plane(seed=SEEDS - 1).seed == SEEDS - 1
    assert len(island_plane(signatures=2).palette) == 2
    assert len(island_plane(signatures=len(style.PALETTE)).palette) == len(style.PALETTE)
    assert len(island_plane(torch.ones(MOST_POINTS, 2)).points) == 8 * MOST_POINTS
    assert len(island_plane(torch.ones(1, 2)).points) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": torch.ones(0, 2)}, r"points: .* n from 1 to 2000, received \[0, 2\]"),
        ({"points": torch.ones(2001, 2)}, r"points: .* received \[2001, 2\]"),
        ({"points": torch.ones(5, 3)}, r"points: .* received \[5, 3\]"),
        ({"points": torch.ones(2)}, r"points: .* received \[2\]"),
        ({"points": "tokens"}, "points: expected numbers of shape"),
        ({"points": [[0, 1], [2]]}, "points: expected numbers of shape"),
        ({"points": [[0, 1], [2, math.nan]]}, r"points: expected finite .* received \[nan\]"),
        ({"points": [[0, 1], [2, -math.inf]]}, r"points: expected finite .* received \[-inf\]"),
        ({"signatures": 1}, "signatures: expected 2 to 8, received 1"),
        ({"signatures": 9}, "signatures: expected 2 to 8, received 9"),
        ({"seed": -1}, "seed: expected 0 to 4294967295, received -1"),
        ({"seed": SEEDS}, "seed: .* received 4294967296"),
        ({"weights": (0, 1)}, "weights: expected 3, of ternary pull, .* received 2"),
        ({"weights": (0, 1.1, 0)}, r"weights: expected numbers from 0 to 1, received 1\.1"),
        ({"weights": (0, 0, -0.1)}, r"weights: .* received -0\.1"),
        ({"weights": (math.nan, 0, 0)}, "weights: .* received nan"),
        ({"alt": " "}, "alt: expected a description of the figure, received ' '"),
        ({"alt": None}, "alt: expected .* received None"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        island_plane(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"signatures": 6.0}, r"signatures: expected an int, received 6\.0"),
        ({"seed": True}, "seed: expected an int, received True"),
        ({"weights": ("1", 0, 0)}, "weights: expected numbers, received '1'"),
        ({"weights": (0, True, 0)}, "weights: expected numbers, received True"),
    ],
)
def test_numbers_are_numbers(options, message):
    with pytest.raises(TypeError, match=message):
        island_plane(**options)


def test_what_is_set_later_is_checked_too():
    made = island_plane()
    made.weights, made.seed = [0.25, 0.5, 1.0], 3
    with pytest.raises(ValueError, match=r"weights: .* received 2"):
        made.weights = [0.0, 0.0, 2.0]
    with pytest.raises(ValueError, match="weights: expected 3"):
        made.weights = [0.0, 0.0]
    with pytest.raises(ValueError, match=r"seed: .* received -3"):
        made.seed = -3
    assert (made.weights, made.seed) == ([0.25, 0.5, 1.0], 3)
