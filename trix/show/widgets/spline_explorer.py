"""`SplineExplorer`: a curve, and a spline of straight cells to lay over it by hand."""

from __future__ import annotations

from collections.abc import Mapping

import traitlets

from trix.checks import one_of
from trix.show.figures.style import NAMED
from trix.show.widgets import base

CELLS = (2, 4, 8, 16)  # how many cells a spline may have
KINDS = ("float", "ternary", "table")  # how a spline may be stored

SCALES = ("cell", "all")  # what shares one scale in a ternary spline: a cell's two numbers, or all
LEVELS = (16, 256)  # how many entries a table may have
STEPS = 400  # inputs are chosen in this many steps from the lowest to the highest
MOST = 1000.0  # a larger height is a slip, and would not fit its axis
MOST_POINTS = 4096  # more points make the page heavy and dragging slow
_ALT = "A curve, and over it a spline of straight cells whose ends can be moved."


class SplineExplorer(base.Widget):
    """A curve and a spline of straight cells, which the reader moves, fits, and stores in few bits.

    The inputs from `low` to `high` fall in cells of equal width, an edge in the cell on its right.
    In its cell an input stands at a place u from -1 to 1, and the cell's line has the height
    base + slope·u there. What is read of the lines depends on the kind:

    - float: the line itself; 2 numbers of 32 bits a cell.
    - ternary: scale·(base + slope·u), base and slope cut to -1, 0 or 1 by `ternarize` and the scale
      by `row_scale`, of each cell's two numbers or of all at once; 4 bits a cell, 32 a scale.
    - table: the line at the nearest of evenly spaced levels, `low` and `high` among them (halfway
      counts as the upper), as if written down beforehand; 32 bits an entry.

    Errors are measured at the points of the target. The least-squares lines are those with the
    smallest mean squared error, for a table after rounding and for ternary values before the cut;
    of several the flattest; a cell with no point is flat at the target's height amid it.

    Args:
        targets: name → heights at `linspace(low, high, n)`, n from 2 to `MOST_POINTS` for all.
        low, high: the lowest and the highest input.
        cells, kind: to start with, one of `CELLS` and one of `KINDS`.

    Attributes:
        target: the name of the curve that is shown, the first to start with.
        scale: what shares a scale in a ternary spline, "cell" or "all".
        levels: entries of a table.
        x: the input whose reading is shown, taken to the nearest of `STEPS` steps.
        lines: `[base, slope]` of each cell as moved by hand; anything but one a cell stands for
            the least-squares lines.
        names, curves: of the curves, and their heights.
        bounds, steps, choices: of the input; what each other choice is among.
    """

    _esm = base.script("spline_explorer", "plot", "spline")
    _css = base.style("spline_explorer")

    target = traitlets.Unicode().tag(sync=True)
    cells = traitlets.Int(CELLS[0]).tag(sync=True)
    kind = traitlets.Unicode(KINDS[0]).tag(sync=True)
    scale = traitlets.Unicode(SCALES[0]).tag(sync=True)
    levels = traitlets.Int(LEVELS[0]).tag(sync=True)
    x = traitlets.Float().tag(sync=True)
    lines, curves, bounds = base.synced(traitlets.List, 3)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    choices, colours, start = base.synced(traitlets.Dict, 3)
    steps = traitlets.Int().tag(sync=True)

    def __init__(
        self,
        targets: Mapping[str, base.Numbers],
        low: float = -1.0,
        high: float = 1.0,
        cells: int = 8,
        kind: str = "float",
        alt: str = _ALT,
    ) -> None:
        curves = _curves(targets)
        bounds = [base.number("low", low, -MOST, MOST), base.number("high", high, -MOST, MOST)]
        if not low < high:
            raise ValueError(f"low, high: expected low < high, received {low!r} and {high!r}")
        choices = {
            "target": next(iter(curves)),
            "cells": base.whole("cells", cells, CELLS),
            "kind": one_of("kind", kind, KINDS),
            "scale": SCALES[0],
            "levels": LEVELS[0],
            "x": bounds[0] + 0.65 * (bounds[1] - bounds[0]),
            "lines": [],
        }
        super().__init__(
            names=list(curves),
            curves=list(curves.values()),
            bounds=bounds,
            choices={"cells": CELLS, "kind": KINDS, "scale": SCALES, "levels": LEVELS},
            steps=STEPS,
            colours={"read": NAMED["teal"], "here": NAMED["crimson"]},
            alt=alt,
            start=choices,
            **choices,
        )

    _target = base.checked("target", one_of, lambda self: self.names)
    _cells = base.checked("cells", base.whole, CELLS)
    _kind = base.checked("kind", one_of, KINDS)
    _scale = base.checked("scale", one_of, SCALES)
    _levels = base.checked("levels", base.whole, LEVELS)
    _x = base.checked("x", base.number, lambda self: self.bounds[0], lambda self: self.bounds[1])


def _curves(targets: Mapping[str, base.Numbers]) -> dict[str, list[float]]:
    """Name → heights, or a TypeError or ValueError."""
    if not isinstance(targets, Mapping):
        raise TypeError(f"targets: expected a mapping of name to heights, received {targets!r}")
    if not targets:
        raise ValueError("targets: expected at least one, received none")
    curves: dict[str, list[float]] = {}
    axis: base.Axis = range(2, MOST_POINTS + 1)
    for name, heights in targets.items():
        base.named("targets", name)
        curves[name] = base.array(f"targets[{name!r}]", heights, (axis,), -MOST, MOST).tolist()
        axis = len(curves[name])
    return curves
