"""The picture of an explanation: a text whose characters are tinted by what foresaw them."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.patches import Patch, Rectangle

from trix.models.explain import Explained, Explanation, visible
from trix.show.figures.style import GROUNDS, NAMED, SEQUENTIAL, contrast

COLUMNS = 48  # characters in a line of the picture, at most
WIDE, HIGH = 0.2, 0.42  # size of a character's cell, in inches, whatever room the legend needs
_LEAST = 24  # columns that the legend's title needs
_EDGE = 0.1  # inches around everything

Cell = tuple[int, int, Explained]


def tint(explanation: Explanation, place: int | None) -> str:
    """Return a place's colour: the longer an address, the darker; the others have one each."""
    if place is None:
        return GROUNDS["light"]
    depth = explanation.depth(place)
    if depth is None:
        return NAMED["orange" if explanation.places[place] == "network" else "periwinkle"]
    return to_hex(mpl.colormaps[SEQUENTIAL](0.95 - 0.9 * depth))


def explained(explanation: Explanation) -> Figure:
    """Draw a text in lines, each character in a cell that is tinted by the place that led.

    Below a character stands the place once more, see `Explanation.mark`, and a line as long as what
    the model gave the character: nearly as wide as the cell where it was certain.
    """
    cells = laid_out(explanation, COLUMNS)
    lines = cells[-1][0] + 1
    columns = max(_LEAST, 1 + max(column for _, column, _ in cells))
    width, text = WIDE * columns + 2 * _EDGE, HIGH * lines
    fig = plt.figure(figsize=(width, text), layout="none")
    below = _legend(fig, explanation)
    height = text + below + 3 * _EDGE
    fig.set_size_inches(width, height)
    edges = (_EDGE / width, 1 - (_EDGE + text) / height, 1 - 2 * _EDGE / width, text / height)
    ax = fig.add_axes(edges)
    for line, column, row in cells:
        ground = tint(explanation, row.leader)
        ink = max(("#000000", "#FFFFFF"), key=lambda colour: contrast(colour, ground))
        ax.add_patch(Rectangle((column + 0.03, line + 0.03), 0.94, 0.94, facecolor=ground))
        ax.text(column + 0.5, line + 0.34, visible(row.character), ha="center", va="center",
                color=ink, fontsize=10, family="monospace")  # fmt: skip
        if row.leader is None or row.probability is None:
            continue
        ax.text(column + 0.5, line + 0.7, explanation.mark(row.leader), ha="center", va="center",
                color=ink, fontsize=6)  # fmt: skip
        corner, wide = (column + 0.1, line + 0.85), 0.8 * row.probability
        ax.add_patch(Rectangle(corner, wide, 0.06, facecolor=ink, gid="probability"))
    ax.set(xlim=(0, columns), ylim=(lines, 0))
    ax.axis("off")
    return fig


def laid_out(explanation: Explanation, columns: int) -> list[Cell]:
    """Return line, column and row of every character; a line ends where the text's does."""
    cells: list[Cell] = []
    line = column = 0
    for row in explanation.rows:
        if column == columns:
            line, column = line + 1, 0
        cells.append((line, column, row))
        column += 1
        if row.character == "\n":
            line, column = line + 1, 0
    return cells


def alt(explanation: Explanation) -> str:
    """Return what the picture shows, in two sentences, for whoever cannot see it."""
    led = ", ".join(f"{name}: {n}" for name, n in explanation.led().items())
    return (
        f"A text of {len(explanation.rows)} characters, each tinted by the place of the gate that "
        f"weighed most when it was foreseen. Characters led by each place: {led}."
    )


def _legend(fig: Figure, explanation: Explanation) -> float:
    """Write a legend at the foot, in as many columns as fit; returns its height in inches."""
    led = explanation.led()
    patches = [
        Patch(facecolor=tint(explanation, i), label=f"{explanation.mark(i)}  {name} ({led[name]})")
        for i, name in enumerate(explanation.places)
        if name in led
    ]

    def write(columns: int, title: str | None) -> tuple[Legend, float, float]:
        legend = fig.legend(handles=patches, loc="lower center", ncols=columns, title=title,
                            fontsize=8, title_fontsize=8)  # fmt: skip
        fig.draw_without_rendering()
        box = legend.get_window_extent()
        return legend, box.width / fig.dpi, box.height / fig.dpi

    column, wide, _ = write(1, None)
    column.remove()
    title = "led by (how many characters); the line in a cell: the probability given"
    return write(max(1, int(fig.get_figwidth() // wide)), title)[2]
