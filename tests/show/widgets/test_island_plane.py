"""What `IslandPlane` checks and sends; the losses and the descent are tested in a browser."""

import numpy as np
import torch

from trix.show.figures import style
from trix.show.widgets import base
from trix.show.widgets.island_plane import MOST_POINTS, SEEDS, IslandPlane

POINTS = torch.tensor([[-2.0, 0.5], [0.25, 1.0], [1.5, -0.75], [0.0, 0.0], [3.0, 7.0]])


def island_plane(points: base.Numbers = POINTS, **options) -> IslandPlane:
    return IslandPlane(points, **{"alt": "Two planes.", **options})


def test_what_is_sent_is_what_was_asked_for():
    made = island_plane(signatures=7, seed=13, weights=(0, 0.5, 1))
    assert np.frombuffer(made.points, "<f4").reshape(-1, 2).tolist() == POINTS.tolist()
    assert made.palette == list(style.PALETTE[:7])
    assert (made.seed, made.weights) == (13, [0.0, 0.5, 1.0])
    assert made.start == {"seed": 13, "weights": [0.0, 0.5, 1.0]}
    plain = island_plane()
    assert (plain.seed, plain.weights, len(plain.palette)) == (0, [0.0, 0.0, 0.0], 6)
    most, least = island_plane(torch.ones(MOST_POINTS, 2), signatures=8), island_plane([[1, 1]])
    assert (len(most.points), len(most.palette)) == (8 * MOST_POINTS, len(style.PALETTE))
    assert len(least.points) == 8
    assert len(island_plane(signatures=2, seed=SEEDS - 1).palette) == 2
