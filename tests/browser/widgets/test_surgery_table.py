"""`SurgeryTable` on a page with no kernel, in a real browser, against loops and `flat_route`."""

import math
import re

import numpy as np
import pytest
import torch

from tests.chromium import Visit, hexadecimal
from tests.static_page import visit
from trix.address.route import flat_route
from trix.show.widgets.base import Numbers
from trix.show.widgets.surgery_table import SurgeryTable

pytestmark = pytest.mark.browser

TEXT = "the then that,\nthe hat the heat then 𝄞"
N, DIM, TILES = len(TEXT), 13, 6
RANDOM = np.random.default_rng(0)
PLACE = {character: RANDOM.normal(size=DIM) for character in sorted(set(TEXT))}
TOKENS = np.stack([PLACE[c] for c in TEXT]) + 0.1 * RANDOM.normal(size=(N, DIM))
SIGNATURES = RANDOM.integers(-1, 2, size=(TILES, DIM))
CLASSES = {
    "vowels": np.array([c in "aeiou" for c in TEXT]),
    "spaces": np.array([c in " \n" for c in TEXT]),
    "digits": np.zeros(N, bool),
}
DESIGNS = {
    "for vowels": np.sign(TOKENS[CLASSES["vowels"]].mean(0)).astype(int),
    "nothing": np.zeros(DIM, int),
}
LOCKED = 2


def table(tokens: Numbers = TOKENS, signatures: Numbers = SIGNATURES, **options) -> SurgeryTable:
    settings = {"alt": "Six tiles.", "classes": CLASSES, "designs": DESIGNS, "frozen": [LOCKED]}
    return SurgeryTable(TEXT, tokens, signatures, **{**settings, **options})


def claims(signatures, tokens: Numbers = TOKENS) -> list[int]:
    x = torch.tensor(np.asarray(tokens)).float().double()
    return flat_route(x, torch.tensor(np.asarray(signatures))).index[:, 0].tolist()


def shown(opened: Visit) -> list[int]:
    """The tile of each character, as its number says."""
    return [int(n) for n in opened.texts(".trix-st-passage .trix-st-by")]


def signs(opened: Visit) -> np.ndarray:
    texts = opened.texts(".trix-st-grid .trix-st-cell")
    return np.array([{"+": 1, "0": 0, "−": -1}[text] for text in texts]).reshape(-1, DIM)


def spot(opened: Visit, tile: int, column: int):
    where = f"[data-tile='{tile}'][data-column='{column}']"
    return opened.page.locator(where).first


def press(opened: Visit, name: str) -> None:
    # by force, since playwright waits for what is `aria-disabled`
    opened.page.get_by_role("button", name=re.compile(f"^{name}")).first.click(force=True)


def live(opened: Visit) -> str:
    return opened.page.locator("[aria-live]").first.text_content() or ""


def told(before: list[int], now: list[int]) -> str:
    """What changed hands, in the words of the page."""
    left = [old for old, new in zip(before, now, strict=True) if old != new]
    if not left:
        return "No character changed tile."
    ranked = sorted(set(left), key=lambda tile: (-left.count(tile), tile))
    parts = ", ".join(f"{left.count(tile)} from tile {tile}" for tile in ranked)
    return f"{len(left)} character{'s' * (len(left) > 1)} changed tile: {parts}."


def with_cell(signatures, tile: int, column: int, sign: int) -> np.ndarray:
    changed = np.array(signatures)
    changed[tile, column] = sign
    return changed


def focused(opened: Visit) -> list[int]:
    return opened.page.evaluate(
        "(({ tile, column }) => [Number(tile), Number(column)])(document.activeElement.dataset)"
    )


def test_claims_are_those_of_flat_route(chromium, tmp_path):
    random = np.random.default_rng(1)
    tokens = random.normal(size=(N, DIM)).astype("f4")
    signatures = random.integers(-1, 2, size=(8, DIM))
    made = table(tokens, signatures)
    with visit(chromium, tmp_path, made) as opened:
        expected = flat_route(torch.tensor(tokens), torch.tensor(signatures)).index[:, 0]
        assert shown(opened) == expected.tolist() == claims(signatures, tokens)
        assert len(set(shown(opened))) > 4
        letters = opened.texts(".trix-st-char > :first-child")
        assert "".join(letters) == TEXT.translate(str.maketrans({" ": "␣", "\n": "↵"}))
        grounds = opened.each(".trix-st-by", "getComputedStyle(one).backgroundColor")
        assert [hexadecimal(one) for one in grounds] == [made.palette[tile] for tile in expected]
        opened.expect_quiet()


