"""`SoftBlend`: a curve blended of straight lines, with the temperature and the choice to set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import traitlets

from trix.show.figures.style import PALETTE
from trix.show.widgets import base

LOW, HIGH = -3.0, 3.0  # the smallest and the largest input
INPUTS = 121  # how many inputs the loss is a mean of, evenly spread from `LOW` to `HIGH`

LEAST_TILES, MOST_TILES = 2, 6  # fewer have nothing to blend; more bands are too low to tell apart
COLDEST, HOTTEST = 0.02, 20.0  # the ends of the temperature's slider
MOST = 1000.0  # a larger number in a line is a slip, and would not fit its plot


class SoftBlend(base.Widget):
    """A curve that tiles answer together, each by a straight line and a weight.

    Tile t scores an input x by s = a·x + b, (a, b) being its signature, and answers c·x + d. The
    k best tiles are chosen, of equal scores the lower one. They are blended with the weights
    softmax(s / temperature), and the loss is the mean of (output - target)² / 2 over `INPUTS`
    inputs. The reader sees output and target, each tile's weight, and the size of the loss's
    gradient on each signature and on the temperature. With k = 1 the weight is 1 whatever the
    score, and these gradients are 0.

    Args:
        signatures: `[tiles, 2]`, 2 to 6 tiles: slope and height at 0 of each tile's score.
        answers: `[tiles, 2]`: slope and height at 0 of each tile's answer.
        target: a function of one number, called once an input; or its values at the inputs
            `linspace(LOW, HIGH, INPUTS)`, `[INPUTS]`.
        temperature: to start with, from `COLDEST` to `HOTTEST`.
        top_k: how many tiles an input reads to start with; all if not given.

    Attributes:
        bounds: the ends of the inputs (`x`) and of the slider (`temperature`).
    """

    _esm = base.script("soft_blend", "plot")
    _css = base.style("soft_blend")

    temperature = traitlets.Float(1.0).tag(sync=True)
    top_k = traitlets.Int(1).tag(sync=True)
    signatures, answers = base.synced(traitlets.List, 2)
    target = traitlets.List(traitlets.Float()).tag(sync=True)
    bounds, start = base.synced(traitlets.Dict, 2)
    palette = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self,
        signatures: base.Numbers,
        answers: base.Numbers,
        target: Callable[[float], float] | Sequence[float] | np.ndarray | torch.Tensor,
        *,
        alt: str,
        temperature: float = 1.0,
        top_k: int | None = None,
    ) -> None:
        scored, answered = (
            base.array(name, lines, (range(LEAST_TILES, MOST_TILES + 1), 2), -MOST, MOST)
            for name, lines in (("signatures", signatures), ("answers", answers))
        )
        tiles = len(scored)
        if len(answered) != tiles:
            raise ValueError(
                f"answers: expected {tiles}, one a signature, received {len(answered)}"
            )
        if callable(target):
            target = [target(x) for x in np.linspace(LOW, HIGH, INPUTS).tolist()]
        choices = {
            "temperature": base.number("temperature", temperature, COLDEST, HOTTEST),
            "top_k": base.whole("top_k", tiles if top_k is None else top_k, range(1, tiles + 1)),
        }
        super().__init__(
            signatures=scored.tolist(),
            answers=answered.tolist(),
            target=base.array("target", target, (INPUTS,), -MOST, MOST).tolist(),
            bounds={"x": [LOW, HIGH], "temperature": [COLDEST, HOTTEST]},
            palette=list(PALETTE[:tiles]),
            alt=alt,
            start=choices,
            **choices,
        )

    _temperature = base.checked("temperature", base.number, COLDEST, HOTTEST)
    _top_k = base.checked("top_k", base.whole, lambda self: range(1, len(self.signatures) + 1))
