"""All pages of the built book, in a real browser: `make book` first, then `pytest -m book`."""

import os
from pathlib import Path

import pytest
import yaml

from tests.browser.test_contract import SEEN
from tests.chromium import Visit, open_page, serve

pytestmark = [pytest.mark.browser, pytest.mark.book]

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
PAGES = [
    str(path.relative_to(HTML))
    for path in sorted(HTML.rglob("*.html"))
    if "_static" not in path.relative_to(HTML).parts
]

# How much a text stands out from the ground it is on, 1 … 21, as WCAG defines it. Grounds that let
# the one behind shine through are looked through.
CONTRASTS = """() => {
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const parse = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const luminance = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((c) => c / 255).map((c) =>
            c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const ground = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = parse(getComputedStyle(at).backgroundColor);
            if (colour[3] > 200) return colour;
        }
        return [255, 255, 255, 255];
    };
    const worst = {};
    const seen = "h1, h2, h3, p, li, td, th, dt, dd, figcaption, a, code, pre span, label, button";
    for (const element of document.querySelectorAll("article")) {
        for (const text of element.querySelectorAll(seen)) {
            const own = [...text.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
            const shown = text.checkVisibility({checkOpacity: true, visibilityProperty: true});
            if (!own || !shown) continue;
            if (text.matches(".headerlink, :disabled") || text.closest(".trix-widget")) continue;
            const style = getComputedStyle(text);
            const [a, b] = [luminance(parse(style.color)), luminance(ground(text))];
            const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            const name = text.tagName + "." + text.className + ": " + text.textContent.slice(0, 30);
            if (contrast < 4.5) worst[name] = Math.round(contrast * 100) / 100;
        }
    }
    return worst;
}"""

# Pictures that say nothing to who cannot see them, those that scripts have drawn included.
SILENT = """() => [
    ...[...document.querySelectorAll("img")].filter((image) =>
        !image.alt.trim() && image.getAttribute("role") !== "presentation"),
    ...[...document.querySelectorAll("svg")].filter((drawing) =>
        !drawing.closest("[aria-hidden=true]") && !drawing.parentElement.closest("svg") &&
        !drawing.closest("mjx-container") && !drawing.getAttribute("aria-label") &&
        !drawing.getAttribute("aria-labelledby") && !drawing.querySelector("title") &&
        !drawing.closest("[role=img][aria-label], [role=application][aria-label]") &&
        !drawing.closest("[role=group][aria-label], button")),
    ...[...document.querySelectorAll("canvas")].filter((canvas) =>
        !canvas.closest("[aria-hidden=true]") && !canvas.getAttribute("aria-label")),
].map((element) => element.outerHTML.slice(0, 100))"""


@pytest.fixture(scope="module")
def address():
    with serve(HTML) as where:
        yield where


def test_there_is_a_book():
    if not PAGES:
        message = "there is no book yet: make book"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    for name in [toc["root"], *chapters, "search", "index", "genindex"]:
        assert f"{name}.html" in PAGES


def settle(visit: Visit) -> None:
    """Wait until a page has drawn its maths and put up its widgets."""
    page = visit.page
    if page.locator("script[type='application/vnd.jupyter.widget-view+json']").count():
        page.wait_for_selector("html[data-widgets=ready]")
    if page.locator("article .math").count():
        page.wait_for_function(
            "[...document.querySelectorAll('article .math')]"
            ".every((m) => m.querySelector('mjx-container'))"
        )
    page.evaluate("document.fonts.ready")


def check(visit: Visit) -> None:
    """What holds for every page, however it is reached."""
    page = visit.page
    assert page.locator("h1").count() == 1
    assert page.evaluate(SILENT) == []
    assert page.locator("mjx-merror").count() == 0
    assert page.locator(".trix-widget-error").count() == 0
    views = page.locator("script[type='application/vnd.jupyter.widget-view+json']")
    for view in views.all():
        assert view.evaluate("tag => tag.parentElement.innerText.trim() !== ''")
    visit.expect_quiet()


@pytest.mark.parametrize("name", [name for name in PAGES if name != "index.html"])
def test_a_page_is_whole_quiet_and_readable(chromium, address, name):
    with open_page(chromium, width=375, height=800, scheme="dark", touch=True) as visit:
        visit.page.goto(f"{address}/{name}")
        settle(visit)
        for width, scheme in ((375, "dark"), (375, "light"), (1280, "light"), (1280, "dark")):
            visit.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            visit.page.set_viewport_size({"width": width, "height": 800})
            visit.page.wait_for_selector(f"html[data-theme={scheme}]")
            visit.page.wait_for_timeout(100)
            assert visit.sideways_scroll() == 0, f"wider than {width} px"
            assert visit.page.evaluate(CONTRASTS) == {}, f"hard to read in {scheme}"
        check(visit)


