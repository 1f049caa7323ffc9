"""`MixtureLens` on a page with no kernel, in a real browser."""

import re

import pytest
import torch

from tests.browser import Visit, open_browser
from tests.static_page import visit
from trix.lab.charlm import LMConfig
from trix.lab.lookup_lm import LookupConfig, LookupLM
from trix.memory.context_memory import ContextMemory
from trix.show.mixture_lens import MixtureLens
from trix.show.style import contrast

pytestmark = pytest.mark.browser

TEXT = """The kettle sings, the cat is on the chair,
And all the lamps along the lane are lit.
Come in, come in, and hang your coat to dry.
The rain is in the hat, the hat is on the head,
And all the head can think of is the chair.
"""
LINES = [
    "The cat has got the chair. Then hang the hat,\nAnd let the rain sing on along the lane.",
    "It is all one; come, let us think of tea.",
    "Oh",
]
ALPHABET = "".join(sorted(set(TEXT + "".join(LINES))))
ORDER = 6


@pytest.fixture(scope="module")
def chromium():
    with open_browser() as browser:
        yield browser


def encode(text: str) -> torch.Tensor:
    return torch.tensor([ALPHABET.index(c) for c in text], dtype=torch.int64)


def lens(network: bool = True, line: int = 0, position: int | None = None) -> MixtureLens:
    size = len(ALPHABET)
    torch.manual_seed(3)
    inner = LMConfig(vocab_size=size, dim=8, layers=1, positions=0, mixer="none", ffn="dense")
    config = LookupConfig(
        vocab_size=size, order=ORDER, folds=0, hidden=8, network=inner if network else None
    )
    model = LookupLM(config, ContextMemory(encode(TEXT), ORDER, size, folds=0))
    torch.nn.init.normal_(model.gate.score.weight, std=4.0)  # so that not always the same one leads
    made = MixtureLens(model, ALPHABET, LINES, alt="Lines about a chair.")
    made.line = line
    if position is not None:
        made.position = position
    return made


def numbers(made: MixtureLens, name: str, kind: torch.dtype, line: int = 0) -> torch.Tensor:
    read = made.lines[line]
    values = torch.frombuffer(bytearray(read[name]), dtype=kind)
    return values.view(len(read["text"]) - 1, -1)


def weights(made: MixtureLens, line: int = 0) -> torch.Tensor:
    return numbers(made, "weights", torch.uint16, line).int() / 65535


def passage_of(opened: Visit):
    return opened.page.get_by_role("slider", name="Character to predict")


def place_of(opened: Visit, view: int = 0) -> int:
    marked = opened.page.locator(".trix-mixture-lens").nth(view).locator(".passage .next")
    return int(marked.get_attribute("data-at") or -1)


def text_of(opened: Visit, selector: str) -> str:
    text = opened.page.locator(f".trix-mixture-lens {selector}").first.text_content() or ""
    return re.sub(r"[ \n]+", " ", text).strip()


@pytest.mark.parametrize("network", [True, False])
def test_every_character_is_tinted_and_marked_by_who_leads(chromium, tmp_path, network):
    made = lens(network)
    leaders = weights(made).argmax(dim=1).tolist()
    marks = ["1", "2", "3", "4", "5", "6", "N"]
    assert len(set(leaders)) > 3
    with visit(chromium, tmp_path, made) as opened:
        spans = opened.page.locator(".passage [data-at]")
        assert spans.all_text_contents() == list(LINES[0].replace("\n", "↵"))
        seen = spans.evaluate_all("all => all.map(one => one.dataset.lead)")
        assert seen == [None, *(marks[lead] for lead in leaders)]
        tints = spans.evaluate_all("all => all.map(one => one.style.backgroundColor)")
        swatches = opened.page.locator(".keys .swatch").evaluate_all(
            "all => all.map(one => one.style.backgroundColor)"
        )
        assert len(set(swatches)) == ORDER + network
        assert tints == ["", *(swatches[lead] for lead in leaders)]
        counts = opened.page.locator(".count").all_text_contents()
        assert counts == [str(leaders.count(place)) for place in range(ORDER + network)]
        assert ("network" in text_of(opened, ".key")) == network
        opened.expect_quiet()


