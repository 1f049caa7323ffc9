"""The picture of all verdicts at a glance, and how a verdict is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from trix.ledger.claims import Settled
from trix.ledger.rule import VERDICTS
from trix.show.figures.style import INK, NAMED

PARTS = {
    "C": "counts, and our own",
    "A": "addresses",
    "F": "levels and designs",
    "S": "splines and tables",
    "L": "lookup only",
    "P": "surgery and islands",
    "M": "memory",
}
"""What the claims of each letter are about, in the order of the ledger."""


class Mark(NamedTuple):
    """How a verdict, or a family, is drawn: never by its colour alone."""

    colour: str
    marker: str
    filled: bool = True


MARKS = {
    "holds": Mark(NAMED["green"], "o"),
    "exceeded": Mark(NAMED["teal"], "*"),
    "explained away": Mark(NAMED["ochre"], "D"),
    "refuted": Mark(NAMED["crimson"], "X"),
    "open": Mark(INK, "o", filled=False),
}


def verdict_board(rows: Sequence[Settled]) -> Figure:
    """Draw every claim as the mark of its verdict, a line for each letter."""
    letters = list(dict.fromkeys(row.claim.id[0] for row in rows))
    of = {letter: [row for row in rows if row.claim.id[0] == letter] for letter in letters}
    longest = max(len(found) for found in of.values())
    fig, ax = plt.subplots(figsize=(6.8, 0.62 * len(letters) + 0.75))
    for y, letter in enumerate(letters):
        ax.text(-0.7, y, PARTS.get(letter, letter), ha="right", va="center", fontsize=10)
        for x, row in enumerate(of[letter]):
            draw_mark(ax, x, y - 0.1, MARKS[row.verdict], 13)
            ax.text(x, y + 0.43, row.claim.id, ha="center", va="center", fontsize=8)
    ax.set(xlim=(-4.3, longest - 0.4), ylim=(len(letters) - 0.3, -0.6))
    ax.axis("off")
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in VERDICTS}
    legend(fig, {f"{name} ({counts[name]})": MARKS[name] for name in VERDICTS})
    return fig


def draw_mark(
    ax: Axes, x: ArrayLike, y: ArrayLike, mark: Mark, size: float, alpha: float = 1
) -> None:
    """Draw a mark, `size` points wide, at one place of the data or at several."""
    face = mark.colour if mark.filled else "none"
    edge = {"markeredgecolor": mark.colour, "markeredgewidth": 1.4 if not mark.filled else 0}
    size *= 1.35 if mark.marker == "*" else 0.85 if mark.marker == "D" else 1
    ax.plot(x, y, mark.marker, markersize=size, markerfacecolor=face, alpha=alpha, **edge)


def legend(fig: Figure, marks: Mapping[str, Mark]) -> None:
    """Say below a figure which mark is what."""
    handles = [
        Line2D(
            [], [], linestyle="", marker=mark.marker, markersize=8, label=name,
            markerfacecolor=mark.colour if mark.filled else "none", markeredgecolor=mark.colour,
        )
        for name, mark in marks.items()
    ]  # fmt: skip
    fig.legend(handles=handles, loc="outside lower center", ncols=len(marks), fontsize=9,
               handletextpad=0.2, columnspacing=1.2)  # fmt: skip
