"""`RouteTree` on a page with no kernel, in a real browser, against searches by slow loops."""

import re
from typing import NamedTuple

import pytest
import torch

from tests.chromium import Visit
from tests.static_page import visit
from trix.show.widgets.route_tree import RouteTree

pytestmark = pytest.mark.browser

INPUTS = 12
TILES = 37
GROUPS = (5, 14)  # nodes on the two levels above the tiles
LABELS = [f"{i} after a" for i in range(INPUTS)]


class Forest(NamedTuple):
    inputs: torch.Tensor
    trees: list


def whole_numbers(*shape: int, seed: int) -> torch.Tensor:
    """Small integers, so that many scores are equal and none is rounded."""
    return torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed)).float()


def some_parents(nodes: int, above: int, seed: int) -> torch.Tensor:
    """A child for each of those above, the others anywhere, in no order."""
    generator = torch.Generator().manual_seed(seed)
    rest = torch.randint(above, (nodes - above,), generator=generator)
    every = torch.cat([torch.arange(above), rest])
    return every[torch.randperm(nodes, generator=generator)]


def a_forest(seed: int = 0, dim: int = 6) -> Forest:
    top, middle = (whole_numbers(n, dim, seed=seed + n) for n in GROUPS)
    tiles = whole_numbers(TILES, dim, seed=seed + TILES)
    up = some_parents(TILES, GROUPS[1], seed)
    trees = [
        [(torch.zeros(TILES, dtype=torch.int64), tiles)],
        [(torch.zeros(GROUPS[1], dtype=torch.int64), middle), (up, tiles)],
        [
            (torch.zeros(GROUPS[0], dtype=torch.int64), top),
            (some_parents(GROUPS[1], GROUPS[0], seed + 1), middle),
            (up, tiles),
        ],
    ]
    return Forest(whole_numbers(INPUTS, dim, seed=seed + 99), trees)


FOREST = a_forest()


def route_tree(forest: Forest = FOREST, **options) -> RouteTree:
    settings = {"alt": "A tree of 37 tiles.", "labels": LABELS, **options}
    return RouteTree(forest.inputs, forest.trees, **settings)


class Found(NamedTuple):
    chosen: int
    best: int
    compared: list[list[int]]  # by level, the best first
    kept: list[list[int]]
    scores: list[list[float]]  # of every node, compared or not

    @property
    def total(self) -> int:
        return sum(len(level) for level in self.compared)


def best_first(nodes: list[int], scores: list[float]) -> list[int]:
    """By taking the best one out again and again; of equal ones the lowest."""
    left, taken = sorted(nodes), []
    while left:
        best = left[0]
        for node in left:
            if scores[node] > scores[best]:
                best = node
        left.remove(best)
        taken.append(best)
    return taken


def slow_search(tree, x, beam: int) -> Found:
    scores = [
        [float(sum(a * b for a, b in zip(x, s, strict=True))) for s in sig] for _, sig in tree
    ]
    compared, kept = [], []
    for depth, (parent, _) in enumerate(tree):
        nodes = [
            node
            for node in range(len(parent))
            if depth == 0 or int(parent[node]) in kept[depth - 1]
        ]
        compared.append(best_first(nodes, scores[depth]))
        kept.append(compared[depth][: 1 if depth == len(tree) - 1 else beam])
    everything = best_first(list(range(len(scores[-1]))), scores[-1])
    return Found(kept[-1][0], everything[0], compared, kept, scores)


def line_above(tree, tile: int) -> list[int]:
    """The tile and the groups above it, from the top."""
    line = [tile]
    for parent, _ in reversed(tree[1:]):
        line.insert(0, int(parent[line[0]]))
    return line


def number(score: float) -> str:
    """As the page writes the scores of these trees: one digit after the point."""
    return f"{score:.1f}".replace("-", "−")


def text_of(opened: Visit, selector: str) -> str:
    text = opened.page.locator(f".trix-route-tree {selector}").first.text_content() or ""
    return text.replace("\u00a0", " ")


def verdict_of(opened: Visit) -> str:
    return text_of(opened, ".rt-verdict")


def set_beam(opened: Visit, beam: int) -> None:
    opened.page.get_by_role("slider", name="Beam").fill(str(beam))


def set_depth(opened: Visit, depth: int) -> None:
    name = {1: "one level (flat)", 2: "two levels", 3: "three levels"}[depth]
    opened.page.get_by_label(name).check()


def node_of(opened: Visit) -> tuple[int, int]:
    """The level and the node that the keyboard is on."""
    depth, node = (opened.page.get_by_role("treeitem").get_attribute("data-node") or "").split(".")
    return int(depth), int(node)


def trail_of(opened: Visit) -> list[str]:
    return opened.texts(".rt-crumbs li")


