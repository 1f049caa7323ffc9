"""`RouteTree` under the reader's hand, and how it looks, on a page with no kernel."""

import re

import pytest
import torch

from tests.browser.widgets.test_route_tree import (
    FOREST,
    GROUPS,
    INPUTS,
    LABELS,
    TILES,
    Forest,
    line_above,
    node_of,
    route_tree,
    set_beam,
    set_depth,
    slow_search,
    some_parents,
    still,
    text_of,
    trail_of,
    verdict_of,
    whole_numbers,
)
from tests.chromium import Visit
from tests.static_page import visit

pytestmark = pytest.mark.browser


# ------------------------------------------------------------------ what the reader does


def middle_of(opened: Visit, depth: int, node: int) -> tuple[float, float]:
    """Where a node of the whole tree is seen, by walking the pointer along its row."""
    box = opened.page.locator(".rt-picture").bounding_box()
    assert box is not None
    y = box["y"] + 36 + 20 + depth * 90
    name = f"{'Tile' if depth == 2 else 'Group'} {node}"
    hits = []
    for x in range(1, int(box["width"]), 3):
        opened.page.mouse.move(box["x"] + x, y)
        if re.match(rf"{name}\b", text_of(opened, ".rt-detail")):
            hits.append(box["x"] + x)
    return hits[len(hits) // 2], y


def test_a_click_zooms_in_and_the_trail_leads_out(chromium, tmp_path):
    tree = FOREST.trees[2]
    group = 7
    above = int(tree[1][0][group])
    children = [t for t in range(TILES) if int(tree[2][0][t]) == group]
    with visit(chromium, tmp_path, route_tree()) as opened:
        still(opened)
        assert trail_of(opened) == ["all 37 tiles"]
        opened.page.mouse.click(*middle_of(opened, 1, group))
        assert trail_of(opened) == ["all 37 tiles", f"group {above}", f"group {group}"]
        assert node_of(opened) == (1, group)
        # the row of tiles now shows the children of the group, and nothing else
        box = opened.page.locator(".rt-picture").bounding_box()
        assert box is not None
        seen = []
        for x in range(4, int(box["width"]) - 4, 8):
            opened.page.mouse.move(box["x"] + x, box["y"] + 36 + 20 + 180)
            seen.append(int(text_of(opened, ".rt-detail").split()[1].strip(":")))
        assert sorted(set(seen)) == children

        # the same node again: one level out
        opened.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 36 + 20 + 90)
        assert trail_of(opened) == ["all 37 tiles", f"group {above}"]
        opened.page.get_by_role("button", name="all 37 tiles").click()
        assert trail_of(opened) == ["all 37 tiles"]
        focused = opened.page.evaluate("document.activeElement.getAttribute('role')")
        assert focused == "treeitem"
        opened.expect_quiet()


def test_the_button_zooms_to_the_chosen_tile(chromium, tmp_path):
    result = slow_search(FOREST.trees[2], FOREST.inputs[0], 1)
    with visit(chromium, tmp_path, route_tree()) as opened:
        still(opened)
        button = opened.page.get_by_role("button", name="Zoom to the chosen tile")
        button.click()
        line = line_above(FOREST.trees[2], result.chosen)
        assert trail_of(opened)[1:] == [
            f"group {line[0]}",
            f"group {line[1]}",
            f"tile {line[2]}",
        ]
        assert button.is_disabled()
        set_depth(opened, 1)  # another tree: all of it
        assert trail_of(opened) == ["all 37 tiles"]
        button.click()
        tiles = opened.page.locator(".rt-number tspan").all_text_contents()
        assert len(tiles) == 16
        best = slow_search(FOREST.trees[0], FOREST.inputs[0], 1).best
        assert str(best) in tiles


