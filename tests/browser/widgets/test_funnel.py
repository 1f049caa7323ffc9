"""`Funnel` on a page with no kernel, in a real browser, against loops and `Quantizer`."""

import math
import re

import numpy as np
import pytest
import torch

from tests.chromium import Visit
from tests.static_page import visit
from trix.show.widgets.funnel import LETTERS, Funnel, Squeezed
from trix.tiles.table import Quantizer

pytestmark = pytest.mark.browser

TEXT = "the then that,\nthe hat the heat then"
N, DIM, TILES, LEVELS = len(TEXT) - 1, 13, 6, 3
NAMES = {" ": "space", "\n": "line break"}
GLYPHS = str.maketrans({" ": "␣", "\n": "↵"})


RANDOM = np.random.default_rng(0)
PLACE = {character: RANDOM.normal(size=DIM) for character in sorted(set(TEXT))}
INPUTS = np.stack([PLACE[c] for c in TEXT[:-1]]) + 0.1 * RANDOM.normal(size=(N, DIM))
SCORES = INPUTS @ RANDOM.normal(size=(DIM, TILES))
TILE = SCORES.argmax(1)


def squeezed(levels: int, planes: np.ndarray, exact: bool = True) -> Squeezed:
    points = np.tanh(np.einsum("nd,ndk->nk", INPUTS, planes) / 3)
    near = Quantizer(levels).quantize(torch.tensor(points)).numpy()
    true, given = (np.tile(one, (1, DIM))[:, :DIM] for one in (points, near))
    return Squeezed(points, given, true if exact else None)


PLANES = RANDOM.normal(size=(TILES, DIM, 2))


def views_at(levels: int = LEVELS, exact: bool = True) -> dict[str, Squeezed]:
    return {
        "on": squeezed(levels, PLANES[TILE], exact),
        "off": squeezed(levels, np.repeat(PLANES[:1], N, 0), exact),
    }


VIEWS = views_at()


def funnel(levels: int = LEVELS, views=VIEWS, scores: np.ndarray | None = SCORES) -> Funnel:
    settings = {"alt": "A text through a funnel.", "levels": levels, "scores": scores}
    return Funnel(TEXT, INPUTS, TILE, views["on"], views["off"], **settings)


def cells(points, levels: int) -> list[tuple[int, int]]:
    codes = Quantizer(levels).codes(torch.tensor(np.asarray(points)).float())
    return [(int(row), int(column)) for row, column in codes]


def sharers(at: int, name: str) -> list[int]:
    where = cells(VIEWS[name].points, LEVELS)
    return [i for i in range(N) if where[i] == where[at] and (name == "off" or TILE[i] == TILE[at])]


def followers(tokens: list[int]) -> dict[str, float]:
    """The share of each next character, most frequent first, of equal ones the earlier."""
    after = [TEXT[i + 1] for i in tokens]
    ranked = sorted(dict.fromkeys(after), key=lambda c: -after.count(c))
    return {c: after.count(c) / len(after) for c in ranked}


def named(character: str) -> str:
    return NAMES.get(character, f"‘{character}’")


def percent(share: float) -> str:
    return f"{math.floor(100 * share + 0.5)}\u00a0%"


def words(at: int, name: str) -> str:
    row, column = cells(VIEWS[name].points, LEVELS)[at]
    same = sharers(at, name)
    first, share = next(iter(followers(same).items()))
    tile = f"tile {TILE[at]}" if name == "on" else "no tiles"
    count = len(same) - 1
    others = {0: "no other token", 1: "1 other token"}.get(count, f"{count} other tokens")
    after = f"{percent(share)} of these {len(same)}." if count else "it."
    return (
        f"{named(TEXT[at])} at place {at + 1} of {N}: {tile}, cell ({row}, {column}) of "
        f"{LEVELS}×{LEVELS} = entry {row * LEVELS + column}, shared with {others}; "
        f"{named(first)} follows {after}"
    )


def verdict_of(opened: Visit) -> str:
    return opened.said(".trix-fn-verdict")


def slider_of(opened: Visit):
    return opened.page.get_by_role("slider", name="Token").first


def switch(opened: Visit, name: str) -> None:
    opened.page.get_by_role("radio", name=name, exact=True).first.check()