def test_of_equal_scores_the_lower_tile_wins_and_one_tile_is_enough(chromium, tmp_path):
    tokens = RANDOM.integers(-1, 2, size=(N, DIM)) * 0.5
    signatures = np.concatenate([SIGNATURES[:3], SIGNATURES[:3]])
    best = np.sort(tokens @ signatures[:3].T, axis=1)
    assert (best[:, -1] == best[:, -2]).any()
    with visit(chromium, tmp_path, table(tokens, signatures)) as opened:
        assert shown(opened) == claims(signatures, tokens)
        assert max(shown(opened)) < 3
        at = int((best[:, -1] > best[:, -2]).argmax())
        opened.page.locator(f".trix-st-char[data-at='{at}']").click()
        level = f"level with tile {shown(opened)[at] + 3}, and the lower number wins."
        assert outcome(opened).endswith(level)
    made = table(signatures=SIGNATURES[:1], classes=None, designs=None, frozen=())
    with visit(chromium, tmp_path, made) as opened:
        assert shown(opened) == [0] * N
        assert re.fullmatch(r"Tile 0 claims it with [−.\d]+\.", outcome(opened))
        assert not opened.page.locator(".trix-st-rates").is_visible()
        assert opened.page.get_by_label("Design").count() == 0
        opened.expect_quiet()


def test_a_click_turns_a_cell_and_the_text_follows(chromium, tmp_path):
    with visit(chromium, tmp_path, table()) as opened:
        signatures, kinds = SIGNATURES, set()
        for tile, column in ((0, 0), (0, 0), (0, 0), (4, 12), (4, 11), (5, 3), (1, 7)):
            sign = {1: 0, 0: -1, -1: 1}[signatures[tile, column]]
            changed = with_cell(signatures, tile, column, sign)
            spot(opened, tile, column).click()
            assert np.array_equal(signs(opened), changed)
            assert shown(opened) == claims(changed)
            what = told(claims(signatures), claims(changed))
            old, new = "0+−"[signatures[tile, column]], "0+−"[sign]
            assert live(opened) == f"Tile {tile}, cell {column}: {old} → {new}. {what}"
            moved = opened.each(".trix-st-moved", "Number(one.dataset.at)")
            pairs = zip(claims(signatures), claims(changed), strict=True)
            assert moved == [at for at, (a, b) in enumerate(pairs) if a != b]
            edited = opened.page.locator(".trix-st-edited").count()
            assert edited == (changed != SIGNATURES).sum()
            kinds.add(what[:2])
            signatures = changed
        assert len(kinds) > 2
        now = shown(opened)
        for tile in range(TILES):
            plus, minus, zero = ((signatures[tile] == sign).sum() for sign in (1, -1, 0))
            held = {
                "swatch": tile,
                "count": now.count(tile),
                "signs": f"+:{plus} −:{minus} 0:{zero}",
            }
            for name, value in held.items():
                part = spot(opened, tile, -1).locator(f".trix-st-{name}")
                assert part.text_content() == str(value)
        opened.expect_quiet()


