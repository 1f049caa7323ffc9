"""`SplineExplorer`: a curve, and a spline of straight cells to lay over it by hand.

Python checks the curves; the fit, the cut to ternary values, the table and the errors are worked
out in `spline_explorer.js`, so the widget is as quick on a page with no kernel. Where there is a
kernel, what the reader chose comes back in the traits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

import anywidget
import numpy as np
import torch
import traitlets
from numpy.typing import ArrayLike

from trix.show.figures.style import NAMED

CELLS = (2, 4, 8, 16)
"""How many cells a spline may have."""

KINDS = ("float", "ternary", "table")
"""How a spline may be stored."""

SCALES = ("cell", "all")
"""What may share one scale in a ternary spline: the two numbers of a cell, or all of them."""

LEVELS = (16, 256)
"""How many entries a table may have."""

STEPS = 400
"""Inputs are chosen in this many steps from the lowest to the highest."""

MOST = 1000.0
"""A larger height is a slip, and would not fit its axis."""

MOST_POINTS = 4096
"""More points make the page heavy and dragging slow."""

_ALT = "A curve, and over it a spline of straight cells whose ends can be moved."
_HERE = Path(__file__).parent

Numbers = ArrayLike | torch.Tensor
"""What can be read as an array of numbers."""

Choice = TypeVar("Choice", int, str)


class SplineExplorer(anywidget.AnyWidget):
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

    Attributes:
        target: the name of the curve that is shown; it follows the reader where a kernel runs, as
            do the next six.
        cells: of the spline.
        kind: of the spline.
        scale: what shares a scale in a ternary spline, "cell" or "all".
        levels: entries of a table.
        x: the input whose reading is shown, taken to the nearest of `STEPS` steps.
        lines: `[base, slope]` of each cell as moved by hand; anything but one a cell stands for
            the least-squares lines.
        names: of the curves.
        curves: their heights.
        bounds: the lowest and the highest input.
        choices: what each choice is among.
        steps: of the input.
        colours: of what is read and of the chosen input.
        alt: what the figure shows, for whoever cannot see it.
        start: what the reset button goes back to.
    """

    _esm = _HERE / "spline_explorer.js"
    _css = _HERE / "spline_explorer.css"

    target = traitlets.Unicode().tag(sync=True)
    cells = traitlets.Int(CELLS[0]).tag(sync=True)
    kind = traitlets.Unicode(KINDS[0]).tag(sync=True)
    scale = traitlets.Unicode(SCALES[0]).tag(sync=True)
    levels = traitlets.Int(LEVELS[0]).tag(sync=True)
    x = traitlets.Float().tag(sync=True)
    lines = traitlets.List().tag(sync=True)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    curves = traitlets.List().tag(sync=True)
    bounds = traitlets.List().tag(sync=True)
    choices = traitlets.Dict().tag(sync=True)
    steps = traitlets.Int().tag(sync=True)
    colours = traitlets.Dict().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    start = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        targets: Mapping[str, Numbers],
        low: float = -1.0,
        high: float = 1.0,
        cells: int = 8,
        kind: str = "float",
        alt: str = _ALT,
    ) -> None:
        """Check everything. The first target is shown first, under its least-squares spline.

        Args:
            targets: name → heights at `linspace(low, high, n)`, `[n]`, n from 2 to `MOST_POINTS`
                and the same for all. Array, tensor or list.
            low: the lowest input.
            high: the highest input.
            cells: to start with, one of `CELLS`.
            kind: to start with, one of `KINDS`.
            alt: what the figure shows, in a sentence or two.

        Raises:
            TypeError: if `targets` is no mapping, `low` or `high` no number or `cells` no int.
            ValueError: if a shape, a number or a text is not as described.
        """
        if not isinstance(alt, str) or not alt.strip():
            raise ValueError(f"alt: expected a description of the figure, received {alt!r}")
        curves = _curves(targets)
        bounds = _bounds(low, high)
        choices = {
            "target": next(iter(curves)),
            "cells": _one_of("cells", cells, CELLS),
            "kind": _one_of("kind", kind, KINDS),
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

    @traitlets.validate("target")
    def _check_target(self, proposal: Any) -> str:
        # while the widget is being made, `names` may not stand yet
        return _one_of("target", proposal["value"], self.names or [proposal["value"]])

    @traitlets.validate("cells")
    def _check_cells(self, proposal: Any) -> int:
        return _one_of("cells", proposal["value"], CELLS)

    @traitlets.validate("kind")
    def _check_kind(self, proposal: Any) -> str:
        return _one_of("kind", proposal["value"], KINDS)

    @traitlets.validate("scale")
    def _check_scale(self, proposal: Any) -> str:
        return _one_of("scale", proposal["value"], SCALES)

    @traitlets.validate("levels")
    def _check_levels(self, proposal: Any) -> int:
        return _one_of("levels", proposal["value"], LEVELS)

    @traitlets.validate("x")
    def _check_x(self, proposal: Any) -> float:
        x = proposal["value"]
        low, high = self.bounds or (x, x)
        if not low <= x <= high:
            raise ValueError(f"x: expected a number from {low:g} to {high:g}, received {x!r}")
        return x


def _curves(targets: Mapping[str, Numbers]) -> dict[str, list[float]]:
    """Name → heights, or a TypeError or ValueError."""
    if not isinstance(targets, Mapping):
        raise TypeError(f"targets: expected a mapping of name to heights, received {targets!r}")
    if not targets:
        raise ValueError("targets: expected at least one, received none")
    curves: dict[str, list[float]] = {}
    for name, heights in targets.items():
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"targets: expected a name a curve, received {name!r}")
        values = _heights(f"targets[{name!r}]", heights)
        count = len(next(iter(curves.values()), values))
        if len(values) != count:
            raise ValueError(
                f"targets[{name!r}]: expected {count} points, as before, received {len(values)}"
            )
        curves[name] = values
    return curves


def _heights(name: str, values: Numbers) -> list[float]:
    """`values` as 2 to `MOST_POINTS` numbers, none further from 0 than `MOST`, or a ValueError."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    try:
        heights = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected numbers of shape [n], received {error}") from error
    if heights.ndim != 1 or not 2 <= len(heights) <= MOST_POINTS:
        raise ValueError(
            f"{name}: expected shape [n], n from 2 to {MOST_POINTS}, received {list(heights.shape)}"
        )
    fits = np.abs(heights) <= MOST  # so is no NaN
    if not fits.all():
        raise ValueError(
            f"{name}: expected numbers from {-MOST:g} to {MOST:g}, received {heights[~fits]}"
        )
    return heights.tolist()


def _bounds(low: float, high: float) -> list[float]:
    """Both as floats, or a TypeError or ValueError."""
    for name, value in (("low", low), ("high", high)):
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{name}: expected a number, received {value!r}")
    if not -MOST <= low < high <= MOST:  # neither is a NaN
        raise ValueError(
            f"low, high: expected {-MOST:g} <= low < high <= {MOST:g}, "
            f"received {low!r} and {high!r}"
        )
    return [float(low), float(high)]


def _one_of(name: str, value: Choice, choices: Sequence[Choice]) -> Choice:
    """`value`, if it is among the choices, or a TypeError or ValueError."""
    kind = type(choices[0])
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"{name}: expected {kind.__name__}, received {value!r}")
    if value not in choices:
        raise ValueError(
            f"{name}: expected one of {', '.join(map(str, choices))}, received {value!r}"
        )
    return value
