"""Matplotlib figures that take on the ink, the ground and the typeface of the page."""

from __future__ import annotations

import hashlib
import io
import itertools
import re
import xml.etree.ElementTree as ET

import matplotlib as mpl
import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure

SMALLEST_SCALE = 0.75  # a figure may shrink so far; on a narrower screen it scrolls in its box
PIXELS_PER_POINT = 4 / 3  # what CSS fixes: 96 pixels and 72 points to the inch

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_shown = itertools.count()
ET.register_namespace("", _SVG)
ET.register_namespace("xlink", _XLINK)


def show(figure: Figure, *, alt: str) -> None:
    """Display a matplotlib figure as SVG that follows the page, and close it.

    What is pure black in it takes the page's ink; `alt` says in a sentence or two what it shows,
    for whoever cannot see it. No figure is a TypeError, an `alt` that says nothing a ValueError.
    """
    html = figure_html(figure, alt=alt)
    plt.close(figure)
    display({"text/html": html, "text/plain": alt}, raw=True)


def figure_html(figure: Figure, *, alt: str) -> str:
    """The HTML that `show` displays: an SVG in a box that scrolls sideways where it must."""
    if not isinstance(figure, Figure):
        raise TypeError(f"figure: expected a matplotlib Figure, received {type(figure).__name__}")
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt: expected a description of the figure, received {alt!r}")

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "trix"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = ET.fromstring(buffer.getvalue())
    for parent in list(svg.iter()):  # inside a page its style sheet would style all of it
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    # What that style sheet said, said to this drawing alone.
    svg.attrib.update({"stroke-linejoin": "round", "stroke-linecap": "butt"})
    svg.attrib.pop("version", None)
    _hand_over_ink_and_type(svg)
    _make_ids_unique(svg)
    width, height = (PIXELS_PER_POINT * float(svg.attrib[k][:-2]) for k in ("width", "height"))
    svg.attrib.update(width=f"{width:.0f}", height=f"{height:.0f}", role="img")
    svg.set("aria-label", " ".join(alt.split()))
    look = "display:block;margin:0 auto;max-width:100%;height:auto"
    svg.set("style", f"{look};min-width:{SMALLEST_SCALE * width:.0f}px")
    drawing = ET.tostring(svg, encoding="unicode", short_empty_elements=True)
    return f'<div class="trix-figure" style="max-width:100%;overflow-x:auto">{drawing}</div>'


def _hand_over_ink_and_type(svg: ET.Element) -> None:
    """Turn black into the page's ink and matplotlib's sans-serif into the page's typeface."""
    # Matplotlib leaves out a fill that is black, which is what SVG fills with by itself.
    svg.set("fill", "currentColor")
    for element in svg.iter():
        if style := element.get("style"):
            style = re.sub(r"#000000\b", "currentColor", style)
            # Only the face that stands for "any sans-serif" goes; a chosen one stays.
            style = re.sub(r"font-family: 'DejaVu Sans'(,[^;]*)?(; )?", "", style)
            element.set("style", style)


def _make_ids_unique(svg: ET.Element) -> None:
    """Give every id that is referred to a prefix of this figure's own, and drop all others.

    A clip path called like another figure's on the page would cut this one to the other's shape.
    """
    text = ET.tostring(svg, encoding="unicode")
    prefix = f"fig{hashlib.sha256(text.encode()).hexdigest()[:8]}-{next(_shown)}-"
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    for element in svg.iter():
        for name, value in list(element.attrib.items()):
            if name == "id" and value not in used:
                del element.attrib[name]
            elif name == "id":
                element.set(name, prefix + value)
            elif name == f"{{{_XLINK}}}href" and value.startswith("#"):
                element.set(name, f"#{prefix}{value[1:]}")
            elif "url(#" in value:
                element.set(name, value.replace("url(#", f"url(#{prefix}"))
