"""`RouteTree`: one input's way through a tree of signatures, with the beam and the depth to set.

Python checks the trees and works out every score; `route_tree.js` does the searching, for any
input, beam and depth, so the widget is as quick on a page with no kernel. Where there is a kernel,
what the reader chose comes back in `input`, `beam` and `depth`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from numpy.typing import ArrayLike

from trix.show.figures.style import NAMED

MOST_INPUTS = 40
"""More inputs than this are not taken in at a glance."""

MOST_TILES = 1100
"""More tiles than this make zooming stutter."""

MOST_LEVELS = 6
"""More levels than this do not fit one screen."""

MOST_BEAM = 8
"""The widest beam that the slider offers."""

MOST_LETTERS = 60
"""A longer label does not fit its list."""

_HERE = Path(__file__).parent
_VISIBLE = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥"})

Numbers = ArrayLike | torch.Tensor
"""What can be read as an array of numbers."""


class RouteTree(anywidget.AnyWidget):
    """A tree of signatures with the tiles at its bottom, and the way that one input takes down it.

    An input x is scored against a signature s by x·s. On the top level it is compared with every
    node, and the `beam` best are kept; on each level below it is compared with the children of
    the kept ones; of the tiles reached so, the best is chosen. Of equal scores the lower index
    wins. The reader sees which signatures were compared, how many that took against comparing
    with all tiles, and whether the chosen tile is the one that comparing with all would choose.

    Attributes:
        input: the one that is routed, from 0; follows the reader where a kernel runs.
        beam: how many nodes of a level are kept; follows the reader likewise.
        depth: the levels of the tree that is searched; follows the reader likewise.
        depths: the levels of each tree, ascending.
        nodes: how many nodes each level of each tree has, from top to tiles.
        parents: of every node, its parent's place in the level above (0 on the top level), uint16,
            one tree and one level after the other, in bytes.
        group_scores: of every input and every node that is no tile, float32 `[inputs, nodes]` for
            one tree and one level after the other, in bytes.
        scores: of every input and every tile, float32 `[inputs, tiles]`, in bytes.
        labels: a text an input.
        most_beam: the widest beam on offer.
        colours: of scores, and of the best tile where it was missed.
        alt: what the figure shows, for whoever cannot see it.
        start: what the reset button goes back to.
    """

    _esm = _HERE / "route_tree.js"
    _css = _HERE / "route_tree.css"

    input = traitlets.Int().tag(sync=True)
    beam = traitlets.Int().tag(sync=True)
    depth = traitlets.Int().tag(sync=True)
    depths = traitlets.List(traitlets.Int()).tag(sync=True)
    nodes = traitlets.List().tag(sync=True)
    parents = traitlets.Bytes().tag(sync=True)
    group_scores = traitlets.Bytes().tag(sync=True)
    scores = traitlets.Bytes().tag(sync=True)
    labels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    most_beam = traitlets.Int().tag(sync=True)
    colours = traitlets.Dict().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    start = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        inputs: Numbers,
        trees: Iterable[Sequence[tuple[Numbers, Numbers]]],
        *,
        alt: str,
        labels: Sequence[str] = (),
        beam: int = 1,
        depth: int | None = None,
    ) -> None:
        """Check everything and score every input against every signature.

        The first input is routed first; set `input` to choose another.

        Args:
            inputs: `[n, dim]`, n at most `MOST_INPUTS`; array, tensor or nested list.
            trees: one a depth, in any order. A tree is its levels from the top down, at most
                `MOST_LEVELS`; a level is a pair of `parent`, int64 `[nodes]` (each node's parent in
                the level above; all 0 on the top level), and `signatures`, `[nodes, dim]`. Every
                node above the last level has children. The last level is the tiles, at most
                `MOST_TILES`, the same in every tree. A tree of one level is flat routing.
            alt: what the figure shows, in a sentence or two.
            labels: a text an input, of 1 to `MOST_LETTERS` characters; spaces and line breaks are
                made visible. Without labels inputs are numbered.
            beam: to start with, from 1 to `MOST_BEAM`.
            depth: to start with, one of the trees' depths; the deepest if not given.

        Raises:
            TypeError: if `beam` or `depth` is no int.
            ValueError: if a shape, a length, a number or a text is not as described.
        """
        if not isinstance(alt, str) or not alt.strip():
            raise ValueError(f"alt: expected a description of the figure, received {alt!r}")
        given = _matrix("inputs", inputs, most=MOST_INPUTS)
        forest = _forest(trees, dim=given.shape[1])
        depths = [len(tree) for tree in forest]
        tiles = forest[0][-1][1]
        choices = {
            "input": 0,
            "beam": _integer("beam", beam, range(1, MOST_BEAM + 1)),
            "depth": _integer("depth", depths[-1] if depth is None else depth, depths),
        }
        groups = [_scores(given, signatures) for tree in forest for _, signatures in tree[:-1]]
        super().__init__(
            depths=depths,
            nodes=[[len(parent) for parent, _ in tree] for tree in forest],
            parents=b"".join(parent.tobytes() for tree in forest for parent, _ in tree),
            group_scores=b"".join(scores.tobytes() for scores in groups),
            scores=_scores(given, tiles).tobytes(),
            labels=_labels(labels, len(given)),
            most_beam=MOST_BEAM,
            colours={"score": NAMED["teal"], "best": NAMED["orange"]},
            alt=alt,
            start=choices,
            **choices,
        )

    # While the widget is being made, `labels`, `most_beam` and `depths` may not stand yet.

    @traitlets.validate("input")
    def _check_input(self, proposal: Any) -> int:
        count = len(self.labels)
        return _integer("input", proposal["value"], range(count)) if count else proposal["value"]

    @traitlets.validate("beam")
    def _check_beam(self, proposal: Any) -> int:
        return _integer("beam", proposal["value"], range(1, MOST_BEAM + 1))

    @traitlets.validate("depth")
    def _check_depth(self, proposal: Any) -> int:
        value = proposal["value"]
        return _integer("depth", value, self.depths) if self.depths else value


_Level = tuple[np.ndarray, np.ndarray]
"""Parents as uint16 `[nodes]`, and signatures as float32 `[nodes, dim]`."""


def _forest(trees: Iterable[Sequence[tuple[Numbers, Numbers]]], dim: int) -> list[list[_Level]]:
    """The trees, checked, by ascending depth."""
    forest = [_tree(f"trees[{i}]", levels, dim) for i, levels in enumerate(trees)]
    if not forest:
        raise ValueError("trees: expected at least one, received none")
    tiles = forest[0][-1][1]
    for i, tree in enumerate(forest):
        if len(tree[-1][1]) != len(tiles):
            raise ValueError(
                f"trees[{i}]: expected {len(tiles)} tiles, as trees[0] has, "
                f"received {len(tree[-1][1])}"
            )
        if not np.array_equal(tree[-1][1], tiles):
            at = int((tree[-1][1] != tiles).any(axis=1).argmax())
            raise ValueError(
                f"trees[{i}]: expected the tiles of trees[0], received another signature "
                f"for tile {at}"
            )
    forest.sort(key=len)
    depths = [len(tree) for tree in forest]
    if len(set(depths)) != len(depths):
        raise ValueError(f"trees: expected one a depth, received depths {depths}")
    return forest


def _tree(name: str, levels: Sequence[tuple[Numbers, Numbers]], dim: int) -> list[_Level]:
    if not 1 <= len(levels) <= MOST_LEVELS:
        raise ValueError(f"{name}: expected 1 to {MOST_LEVELS} levels, received {len(levels)}")
    tree: list[_Level] = []
    for depth, level in enumerate(levels):
        here = f"{name}[{depth}]"
        if not isinstance(level, Sequence) or len(level) != 2:
            raise ValueError(f"{here}: expected a pair (parent, signatures), received {level!r}")
        signatures = _matrix(f"{here} signatures", level[1], most=MOST_TILES)
        if signatures.shape[1] != dim:
            raise ValueError(
                f"{here} signatures: expected {dim} numbers each, as the inputs have, "
                f"received {signatures.shape[1]}"
            )
        above = len(tree[-1][0]) if tree else 1
        parent = _parents(f"{here} parent", level[0], len(signatures), above)
        childless = np.setdiff1d(np.arange(above), parent)
        if childless.size:
            raise ValueError(
                f"{here} parent: expected a child for each of the {above} nodes above, "
                f"received none for {childless.tolist()}"
            )
        tree.append((parent, signatures))
    return tree


def _parents(name: str, values: Numbers, nodes: int, above: int) -> np.ndarray:
    """`values` as little-endian uint16 `[nodes]`, each below `above`, or a ValueError."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    try:
        parent = np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"{name}: expected integers of shape [{nodes}], one a signature, received {values!r}"
        ) from error
    if parent.shape != (nodes,) or not np.issubdtype(parent.dtype, np.integer):
        raise ValueError(
            f"{name}: expected integers of shape [{nodes}], one a signature, "
            f"received {parent.dtype} {list(parent.shape)}"
        )
    outside = parent[(parent < 0) | (parent >= above)]
    if outside.size:
        raise ValueError(f"{name}: expected 0 to {above - 1}, received {outside.tolist()}")
    return parent.astype("<u2")


