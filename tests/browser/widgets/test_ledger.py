"""`Ledger` on a page with no kernel, in a real browser."""

import re

import pytest

from tests.chromium import Visit
from tests.show.widgets.test_ledger import claim, planted
from tests.static_page import visit
from trix.ledger.claims import Settled, settle
from trix.ledger.rule import VERDICTS
from trix.show.widgets.ledger import Ledger

pytestmark = pytest.mark.browser


def settled() -> list[Settled]:
    """Nine claims of three parts, with every verdict among them."""
    rows = [
        settle(claim("A1"), planted()),
        settle(claim("A2"), planted(simple=1.9)),
        settle(claim("F1"), planted(old=1.8)),
        settle(claim("F2"), []),
        settle(claim("A3", exceed=0.05), planted()),
        settle(claim("M1"), planted(old=2.5)),
        settle(claim("M2"), planted(old=1.85)),
        settle(claim("M3", controls=()), planted(old=1.912)),
        settle(claim("M4"), planted(old=2.2)),
    ]
    assert {row.verdict for row in rows} == set(VERDICTS)
    return rows


ROWS = settled()
IDS = [row.claim.id for row in ROWS]


def made() -> Ledger:
    return Ledger(ROWS, alt="Nine claims.")


def shown(opened: Visit) -> list[str]:
    """The ids of the rows that can be seen, from top to bottom."""
    rows = opened.page.locator(".trix-lg-row:visible")
    tops = rows.evaluate_all("rows => rows.map(row => row.getBoundingClientRect().top)")
    assert tops == sorted(tops)
    return rows.evaluate_all("rows => rows.map(row => row.dataset.id)")


def press(opened: Visit, verdict: str) -> None:
    opened.page.locator(".trix-lg-filter", has_text=verdict).first.click()


def counts(opened: Visit) -> dict[str, int]:
    texts = opened.texts(".trix-lg-filter")
    found = [re.fullmatch(r"(.+) (\d+)", text) for text in texts]
    return {one[1]: int(one[2]) for one in found if one}


def status(opened: Visit) -> str:
    return opened.page.get_by_role("status").first.text_content() or ""


def head(opened: Visit, name: str):
    return opened.page.locator(f"[data-id={name}] .trix-lg-head").first


def of(keep) -> list[str]:
    return [row.claim.id for row in ROWS if keep(row)]


def test_verdicts_part_and_words_choose_the_rows(chromium, tmp_path):
    with visit(chromium, tmp_path, made()) as opened:
        assert shown(opened) == IDS
        assert counts(opened) == {v: sum(r.verdict == v for r in ROWS) for v in VERDICTS}
        assert status(opened) == "All 9 claims."
        press(opened, "refuted")
        assert shown(opened) == of(lambda r: r.verdict == "refuted")
        press(opened, "open")
        both = of(lambda r: r.verdict in ("refuted", "open"))
        assert shown(opened) == both
        assert status(opened) == f"{len(both)} of 9 claims."
        opened.page.get_by_label("Part").select_option("M")
        chosen = of(lambda r: r.verdict in ("refuted", "open") and r.claim.id[0] == "M")
        assert shown(opened) == chosen != both
        # how many of each verdict there are in this part, whether shown or not
        part = [r for r in ROWS if r.claim.id[0] == "M"]
        assert counts(opened) == {v: sum(r.verdict == v for r in part) for v in VERDICTS}
        pressed = opened.texts(".trix-lg-filter[aria-pressed=true]")
        assert [text.split(" ")[0] for text in pressed] == ["refuted", "open"]
        press(opened, "refuted")
        assert shown(opened) == of(lambda r: r.verdict == "open" and r.claim.id[0] == "M")
        opened.page.get_by_role("button", name="Show all").click()
        assert shown(opened) == IDS
        assert not opened.page.get_by_role("button", name="Show all").is_visible()
        opened.expect_quiet()


def test_rows_are_searched_and_sorted(chromium, tmp_path):
    def size(row: Settled) -> float:
        found = row.compared[0].gain
        return -found.mean if found else float("inf")

    with visit(chromium, tmp_path, made()) as opened:
        field = opened.page.get_by_label("Search")
        for query, wanted in (
            ("statement of m3", ["M3"]),
            ("M3 STATEMENT", ["M3"]),
            ("  explained ", of(lambda r: r.verdict == "explained away")),
            ("control/simple", of(lambda r: r.claim.rule.controls)),
            ("m3 simple control/", []),
        ):
            field.fill(query)
            assert shown(opened) == wanted, query
        assert status(opened) == "No claim is like that."
        field.press("End")
        field.type("x")
        assert field.input_value() == "m3 simple control/x"
        field.fill("")
        assert shown(opened) == IDS

        order = opened.page.get_by_label("Sort by")
        order.focus()
        order.select_option("verdict")
        ranked = sorted(ROWS, key=lambda r: VERDICTS.index(r.verdict))
        assert shown(opened) == [r.claim.id for r in ranked]
        order.select_option("size")
        assert shown(opened) == [r.claim.id for r in sorted(ROWS, key=size)]
        assert shown(opened)[-1] == "F2"  # of which nothing is on record
        order.select_option("id")
        assert shown(opened) == IDS
        assert opened.page.evaluate("document.activeElement.tagName") == "SELECT"


