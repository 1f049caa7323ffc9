"""What `RouteTree` checks and sends; the searching is tested in a browser."""

from itertools import product

import numpy as np
import torch

from trix.show.figures import style
from trix.show.widgets.route_tree import RouteTree

DIM = 5
ALT = "Seven tiles below four groups."


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


INPUTS = draw(3, DIM)
TILES = draw(7, DIM, seed=1)
MIDDLE = draw(4, DIM, seed=2)
TOP = draw(2, DIM, seed=3)
FLAT = [(torch.zeros(7, dtype=torch.int64), TILES)]
TWO = [(torch.zeros(4, dtype=torch.int64), MIDDLE), (torch.tensor([3, 0, 1, 2, 0, 3, 3]), TILES)]
THREE = [
    (torch.zeros(2, dtype=torch.int64), TOP),
    (torch.tensor([1, 0, 1, 1]), MIDDLE),
    (torch.tensor([3, 0, 1, 2, 0, 3, 3]), TILES),
]


def route_tree(inputs=INPUTS, trees=(FLAT, TWO, THREE), **options) -> RouteTree:
    return RouteTree(inputs, trees, **{"alt": ALT, **options})


def with_level(tree, depth: int, parent=None, signatures=None) -> list:
    """The tree with another `parent` or other `signatures` on one level."""
    old_parent, old_signatures = tree[depth]
    new = (
        old_parent if parent is None else parent,
        old_signatures if signatures is None else signatures,
    )
    return [*tree[:depth], new, *tree[depth + 1 :]]


def slow_scores(inputs, signatures) -> list[float]:
    pairs = product(inputs, signatures)  # input by input, node by node
    return [sum(float(a) * float(b) for a, b in zip(x, s, strict=True)) for x, s in pairs]


def test_trees_are_sent_by_ascending_depth_with_scores_of_inputs_and_signatures():
    made, turned = route_tree(), route_tree(trees=(THREE, FLAT, TWO))
    groups = [score for level in (MIDDLE, TOP, MIDDLE) for score in slow_scores(INPUTS, level)]
    for name, expected in (("scores", slow_scores(INPUTS, TILES)), ("group_scores", groups)):
        sent = np.frombuffer(getattr(made, name), "<f4")
        np.testing.assert_allclose(sent, expected, rtol=1e-5, atol=1e-6)
    assert made.depths == [1, 2, 3]
    assert made.nodes == [[7], [4, 7], [2, 4, 7]]
    levels = [level for tree in (FLAT, TWO, THREE) for level in tree]
    parents = [parent for level in levels for parent in level[0].tolist()]
    assert np.frombuffer(made.parents, "<u2").tolist() == parents
    for name in ("parents", "nodes", "group_scores", "scores"):
        assert getattr(turned, name) == getattr(made, name)


def test_the_choices_are_those_asked_for():
    made = route_tree(beam=3, depth=2, labels=["a b", "\n", "c\td"])
    assert made.start == {"input": 0, "beam": 3, "depth": 2}
    assert made.start == {name: getattr(made, name) for name in made.start}
    assert made.labels == ["a␣b", "↵", "c⇥d"]
    assert set(made.colours.values()) <= set(style.PALETTE)
    plain = route_tree()
    assert (plain.beam, plain.depth) == (1, 3)
    assert plain.labels == ["input 0", "input 1", "input 2"]
    one = RouteTree([[2.0]], [[([0], [[0.5]])]], alt=ALT)
    assert np.frombuffer(one.scores, "<f4").tolist() == [1.0]
    assert (one.group_scores, one.depth) == (b"", 1)
