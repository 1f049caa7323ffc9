"""`MixtureLens` on a page with no kernel, in a real browser."""

import re

import pytest
import torch

from tests.chromium import Visit
from tests.static_page import visit
from trix.models.charlm import LMConfig
from trix.models.lookup import LookupConfig, LookupLM, count
from trix.show.widgets.mixture_lens import MixtureLens

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
MARKS = [*"123456", *"WPALER", "N"]
KINDS = [(True, True), (False, True), (False, False)]


def encode(text: str) -> torch.Tensor:
    return torch.tensor([ALPHABET.index(c) for c in text], dtype=torch.int64)


def lens(
    network: bool = True, line: int = 0, position: int | None = None, words: bool = True
) -> MixtureLens:
    size = len(ALPHABET)
    torch.manual_seed(3)
    inner = LMConfig(vocab_size=size, dim=8, layers=1, positions=0, mixer="none", ffn="dense")
    config = LookupConfig(
        size, ORDER, 0, 8, network=inner if network else None, words=words, echoes=words
    )
    model = LookupLM(config, *count(config, encode(TEXT), ALPHABET))
    torch.nn.init.normal_(model.gate.score.weight, std=4.0)  # so that not always the same one leads
    with torch.no_grad():
        model.gate.score.bias[ORDER : ORDER + 6 * words] += 3
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


def in_turn() -> MixtureLens:
    """A lens on a line of the counted text, in which every place leads where it has its turn."""
    made = lens()
    made.typed = "\n".join(TEXT.split("\n")[:2])
    read = made.lines[-1]
    total = numbers(made, "totals", torch.uint32, line=-1)
    total = torch.nn.functional.pad(total.int(), (0, 1), value=1)  # the network
    weight = torch.zeros_like(total)
    turns = dict.fromkeys(range(total.shape[1]), 0)
    for at, seen in enumerate(total):
        lead = min(seen.nonzero().flatten().tolist(), key=lambda place: turns[place])
        turns[lead] += 1
        weight[at, lead] = 65535
    made.lines = [{**read, "weights": weight.numpy().astype("<u2").tobytes()}]
    made.line, made.position = 0, 1
    assert min(turns.values()) > 3
    return made


def passage_of(opened: Visit):
    return opened.page.get_by_role("slider", name="Character to predict")


def place_of(opened: Visit) -> int:
    marked = opened.page.locator(".trix-mixture-lens .passage .next")
    return int(marked.get_attribute("data-at") or -1)


def text_of(opened: Visit, selector: str) -> str:
    text = opened.page.locator(f".trix-mixture-lens {selector}").first.text_content() or ""
    return re.sub(r"[ \n]+", " ", text).strip()


@pytest.mark.parametrize(("network", "words"), KINDS)
def test_every_character_is_tinted_and_marked_by_who_leads(chromium, tmp_path, network, words):
    made = lens(network, words=words)
    leaders = weights(made).argmax(dim=1).tolist()
    marks = [*MARKS[:ORDER], *MARKS[ORDER:-1][: 6 * words], *MARKS[-1:][:network]]
    assert len(set(leaders)) > 3
    assert any(ORDER <= lead < ORDER + 6 for lead in leaders) or not words
    with visit(chromium, tmp_path, made) as opened:
        spans = opened.page.locator(".passage [data-at]")
        assert spans.all_text_contents() == list(LINES[0].replace("\n", "↵"))
        seen = spans.evaluate_all("all => all.map(one => one.dataset.lead)")
        assert seen == [None, *(marks[lead] for lead in leaders)]
        tints = spans.evaluate_all("all => all.map(one => one.style.backgroundColor)")
        swatches = opened.each(".keys .swatch", "one.style.backgroundColor")
        assert len(swatches) == len(marks)
        assert len(set(swatches)) == ORDER + words + network
        assert opened.texts(".keys .swatch") == marks
        assert tints == ["", *(swatches[lead] for lead in leaders)]
        counts = opened.texts(".count")
        assert counts == [str(leaders.count(place)) for place in range(len(marks))]
        stand = (
            ", W for word, P for pair, A for apart, L for line, E for echo, R for refrain"
            if words
            else ""
        )
        stand += ", or N for the network" if network else ""
        stand = stand if network or not words else stand.replace(", R", ", or R")
        assert text_of(opened, ".hint") == f"Leads: order{stand}; how often"
        opened.expect_quiet()


