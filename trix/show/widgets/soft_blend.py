"""`SoftBlend`: a curve blended of straight lines, with the temperature and the choice to set.

Python checks the lines and works out the target; the blend, its loss and its gradients are worked
out in `soft_blend.js`, so the widget is as quick on a page with no kernel. Where there is a kernel,
what the reader chose comes back in `temperature` and `top_k`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from numpy.typing import ArrayLike

from trix.show.figures.style import PALETTE

LOW, HIGH = -3.0, 3.0
"""The smallest and the largest input."""

INPUTS = 121
"""How many inputs the loss is a mean of, evenly spread from `LOW` to `HIGH`."""

LEAST_TILES, MOST_TILES = 2, 6
"""Fewer have nothing to blend; more bands of equal weight are too low to be told apart."""

COLDEST, HOTTEST = 0.02, 20.0
"""The ends of the temperature's slider."""

MOST = 1000.0
"""A larger number in a line is a slip, and would not fit its plot."""

_HERE = Path(__file__).parent

Numbers = ArrayLike | torch.Tensor
"""What can be read as an array of numbers."""


class SoftBlend(anywidget.AnyWidget):
    """A curve that tiles answer together, each by a straight line and a weight.

    Tile t scores an input x by s = a·x + b, (a, b) being its signature, and answers c·x + d. The
    k best tiles are chosen, of equal scores the lower one. They are blended with the weights
    softmax(s / temperature), and the loss is the mean of (output - target)² / 2 over `INPUTS`
    inputs. The reader sees output and target, each tile's weight, and the size of the loss's
    gradient on each signature and on the temperature. With k = 1 the weight is 1 whatever the
    score, and these gradients are 0.

    Attributes:
        temperature: of the softmax; follows the reader where a kernel runs.
        top_k: how many tiles an input reads; follows the reader likewise.
        signatures: `[a, b]` of each tile.
        answers: `[c, d]` of each tile.
        target: what the output should be, at each of the inputs.
        bounds: the ends of the inputs (`x`) and of the slider (`temperature`).
        palette: a colour a tile.
        alt: what the figure shows, for whoever cannot see it.
        start: what the reset button goes back to.
    """

    _esm = _HERE / "soft_blend.js"
    _css = _HERE / "soft_blend.css"

    temperature = traitlets.Float(1.0).tag(sync=True)
    top_k = traitlets.Int(1).tag(sync=True)
    signatures = traitlets.List().tag(sync=True)
    answers = traitlets.List().tag(sync=True)
    target = traitlets.List(traitlets.Float()).tag(sync=True)
    bounds = traitlets.Dict().tag(sync=True)
    palette = traitlets.List(traitlets.Unicode()).tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    start = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        signatures: Numbers,
        answers: Numbers,
        target: Callable[[float], float] | Sequence[float] | np.ndarray | torch.Tensor,
        *,
        alt: str,
        temperature: float = 1.0,
        top_k: int | None = None,
    ) -> None:
        """Check everything and work out the target.

        Args:
            signatures: `[tiles, 2]`, tiles from `LEAST_TILES` to `MOST_TILES`: slope and height at
                0 of each tile's score. Array, tensor or nested list, as all that follows.
            answers: `[tiles, 2]`: slope and height at 0 of each tile's answer.
            target: a function of one number, called once an input; or its values at the inputs
                `linspace(LOW, HIGH, INPUTS)`, `[INPUTS]`.
            alt: what the figure shows, in a sentence or two.
            temperature: to start with, from `COLDEST` to `HOTTEST`.
            top_k: how many tiles an input reads to start with; all if not given.

        Raises:
            TypeError: if `temperature` is no number or `top_k` no int.
            ValueError: if a shape, a number or a text is not as described.
        """
        if not isinstance(alt, str) or not alt.strip():
            raise ValueError(f"alt: expected a description of the figure, received {alt!r}")
        scored = _lines("signatures", signatures)
        answered = _lines("answers", answers)
        if len(answered) != len(scored):
            raise ValueError(
                f"answers: expected {len(scored)}, one a signature, received {len(answered)}"
            )
        tiles = len(scored)
        choices = {
            "temperature": _temperature(temperature),
            "top_k": _top_k(tiles if top_k is None else top_k, tiles),
        }
        super().__init__(
            signatures=scored,
            answers=answered,
            target=_target(target),
            bounds={"x": [LOW, HIGH], "temperature": [COLDEST, HOTTEST]},
            palette=list(PALETTE[:tiles]),
            alt=alt,
            start=choices,
            **choices,
        )

    @traitlets.validate("temperature")
    def _check_temperature(self, proposal: Any) -> float:
        return _temperature(proposal["value"])

    @traitlets.validate("top_k")
    def _check_top_k(self, proposal: Any) -> int:
        # while the widget is being made, `signatures` may not stand yet
        return _top_k(proposal["value"], len(self.signatures) or MOST_TILES)


def _lines(name: str, values: Numbers) -> list[list[float]]:
    """`values` as pairs, `[LEAST_TILES … MOST_TILES, 2]`, or a ValueError."""
    lines = _floats(name, values, "[tiles, 2]")
    if lines.ndim != 2 or lines.shape[1] != 2 or not LEAST_TILES <= len(lines) <= MOST_TILES:
        raise ValueError(
            f"{name}: expected shape [tiles, 2] with {LEAST_TILES} to {MOST_TILES} tiles, "
            f"received {list(lines.shape)}"
        )
    return lines.tolist()


def _target(target: Callable[[float], float] | Numbers) -> list[float]:
    """The target at each input, or a ValueError."""
    if callable(target):
        target = [target(x) for x in np.linspace(LOW, HIGH, INPUTS).tolist()]
    values = _floats("target", target, f"[{INPUTS}]")
    if values.shape != (INPUTS,):
        raise ValueError(
            f"target: expected a function or {INPUTS} numbers, one an input, "
            f"received shape {list(values.shape)}"
        )
    return values.tolist()


def _floats(name: str, values: Numbers, shape: str) -> np.ndarray:
    """`values` as float64, none further from 0 than `MOST`, or a ValueError."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected numbers of shape {shape}, received {error}") from error
    fits = np.abs(numbers) <= MOST  # so is no NaN
    if not fits.all():
        raise ValueError(
            f"{name}: expected numbers from {-MOST:g} to {MOST:g}, received {numbers[~fits]}"
        )
    return numbers


def _temperature(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"temperature: expected a number, received {value!r}")
    if not COLDEST <= value <= HOTTEST:
        raise ValueError(
            f"temperature: expected a number from {COLDEST:g} to {HOTTEST:g}, received {value!r}"
        )
    return float(value)


def _top_k(value: int, tiles: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"top_k: expected an int, received {value!r}")
    if not 1 <= value <= tiles:
        raise ValueError(f"top_k: expected 1 to {tiles}, received {value}")
    return value
