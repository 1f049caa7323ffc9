"""`RouteTree` under the reader's hand, and how it looks, on a page with no kernel."""

import re

import pytest

from tests.browser.widgets.test_route_tree import (
    FOREST,
    GROUPS,
    INPUTS,
    LABELS,
    TILES,
    line_above,
    node_of,
    route_tree,
    set_beam,
    set_depth,
    slow_search,
    still,
    text_of,
    trail_of,
    verdict_of,
)
from tests.chromium import Visit
from tests.static_page import visit

pytestmark = pytest.mark.browser


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
        tiles = opened.texts(".rt-number tspan")
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
        slider = opened.page.get_by_role("slider", name="Beam")

        def all_of_it():
            return (
                opened.page.get_by_label("Input").input_value(),
                slider.input_value(),
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
        opened.page.wait_for_function("document.querySelector('[aria-live]').textContent !== ''")
        said = f"{verdict_of(opened)} {text_of(opened, '.rt-recall')}"
        assert text_of(opened, "[aria-live]") == said
        opened.page.get_by_role("button", name="Zoom to the chosen tile").click()
        assert not set(all_of_it()[:3]) & set(start[:3])
        opened.page.get_by_role("button", name="Reset").click()
        assert all_of_it() == start
        set_depth(opened, 1)  # where the beam has nothing to do
        assert slider.is_disabled()
        assert f"Compared {TILES} signatures" in verdict_of(opened)
        recall = f"found the best tile for {INPUTS}, with 37 comparisons each."
        assert recall in text_of(opened, ".rt-recall")
        opened.expect_quiet()


def test_labels_are_written_out_and_two_views_zoom_apart(chromium, tmp_path):
    made = route_tree(labels=["<b> & \n", *LABELS[1:]])
    with visit(chromium, tmp_path, made, made) as opened:
        first, other = (opened.page.locator(".trix-route-tree").nth(view) for view in (0, 1))
        for part in ("option", ".rt-source"):
            said = first.locator(part).first.text_content() or ""
            assert said.replace("\u00a0", " ") == "<b>␣&␣↵"
        first.get_by_label("Input").select_option("3")
        assert other.locator(".rt-source").text_content() == "3␣after␣a"
        first.get_by_role("button", name="Zoom to").click()
        assert [one.locator(".rt-crumbs li").count() for one in (first, other)] == [4, 1]