ROWS = """list => [...list.children].map(row => ({
    weight: row.dataset.weight,
    name: row.querySelector(".swatch")?.textContent,
    address: row.querySelector(".from").textContent,
    colour: getComputedStyle(row.querySelector(".bar")).backgroundColor,
    seen: row.querySelector(".seen").textContent,
    cost: row.querySelector(".cost").textContent,
    leads: row.classList.contains("leads"),
    unknown: row.classList.contains("unknown"),
    chips: [...row.querySelectorAll(".chip")].map(one =>
        [one.firstChild.textContent, one.lastChild.textContent, one.classList.contains("is-next")]),
    said: row.getAttribute("aria-label"),
}))"""


@pytest.mark.parametrize("words", [True, False])
def test_the_rows_are_what_was_read(chromium, tmp_path, words):
    made = lens(position=1, words=words)
    tables = ORDER + 6 * words
    reaches = numbers(made, "reaches", torch.uint8).int()
    cost = numbers(made, "costs", torch.float32)
    share = numbers(made, "shares", torch.uint16).int() / 65535
    totals = numbers(made, "totals", torch.uint32).int()
    glyphs = str.maketrans({" ": "␣", "\n": "↵"})
    with visit(chromium, tmp_path, made) as opened:
        passage_of(opened).focus()
        for at in range(1, len(LINES[0])):
            rows = opened.page.get_by_role("list", name="What each place says").evaluate(ROWS)
            assert place_of(opened) == at
            assert len(rows) == tables + 2
            names = [*MARKS[:tables], "N", None]
            assert [row["name"] for row in rows] == names
            colours = [row["colour"] for row in rows[:-1]]
            kinds = [colours[:ORDER], colours[ORDER:-1], colours[-1:]]
            assert [len(set(kind)) for kind in kinds] == [1, int(words), 1]
            assert len(set(colours)) == 2 + words
            weight = weights(made)[at - 1]
            for source, row in enumerate(rows):
                assert row["cost"] == f"{float(cost[at - 1, source]):.2f}"
                if source <= tables:
                    assert float(row["weight"]) == pytest.approx(float(weight[source]), abs=1e-6)
                assert row["leads"] == (source == int(weight.argmax()))
                if source < tables:
                    begin = at - int(reaches[at - 1, source])
                    known = source == 0 or int(totals[at - 1, source]) > 0
                    assert row["unknown"] != known
                    assert row["address"] == LINES[0][begin:at].translate(glyphs)
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


def test_the_leaders_address_is_marked_and_told(chromium, tmp_path):
    made = in_turn()
    text = made.lines[0]["text"]
    leaders = weights(made).argmax(dim=1).tolist()
    reaches = numbers(made, "reaches", torch.uint8).int()
    totals = numbers(made, "totals", torch.uint32).int()
    said = [f"order {n}" for n in range(1, ORDER + 1)]
    said += ["the word so far", "the pair of words", "the words apart", "the line"]
    said += ["an echo", "a refrain", "the network"]
    besides = {8: ", whatever the middle word,", 9: ", that far into a line,"}
    besides |= dict.fromkeys((10, 11), ", earlier in this line,")
    long = False
    with visit(chromium, tmp_path, made) as opened:
        passage_of(opened).focus()
        for at in range(1, len(text)):
            lead = leaders[at - 1]
            reach = int(reaches[at - 1, lead]) if lead < ORDER + 6 else 0
            marked = opened.each(".passage .address", "Number(one.dataset.at)")
            assert marked == list(range(at - reach, at))
            sentence = text_of(opened, ".words").replace("\u00a0", " ")
            assert f"most weight is with {said[lead]} (" in sentence
            address = text[at - reach : at].translate({32: "␣", 10: "↵"})
            address = address if reach <= 12 else f"…{address[-12:]}"
            if reach:
                seen = int(totals[at - 1, lead])
                often = "once" if seen == 1 else f"{seen} times"
                assert f"address “{address}”{besides.get(lead, '')} was seen {often}." in sentence
            else:
                assert "address" not in sentence
            long |= reach > 12
            opened.page.keyboard.press("ArrowRight")
        opened.expect_quiet()
    assert long


