"""What holds of every widget, on a page with no kernel that is opened from a file."""

import json
import re

import pytest
from ipywidgets.embed import dependency_state

from tests.browser.made import MAKERS, TOUCHES, everything
from tests.chromium import Visit, open_page
from tests.static_page import write_page
from trix.show.figures.style import contrast

pytestmark = pytest.mark.browser

every_widget = pytest.mark.parametrize("name", MAKERS)
CONTROLS = ":is(button, input, select, textarea, [tabindex], .arrow .grasp):not([disabled])"

# By widget: marks that carry meaning, and how they are painted.
MARKS = {
    "address-plane": {".arrow .disc": "stroke", ".arrow line": "stroke"},
    "context-lens": {".column .bar": "backgroundColor", ".entry .kit-fill": "backgroundColor"},
    "funnel": {
        ".trix-fn-above": "fill", ".trix-fn-below": "fill", ".trix-fn-outline": "stroke",
        ".trix-fn-dot": "fill", ".trix-fn-point": "fill", ".trix-fn-cell": "stroke",
        ".kit-fill": "backgroundColor",
    },
    "island-plane": {
        ".trix-ip-target": "stroke", ".trix-ip-end": "stroke", ".trix-ip-start": "stroke",
        ".trix-ip-disc": "stroke",
    },
    "ledger": {".trix-lg-mark": "color"},
    "memory-reader": {".trix-mr-top": "backgroundColor"},
    "mixture-lens": {".sources .bar": "backgroundColor"},
    "route-tree": {
        ".rt-picture .rt-cap": "fill", ".rt-picture .rt-way": "stroke",
        ".rt-picture .rt-kept": "stroke", ".kit-key .rt-missed-way": "stroke",
    },
    "soft-blend": {
        ".trix-sb-output": "stroke", ".trix-sb-target": "stroke", ".trix-sb-area": "fill",
        ".trix-sb-picture .trix-sb-answer": "stroke", ".trix-sb-disc": "stroke",
        ".kit-fill": "backgroundColor",
    },
    "spline-explorer": {
        ".trix-sp-target": "stroke", ".trix-sp-half": "stroke", ".trix-sp-read": "stroke",
        ".trix-sp-raw": "stroke", ".trix-sp-drop": "stroke", ".trix-sp-here": "fill",
    },
    "surgery-table": {".trix-st-by": "backgroundColor", ".kit-fill": "backgroundColor"},
}  # fmt: skip

# All that can be seen of a figure: its words, its drawing and the values of its controls.
SEEN = """figure => {
    const copy = figure.cloneNode(true);
    copy.querySelectorAll("[aria-live]").forEach((one) => one.remove());
    const shapes = [...figure.querySelectorAll("svg *")].map((one) =>
        ["d", "points", "transform", "x", "y", "cx", "cy", "width"]
            .map((name) => one.getAttribute(name)).join());
    const values = [...figure.querySelectorAll("input, select")].map((one) =>
        one.type === "radio" || one.type === "checkbox" ? one.checked : one.value);
    const marked = [...figure.querySelectorAll(".passage span")].map((one) => one.className);
    return JSON.stringify([copy.textContent, shapes, values, marked]);
}"""

# Parts that reach over an edge of the window, unless they stand in a box that scrolls.
OUTSIDE = """figure => {
    const edge = document.documentElement.clientWidth;
    const scrolls = (one) => one.closest(".trix-st-scroll, .kit-hidden");
    return [...figure.querySelectorAll("*")].filter((one) => !scrolls(one)).map((one) => {
        const { left, right, width } = one.getBoundingClientRect();
        const shown = getComputedStyle(one).visibility === "visible";
        const clipped = one.closest("svg") && !one.matches("svg, text");
        return width && shown && !clipped && (left < -0.5 || right > edge + 0.5)
            ? `${one.tagName}.${one.className.baseVal ?? one.className}: ${left}, ${right}` : null;
    }).filter(Boolean);
}"""

