"""Figures as inline SVG: the page's ink, no ids in common, and words for whoever cannot see."""

import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from trix.show import figure_html, show
from trix.show.figures import plot, style

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def _restore_settings():
    before = plt.get_backend()
    plt.switch_backend("agg")
    with mpl.rc_context():
        style.use()
        yield
    plt.close("all")
    plt.switch_backend(before)


def draw(shift: float = 0.0) -> Figure:
    figure, ax = plt.subplots()
    ax.plot([0, 1, 2], [shift, 2, 1], "o-", label="bigram")
    ax.axhline(1.5, color="black", linestyle="--")
    ax.set_title("loss & <cost>")
    ax.set_ylabel("nats")
    ax.legend()
    return figure


def parse(html: str) -> ET.Element:
    svg = ET.fromstring(html).find(f"{SVG}svg")
    assert svg is not None
    return svg


def test_a_figure_is_an_image_in_the_pages_ink_and_typeface():
    html = figure_html(draw(), alt='Loss "falls"\n  <fast> & far.')
    svg = parse(html)
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == 'Loss "falls" <fast> & far.'
    assert svg.get("fill") == "currentColor"
    assert "stroke: currentColor" in html
    assert not re.search(r"#0{3,6}\b|#fff(fff)?\b|black|white", html)
    assert style.PALETTE[0].lower() in html
    texts = list(svg.iter(f"{SVG}text"))
    assert {"loss & <cost>", "nats", "bigram"} <= {"".join(text.itertext()) for text in texts}
    styles = [text.get("style", "") for text in texts]
    assert all("DejaVu" not in one and "font-size" in one for one in styles)
    # nothing in it styles the rest of the page
    assert not [*svg.iter(f"{SVG}style"), *svg.iter(f"{SVG}metadata")]
    assert svg.get("stroke-linejoin") == "round"
    # it shrinks a little and then scrolls
    width = 6.4 * 96
    assert float(svg.get("width", 0)) == round(width)
    assert f"min-width:{plot.SMALLEST_SCALE * width:.0f}px" in svg.get("style", "")
    assert "overflow-x:auto" in html[: html.index("<svg")]
    figure, ax = plt.subplots()
    ax.set_title("argmax", family="monospace")
    assert "DejaVu Sans Mono" in figure_html(figure, alt="A chosen typeface stays.")


def test_ink_is_the_pages_even_without_the_style():
    with mpl.rc_context():
        mpl.rcdefaults()
        html = figure_html(draw(), alt="Loss falls.")
    assert "#000000" not in html
    paths = [p for p in parse(html).iter(f"{SVG}path") if "fill: #ffffff" in p.get("style", "")]
    # Matplotlib's own legend has a pale box; nothing else may be white.
    assert all("opacity: 0.8" in p.get("style", "") for p in paths)


def test_ids_of_two_figures_never_meet_and_every_reference_finds_its_own():
    pages = [figure_html(draw(), alt="One."), figure_html(draw(), alt="One.")]
    ids = [re.findall(r'\bid="([^"]+)"', page) for page in pages]
    assert ids[0]
    assert len(set(ids[0] + ids[1])) == len(ids[0]) + len(ids[1])
    for page, own in zip(pages, ids, strict=True):
        references = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', page)
        assert {a or b for a, b in references} == set(own)


def test_no_figure_and_no_description_are_refused():
    figure = draw()
    for alt in ("", " \n", None):
        with pytest.raises(ValueError, match="alt: expected a description"):
            show(figure, alt=alt)  # pyright: ignore[reportArgumentType]
    assert plt.fignum_exists(figure.number)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError, match="expected a matplotlib Figure, received str"):
        figure_html("a figure", alt="Words.")  # pyright: ignore[reportArgumentType]


def test_show_displays_it_once_and_closes_it(monkeypatch):
    shown = []
    monkeypatch.setattr(plot, "display", lambda data, raw: shown.append((data, raw)))
    figure = draw()
    show(figure, alt="Loss falls.")
    [(data, raw)] = shown
    assert raw
    assert data["text/plain"] == "Loss falls."
    assert parse(data["text/html"]).get("aria-label") == "Loss falls."
    assert not plt.fignum_exists(figure.number)  # type: ignore[attr-defined]