def rows_of(opened: Visit, stage: str) -> list[tuple[str, float, str, bool]]:
    """Name, length of the bar, value, and whether it is framed, of each row that is shown."""
    found = opened.page.locator(f".trix-fn-{stage} .trix-fn-row:not(.trix-fn-unused)").evaluate_all(
        """rows => rows.map(row => [
            row.children[0].textContent,
            parseFloat(row.querySelector(".kit-fill").style.width) / 100,
            row.children[2].textContent,
            row.matches(".trix-fn-chosen"),
        ])"""
    )
    return [tuple(row) for row in found]


@pytest.mark.parametrize("levels", [2, 5])
def test_cells_are_those_of_the_quantizer(chromium, tmp_path, levels):
    edges = (np.arange(N) % (2 * levels - 1)) / (levels - 1) - 1  # levels, and halfway between two
    edges = np.clip(edges, -1, 1)
    views = {
        "on": VIEWS["on"],
        "off": VIEWS["off"]._replace(points=np.stack([edges, np.roll(edges, 3)], axis=1)),
    }
    with visit(chromium, tmp_path, funnel(levels, views)) as opened:
        for name in ("off", "on"):
            switch(opened, name)
            shown = opened.each("circle", "[Number(one.dataset.at), one.dataset.cell]")
            here = int(slider_of(opened).input_value())
            members = [i for i in range(N) if name == "off" or TILE[i] == TILE[here]]
            where = cells(views[name].points, levels)
            assert dict(shown) == {i: "{},{}".format(*where[i]) for i in members}
            assert len(shown) == len(members)


def test_every_token_is_put_into_words(chromium, tmp_path):
    where = cells(VIEWS["on"].points, LEVELS)
    assert any(len(sharers(at, "on")) < where.count(where[at]) for at in range(N))
    assert len({len(sharers(at, "on")) for at in range(N)}) > 2
    with visit(chromium, tmp_path, funnel()) as opened:
        for name in ("on", "off"):
            switch(opened, name)
            slider_of(opened).focus()
            opened.page.keyboard.press("Home")
            for at in range(N):
                assert verdict_of(opened) == words(at, name)
                expected = list(followers(sharers(at, name)).items())[:4]
                rows = rows_of(opened, "entry")
                assert [(row[0], row[2], row[3]) for row in rows] == [
                    (c.translate(GLYPHS), percent(share), c == TEXT[at + 1])
                    for c, share in expected
                ]
                assert [row[1] for row in rows] == pytest.approx(
                    [share for _, share in expected], abs=1e-4
                )
                opened.page.keyboard.press("ArrowRight")
            assert slider_of(opened).input_value() == str(N - 1)
        opened.expect_quiet()


def test_the_text_is_marked_and_tiles_stand_with_their_scores(chromium, tmp_path):
    def marked(kind: str) -> list[int]:
        return opened.each(f".trix-fn-passage .trix-fn-{kind}[data-at]", "Number(one.dataset.at)")

    with visit(chromium, tmp_path, funnel()) as opened:
        spelled = "".join(opened.texts(".trix-fn-passage span"))
        assert spelled == TEXT.replace("\n", "↵")
        for at in (0, 5, N - 1):
            slider_of(opened).fill(str(at))
            for name in ("off", "on"):
                switch(opened, name)
                assert marked("here") == [at]
                assert marked("same") == sharers(at, name)
                away = [i for i in range(N) if name == "on" and TILE[i] != TILE[at]]
                assert marked("away") == away
            rows = rows_of(opened, "tile")
            best = np.argsort(-SCORES[at])[:4]
            assert [row[0] for row in rows] == [str(tile) for tile in best]
            assert [row[3] for row in rows] == [tile == TILE[at] for tile in best]
            numbers = [float(row[2].replace("−", "-")) for row in rows]
            assert numbers == pytest.approx(SCORES[at, best].tolist(), rel=5e-3)
            lengths = np.abs(SCORES[at, best]) / np.abs(SCORES[at, best]).max()
            assert [row[1] for row in rows] == pytest.approx(lengths.tolist(), abs=0.01)
            caption = opened.said(".trix-fn-tile")
            assert f"Tile {TILE[at]} reads {(TILE[at] == TILE).sum()} of {N} tokens." in caption
        switch(opened, "off")
        assert rows_of(opened, "tile") == []


