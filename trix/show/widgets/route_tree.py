"""`RouteTree`: one input's way through a tree of signatures, with the beam and the depth to set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import traitlets

from trix.show.figures.style import NAMED
from trix.show.widgets import base

MOST_INPUTS = 40  # more inputs than this are not taken in at a glance
MOST_TILES = 1100  # more tiles than this make zooming stutter
MOST_LEVELS = 6  # more levels than this do not fit one screen
MOST_BEAM = 8  # the widest beam that the slider offers
MOST_LETTERS = 60  # a longer label does not fit its list


class RouteTree(base.Widget):
    """A tree of signatures with the tiles at its bottom, and the way that one input takes down it.

    An input x is scored against a signature s by x·s. On the top level it is compared with every
    node, and the `beam` best are kept; on each level below it is compared with the children of
    the kept ones; of the tiles reached so, the best is chosen. Of equal scores the lower index
    wins. The reader sees which signatures were compared, how many that took against comparing
    with all tiles, and whether the chosen tile is the one that comparing with all would choose.

    Args:
        inputs: `[n, dim]`, n at most `MOST_INPUTS`.
        trees: one a depth, in any order. A tree is its levels from the top down, at most
            `MOST_LEVELS`; a level is a pair of `parent`, int64 `[nodes]` (each node's parent in
            the level above; all 0 on the top level), and `signatures`, `[nodes, dim]`. Every
            node above the last level has children. The last level is the tiles, at most
            `MOST_TILES`, the same in every tree. A tree of one level is flat routing.
        labels: a text of 1 to `MOST_LETTERS` characters an input; without them they are numbered.
        beam, depth: to start with, from 1 to `MOST_BEAM`; a tree's, the deepest if not given.

    Attributes:
        input, depths: the one that is routed, from 0; the levels of each tree, ascending.
        nodes: how many nodes each level of each tree has, from top to tiles.
        parents: of every node, its parent's place in the level above (0 on the top level), uint16,
            one tree and one level after the other, in bytes.
        group_scores: of every input and every node that is no tile, float32 `[inputs, nodes]` for
            one tree and one level after the other, in bytes.
        scores: of every input and every tile, float32 `[inputs, tiles]`, in bytes.
        most_beam: the widest beam on offer.
    """

    _esm = base.script("route_tree", "route_search", "route_drawing")
    _css = base.style("route_tree")

    input, beam, depth, most_beam = base.synced(traitlets.Int, 4)
    depths = traitlets.List(traitlets.Int()).tag(sync=True)
    nodes = traitlets.List().tag(sync=True)
    parents, group_scores, scores = base.synced(traitlets.Bytes, 3)
    labels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    colours, start = base.synced(traitlets.Dict, 2)

    def __init__(
        self,
        inputs: base.Numbers,
        trees: Iterable[Sequence[tuple[base.Numbers, base.Numbers]]],
        *,
        alt: str,
        labels: Sequence[str] = (),
        beam: int = 1,
        depth: int | None = None,
    ) -> None:
        given = base.floats("inputs", inputs, (range(1, MOST_INPUTS + 1), range(1, 2**16)))
        forest = _forest(trees, dim=given.shape[1])
        depths = [len(tree) for tree in forest]
        choices = {
            "input": 0,
            "beam": base.whole("beam", beam, range(1, MOST_BEAM + 1)),
            "depth": base.whole("depth", depths[-1] if depth is None else depth, depths),
        }
        groups = [_scores(given, signatures) for tree in forest for _, signatures in tree[:-1]]
        super().__init__(
            depths=depths,
            nodes=[[len(parent) for parent, _ in tree] for tree in forest],
            parents=b"".join(base.packed(parent, "<u2") for tree in forest for parent, _ in tree),
            group_scores=b"".join(groups),
            scores=_scores(given, forest[0][-1][1]),
            labels=base.labels(labels, len(given), MOST_LETTERS)
            or [f"input {i}" for i in range(len(given))],
            most_beam=MOST_BEAM,
            colours={"score": NAMED["teal"], "best": NAMED["orange"]},
            alt=alt,
            start=choices,
            **choices,
        )

    _input = base.index("input", "labels")
    _beam = base.checked("beam", base.whole, range(1, MOST_BEAM + 1))
    _depth = base.checked("depth", base.whole, lambda self: self.depths)


_Given = Sequence[tuple[base.Numbers, base.Numbers]]
_Level = tuple[list[int], np.ndarray]  # parents `[nodes]`, signatures as float32 `[nodes, dim]`


def _forest(trees: Iterable[_Given], dim: int) -> list[list[_Level]]:
    """The trees, checked, by ascending depth."""
    forest = [_tree(f"trees[{i}]", levels, dim) for i, levels in enumerate(trees)]
    if not forest:
        raise ValueError("trees: expected at least one, received none")
    tiles = forest[0][-1][1]
    for i, tree in enumerate(forest):
        mine, wanted = tree[-1][1], f"trees[{i}]: expected"
        if len(mine) != len(tiles):
            received = len(mine)
            raise ValueError(f"{wanted} {len(tiles)} tiles, as trees[0] has, received {received}")
        if not np.array_equal(mine, tiles):
            found = f"another signature for tile {(mine != tiles).any(axis=1).argmax()}"
            raise ValueError(f"{wanted} the tiles of trees[0], received {found}")
    forest.sort(key=len)
    depths = [len(tree) for tree in forest]
    if len(set(depths)) != len(depths):
        raise ValueError(f"trees: expected one a depth, received depths {depths}")
    return forest


def _tree(name: str, levels: _Given, dim: int) -> list[_Level]:
    if not 1 <= len(levels) <= MOST_LEVELS:
        raise ValueError(f"{name}: expected 1 to {MOST_LEVELS} levels, received {len(levels)}")
    tree: list[_Level] = []
    for depth, level in enumerate(levels):
        here = f"{name}[{depth}]"
        if not isinstance(level, Sequence) or len(level) != 2:
            raise ValueError(f"{here}: expected a pair (parent, signatures), received {level!r}")
        signatures = base.floats(f"{here} signatures", level[1], (range(1, MOST_TILES + 1), dim))
        above = len(tree[-1][0]) if tree else 1
        parent = base.integers(f"{here} parent", level[0], (len(signatures),), range(above))
        childless = np.setdiff1d(np.arange(above), parent)
        if childless.size:
            raise ValueError(
                f"{here} parent: expected a child for each of the {above} nodes above, "
                f"received none for {childless.tolist()}"
            )
        tree.append((parent, signatures))
    return tree


def _scores(inputs: np.ndarray, signatures: np.ndarray) -> bytes:
    """Inputs · signatures, float32 `[inputs, nodes]`."""
    exact = inputs.astype(np.float64) @ signatures.astype(np.float64).T
    if np.abs(exact).max() > np.finfo(np.float32).max:
        raise ValueError(f"scores: expected them to fit float32, received {np.abs(exact).max():g}")
    return base.packed(exact)