def test_the_keyboard_moves_and_writes(chromium, tmp_path):
    with visit(chromium, tmp_path, table()) as opened:
        keys = opened.page.keyboard
        for _ in range(2):  # the text, then the table
            keys.press("Tab")
        assert focused(opened) == [0, 0]
        for key, place in (
            ("ArrowDown", [1, 0]), ("ArrowRight", [1, 1]), ("ArrowUp", [0, 1]), ("ArrowUp", [0, 1]),
            ("End", [0, DIM - 1]), ("ArrowRight", [0, DIM - 1]), ("Home", [0, -1]),
            ("ArrowLeft", [0, -1]), ("ArrowDown", [1, -1]), ("ArrowRight", [1, 0]),
        ):  # fmt: skip
            keys.press(key)
            assert focused(opened) == place
        signatures = SIGNATURES
        for key, sign in (("+", 1), ("0", 0), ("-", -1), ("Space", 1), ("Enter", 0), (" ", -1)):
            keys.press(key)
            signatures = with_cell(signatures, 1, 0, sign)
            assert np.array_equal(signs(opened), signatures), key
            assert shown(opened) == claims(signatures)
            assert focused(opened) == [1, 0]
        keys.press("-")
        assert live(opened) == "Tile 1 is so already."
        places = opened.page.locator(".trix-st-grid [tabindex='0']")
        assert places.evaluate_all("all => all.map(one => one.dataset)") == [
            {"tile": "1", "column": "0", "sign": "-1"}
        ]
        keys.press("Tab")
        assert opened.page.evaluate("document.activeElement.textContent") == "Lock tile 1"
        opened.expect_quiet()


def test_a_locked_row_is_left_alone_until_it_is_unlocked(chromium, tmp_path):
    with visit(chromium, tmp_path, table()) as opened:

        def locks() -> list[int]:
            rows = [spot(opened, tile, -1).locator("svg") for tile in range(TILES)]
            return [tile for tile, lock in enumerate(rows) if lock.is_visible()]

        assert spot(opened, LOCKED, -1).get_by_role("img", name="locked").is_visible()
        spot(opened, LOCKED, 3).click()
        press(opened, "Insert")
        assert np.array_equal(signs(opened), SIGNATURES)
        assert live(opened) == f"Tile {LOCKED} is locked: unlock it to change it."
        assert spot(opened, LOCKED, 3).get_attribute("aria-readonly") == "true"
        press(opened, "Unlock")
        assert live(opened) == f"Tile {LOCKED} is unlocked."
        spot(opened, LOCKED, 3).click()
        assert (signs(opened) != SIGNATURES).sum() == 1
        spot(opened, 0, -1).click()
        press(opened, "Lock")
        spot(opened, 0, 3).click()
        assert (signs(opened) != SIGNATURES).sum() == 1
        assert locks() == [0]
        for remaining in ([], [], [LOCKED]):  # the lock, the cell, the other lock
            press(opened, "Undo")
            assert locks() == remaining
        assert np.array_equal(signs(opened), SIGNATURES)
        undo = opened.page.get_by_role("button", name="Undo")
        assert undo.get_attribute("aria-disabled") == "true"


def test_designs_undo_and_reset(chromium, tmp_path):
    with visit(chromium, tmp_path, table()) as opened:
        press(opened, "Undo")
        assert live(opened) == "There is nothing to undo."
        press(opened, "Reset")
        assert live(opened) == "Nothing is changed."
        steps = [SIGNATURES]
        for tile, name in ((4, "for vowels"), (1, "nothing"), (4, "nothing")):
            spot(opened, tile, -1).click()
            opened.page.get_by_label("Design").select_option(name)
            press(opened, "Insert")
            changed = np.array(steps[-1])
            changed[tile] = DESIGNS[name]
            what = told(claims(steps[-1]), claims(changed))
            assert live(opened) == f"Tile {tile} is now “{name}”. {what}"
            steps.append(changed)
        press(opened, "Reset")
        what = told(claims(steps[-1]), claims(SIGNATURES))
        assert live(opened) == f"Back at the start. {what}"
        assert np.array_equal(signs(opened), SIGNATURES)
        for now, before in zip([SIGNATURES, *steps[:0:-1]], steps[::-1], strict=True):
            press(opened, "Undo")
            assert np.array_equal(signs(opened), before)
            assert shown(opened) == claims(before)
            assert live(opened) == f"Undone. {told(claims(now), claims(before))}"
        press(opened, "Undo")
        assert live(opened) == "There is nothing to undo."
        opened.expect_quiet()


def percent(part: int, whole: int) -> str:
    return f"{math.floor(100 * part / whole + 0.5)}\u00a0%" if whole else "–"