ROWS = """list => [...list.children].map(row => ({
    weight: row.dataset.weight,
    address: row.querySelector(".from").textContent,
    seen: row.querySelector(".seen").textContent,
    cost: row.querySelector(".cost").textContent,
    leads: row.classList.contains("leads"),
    unknown: row.classList.contains("unknown"),
    chips: [...row.querySelectorAll(".chip")].map(one =>
        [one.firstChild.textContent, one.lastChild.textContent, one.classList.contains("is-next")]),
    said: row.getAttribute("aria-label"),
}))"""


def test_the_rows_are_what_was_read(chromium, tmp_path):
    made = lens(position=1)
    cost = numbers(made, "costs", torch.float32)
    share = numbers(made, "shares", torch.uint16).int() / 65535
    totals = numbers(made, "totals", torch.uint32).int()
    glyphs = str.maketrans({" ": "␣", "\n": "↵"})
    with visit(chromium, tmp_path, made) as opened:
        passage_of(opened).focus()
        for at in range(1, len(LINES[0])):
            rows = opened.page.get_by_role("list", name="What each place says").evaluate(ROWS)
            assert place_of(opened) == at
            assert len(rows) == ORDER + 2
            weight = weights(made)[at - 1]
            for source, row in enumerate(rows):
                assert row["cost"] == f"{float(cost[at - 1, source]):.2f}"
                if source <= ORDER:
                    assert float(row["weight"]) == pytest.approx(float(weight[source]), abs=1e-6)
                assert row["leads"] == (source == int(weight.argmax()))
                if source < ORDER:
                    begin = at - source
                    known = source == 0 or (begin >= 0 and int(totals[at - 1, source]) > 0)
                    assert row["unknown"] != known
                    expected = LINES[0][begin:at].translate(glyphs) if begin >= 0 else ""
                    assert row["address"] == expected
                    assert row["seen"] == (str(int(totals[at - 1, source])) if known else "–")
                first = float(share[at - 1, 5 * source])
                shown = row["chips"][0][1].replace("\u00a0", "")
                if first >= 0.1:
                    number = float(shown.strip("<>%"))
                    assert number == pytest.approx(100 * first, abs=0.51)
                for character, _, is_next in row["chips"]:
                    assert is_next == (character == LINES[0][at].translate(glyphs))
            assert f"{float(cost[at - 1, -1]):.2f} nats" in text_of(opened, ".words")
            opened.page.keyboard.press("ArrowRight")
        assert place_of(opened) == len(LINES[0]) - 1
        opened.expect_quiet()


def test_another_line_can_be_picked(chromium, tmp_path):
    made = lens()
    with visit(chromium, tmp_path, made, made) as opened:
        select = opened.page.get_by_label("Line", exact=True).first
        options = select.locator("option").all_text_contents()
        assert options[0].endswith("…")
        assert options[2] == "Oh"
        select.select_option("1")
        for view in (0, 1):
            figure = opened.page.locator(".trix-mixture-lens").nth(view)
            assert "".join(figure.locator("[data-at]").all_text_contents()) == LINES[1]
            assert place_of(opened, view) == len(LINES[1]) // 2
        mean = float(numbers(made, "costs", torch.float32, 1)[:, -1].mean())
        assert f"{mean:.2f} nats a character" in text_of(opened, ".mean")
        select.select_option("2")
        assert place_of(opened) == 1
        passage_of(opened).first.press("Home")
        assert place_of(opened) == 1  # the first character is given
        opened.expect_quiet()


def test_keys_and_pointer_walk_the_line(chromium, tmp_path):
    with visit(chromium, tmp_path, lens(position=10), width=390) as opened:
        passage = passage_of(opened)
        places = []
        for key in ("ArrowRight", "ArrowLeft", "Home", "ArrowLeft", "End", "ArrowRight"):
            passage.press(key)
            places.append(place_of(opened))
        last = len(LINES[0]) - 1
        assert places == [11, 10, 1, 1, last, last]
        first = opened.page.locator("[data-at]").first.bounding_box()
        assert first is not None
        opened.page.mouse.click(first["x"] + 2, first["y"] + 5)
        assert place_of(opened) == 1
        opened.expect_quiet()