# Of each control: where it stands in the figure, and its smaller side.
PLACES = f"""figure => [...figure.querySelectorAll("{CONTROLS}")].flatMap((one) => {{
    const {{ top, width, height }} = (one.closest("label") ?? one).getBoundingClientRect();
    const text = ".passage, .trix-st-passage";
    const moves = one.closest(`svg, .trix-lg-row, .trix-lg-found, .rt-crumbs, ${{text}}`);
    const shown = width && getComputedStyle(one).visibility === "visible";
    if (!shown || moves) return [];
    return [[Math.round(top - figure.getBoundingClientRect().top), Math.min(width, height)]];
}})"""

# Of every text its colour and what it stands on, both opaque.
INKS = """figure => {
    const brush = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
        brush.clearRect(0, 0, 1, 1);
        brush.fillStyle = colour;
        brush.fillRect(0, 0, 1, 1);
        return [...brush.getImageData(0, 0, 1, 1).data];
    };
    const hex = (colour) => "#" + colour.slice(0, 3)
        .map((part) => Math.round(part).toString(16).padStart(2, "0")).join("");
    const over = ([r, g, b, a], below) =>
        [r, g, b].map((part, i) => (part * a + below[i] * (255 - a)) / 255);
    const ground = (one) => {
        const layers = [];
        for (let at = one; at; at = at.parentElement)
            layers.push(rgba(getComputedStyle(at).backgroundColor));
        return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
    };
    return [...figure.querySelectorAll("*")].filter((one) => {
        const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        const off = one.closest(
            ":disabled, [aria-disabled=true], .kit-hidden, .heat:has(:disabled), option");
        return own && !off && one.checkVisibility({ checkOpacity: true, visibilityProperty: true });
    }).map((one) => {
        const style = getComputedStyle(one);
        const below = ground(one);
        const ink = one.closest("svg") ? style.fill : style.color;
        return [one.tagName + "." + (one.className.baseVal ?? one.className),
            hex(over(rgba(ink), below)), hex(below)];
    });
}"""


@pytest.fixture(scope="module")
def made():
    return everything()


@pytest.fixture(scope="module")
def page(chromium, made, tmp_path_factory):
    """A page that shows every widget twice."""
    folder = tmp_path_factory.mktemp("all of them")
    path = write_page(folder, *(one for widget in made.values() for one in (widget, widget)))
    with open_page(chromium, width=820) as opened:
        opened.page.emulate_media(reduced_motion="reduce")
        opened.page.goto(path.as_uri())
        opened.page.wait_for_selector("html[data-widgets=ready]")
        yield opened
        opened.expect_quiet()


def figure(page: Visit, name: str, view: int = 0):
    return page.page.locator(".trix-widget > .trix-kit").nth(2 * list(MAKERS).index(name) + view)


def touch(page: Visit, name: str) -> None:
    selector, key = TOUCHES[name]
    figure(page, name).locator(selector).first.press(key)


def reset(page: Visit, name: str) -> bool:
    """Go back to the start; whether the widget offers that."""
    button = figure(page, name).get_by_role("button", name=re.compile("^(Reset|Show all)$"))
    found = button.count() == 1 and button.is_visible()
    if found:
        button.click(force=True)  # one that has nothing to do is `aria-disabled`
    return found


@pytest.mark.smoke
@every_widget
def test_a_touch_is_answered_in_every_view_and_reset_undoes_it(page, made, name):
    one, other = figure(page, name, 0), figure(page, name, 1)
    reset(page, name)
    start = one.evaluate(SEEN)
    assert other.evaluate(SEEN) == start
    touch(page, name)
    touched = one.evaluate(SEEN)
    assert touched != start
    assert other.evaluate(SEEN) == touched
    if hasattr(made[name], "start") or name == "ledger":
        assert reset(page, name)
        assert one.evaluate(SEEN) == other.evaluate(SEEN) == start
    page.expect_quiet()


@every_widget
def test_it_says_what_it_shows_in_plain_json(page, made, name):
    widget, one = made[name], figure(page, name)
    assert one.get_attribute("role") == "group"
    assert one.get_attribute("aria-label") == widget.alt
    data, _ = widget._repr_mimebundle_()
    assert data["text/plain"] == f"{type(widget).__name__}: {widget.alt}"
    assert one.locator("[aria-live], [role=status]").count() > 0
    silent = one.locator(CONTROLS).evaluate_all(
        """all => all.filter((one) => !one.ariaLabel && !one.labels?.length && !one.textContent
        && !one.closest("[aria-label]:not(.trix-kit)")).map((one) => one.outerHTML)"""
    )
    assert silent == []
    state = dependency_state([widget], drop_defaults=False)
    json.dumps(state, allow_nan=False)
    (entry,) = [one["state"] for one in state.values() if "_esm" in one["state"]]
    assert entry.keys() >= {"_esm", "_css", "alt"}