def _matrix(name: str, values: Numbers, most: int) -> np.ndarray:
    """`values` as float32 `[1 … most, at least 1]`, or a ValueError."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().float().numpy()
    try:
        matrix = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected numbers of shape [n, dim], received {error}") from error
    if matrix.ndim != 2 or not 1 <= len(matrix) <= most or matrix.shape[1] < 1:
        raise ValueError(
            f"{name}: expected shape [n, dim] with n from 1 to {most}, "
            f"received {list(matrix.shape)}"
        )
    if not np.isfinite(matrix).all():
        raise ValueError(
            f"{name}: expected finite numbers, received {matrix[~np.isfinite(matrix)]}"
        )
    return matrix


def _scores(inputs: np.ndarray, signatures: np.ndarray) -> np.ndarray:
    """Inputs · signatures, float32 `[inputs, nodes]`, little-endian."""
    exact = inputs.astype(np.float64) @ signatures.astype(np.float64).T
    if np.abs(exact).max() > np.finfo(np.float32).max:
        raise ValueError(f"scores: expected them to fit float32, received {np.abs(exact).max():g}")
    return exact.astype("<f4")


def _labels(labels: Sequence[str], inputs: int) -> list[str]:
    if len(labels) not in (0, inputs):
        raise ValueError(f"labels: expected none or {inputs}, received {len(labels)}")
    for label in labels:
        if not isinstance(label, str) or not 1 <= len(label) <= MOST_LETTERS:
            raise ValueError(
                f"labels: expected texts of 1 to {MOST_LETTERS} characters, received {label!r}"
            )
    if not labels:
        return [f"input {i}" for i in range(inputs)]
    return [label.translate(_VISIBLE) for label in labels]


def _integer(name: str, value: int, allowed: Sequence[int]) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, received {value!r}")
    if value not in allowed:
        text = (
            f"{allowed[0]} to {allowed[-1]}"
            if isinstance(allowed, range)
            else f"one of {list(allowed)}"
        )
        raise ValueError(f"{name}: expected {text}, received {value}")
    return value
