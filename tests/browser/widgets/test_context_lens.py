"""`ContextLens` on a page with no kernel, in a real browser, against numbers worked out here."""

import math
import re

import pytest
import torch

from tests.chromium import Visit
from tests.static_page import visit
from trix.counts.ngram import CountTables
from trix.show.widgets.context_lens import ContextLens

pytestmark = pytest.mark.browser

TEXT = """FIRST LODGER:
The kettle sings, the cat is on the chair,
And all the lamps along the lane are lit.
Come in, come in, and hang your coat to dry.

SECOND LODGER:
The rain is in the hat, the hat is on the head,
And all the head can think of is the chair.
"""
PASSAGE = """FIRST LODGER:
The cat has got the chair. Then hang the hat,
And let the rain sing on along the lane & lamps.

SECOND LODGER:
It is all one; come, let us think of tea.
"""
ALPHABET = "".join(sorted(set(TEXT + PASSAGE)))
ORDERS = 6
GLYPHS = str.maketrans({" ": "␣", "\n": "↵"})
WHERE = PASSAGE.index("chair")
AFTER_THE = [TEXT[i + 4] for i in range(len(TEXT) - 4) if TEXT[i : i + 4] == "the "]


def encode(text: str) -> torch.Tensor:
    return torch.tensor([ALPHABET.index(c) for c in text], dtype=torch.int64)


TABLES = CountTables(encode(TEXT), ORDERS, len(ALPHABET))


def lens(order: int = 3, position: int = WHERE) -> ContextLens:
    made = ContextLens(TABLES, ALPHABET, PASSAGE, alt="A passage about lodgers.", order=order)
    made.position = position
    return made


def distributions(order: int) -> torch.Tensor:
    """`[characters, alphabet]`: what the tables expect at each place of the passage."""
    after = TABLES.probabilities(encode(PASSAGE)[None], order)[0]
    start = torch.tensor([TEXT.count(c) for c in ALPHABET], dtype=torch.float64)
    seen = (start > 0).sum()
    start = (start + seen / len(ALPHABET)) / (len(TEXT) + seen)
    return torch.cat([start[None], after[:-1]])


def costs(order: int) -> torch.Tensor:
    return -distributions(order).gather(1, encode(PASSAGE)[:, None]).log().squeeze(1)


def text_of(opened: Visit, selector: str) -> str:
    """What stands there, as it is read: several spaces are one."""
    text = opened.page.locator(f".trix-context-lens {selector}").first.text_content() or ""
    return re.sub(r"[ \n]+", " ", text).strip()


def place_of(opened: Visit, view: int = 0) -> int:
    marked = opened.page.locator(".trix-context-lens").nth(view).locator(".passage .next")
    return int(marked.get_attribute("data-at") or -1)


def passage_of(opened: Visit):
    return opened.page.get_by_role("slider", name="Character to predict")


def rects(opened: Visit) -> list[dict]:
    return opened.each(".passage [data-at]", "one.getBoundingClientRect().toJSON()")


def middle(rect) -> tuple[float, float]:
    return rect["x"] + rect["width"] / 2, rect["y"] + rect["height"] / 2


SNAPSHOT = """lens => {
    const text = (selector) => lens.querySelector(selector).textContent;
    const rows = [...lens.querySelectorAll(".entry:not(.unused)")];
    return {
        place: Number(lens.querySelector(".passage .next").dataset.at),
        address: [...lens.querySelectorAll(".passage .address")].map((one) => one.dataset.at),
        lookup: text(".lookup"),
        cost: text(".cost"),
        mean: text(".mean"),
        rows: rows.map(({ dataset, classList, children }) => [
            dataset.character, Number(dataset.share), classList.contains("is-next"),
            children[0].textContent, children[3].textContent, children[1].firstChild.style.width]),
        strip: [...lens.querySelectorAll(".column")].map((one) => Number(one.dataset.cost)),
        current: [...lens.querySelectorAll(".column.current")].map((one) => one.dataset.order),
    };
}"""


