"""What `RouteTree` checks and sends; the searching is tested in a browser."""

import numpy as np
import pytest
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


@pytest.mark.parametrize(
    "change",
    [
        torch.Tensor.double,
        torch.Tensor.numpy,
        torch.Tensor.tolist,
        lambda t: t.clone().requires_grad_(),
    ],
)
def test_tensors_arrays_and_lists_are_the_same(change):
    tree = [(parent.tolist(), change(signatures)) for parent, signatures in THREE]
    made = route_tree(change(INPUTS), [tree])
    expected = route_tree(trees=[THREE])
    assert made.scores == expected.scores
    assert made.group_scores == expected.group_scores
    assert made.parents == expected.parents


def test_the_choices_are_those_asked_for():
    made = route_tree(beam=3, depth=2, labels=["a b", "\n", "c\td"])
    assert (made.input, made.beam, made.depth) == (0, 3, 2)
    assert made.start == {"input": 0, "beam": 3, "depth": 2}
    assert made.labels == ["a␣b", "↵", "c⇥d"]
    assert set(made.colours.values()) <= set(style.PALETTE)
    assert {"_esm", "_css", "parents", "scores", "start"} <= made.get_state().keys()


def test_the_deepest_tree_and_numbered_inputs_are_what_comes_without_asking():
    made = route_tree()
    assert (made.beam, made.depth) == (1, 3)
    assert made.labels == ["input 0", "input 1", "input 2"]
    assert route_tree(trees=[FLAT]).depth == 1


def test_one_input_and_one_tile_will_do():
    made = RouteTree([[2.0]], [[([0], [[0.5]])]], alt=ALT)
    assert np.frombuffer(made.scores, "<f4").tolist() == [1.0]
    assert made.group_scores == b""


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": draw(41, DIM)}, r"inputs: .* n from 1 to 40, received \[41, 5\]"),
        ({"inputs": draw(DIM)}, r"inputs: expected shape \[n, dim\] .* received \[5\]"),
        ({"inputs": draw(0, DIM)}, r"inputs: .* received \[0, 5\]"),
        ({"inputs": draw(3, 0)}, r"inputs: .* received \[3, 0\]"),
        ({"inputs": [[0.0, float("nan")]]}, r"inputs: expected finite numbers, received \[nan\]"),
        ({"inputs": "abc"}, "inputs: expected numbers"),
        ({"inputs": draw(3, 4)}, r"trees\[0\]\[0\] signatures: expected 4 numbers .* received 5"),
        ({"trees": []}, "trees: expected at least one, received none"),
        ({"trees": [[]]}, r"trees\[0\]: expected 1 to 6 levels, received 0"),
        ({"trees": [FLAT * 7]}, r"trees\[0\]: expected 1 to 6 levels, received 7"),
        ({"trees": [[TILES]]}, r"trees\[0\]\[0\]: expected a pair \(parent, signatures\)"),
        ({"trees": [TWO, TWO]}, r"trees: expected one a depth, received depths \[2, 2\]"),
        (
            {"trees": [with_level(TWO, 1, parent=torch.tensor([3, 0, 1, 2, 0, 3, 4]))]},
            r"trees\[0\]\[1\] parent: expected 0 to 3, received \[4\]",
        ),
        (
            {"trees": [with_level(TWO, 1, parent=torch.tensor([3, -1, 1, 2, 0, 3, 3]))]},
            r"parent: expected 0 to 3, received \[-1\]",
        ),
        (
            {"trees": [with_level(TWO, 0, parent=torch.tensor([0, 0, 1, 0]))]},
            r"trees\[0\]\[0\] parent: expected 0 to 0, received \[1\]",
        ),
        (
            {"trees": [with_level(TWO, 1, parent=torch.tensor([3, 0, 1, 1, 0, 3, 3]))]},
            r"expected a child for each of the 4 nodes above, received none for \[2\]",
        ),
        (
            {"trees": [with_level(TWO, 1, parent=torch.zeros(6, dtype=torch.int64))]},
            r"parent: expected integers of shape \[7\], .* received int64 \[6\]",
        ),
        (
            {"trees": [with_level(TWO, 1, parent=torch.zeros(7))]},
            r"parent: expected integers .* received float32 \[7\]",
        ),
        (
            {"trees": [with_level(TWO, 1, parent=[[0], [1, 2], 3, 0, 0, 0, 0])]},
            r"parent: expected integers of shape \[7\], .* received \[\[0\], \[1, 2\]",
        ),
        (
            {"trees": [FLAT, with_level(TWO, 1, torch.tensor([0, 1, 2, 3]), TILES[:4])]},
            r"trees\[1\]: expected 7 tiles, as trees\[0\] has, received 4",
        ),
        (
            {"trees": [FLAT, with_level(TWO, 1, signatures=TILES.flip(0))]},
            r"trees\[1\]: expected the tiles of trees\[0\], .* for tile 0",
        ),
        (
            {"trees": [with_level(TWO, 0, signatures=torch.full((4, DIM), torch.inf))]},
            r"trees\[0\]\[0\] signatures: expected finite numbers",
        ),
        (
            {"inputs": draw(1, 2), "trees": [[([0] * 1101, draw(1101, 2))]]},
            r"n from 1 to 1100, received \[1101, 2\]",
        ),
        (
            {"inputs": [[1e30]], "trees": [[([0], [[1e30]])]]},
            r"scores: expected them to fit float32, received 1e\+60",
        ),
        ({"labels": ["a"]}, "labels: expected none or 3, received 1"),
        ({"labels": ["a", "", "c"]}, "labels: expected texts of 1 to 60 characters, received ''"),
        ({"labels": ["a", "b", "c" * 61]}, "labels: expected texts of 1 to 60 characters"),
        ({"labels": ["a", "b", 3]}, "labels: expected texts .* received 3"),
        ({"beam": 0}, "beam: expected 1 to 8, received 0"),
        ({"beam": 9}, "beam: expected 1 to 8, received 9"),
        ({"depth": 4}, r"depth: expected one of \[1, 2, 3\], received 4"),
        ({"alt": " "}, "alt: expected a description of the figure, received ' '"),
        ({"alt": None}, "alt: expected .* received None"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        route_tree(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam": 1.0}, r"beam: expected an int, received 1\.0"),
        ({"beam": True}, "beam: expected an int, received True"),
        ({"depth": "2"}, "depth: expected an int, received '2'"),
    ],
)
def test_choices_are_ints(options, message):
    with pytest.raises(TypeError, match=message):
        route_tree(**options)


def test_what_is_set_later_is_checked_too():
    made = route_tree()
    made.input, made.beam, made.depth = 2, 8, 1
    with pytest.raises(ValueError, match="input: expected 0 to 2, received 3"):
        made.input = 3
    with pytest.raises(ValueError, match="beam: expected 1 to 8, received 9"):
        made.beam = 9
    with pytest.raises(ValueError, match=r"depth: expected one of \[1, 2, 3\], received 0"):
        made.depth = 0
    assert (made.input, made.beam, made.depth) == (2, 8, 1)
