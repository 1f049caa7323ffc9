"""`MemoryReader` on a page with no kernel, in a real browser, against the numbers it was given."""

import re

import numpy as np
import pytest
from playwright.sync_api import Locator

from tests.chromium import Visit
from tests.static_page import visit
from trix.show.widgets.memory_reader import MemoryReader

pytestmark = pytest.mark.browser

TEXT = "the then that,\nthe hat the heat then; the cheat, the tenth"
N, LAYERS, HEADS, SLOTS = len(TEXT), 2, 3, 37
NAMES = {" ": "space", "\n": "line break"}
RANDOM = np.random.default_rng(0)
WRITE, READ = (RANDOM.dirichlet(np.full(SLOTS, 0.2), (LAYERS, HEADS, N)) for _ in range(2))
FADING = np.array([0.1, 0.5, 0.95])[:, None, None] ** np.abs(np.subtract.outer(*[np.arange(N)] * 2))
BACK = np.tril(READ @ WRITE.swapaxes(-1, -2) * FADING)
BACK[1, 1, 4] = 0


def reader(layers: int = LAYERS, heads: int = HEADS, at: int = 20) -> MemoryReader:
    arrays = (one[:layers, :heads] for one in (WRITE, READ, BACK))
    made = MemoryReader(TEXT, *arrays, alt="A text in a memory.", layers=[2, 4][:layers])
    made.position = at
    return made


def parts(layer: int, head: int, at: int) -> np.ndarray:
    """The share of each character in what comes back."""
    row = BACK[layer, head, at, : at + 1]
    return row / row.sum() if row.sum() > 0 else row


def named(character: str) -> str:
    return NAMES.get(character, f"‘{character}’")


def words_of(opened: Visit) -> str:
    return opened.said(".trix-mr-words").replace("\xa0", " ")


def choose(opened: Visit, name: str, value: int) -> None:
    opened.page.get_by_label(name, exact=True).first.select_option(index=value)


def passage_of(opened: Visit) -> Locator:
    return opened.page.get_by_role("slider").first


def character(opened: Visit, at: int) -> Locator:
    return opened.page.locator(f".passage [data-at='{at}']").first


def where(opened: Visit) -> int:
    return int(passage_of(opened).get_attribute("aria-valuenow") or 0) - 1


def walk(opened: Visit, ask: str) -> list:
    """The answer to a question, JavaScript about `figure`, at every character from the first."""
    return opened.page.locator(".trix-mr").evaluate(
        f"""figure => {{
            const passage = figure.querySelector("[role=slider]");
            const press = (key) => passage.dispatchEvent(new KeyboardEvent("keydown", {{ key }}));
            press("Home");
            return Array.from({{ length: {N} }}, () => {{
                const answer = {ask};
                press("ArrowRight");
                return answer;
            }});
        }}"""
    )


def strengths(opened: Visit, selector: str) -> np.ndarray:
    found = opened.each(f".trix-mr {selector}", "Number(one.style.getPropertyValue('--part'))")
    return np.array(found)


def test_every_character_is_put_into_words(chromium, tmp_path):
    """What is named, and with which shares, in every layer and head."""
    pattern = re.compile(r"(itself|(?:‘.’|space|line break) \d+ before) \((\d+) %\)")
    question = "figure.querySelector('.trix-mr-words').textContent.replaceAll('\\u00a0', ' ')"
    with visit(chromium, tmp_path, reader()) as opened:
        for layer in range(LAYERS):
            choose(opened, "Layer", layer)
            for head in range(HEADS):
                choose(opened, "Head", head)
                for at, said in enumerate(walk(opened, question)):
                    shares = parts(layer, head, at)
                    begin = f"At {named(TEXT[at])} head {head + 1} of layer {[2, 4][layer]} reads "
                    assert said.startswith(begin)
                    if (layer, head, at) == (1, 1, 4):
                        assert said.startswith(f"{begin}nothing: no character has written")
                        continue
                    told = pattern.findall(said.removeprefix(f"{begin}most from "))
                    order = np.argsort(-shares, kind="stable")[:3]
                    expected = [i for n, i in enumerate(order) if n == 0 or shares[i] > 0.006]
                    assert len(expected) <= len(told) <= 3
                    for (who, share), i in zip(told, expected, strict=False):
                        back = int(who.split()[-2]) if who != "itself" else 0
                        near = shares[at - back]
                        assert near == pytest.approx(shares[i], abs=3e-3)  # or as good as a tie
                        if back:
                            assert who.startswith(named(TEXT[at - back]))
                        assert float(share) == pytest.approx(100 * near, abs=0.8)
                    others = at + 1 - len(told)
                    rest = re.search(r"(?:others?|other) .*?(<? ?\d+) %\.$", said)
                    assert (rest is None) == (others == 0)
                    if rest is not None and others > 1:
                        assert f"the other {others} characters share" in said
                        left = 100 * (1 - np.sort(shares)[::-1][: len(told)].sum())
                        assert float(rest[1].strip("< ")) == pytest.approx(left, abs=1.6)
        opened.expect_quiet()