def test_every_character_shows_the_numbers_of_the_tables(chromium, tmp_path):
    order = ORDERS
    p, cost = distributions(order), costs(order)
    all_costs = torch.stack([costs(n) for n in range(1, ORDERS + 1)])
    mean = float(cost.mean())
    outside = 0
    with visit(chromium, tmp_path, lens(order, position=0)) as opened:
        figure = opened.page.locator(".trix-context-lens")
        passage_of(opened).focus()
        for at, character in enumerate(PASSAGE):
            seen = figure.evaluate(SNAPSHOT)
            assert seen["place"] == at
            begin = max(0, at - order + 1)
            assert seen["address"] == [str(i) for i in range(begin, at)]
            address = PASSAGE[begin:at].translate(GLYPHS) or "empty"
            assert seen["lookup"] == f"Address{address}then came{character.translate(GLYPHS)}"
            nats = float(cost[at])
            assert f"{nats:.2f} nats ({nats / math.log(2):.2f} bits)" in seen["cost"]
            assert f"{mean:.2f} nats a character ({mean / math.log(2):.2f} bits)" in seen["mean"]
            assert seen["strip"] == pytest.approx(all_costs[:, at].tolist(), rel=1e-6)
            assert seen["current"] == [str(order)]
            rows = seen["rows"]
            best = p[at].sort(descending=True).values[:6].tolist()
            assert [row[1] for row in rows[:6]] == pytest.approx(best, rel=1e-6)
            for name, share, is_next, glyph, mark, width in rows:
                assert share == pytest.approx(float(p[at, ALPHABET.index(name)]), rel=1e-6)
                assert is_next == (name == character) == (mark == "◂ came next")
                assert glyph == name.translate(GLYPHS)
                assert float(width.removesuffix("%")) == pytest.approx(100 * share, abs=0.001)
            assert [row[2] for row in rows].count(True) == 1
            assert len(rows) == 6 or (len(rows) == 7 and rows[6][2])
            outside += len(rows) - 6
            opened.page.keyboard.press("ArrowRight")
        assert outside > 3
        assert place_of(opened) == len(PASSAGE) - 1
        opened.expect_quiet()


def test_the_passage_is_tinted_by_its_costs_at_the_order_of_the_slider(chromium, tmp_path):
    with visit(chromium, tmp_path, lens()) as opened:
        spans = opened.page.locator(".passage [data-at]")
        assert "".join(spans.all_text_contents()) == PASSAGE.replace("\n", "↵")
        tops = [rect["y"] for rect in rects(opened)]
        assert all(tops[i + 1] > tops[i] for i, c in enumerate(PASSAGE[:-1]) if c == "\n")
        for order in range(1, ORDERS + 1):
            opened.page.get_by_role("slider", name="Order").fill(str(order))
            tints = spans.evaluate_all("spans => spans.map(span => span.style.backgroundColor)")
            found = [re.search(r", ([\d.]+)\)", tint) for tint in tints]
            expected = 0.55 * (costs(order) / 5).clamp(max=1)
            alphas = [float(one[1]) if one else 1.0 for one in found]
            assert alphas == pytest.approx(expected.tolist(), abs=0.006)


def test_the_evidence_is_put_into_words(chromium, tmp_path):
    total, distinct = len(AFTER_THE), len(set(AFTER_THE))
    cases = [
        (WHERE, 1, "With no address, all there is to read is how frequent each character is."),
        (0, 4, "The passage begins here. With no address, all there is to read is"),
        (2, 4, "beginning the passage has no more. “FI” stands once in the training text, "),
        (
            WHERE, 5,
            f"“the␣” stands {total} times in the training text, followed by {distinct} different "
            f"characters. That is trusted with {100 * total / (total + distinct):.0f}\u00a0%; "
            "shorter addresses",
        ),
        (WHERE + 2, 4, "followed by one character only. That is trusted with"),
        (
            PASSAGE.index("got") + 1, 4,
            "“s␣g” never stands in the training text; its longest end that does is “g”: ",
        ),
        (
            PASSAGE.index("&") + 1, 3,
            "“␣&” never stands in the training text, nor does any end of it: all there is",
        ),
    ]  # fmt: skip
    with visit(chromium, tmp_path, lens()) as opened:
        boxes = rects(opened)
        for at, order, words in cases:
            opened.page.get_by_role("slider", name="Order").fill(str(order))
            opened.page.mouse.click(*middle(boxes[at]))
            assert words in text_of(opened, ".found")


