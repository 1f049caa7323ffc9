"""The Pareto figure: loss against what it costs, of everything that was built."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from trix.lab.frontier import FAMILIES, Built, front
from trix.show.scoreboard import Mark, draw_mark, legend
from trix.show.style import INK, NAMED

PAINTS = (
    Mark(NAMED["violet"], "s"),
    Mark(NAMED["orange"], "o"),
    Mark(NAMED["teal"], "^"),
    Mark(NAMED["crimson"], "D"),
)
FAMILY_MARKS: dict[str, Mark] = dict(zip(FAMILIES, PAINTS, strict=True))
"""How each family is drawn."""

HIGHEST = 2.6
"""The largest loss that `pareto` has room for, in nats: the rest is worse than counting pairs."""


def pareto(ax: Axes, points: Sequence[Built], cost: str, named: Sequence[str] = ()) -> None:
    """Draw loss against a cost, join the front, and name it.

    What was trained as long as `nano` says is drawn larger than what was trained as `probe`; forms
    for inference are hollow. What has a loss above `HIGHEST` is out of the picture; the line may
    come from there.

    Args:
        ax: where to draw.
        points: what was built.
        cost: "size", drawn in kB, or "microseconds".
        named: names of others to write beside their marks, as `experiment/arm`.
    """
    unit = 1e3 if cost == "size" else 1.0
    ax.set(xscale="log", ylabel="validation loss, nats")
    ax.set_xlabel("kB" if cost == "size" else "microseconds a character, one thread")
    ax.grid(alpha=0.15)
    known = [p for p in points if not math.isnan(getattr(p, cost))]
    best, seen = front(known, cost), [p for p in known if p.nats <= HIGHEST]
    if not seen:
        return  # nothing on record yet
    line = [(getattr(p, cost) / unit, p.nats) for p in best]
    ax.plot(*zip(*line, strict=True), color=INK, linewidth=1)

    def alike(p: Built) -> tuple[str, bool, bool]:
        return p.family, bool(p.form), p.protocol != "probe"

    for (family, inference, large), group in itertools.groupby(sorted(seen, key=alike), alike):
        xs, ys = zip(*((getattr(p, cost) / unit, p.nats) for p in group), strict=True)
        mark = FAMILY_MARKS[family]._replace(filled=not inference)
        draw_mark(ax, xs, ys, mark, 7 if large else 4, 1 if large else 0.55)
    low = min(p.nats for p in seen)
    ax.set_ylim(low - 0.06 * (HIGHEST - low), HIGHEST)
    left, right = (f(getattr(p, cost) / unit for p in seen) for f in (min, max))
    ax.set_xlim(left / 1.3, right * 1.3)
    written = [p for p in seen if p in best or p.name in named]
    ax.xaxis.set_major_locator(LogLocator(subs=(1,) if right / left > 100 else (1, 2, 5)))
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:,.10g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    places = [(getattr(p, cost) / unit, p.nats) for p in seen] + _along(line)
    _write_names(ax, {(getattr(p, cost) / unit, p.nats): p.label for p in written}, places)


def family_legend(fig: Figure) -> None:
    """Write below a figure which mark is which family."""
    legend(fig, FAMILY_MARKS)


Place = tuple[float, float]
Box = tuple[float, float, float, float]
SHIFT = {"left": 0.0, "center": 0.5, "right": 1.0}


def _along(line: Sequence[Place]) -> list[Place]:
    """Places along a line that is straight over the logarithm of x, for names to keep off."""
    steps = np.linspace(0, 1, 25)[1:-1]
    return [
        (float(a[0] ** (1 - step) * b[0] ** step), float(a[1] + step * (b[1] - a[1])))
        for a, b in itertools.pairwise(line)
        for step in steps
    ]


def _write_names(ax: Axes, names: Mapping[Place, str], marks: Sequence[Place]) -> None:
    """Write each name near its place, where it hides the fewest marks and other names."""
    figure = ax.get_figure(root=True)
    if figure is None:
        return
    figure.draw_without_rendering()
    inside = ax.get_window_extent()
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in ax.transData.transform(marks)]
    pixels = figure.dpi / 72
    for place, name in names.items():
        at = ax.transData.transform(place)
        text = ax.annotate(name, place, xytext=(0, 0), textcoords="offset points", fontsize=8,
                           va="center")  # fmt: skip
        size = text.get_window_extent()
        ways = []
        for distance in (8, 16, 26, 38):
            for angle in np.deg2rad(np.arange(0, 360, 30)):
                x, y = distance * np.cos(angle), distance * np.sin(angle)
                side = "left" if x > 1 else "right" if x < -1 else "center"
                left = at[0] + x * pixels - SHIFT[side] * size.width
                low = at[1] + y * pixels - size.height / 2
                box = (left, low, left + size.width, low + size.height)
                hidden = _overlapping(box, np.array(taken)) + 10 * (not _within(box, inside))
                ways.append((hidden + distance / 60, side, (x, y), box))
        _, side, offset, box = min(ways, key=lambda way: way[0])
        text.set(ha=side, position=offset)
        taken.append(box)
        if math.hypot(*offset) > 10:
            end = ax.transData.inverted().transform(at + np.array(offset) * pixels)
            ax.plot([place[0], end[0]], [place[1], end[1]], color=INK, linewidth=0.5, alpha=0.6)


def _overlapping(box: Box, others: np.ndarray) -> int:
    left, low, right, high = others.T
    apart = (left > box[2]) | (right < box[0]) | (low > box[3]) | (high < box[1])
    return int((~apart).sum())


def _within(box: Box, frame: Bbox) -> bool:
    across = frame.x0 <= box[0] and box[2] <= frame.x1
    return across and frame.y0 <= box[1] and box[3] <= frame.y1