def channels(colour: str) -> list[float]:
    """Red, green, blue from 0 to 1, and alpha, of `rgb(…)` or `color(srgb …)`."""
    found = [float(n) for n in re.findall(r"[\d.]+(?:e-\d+)?", colour.replace("srgb", ""))]
    scale = 1 if colour.startswith("color(") else 255
    return [one / scale for one in found[:3]] + (found[3:] or [1.0])


def test_tints_are_the_shares(chromium, tmp_path):
    with visit(chromium, tmp_path, reader()) as opened:
        for chosen in [(0, 0, 0), (0, 2, N - 1), (1, 1, 13), (1, 1, 4), (1, 2, N - 1)]:
            layer, head, at = chosen
            choose(opened, "Layer", layer)
            choose(opened, "Head", head)
            character(opened, at).hover()
            shares = parts(*chosen)
            expected = np.zeros(N)
            expected[: at + 1] = shares / (shares.max() or 1)
            found = strengths(opened, ".passage [data-at]")
            np.testing.assert_allclose(found, expected, atol=0.5 / 255 + 1e-3)
            for kind, places in (("trix-mr-later", list(range(at + 1, N))), ("next", [at])):
                spans = opened.page.locator(f".{kind}")
                at_all = "spans => spans.map(span => Number(span.dataset.at))"
                assert spans.evaluate_all(at_all) == places
            for name, values in (("written", WRITE), ("read", READ)):
                row = values[chosen]
                found = strengths(opened, f"[data-name={name}] .trix-mr-cell")
                assert len(found) == SLOTS
                np.testing.assert_allclose(found, row / row.max(), atol=1 / 15 + 1e-3)
                strip = opened.page.locator(f".trix-mr-slots[data-name={name}]")
                top = strip.locator(".trix-mr-top")
                assert top.get_attribute("title") == f"slot {row.argmax() + 1}"
                does, way = {"written": ("Writes", "to"), "read": ("Reads", "from")}[name]
                told = f"{does} most {way} slot {row.argmax() + 1} ({100 * row.max():.0f}\xa0%)"
                assert strip.locator(".trix-mr-heading").text_content() == told
                picture = strip.get_by_role("img")
                assert picture.get_attribute("aria-label") == f"{SLOTS} slots. {told}"
            most = opened.said(".trix-mr-most")
            assert most.startswith("<" if chosen == (1, 1, 4) else f"{100 * shares.max():.0f}")
        # the style sheet makes colours of the shares
        for selector, most in ((".passage [data-at]", 0.55), ("[data-name=read] .trix-mr-cell", 1)):
            painted = opened.each(f".trix-mr {selector}", "getComputedStyle(one).backgroundColor")
            alphas = [channels(one)[3] for one in painted]
            np.testing.assert_allclose(alphas, most * strengths(opened, selector), atol=1e-3)
        spelled = "".join(opened.texts(".passage span"))
        assert spelled == TEXT.replace("\n", "↵")
        opened.expect_quiet()


def test_a_mouse_hovers_and_a_press_goes_to_the_nearest_character(chromium, tmp_path):
    with visit(chromium, tmp_path, reader(), touch=True) as opened:
        for at in (3, 40, 17):
            character(opened, at).hover()
            assert where(opened) == at
            assert words_of(opened).startswith(f"At {named(TEXT[at])} head 1 of layer 2 ")
        opened.page.locator(".trix-mr-words").hover()
        assert where(opened) == 17
        box = character(opened, 5).bounding_box()
        assert box
        mouse = opened.page.mouse
        mouse.move(box["x"] + 2, box["y"] + 2)
        mouse.down()
        mouse.move(2, box["y"] + 2)  # left of the line
        assert where(opened) == 0
        mouse.up()
        assert passage_of(opened).evaluate("box => box === document.activeElement")
        character(opened, 41).tap()
        assert where(opened) == 41


def test_the_keyboard_goes_everywhere(chromium, tmp_path):
    with visit(chromium, tmp_path, reader(at=5)) as opened:
        choose(opened, "Head", 1)
        assert words_of(opened).startswith("At ‘h’ head 2 of layer 2 ")
        live = opened.said("[aria-live=polite]")
        assert live.replace("\xa0", " ") == words_of(opened)
        for key, at in (
            ("ArrowRight", 6), ("ArrowLeft", 5),
            ("ArrowDown", 20),  # the text's second line begins at 15
            ("ArrowUp", 5), ("ArrowUp", 5), ("Home", 0), ("ArrowLeft", 0), ("End", N - 1),
            ("ArrowRight", N - 1),
        ):  # fmt: skip
            passage_of(opened).press(key)
            assert where(opened) == at, key
        said = passage_of(opened).get_attribute("aria-valuetext") or ""
        assert said.replace("\xa0", " ") == f"{N} of {N}. {words_of(opened)}"
        opened.expect_quiet()


@pytest.mark.parametrize(("layers", "heads"), [(1, 3), (2, 1)])
def test_there_is_a_choice_only_where_there_is_more_than_one(chromium, tmp_path, layers, heads):
    with visit(chromium, tmp_path, reader(layers, heads)) as opened:
        assert opened.page.get_by_label("Layer", exact=True).is_visible() == (layers > 1)
        assert opened.page.get_by_label("Head", exact=True).is_visible() == (heads > 1)
        assert ("of layer" in words_of(opened)) == (layers > 1)