def still(opened: Visit) -> None:
    opened.page.emulate_media(reduced_motion="reduce")


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_input_is_routed_as_slow_loops_route_it(chromium, tmp_path, depth):
    tree = FOREST.trees[depth - 1]
    lost_somewhere = set()
    with visit(chromium, tmp_path, route_tree(depth=depth)) as opened:
        choose = opened.page.get_by_label("Input")
        for beam in (1, 2, 3, 5, 8) if depth > 1 else (1,):
            if depth > 1:
                set_beam(opened, beam)
            results = [slow_search(tree, x, beam) for x in FOREST.inputs]
            for i, result in enumerate(results):
                choose.select_option(str(i))
                said = verdict_of(opened)
                assert said.startswith(f"Compared {result.total} signatures (flat: {TILES}). ")
                scores = result.scores[-1]
                best = f"tile {result.best} (score {number(scores[result.best])})"
                if result.chosen == result.best:
                    assert said.endswith(f" Found the best tile: {best}.")
                else:
                    chosen = f"tile {result.chosen} (score {number(scores[result.chosen])})"
                    assert f"Missed the best tile: chose {chosen}, the best is {best}." in said
                    line = line_above(tree, result.best)
                    lost = next(d for d, n in enumerate(line) if n not in result.kept[d])
                    rank = result.compared[lost].index(line[lost]) + 1
                    assert re.search(
                        rf"lost on level {lost + 1}, where its group {line[lost]} came "
                        rf"{rank}(st|nd|rd|th) of {len(result.compared[lost])}\.$",
                        said,
                    )
                    lost_somewhere.add(lost)
                captions = opened.texts(".rt-caption")
                for level, caption in enumerate(captions):
                    compared, count = len(result.compared[level]), len(tree[level][0])
                    last = level == depth - 1
                    what = "tiles" if last else f"groups, kept {len(result.kept[level])}"
                    shown = f"compared {compared} of {count} {what}"
                    assert caption == f"Level {level + 1}\u2002{shown}"
                assert len(captions) == depth

            found = [result.chosen == result.best for result in results]
            mean = sum(result.total for result in results) / INPUTS
            recall = text_of(opened, ".rt-recall")
            assert f"all {INPUTS} inputs: found the best tile for {sum(found)}, with " in recall
            assert float(recall.split("with ")[1].split()[0]) == pytest.approx(mean, abs=0.051)
            marks = opened.texts(".rt-mark")
            assert marks == ["✓" if one else "✕" for one in found]
        opened.expect_quiet()
    assert lost_somewhere == {1: set(), 2: {0}, 3: {0, 1}}[depth]


def test_of_equal_scores_the_lower_index_wins(chromium, tmp_path):
    signatures = torch.tensor([[0.0], [1], [1], [1]])
    zero = torch.zeros(4, dtype=torch.int64)
    halves = (torch.tensor([0, 0]), torch.tensor([[2.0], [2.0]]))
    trees = [[(zero, signatures)], [halves, (torch.tensor([0, 1, 1, 0]), signatures)]]
    made = RouteTree([[1.0]], trees, alt="Equal scores.", depth=1)
    with visit(chromium, tmp_path, made) as opened:
        assert "Compared 4 signatures (flat: 4). Found the best tile: tile 1" in verdict_of(opened)
        set_depth(opened, 2)
        said = verdict_of(opened)
        assert "chose tile 3 (score 1.00), the best is tile 1 (score 1.00)" in said
        assert "lost on level 1, where its group 1 came 2nd of 2." in said
        assert not opened.page.locator(".rt-tally").is_visible()  # one input has no recall


def test_every_node_under_the_pointer_says_what_became_of_it(chromium, tmp_path):
    tree = FOREST.trees[2]
    result = slow_search(tree, FOREST.inputs[0], 2)
    with visit(chromium, tmp_path, route_tree(beam=2)) as opened:
        box = opened.page.locator(".rt-picture").bounding_box()
        assert box is not None
        seen = set()
        for depth in range(3):
            y = box["y"] + 36 + 20 + depth * 90
            for x in range(2, int(box["width"]), 6):
                opened.page.mouse.move(box["x"] + x, y)
                said = text_of(opened, ".rt-detail")
                found = re.match(r"(Tile|Group) (\d+)", said)
                if not found:
                    continue  # between two groups
                node = int(found[2])
                seen.add((depth, node))
                score = number(result.scores[depth][node])
                if node in result.compared[depth]:
                    rank = result.compared[depth].index(node) + 1
                    assert f": score {score}, {rank}" in said
                    kept = node in result.kept[depth]
                    fate = (", chosen", "") if depth == 2 else (", kept", ", not kept")
                    assert said.endswith(f" compared{fate[0 if kept else 1]}.")
                else:
                    assert f": not compared; its score would be {score}" in said
        assert seen == {(d, n) for d, level in enumerate(tree) for n in range(len(level[0]))}
        opened.expect_quiet()


def test_cells_show_what_was_compared_and_how_well(chromium, tmp_path):
    tree = FOREST.trees[2]
    with visit(chromium, tmp_path, route_tree(beam=2)) as opened:
        for i in range(3):
            opened.page.get_by_label("Input").select_option(str(i))
            result = slow_search(tree, FOREST.inputs[i], 2)
            shown = opened.page.locator(".trix-route-tree").evaluate(
                """figure => {
                    const rects = (selector) => [...figure.querySelectorAll(selector)].flatMap(
                        (path) => (path.getAttribute("d").match(/M[^Z]+Z/g) ?? []).map(
                            (one) => one.match(/-?[\\d.]+/g).map(Number)));
                    return [".rt-faint", ".rt-ground", ".rt-bar", ".rt-kept"].map(
                        (name) => rects(`.rt-picture ${name}`));
                }"""
            )
            faint, ground, bars, kept = shown
            assert len(ground) == len(bars) == result.total
            assert len(faint) == sum(len(level[0]) for level in tree) - result.total
            assert len(kept) == sum(len(level) for level in result.kept)
            tops = sorted({rect[1] for rect in ground})
            assert len(tops) == 3
            for depth, top in enumerate(tops):
                row = sorted(rect for rect in ground if rect[1] == top)
                bottom = row[0][3]
                heights = sorted(bottom - bar[1] for bar in bars if bar[3] == bottom)
                scores = sorted(result.scores[depth][node] for node in result.compared[depth])
                low, high = scores[0], scores[-1]
                spans = [(s - low) / (high - low) if high > low else 1 for s in scores]
                full = bottom - top - 20
                expected = [(0.05 + 0.95 * span) * full for span in spans]
                assert heights == pytest.approx(expected, abs=0.03)