def test_keys_walk_the_passage(chromium, tmp_path):
    with visit(chromium, tmp_path, lens(4), width=375, height=500) as opened:
        passage, slider = passage_of(opened), opened.page.get_by_role("slider", name="Order")
        price = f"{float(costs(4)[WHERE]):.2f} nats"
        assert passage.get_attribute("aria-valuetext") == f"c after “he ”, {price}"
        assert passage.get_attribute("aria-valuenow") == str(WHERE + 1)
        last, boxes = len(PASSAGE) - 1, rects(opened)
        passage.focus()
        scrolled = opened.page.evaluate("scrollY")
        for key, place in (
            ("ArrowRight", WHERE + 1), ("ArrowLeft", WHERE), ("End", last), ("ArrowRight", last),
            ("Home", 0), ("ArrowLeft", 0),
        ):  # fmt: skip
            opened.page.keyboard.press(key)
            assert place_of(opened) == place
        lines = sorted({middle(box)[1] for box in boxes})
        assert len(lines) > 7  # some of them wrapped
        for line in [*lines[1:], lines[-1]]:
            passage.press("ArrowDown")
            assert middle(boxes[place_of(opened)])[1] == line
        for key in ("Home", *9 * ["ArrowRight"], "ArrowDown"):
            passage.press(key)
        above, below = boxes[9], boxes[place_of(opened)]
        assert middle(above)[0] == pytest.approx(middle(below)[0], abs=1)
        passage.press("ArrowUp")
        assert place_of(opened) == 9
        assert opened.page.evaluate("scrollY") == scrolled
        opened.page.wait_for_function(
            "document.querySelector('[aria-live]').textContent"
            " === document.querySelector('.found').textContent"
        )
        slider.press("ArrowRight")
        said = slider.get_attribute("aria-valuetext") or ""
        assert said.startswith("5, looks at the last 4 characters; this character ")
        assert said.endswith(f"the passage {float(costs(5).mean()):.2f} nats")
        opened.expect_quiet()


def test_the_pointer_picks_a_character_and_drags_along(chromium, tmp_path):
    with visit(chromium, tmp_path, lens()) as opened:
        boxes, mouse = rects(opened), opened.page.mouse
        first, second = PASSAGE.index("hang"), PASSAGE.index("rain")
        mouse.click(*middle(boxes[first]))
        assert place_of(opened) == first
        mouse.move(*middle(boxes[second]))
        assert place_of(opened) == first  # no press, no move
        mouse.down()
        assert place_of(opened) == second
        for at in range(second + 1, second + 6):
            mouse.move(*middle(boxes[at]))
            assert place_of(opened) == at
        mouse.move(3000, middle(boxes[second])[1])
        end_of_line = PASSAGE.index("\n", second)
        assert place_of(opened) == end_of_line
        mouse.up()
        mouse.move(*middle(boxes[first]))
        assert place_of(opened) == end_of_line
        focused = opened.page.evaluate("document.activeElement.className")
        assert focused == "passage"

        # beside a short line it is that line's end, however near the long line below comes
        far_right = max(box["right"] for box in boxes)
        mouse.click(far_right, middle(boxes[0])[1])
        assert place_of(opened) == PASSAGE.index("\n")
        opened.expect_quiet()


def test_a_finger_picks_a_character_and_may_still_scroll(chromium, tmp_path):
    with visit(chromium, tmp_path, lens(), width=375, touch=True) as opened:
        at = PASSAGE.index("lamps")
        opened.page.touchscreen.tap(*middle(rects(opened)[at]))
        assert place_of(opened) == at
        passage = passage_of(opened)
        assert passage.evaluate("box => getComputedStyle(box).touchAction") == "pan-y"

        # a finger that turns out to scroll the page leaves everything as it was
        x, y = middle(rects(opened)[PASSAGE.index("It")])
        devtools = opened.page.context.new_cdp_session(opened.page)
        for kind, moved in (("touchStart", 0), *(("touchMove", n) for n in (40, 80, 120, 160))):
            point = {"x": x, "y": y - moved}
            devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        devtools.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        opened.page.wait_for_function("scrollY > 0")
        assert place_of(opened) == at


def test_slider_keys_and_strip_choose_the_order(chromium, tmp_path):
    with visit(chromium, tmp_path, lens(3), width=375) as opened:
        slider = opened.page.get_by_role("slider", name="Order")
        for key, order in (("ArrowRight", 4), ("End", 6), ("ArrowRight", 6), ("Home", 1)):
            slider.press(key)
            assert slider.input_value() == str(order)
            looks = {1: "no characters", 4: "the last 3 characters"}.get(order, "")
            assert f"Order {order} looks at {looks}" in text_of(opened, "label")
        opened.page.locator(".column").nth(1).click()
        assert slider.input_value() == "2"
        assert text_of(opened, "label") == "Order 2 looks at the last character"
        assert text_of(opened, ".mean").startswith("The passage at order 2: ")
        # bars stand above the thumb
        track, thumb = slider.bounding_box(), 18
        assert track
        for n, column in enumerate(opened.page.locator(".column").all()):
            centre = track["x"] + thumb / 2 + (track["width"] - thumb) * n / (ORDERS - 1)
            assert middle(column.bounding_box() or {})[0] == pytest.approx(centre, abs=1)