def test_keys_walk_the_tree_and_zoom(chromium, tmp_path):
    tree = FOREST.trees[2]
    way = line_above(tree, slow_search(tree, FOREST.inputs[0], 1).chosen)
    with visit(chromium, tmp_path, route_tree(), height=500) as opened:
        still(opened)
        keys = opened.page.keyboard
        item = opened.page.get_by_role("treeitem")
        assert item.count() == 1
        assert node_of(opened) == (0, way[0])
        item.focus()
        scrolled = opened.page.evaluate("scrollY")
        for depth in (1, 2):
            keys.press("ArrowDown")
            assert node_of(opened) == (depth, way[depth])
            assert opened.page.evaluate("document.activeElement.getAttribute('role')") == "treeitem"
            assert item.get_attribute("aria-level") == str(depth + 1)
        assert f"Tile {way[2]}: score" in str(item.get_attribute("aria-label"))
        assert text_of(opened, ".rt-detail").endswith("chosen.")
        siblings = [t for t in range(TILES) if int(tree[2][0][t]) == way[1]]
        assert item.get_attribute("aria-setsize") == str(len(siblings))
        assert item.get_attribute("aria-posinset") == str(siblings.index(way[2]) + 1)
        keys.press("ArrowDown")
        assert node_of(opened) == (2, way[2])
        for depth in (1, 0, 0):
            keys.press("ArrowUp")
            assert node_of(opened) == (depth, way[depth])

        keys.press("Home")
        visited = [node_of(opened)[1]]
        for _ in range(GROUPS[0]):
            keys.press("ArrowRight")
            visited.append(node_of(opened)[1])
        assert visited == [0, 1, 2, 3, 4, 4]
        keys.press("ArrowLeft")
        assert node_of(opened) == (0, 3)

        keys.press("Enter")
        assert trail_of(opened) == ["all 37 tiles", "group 3"]
        assert item.get_attribute("aria-expanded") == "true"
        keys.press("ArrowDown")
        inside = [g for g in range(GROUPS[1]) if int(tree[1][0][g]) == 3]
        keys.press("Home")
        assert node_of(opened) == (1, inside[0])
        keys.press("End")
        assert node_of(opened) == (1, inside[-1])  # no further than what is in view
        keys.press("ArrowRight")
        assert node_of(opened) == (1, inside[-1])
        keys.press("Enter")
        assert trail_of(opened)[1:] == ["group 3", f"group {inside[-1]}"]
        keys.press("Escape")
        assert trail_of(opened)[1:] == ["group 3"]
        keys.press("Escape")
        assert trail_of(opened) == ["all 37 tiles"]
        assert opened.page.evaluate("scrollY") == scrolled
        opened.expect_quiet()


def test_zooming_moves_smoothly_and_ends_where_a_jump_would(chromium, tmp_path):
    reads = "document.querySelector('.rt-picture .rt-ground').getAttribute('d')"
    with visit(chromium, tmp_path, route_tree()) as opened:
        button = opened.page.get_by_role("button", name="Zoom to the chosen tile")
        frames = opened.page.evaluate(
            f"""async () => {{
                const frames = [{reads}];
                document.querySelector(".rt-trail .rt-button").click();
                for (let i = 0; i < 60; i++) {{
                    await new Promise(requestAnimationFrame);
                    frames.push({reads});
                }}
                return frames;
            }}"""
        )
        assert len(set(frames)) > 5
        opened.page.wait_for_timeout(500)
        moved = opened.page.evaluate(reads)
        opened.page.get_by_role("button", name="Reset").click()
        opened.page.wait_for_timeout(600)
        still(opened)
        assert opened.page.evaluate(reads) == frames[0]
        button.click()
        assert opened.page.evaluate(reads) == moved


def test_reset_goes_back_to_the_start(chromium, tmp_path):
    with visit(chromium, tmp_path, route_tree(beam=2, depth=2)) as opened:
        still(opened)

        def all_of_it():
            return (
                opened.page.get_by_label("Input").input_value(),
                opened.page.get_by_role("slider", name="Beam").input_value(),
                opened.page.locator("input[type=radio]:checked").input_value(),
                verdict_of(opened),
                trail_of(opened),
                opened.page.locator(".rt-ground").first.get_attribute("d"),
            )

        start = all_of_it()
        assert start[:3] == ("0", "2", "2")
        opened.page.locator(".rt-mark").nth(7).click()
        assert opened.page.get_by_label("Input").input_value() == "7"
        set_depth(opened, 3)
        set_beam(opened, 5)
        opened.page.get_by_role("button", name="Zoom to the chosen tile").click()
        assert not set(all_of_it()[:3]) & set(start[:3])
        opened.page.get_by_role("button", name="Reset").click()
        assert all_of_it() == start
        opened.page.get_by_role("button", name="Zoom to the chosen tile").click()
        assert all_of_it() != start
        opened.page.get_by_role("button", name="Reset").click()
        assert all_of_it() == start
        opened.expect_quiet()