@pytest.mark.parametrize(
    ("chapter", "control", "key"),
    [
        ("00-look-it-up", ".trix-context-lens input", "ArrowRight"),
        ("01-routing-is-addressing", ".trix-address-plane .arrow", "Shift+ArrowUp"),
        ("03-soft-and-hard", ".trix-sb .trix-sb-heat input", "ArrowLeft"),
        ("04-routing-all-the-way-down", ".trix-route-tree .rt-beam input", "ArrowRight"),
    ],
)
def test_widgets_answer_on_the_page(chromium, address, chapter, control, key):
    with open_page(chromium, width=1280, height=900) as visit:
        visit.page.goto(f"{address}/notebooks/{chapter}.html")
        settle(visit)
        figure = visit.page.locator(control.split()[0])
        seen = [figure.evaluate(SEEN)]
        for _ in range(3):
            visit.page.locator(control).first.press(key)
            seen.append(figure.evaluate(SEEN))
        assert len(set(seen)) == 4
        visit.expect_quiet()


def test_the_pages_work_without_a_server(chromium):
    for name in PAGES:
        with open_page(chromium) as visit:
            visit.page.goto((HTML / name).as_uri())
            if name == "index.html":
                visit.page.wait_for_url("**/book/index.html")
            settle(visit)
            check(visit)


def test_the_first_page_leads_to_the_book(chromium, address):
    with open_page(chromium) as visit:
        visit.page.goto(f"{address}/index.html")
        visit.page.wait_for_url("**/book/index.html")
        visit.page.locator(".bd-sidebar-primary nav a").first.click()
        visit.page.wait_for_url("**/notebooks/00-*.html")
        check(visit)


def test_the_search_finds_words_of_the_book(chromium, address):
    with open_page(chromium) as visit:
        visit.page.goto(f"{address}/book/glossary.html")
        visit.page.keyboard.press("Control+k")
        visit.page.locator("dialog input[type=search]").fill("signature")
        visit.page.keyboard.press("Enter")
        visit.page.wait_for_url("**/search.html?q=signature*")
        found = visit.page.locator("#search-results li a")
        found.first.wait_for()
        targets = found.evaluate_all("links => links.map((link) => link.href)")
        assert any("01-routing" in target for target in targets)
        found.first.click()
        visit.page.wait_for_load_state()
        assert "signature" in visit.page.locator("article").inner_text().lower()
        visit.expect_quiet()


def test_the_reader_can_choose_the_scheme(chromium, address):
    with open_page(chromium, scheme="light") as visit:
        visit.page.goto(f"{address}/book/index.html")
        seen = set()
        for _ in range(3):
            visit.page.locator(".theme-switch-button").first.click()
            seen.add(visit.page.locator("html").get_attribute("data-theme"))
        assert seen == {"light", "dark"}


def test_every_link_within_the_book_leads_somewhere(chromium, address):
    with open_page(chromium) as visit:
        broken = []
        for name in PAGES:
            if name == "index.html":
                continue
            visit.page.goto(f"{address}/{name}")
            links = visit.each("a[href]", "one.href")
            for link in {link for link in links if link.startswith(address)}:
                path, _, anchor = link.removeprefix(address).lstrip("/").partition("#")
                target = HTML / path.partition("?")[0]
                if not target.is_file():
                    broken.append(f"{name}: {path}")
                elif anchor and target.suffix == ".html":
                    text = target.read_text(encoding="utf-8")
                    if f'id="{anchor}"' not in text and f'name="{anchor}"' not in text:
                        broken.append(f"{name}: {path}#{anchor}")
        assert broken == []


def test_launch_buttons_are_there_if_the_repository_has_an_address(chromium, address):
    url = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    with open_page(chromium) as visit:
        visit.page.goto(f"{address}/notebooks/00-look-it-up.html")
        links = visit.each(".bd-header-article a[href]", "one.href")
    for host in ("mybinder.org", "colab.research.google.com"):
        assert any(host in link for link in links) == bool(url)


def test_chapters_say_what_they_were_made_from(chromium, address):
    for name in PAGES:
        if name.startswith("notebooks/"):
            with open_page(chromium) as visit:
                visit.page.goto(f"{address}/{name}")
                box = visit.page.locator(".trix-provenance")
                assert box.count() == 1
                text = box.inner_text()
                for word in ("budget", "seeds", "corpus", "torch", "device", "seconds"):
                    assert word in text