def test_what_the_reader_comes_to_rest_at_is_said(chromium, tmp_path):
    made = lens(position=9)
    with visit(chromium, tmp_path, made) as opened:
        passage = passage_of(opened)
        passage.press("ArrowRight")
        names = [f"order {n}" for n in range(1, ORDER + 1)] + ["network"]
        lead = int(weights(made)[9].argmax())
        said = passage.get_attribute("aria-valuetext") or ""
        assert said.startswith(f"{LINES[0][10]}, {names[lead]} leads, ")
        opened.page.wait_for_function(
            "document.querySelector('[aria-live]').textContent"
            " === document.querySelector('.words').textContent"
        )
        assert opened.page.get_by_role("group", name="Lines about a chair.").count() == 1


def test_without_a_kernel_nothing_can_be_typed(chromium, tmp_path):
    made = lens()
    made.heard = "somebody long ago"
    with visit(chromium, tmp_path, made) as opened:
        assert not opened.page.locator(".typing").is_visible()
        assert "Where a kernel runs" in text_of(opened, ".absent")
        opened.expect_quiet()


def test_where_somebody_listens_a_line_can_be_typed(chromium, tmp_path):
    made = lens()
    made.heard = "i"  # what this page calls itself: a half, to base 36
    made.refused = "line: expected better"
    dice = "<script>Math.random = () => 0.5</script>"
    with visit(chromium, tmp_path, made, extra=dice, width=390) as opened:
        assert opened.page.get_by_label("or type one").is_visible()
        assert not opened.page.locator(".absent").is_visible()
        assert opened.page.get_by_role("alert").text_content() == "line: expected better"
        opened.page.get_by_label("or type one").fill("the hat")
        opened.page.get_by_label("or type one").press("Enter")
        opened.page.get_by_role("button", name="Read it").click()
        assert opened.sideways_scroll() == 0
        opened.expect_quiet()


@pytest.mark.parametrize("width", [320, 390, 620, 900])
def test_nothing_is_wider_than_the_page_and_nothing_moves(chromium, tmp_path, width):
    with visit(chromium, tmp_path, lens(), width=width) as opened:
        heights = set()
        passage_of(opened).press("Home")
        for _ in range(40):
            opened.page.keyboard.press("ArrowRight")
            assert opened.sideways_scroll() == 0
            box = opened.page.locator(".sources").bounding_box()
            assert box is not None
            heights.add((round(box["y"]), round(box["height"])))
        assert len(heights) == 1
        edge = opened.page.evaluate("document.documentElement.clientWidth")
        parts = ".passage, .passage span, .chip, .part, .cost, .share, .count, select"
        ends = opened.page.locator(f".trix-mixture-lens :is({parts})").evaluate_all(
            "parts => parts.map(part => part.getBoundingClientRect().right)"
        )
        assert max(ends) <= edge


def hexadecimal(colour: str) -> str:
    """`rgb(…)` as `style.contrast` wants it."""
    return "#" + "".join(f"{int(part):02X}" for part in re.findall(r"\d+", colour)[:3])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_reads_on_every_tint(chromium, tmp_path, theme):
    with visit(chromium, tmp_path, lens()) as opened:
        opened.page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        passage = passage_of(opened)
        ink = passage.evaluate("box => getComputedStyle(box).color")
        ground = passage.evaluate("box => getComputedStyle(box).backgroundColor")
        below = [int(n) for n in re.findall(r"\d+", ground)[:3]]
        tints = opened.page.locator(".keys .swatch").evaluate_all(
            "all => all.map(one => one.style.backgroundColor)"
        )
        for tint in tints:
            *parts, alpha = (float(n) for n in re.findall(r"[\d.]+", tint))
            mixed = [alpha * a + (1 - alpha) * b for a, b in zip(parts, below, strict=True)]
            shown = "#" + "".join(f"{round(channel):02X}" for channel in mixed)
            assert contrast(hexadecimal(ink), shown) >= 4.5