def test_where_somebody_listens_a_line_can_be_typed(chromium, tmp_path):
    made = in_turn()
    made.position = made.lines[0]["text"].index("cat")
    made.heard = "trix-i"  # what this page calls itself: a half, to base 36
    made.refused = "line: expected better"
    generator = "<script>Math.random = () => 0.5</script>"
    with visit(chromium, tmp_path, made, extra=generator, width=390) as opened:
        # long addresses are cut where they begin
        cells = opened.page.locator(".sources .from").evaluate_all(
            """all => all.map(cell => {
                const [text, room] = [cell.firstChild, cell]
                    .map(one => one.getBoundingClientRect());
                return [text.width, room.width, text.right - room.right,
                        getComputedStyle(cell).overflowX];
            })"""
        )
        cut = [cell for cell in cells if cell[0] > cell[1]]
        assert len(cut) == 1  # the words apart
        assert cut[0][3] == "hidden"
        assert all(abs(past) < 1 for width, _, past, _ in cells if width)
        typing = opened.page.get_by_label("or type one")
        assert typing.is_visible()
        assert not opened.page.locator(".absent").is_visible()
        assert opened.page.get_by_role("alert").text_content() == "line: expected better"
        typing.fill("the hat")
        typing.press("Enter")
        opened.page.get_by_role("button", name="Read it").click()
        assert opened.sideways_scroll() == 0
        opened.expect_quiet()


def test_another_line_can_be_picked_and_walked(chromium, tmp_path):
    made = lens(position=9)
    made.heard = "somebody long ago"
    with visit(chromium, tmp_path, made, width=390) as opened:
        passage = passage_of(opened)
        last = len(LINES[0]) - 1
        for key, place in (
            ("ArrowLeft", 8), ("Home", 1), ("ArrowLeft", 1), ("End", last), ("ArrowRight", last),
        ):  # fmt: skip
            passage.press(key)
            assert place_of(opened) == place
        first = opened.page.locator("[data-at]").first.bounding_box()
        assert first
        opened.page.mouse.click(first["x"] + 2, first["y"] + 5)
        assert place_of(opened) == 1  # the first character is given
        for _ in range(9):
            passage.press("ArrowRight")
        names = [f"order {n}" for n in range(1, ORDER + 1)]
        names += ["word", "pair", "apart", "line", "echo", "refrain", "network"]
        lead = int(weights(made)[9].argmax())
        said = passage.get_attribute("aria-valuetext") or ""
        assert said.startswith(f"{LINES[0][10]}, {names[lead]} leads, ")
        opened.page.wait_for_function(
            "document.querySelector('[aria-live]').textContent"
            " === document.querySelector('.words').textContent"
        )
        select = opened.page.get_by_label("Line", exact=True)
        options = select.locator("option").all_text_contents()
        assert options[0].endswith("…")
        assert options[2] == "Oh"
        select.select_option("1")
        assert "".join(opened.texts("[data-at]")) == LINES[1]
        assert place_of(opened) == len(LINES[1]) // 2
        mean = float(numbers(made, "costs", torch.float32, 1)[:, -1].mean())
        assert f"{mean:.2f} nats a character" in text_of(opened, ".mean")
        select.select_option("2")
        passage.press("Home")
        assert place_of(opened) == 1
        # where no kernel runs nothing can be typed
        assert not opened.page.locator(".typing").is_visible()
        assert "Where a kernel runs" in text_of(opened, ".absent")
        opened.expect_quiet()
