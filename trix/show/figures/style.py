"""The one place for colours.

Each colour keeps a contrast of at least 3 : 1 (WCAG 2.2, 1.4.11) with the white of a light page and
the near-black of a dark one. The eight categorical colours stay apart for every common form of
colour vision: they maximize the smallest distance in OKLab, seen normally and through Machado,
Oliveira and Fernandes' (2009) models of protanopia, deuteranopia and tritanopia. Eight is the most
that stay apart, and colour is never the only cue.
"""

from __future__ import annotations

import re

import matplotlib as mpl
from cycler import cycler

NAMED = {
    "teal": "#1D7486",
    "orange": "#D47C17",
    "periwinkle": "#8E84EF",
    "crimson": "#B23C5F",
    "green": "#27A56C",
    "violet": "#885DC0",
    "ochre": "#9A6902",
    "mauve": "#B97EB2",
}
"""The categorical colours by name, in the order in which they are used."""

PALETTE: tuple[str, ...] = tuple(NAMED.values())
"""The categorical colours: tile i, or series i, is drawn in `PALETTE[i]`."""

SEQUENTIAL = "cividis"
"""The name of matplotlib's map for amounts: even steps to the eye, colour-blind or not."""

INK = "black"
"""What text, axes and ticks are drawn in; shown figures turn it into the page's own ink."""

GROUNDS = {"light": "#FFFFFF", "dark": "#121212", "dark page": "#14181E"}
"""The backgrounds that figures stand on: a light page, a dark notebook, a dark page."""


def use() -> None:
    """Set matplotlib up: clear grounds, black ink for `show` to hand to the page, our colours."""
    mpl.rcParams.update(
        {
            **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
            **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "grid.color"), INK),
            **dict.fromkeys(("text.color", "xtick.color", "ytick.color"), INK),
            "figure.figsize": (6.4, 3.6),
            "figure.constrained_layout.use": True,
            "axes.titlesize": "medium",
            "axes.titlelocation": "left",
            **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
            "axes.linewidth": 0.8,
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=PALETTE),
            "grid.alpha": 0.15,
            "image.cmap": SEQUENTIAL,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "svg.fonttype": "none",
        }
    )


def contrast(colour: str, ground: str) -> float:
    """The contrast ratio of two opaque colours, from 1 to 21: WCAG's (L₁ + 0.05) / (L₂ + 0.05)."""
    lighter, darker = sorted((luminance(colour), luminance(ground)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """The relative luminance of an sRGB colour such as `#1D7486`: 0 for black, 1 for white."""
    if not re.fullmatch("#[0-9A-Fa-f]{6}", colour):
        raise ValueError(f"colour: expected '#' and six hexadecimal digits, received {colour!r}")
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
