"""What `RouteTree` checks and sends; the searching is tested in a browser."""

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
    changed = list(tree)
    old_parent, old_signatures = tree[depth]
    changed[depth] = (
        old_parent if parent is None else parent,
        old_signatures if signatures is None else signatures,
    )
    return changed


def slow_scores(inputs, signatures) -> list[float]:
    """Input by input, node by node, in order."""
    return [
        sum(float(a) * float(b) for a, b in zip(x, s, strict=True))
        for x in inputs
        for s in signatures
    ]


# ------------------------------------------------------------------ what the widget sends


def test_scores_are_the_products_of_inputs_and_signatures():
    made = route_tree()
    np.testing.assert_allclose(
        np.frombuffer(made.scores, "<f4"), slow_scores(INPUTS, TILES), rtol=1e-5, atol=1e-6
    )
    groups = [score for level in (MIDDLE, TOP, MIDDLE) for score in slow_scores(INPUTS, level)]
    np.testing.assert_allclose(
        np.frombuffer(made.group_scores, "<f4"), groups, rtol=1e-5, atol=1e-6
    )


def test_trees_are_sent_by_ascending_depth_however_they_are_given():
    made, turned = route_tree(), route_tree(trees=(THREE, FLAT, TWO))
    assert made.depths == [1, 2, 3]
    assert made.nodes == [[7], [4, 7], [2, 4, 7]]
    expected = [
        parent for tree in (FLAT, TWO, THREE) for level in tree for parent in level[0].tolist()
    ]
    assert np.frombuffer(made.parents, "<u2").tolist() == expected
    assert turned.get_state(["parents", "nodes", "group_scores", "scores"]) == made.get_state(
        ["parents", "nodes", "group_scores", "scores"]
    )


def test_the_choices_are_those_asked_for():
    made = route_tree(beam=3, depth=2, labels=["a b", "\n", "c\td"])
    assert (made.input, made.beam, made.depth) == (0, 3, 2)
    assert made.start == {"input": 0, "beam": 3, "depth": 2}
    assert made.labels == ["a␣b", "↵", "c⇥d"]
    assert set(made.colours.values()) <= set(style.PALETTE)


def test_the_deepest_tree_and_numbered_inputs_are_what_comes_without_asking():
    made = route_tree()
    assert (made.beam, made.depth) == (1, 3)
    assert made.labels == ["input 0", "input 1", "input 2"]
    assert route_tree(trees=[FLAT]).depth == 1


def test_one_input_and_one_tile_will_do():
    made = RouteTree([[2.0]], [[([0], [[0.5]])]], alt=ALT)
    assert np.frombuffer(made.scores, "<f4").tolist() == [1.0]
    assert made.group_scores == b""