def test_what_the_reader_comes_to_rest_at_is_said(chromium, tmp_path):
    with visit(chromium, tmp_path, route_tree()) as opened:
        set_beam(opened, 3)
        opened.page.wait_for_function(
            "document.querySelector('[aria-live=polite]').textContent !== ''"
        )
        said = text_of(opened, "[aria-live]")
        assert said == f"{verdict_of(opened)} {text_of(opened, '.rt-recall')}"
        group = opened.page.get_by_role("group", name="A tree of 37 tiles.")
        assert group.get_by_role("tree").count() == 1


def test_the_beam_has_nothing_to_do_in_a_flat_tree(chromium, tmp_path):
    with visit(chromium, tmp_path, route_tree()) as opened:
        slider = opened.page.get_by_role("slider", name="Beam")
        assert slider.is_enabled()
        set_depth(opened, 1)
        assert slider.is_disabled()
        assert f"Compared {TILES} signatures" in verdict_of(opened)
        assert f"found the best tile for {INPUTS}, with 37 comparisons each." in text_of(
            opened, ".rt-recall"
        )


def test_two_views_choose_together_and_zoom_apart(chromium, tmp_path):
    made = route_tree()
    with visit(chromium, tmp_path, made, made) as opened:
        opened.page.get_by_label("Input").nth(1).select_option("4")
        opened.page.get_by_role("slider", name="Beam").nth(0).fill("4")
        assert verdict_of(opened, 0) == verdict_of(opened, 1)
        assert opened.page.get_by_label("Input").nth(0).input_value() == "4"
        assert opened.page.get_by_role("slider", name="Beam").nth(1).input_value() == "4"
        opened.page.get_by_role("button", name="Zoom to").nth(0).click()
        counts = [
            opened.page.locator(".trix-route-tree").nth(i).locator(".rt-crumbs li").count()
            for i in (0, 1)
        ]
        assert counts == [4, 1]


def test_labels_are_written_out(chromium, tmp_path):
    labels = ["<b> & \n", *LABELS[1:]]
    with visit(chromium, tmp_path, route_tree(labels=labels)) as opened:
        assert text_of(opened, "option") == text_of(opened, ".rt-source") == "<b>␣&␣↵"
        opened.page.get_by_label("Input").select_option("3")
        assert text_of(opened, ".rt-source") == "3␣after␣a"


# ------------------------------------------------------------------ how it looks


def big_forest() -> Forest:
    """1,024 tiles below 100 groups below 10."""
    tiles, middle, top = (whole_numbers(n, 8, seed=n) for n in (1024, 100, 10))
    levels = [
        (torch.zeros(10, dtype=torch.int64), top),
        (torch.arange(100) // 10, middle),
        (some_parents(1024, 100, seed=5), tiles),
    ]
    flat = [(torch.zeros(1024, dtype=torch.int64), tiles)]
    return Forest(whole_numbers(40, 8, seed=3), [flat, levels])


@pytest.mark.parametrize(("width", "size"), [(375, "small"), (320, "big")])
def test_nothing_is_wider_than_the_page_and_nothing_jumps(chromium, tmp_path, width, size):
    forest = FOREST if size == "small" else big_forest()
    labels = [f"a long label of the input with number {i}" for i in range(len(forest.inputs))]
    with visit(chromium, tmp_path, route_tree(forest, labels=labels), width=width) as opened:
        still(opened)
        edge = opened.page.evaluate("document.documentElement.clientWidth")
        tops = set()
        for i in range(0, len(labels), 3):
            opened.page.get_by_label("Input").select_option(str(i))
            for zoomed in (False, True):
                if zoomed:
                    opened.page.get_by_role("button", name="Zoom to").click()
                assert opened.sideways_scroll() == 0
                parts = ".rt-foot, .rt-caption, .rt-number, select, input, button, .rt-mark, p"
                for left, right in opened.page.locator(
                    f".trix-route-tree :is({parts})"
                ).evaluate_all(
                    "parts => parts.map(part => part.getBoundingClientRect())"
                    ".map(({ left, right }) => [left, right])"
                ):
                    assert left >= 0
                    assert right <= edge
                tops.add(
                    opened.page.locator(".rt-picture").evaluate(
                        "picture => Math.round(picture.getBoundingClientRect().top + scrollY)"
                    )
                )
            opened.page.locator(".rt-crumb").first.click()
        if width > 320:
            assert len(tops) == 1
        opened.expect_quiet()