def test_no_two_parts_of_a_page_share_an_id(page):
    ids = page.page.locator(".trix-kit [id]").evaluate_all("all => all.map((one) => one.id)")
    assert len(set(ids)) == len(ids) > 40


@pytest.mark.parametrize("width", [320, 390, 820])
@every_widget
def test_nothing_is_wider_than_the_page_and_nothing_jumps(page, name, width):
    page.page.set_viewport_size({"width": width, "height": 900})
    one = figure(page, name)
    one.scroll_into_view_if_needed()
    page.page.evaluate("() => new Promise(requestAnimationFrame)")
    before = one.evaluate(PLACES)
    for _ in range(2):
        assert one.evaluate(OUTSIDE) == []
        assert page.sideways_scroll() <= 1  # which is rounding
        touch(page, name)
    after = one.evaluate(PLACES)
    assert [top for top, _ in after] == [top for top, _ in before]
    assert min(side for _, side in before) >= 23


@pytest.mark.parametrize("theme", ["light", "dark"])
@every_widget
def test_ink_and_marks_stand_out_from_their_ground(page, name, theme):
    page.page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    one = figure(page, name)
    inks = one.evaluate(INKS)
    assert len(inks) > 5
    assert [each for each in inks if contrast(each[1], each[2]) < 4.5] == []
    ground = {"light": "#ffffff", "dark": "#14181e"}[theme]
    for selector, what in MARKS[name].items():
        painted = one.locator(selector).evaluate_all(
            f"""all => all.map((one) => {{
                const brush = document.createElement("canvas").getContext("2d");
                brush.fillStyle = getComputedStyle(one).{what};
                brush.fillRect(0, 0, 1, 1);
                const [r, g, b, a] = brush.getImageData(0, 0, 1, 1).data;
                const hex = [r, g, b].map((part) => part.toString(16).padStart(2, "0"));
                return a === 255 ? "#" + hex.join("") : "";
            }})"""
        )
        seen = set(painted) - {""}
        assert seen, selector
        assert min(contrast(colour, ground) for colour in seen) >= 3, selector


@every_widget
def test_the_keyboard_reaches_every_control(page, name):
    one = figure(page, name)
    wanted = one.evaluate(
        """figure => {
            const all = [...figure.querySelectorAll("button, input, select, a, [tabindex]")];
            const groups = new Set();
            return all.filter((one) => {
                const group = one.type === "radio" && one.name;
                const first = !group || one.checked;
                const shown = one.checkVisibility({ visibilityProperty: true });
                return first && shown && one.tabIndex >= 0 && !one.disabled;
            }).map((one, i) => (one.dataset.stop = i));
        }"""
    )
    assert len(wanted) >= 2
    one.evaluate(
        """figure => {
            figure.setAttribute("tabindex", -1);
            figure.focus();
        }"""
    )
    reached = []
    for _ in wanted:
        page.page.keyboard.press("Tab")
        reached.append(page.page.evaluate("Number(document.activeElement.dataset.stop)"))
    assert reached == wanted
    ring = page.page.evaluate("document.activeElement.matches(':focus-visible')")
    assert ring


@every_widget
def test_no_key_leaves_a_widget_but_tab_still_moves_on(page, name):
    """A notebook has keys of its own: `x` cuts a cell, `a` inserts one, `d d` deletes one."""
    page.page.evaluate(
        """() => {
            window.left = [];
            document.onkeydown = (event) => window.left.push(event.key);
        }"""
    )
    for control in figure(page, name).locator(CONTROLS).all()[:3]:
        control.focus()
        for key in ("x", "a", "d", "ArrowDown", "Escape", "Tab"):
            page.page.keyboard.press(key)
        assert page.page.evaluate("one => document.activeElement !== one", control.element_handle())
    assert page.page.evaluate("left") == []