def body(opened: Visit, name: str) -> dict[str, str]:
    box = opened.page.locator(f"[data-id={name}] .trix-lg-body").first
    terms, values = (box.locator(f"> {tag}").all_text_contents() for tag in ("dt", "dd"))
    return dict(zip(terms, values, strict=True))


def test_a_row_opens_and_says_all_of_it(chromium, tmp_path):
    with visit(chromium, tmp_path, made(), width=320) as opened:
        assert opened.page.locator(".trix-lg-body").count() == 0
        head(opened, "M3").click()
        assert head(opened, "M3").get_attribute("aria-expanded") == "true"
        found = body(opened, "M3")
        row = ROWS[IDS.index("M3")]
        assert found["the source"] == "8.09 | 8.21 (a note)"
        assert found["ours"] == f"{row.ours} (trial/new; protocol: probe)"
        assert found["the control"] == "something simple"
        assert found["gains"].startswith("over baseline trial/old+0.012 (+0.008 … +0.016)")
        assert found["why open"] == row.reason[0].upper() + row.reason[1:] + "."
        assert found["records"] == "trial.jsonl"
        assert found["would settle it"] == f"{row.command}Copy"
        head(opened, "A1").press("Enter")
        found = body(opened, "A1")
        assert found["repeats it"] == "trix claims run A1Copy"
        assert "why open" not in found
        links = opened.page.locator("[data-id=A1] a")
        assert links.evaluate_all("all => all.map(one => one.getAttribute('href'))") == [
            "02-first.html",
            "../_static/records/control.jsonl",
            "../_static/records/trial.jsonl",
        ]
        head(opened, "F2").click()
        found = body(opened, "F2")
        assert found["ours"].startswith("nothing on record yet")
        assert found["records"] == "none yet"
        assert opened.sideways_scroll() == 0
        head(opened, "M3").click()
        assert not opened.page.locator("[data-id=M3] .trix-lg-body").is_visible()
        assert opened.page.locator("[data-id=A1] .trix-lg-body").is_visible()
        opened.expect_quiet()


@pytest.mark.parametrize("clipboard", [True, False])
def test_the_command_is_copied(chromium, tmp_path, clipboard):
    with visit(chromium, tmp_path, made()) as opened:
        opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        if not clipboard:  # copied by hand
            opened.page.evaluate(
                """() => {
                    Object.defineProperty(navigator, "clipboard", { value: undefined });
                    document.execCommand = (name) => {
                        window.taken = [name, document.activeElement.value];
                        return true;
                    };
                }"""
            )
        head(opened, "M1").click()
        opened.page.get_by_role("button", name="Copy the command trix claims run M1").click()
        opened.page.wait_for_function(
            "document.querySelector('.trix-lg-copy').textContent === 'Copied'"
        )
        taken = "['copy', await navigator.clipboard.readText()]" if clipboard else "window.taken"
        found = opened.page.evaluate(f"async () => {taken}")
        assert found == ["copy", "trix claims run M1"]
        live = opened.page.locator(".kit-hidden").first.text_content()
        assert live == "Copied: trix claims run M1"
        assert opened.page.locator("textarea").count() == 0


def test_a_bar_lies_where_the_interval_lies(chromium, tmp_path):
    with visit(chromium, tmp_path, made()) as opened:
        head(opened, "F1").click()
        strips = opened.page.locator("[data-id=F1] .trix-lg-strip")
        row = made().rows[IDS.index("F1")]
        assert strips.count() == len(row["gains"])
        for strip, one in zip(strips.all(), row["gains"], strict=True):

            def at(name: str, end: str = "x1", strip=strip) -> float:
                return float(strip.locator(f".trix-lg-{name}").get_attribute(end) or "nan")

            low, mean, high = one["interval"]
            zero, line = at("zero"), at("line")
            unit = (line - zero) / one["lines"][0]  # of the picture, for each unit of the gain
            assert unit > 0
            assert at("mean") == pytest.approx(zero + unit * mean, abs=0.01)
            assert at("bar") == pytest.approx(zero + unit * low, abs=0.01)
            assert at("bar", "x2") == pytest.approx(
                max(zero + unit * high, at("bar") + 0.8), abs=0.01
            )
            assert all(0 <= place <= 100 for place in (zero, line, at("bar"), at("bar", "x2")))