def test_rates_are_before_and_now(chromium, tmp_path):
    def expected(members: np.ndarray, tile: int, now: list[int]) -> tuple[str, str]:
        both = sum(a == tile and b for a, b in zip(now, members, strict=True))
        return percent(both, sum(members)), percent(both, now.count(tile))

    seen = set()
    with visit(chromium, tmp_path, table()) as opened:
        for tile, name in ((0, "for vowels"), (5, "nothing"), (3, "for vowels")):
            spot(opened, tile, -1).click()
            opened.page.get_by_label("Design").select_option(name)
            press(opened, "Insert")
            for other in range(TILES):
                spot(opened, other, -1).click()
                rows = opened.page.locator(".trix-st-rates tbody tr")
                assert rows.count() == len(CLASSES)
                for row, (kind, members) in zip(rows.all(), CLASSES.items(), strict=True):
                    assert row.locator("th").text_content() == kind
                    before = expected(members, other, claims(SIGNATURES))
                    now = expected(members, other, shown(opened))
                    cells = row.locator("td").all_text_contents()
                    assert cells == [f"{a} → {b}" for a, b in zip(before, now, strict=True)]
                    seen.update(cells)
    assert len(seen) > 12


def outcome(opened: Visit) -> str:
    return opened.page.locator(".trix-st-outcome").first.text_content() or ""


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def test_scores_of_the_character_under_the_pointer_or_the_focus(chromium, tmp_path):
    scores = TOKENS.astype("f4").astype("f8") @ SIGNATURES.T
    with visit(chromium, tmp_path, table()) as opened:

        def check(at: int) -> None:
            values = opened.texts(".trix-st-value")
            assert [number(one) for one in values] == pytest.approx(scores[at].tolist(), rel=6e-3)
            second, first = np.argsort(scores[at])[-2:]
            found = re.fullmatch(r"Tile (\d) claims it with (.+), (.+) ahead of tile (\d)\.", words)
            assert found, words
            assert (int(found[1]), int(found[4])) == (first, second)
            margin = scores[at, first] - scores[at, second]
            assert number(found[2]) == pytest.approx(scores[at, first], rel=6e-3)
            assert number(found[3]) == pytest.approx(margin, rel=6e-3)
            bars = opened.each(".kit-fill", "parseFloat(one.style.width) / 100")
            reach = max(0, scores[at].max()) - min(0, scores[at].min())
            assert bars == pytest.approx((np.abs(scores[at]) / reach).tolist(), abs=1e-4)
            winner = opened.texts(".trix-st-winner .trix-st-swatch")
            assert winner == [str(first)]

        opened.page.keyboard.press("Tab")
        for key, at in (("ArrowRight", 1), ("ArrowLeft", 0), ("End", N - 1), ("ArrowUp", N - 2)):
            opened.page.keyboard.press(key)
            words = outcome(opened)
            check(at)
        label = opened.page.evaluate("document.activeElement.ariaLabel")
        assert label.startswith(f"space, tile {shown(opened)[N - 2]}, ")
        opened.page.locator(".trix-st-char[data-at='5']").hover()
        words = outcome(opened)
        check(5)
        opened.page.mouse.move(1, 1)
        words = outcome(opened)
        check(N - 2)
        opened.page.locator(".trix-st-char[data-at='14']").click()
        opened.page.mouse.move(1, 1)
        words = outcome(opened)
        check(14)
        heading = opened.page.locator(".trix-st-scores .trix-st-heading").text_content()
        assert heading == "Scores of line break at place 15"


def test_the_table_scrolls_and_the_page_does_not(chromium, tmp_path):
    width, dim = 320, 48
    wide = RANDOM.normal(size=(9 * N, dim)), RANDOM.integers(-1, 2, size=(8, dim))
    with visit(
        chromium, tmp_path, SurgeryTable(TEXT * 9, *wide, alt="Wide."), width=width
    ) as opened:

        def check(tile: int, column: int) -> None:
            head, cell = (spot(opened, tile, one).bounding_box() for one in (-1, column))
            assert head
            assert cell
            assert 0 <= head["x"] < head["x"] + head["width"] <= cell["x"]  # not behind it
            assert cell["x"] + cell["width"] <= width
            assert opened.sideways_scroll() == 0

        for tile, column in ((0, 0), (7, dim - 1), (3, 20)):
            spot(opened, tile, column).click()
            check(tile, column)
        spot(opened, 3, dim - 1).focus()
        for column in range(dim - 2, -1, -1):
            opened.page.keyboard.press("ArrowLeft")
            check(3, column)