@pytest.mark.parametrize("width", [360, 900])
def test_strips_are_the_numbers(chromium, tmp_path, width):
    def ends(stage: str, kind: str) -> np.ndarray:
        """Where each bar ends, in the order of the numbers."""
        path = opened.page.locator(f".trix-fn-{stage} .trix-fn-{kind}").get_attribute("d") or ""
        ends = np.zeros(DIM)
        for bar in path.split("M")[1:]:
            points = [[float(x) for x in p] for p in re.findall(r"(-?[\d.]+) (-?[\d.]+)", bar)]
            along, height = (0, 1) if width == 360 else (1, 0)
            ends[int(points[1][along])] = points[1][height] * (-1 if width == 360 else 1)
        return ends

    def expected(letters: str, at: int) -> np.ndarray:
        part = letters[at * DIM : (at + 1) * DIM]
        return np.array([LETTERS.index(letter) / 31 - 1 for letter in part])

    made = funnel()
    with visit(chromium, tmp_path, made, width=width) as opened:
        opened.page.wait_for_function(
            f"document.querySelectorAll('.trix-fn-narrow').length === {int(width == 360)}"
        )
        for at, name in ((0, "on"), (6, "on"), (6, "off")):
            slider_of(opened).fill(str(at))
            switch(opened, name)
            for stage, letters in (("token", made.inputs), ("output", made.views[name]["outputs"])):
                above, below = ends(stage, "above"), ends(stage, "below")
                np.testing.assert_allclose(above + below, expected(letters, at), atol=6e-3)
                assert above.min() >= 0 >= below.max()
            caption = opened.said(".trix-fn-output")
            given, exact = (np.asarray(one)[at] for one in VIEWS[name][1:])
            gone = math.dist(given, exact) / math.hypot(*exact)
            shown = re.search(r"without rounding, (\d+)\u00a0% away", caption)
            assert shown is not None
            assert int(shown[1]) == pytest.approx(100 * gone, abs=0.6)
            outline = opened.page.locator(".trix-fn-output .trix-fn-outline").get_attribute("d")
            assert (outline or "").count("L") == 2 * DIM - 1


def test_a_funnel_without_scores_and_exact_outputs(chromium, tmp_path):
    with visit(chromium, tmp_path, funnel(views=views_at(exact=False), scores=None)) as opened:
        slider_of(opened).fill("2")
        assert opened.page.locator(".trix-fn-output .trix-fn-outline").get_attribute("d") == ""
        assert "rounding" not in opened.said(".trix-fn-output")
        assert opened.page.get_by_text("Tokens a tile reads:").is_visible()
        rows = [(row[0], row[2], row[3]) for row in rows_of(opened, "tile")]
        assert (str(TILE[2]), str((TILE[2] == TILE).sum()), True) in rows
        opened.expect_quiet()


def test_buttons_characters_and_dots_choose_a_token(chromium, tmp_path):
    with visit(chromium, tmp_path, funnel()) as opened:
        assert verdict_of(opened) == words(N // 2, "on")
        opened.page.get_by_role("button", name="Next token").click()
        assert verdict_of(opened) == words(N // 2 + 1, "on")
        for end, name, other in ((0, "Previous", "Next"), (N - 1, "Next", "Previous")):
            slider_of(opened).fill(str(end))
            stopped = opened.page.get_by_role("button", name=f"{name} token")
            assert stopped.get_attribute("aria-disabled") == "true"
            assert opened.page.get_by_role("button", name=f"{other} token").is_enabled()
            stopped.press("Enter")  # goes nowhere, and the focus stays
            assert slider_of(opened).input_value() == str(end)
            assert stopped.evaluate("button => button === document.activeElement")
        opened.page.locator(".trix-fn-passage [data-at='4']").click()
        assert verdict_of(opened) == words(4, "on")
        switch(opened, "off")
        opened.page.locator("circle[data-at='9']").dispatch_event("click")
        assert verdict_of(opened) == words(9, "off")
        opened.page.locator(".trix-fn-last").click()  # it only follows
        assert verdict_of(opened) == words(9, "off")
        said = slider_of(opened).get_attribute("aria-valuetext")
        assert said == f"{named(TEXT[9])}, place 10 of {N}"
        live = opened.page.locator("[aria-live]")
        opened.page.wait_for_function("document.querySelector('[aria-live]').textContent !== ''")
        assert live.text_content() == words(9, "off")
        opened.expect_quiet()
