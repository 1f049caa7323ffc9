"""`IslandPlane`: what losses do to signatures in a plane, with tokens to read and with none.

Python checks and sends the points and where to start; the losses, their gradients and the descent
are worked out in `island_plane.js`, so the widget is as quick on a page with no kernel. Where there
is a kernel, what the reader chose comes back in `weights` and `seed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from numpy.typing import ArrayLike

from trix.show.figures.style import PALETTE

MOST_POINTS = 2000
"""More points than this make the sliders stutter: each is looked at in every step."""

LOSSES = ("ternary pull", "sparsity", "diversity")
"""What the weights are of, in their order."""

SEEDS = 2**32
"""Seeds are below this, which is all that the generator takes in."""

_HERE = Path(__file__).parent


class IslandPlane(anywidget.AnyWidget):
    """Two planes of signatures, trained by the same losses: one with tokens, one with none.

    Both start from the same random rows: each points in any direction, with a length from 0.6 to
    1.2. Both descend on

        task + weights · (ternary pull, sparsity, diversity),

    the task being the mean over the points of minus the largest cosine with a row, so that a point
    draws the row that reads it; without points it is 0. It is plain gradient descent, of a fixed
    number of steps that shrink evenly to nothing.

    The losses are those of `trix.address.losses`: ternary pull and sparsity of the rows in
    units of their own scale, as `SignatureRows.latent` has them, and diversity of the rows as they
    are. The gradient of diversity is the smooth one, where `trix.diversity` has that of nudged
    rows, for the sake of parallel ones.

    Arrows are rows in units of their own scale. Under each plane stand three statistics, before and
    after the cut to -1, 0 and 1, and beside them those of the random start: the share of
    coordinates within 0.1 of -1, 0 or 1; the share within 0.1 of 0 (after the cut: exactly 0); and
    diversity as one minus the mean size of the cosine between rows.

    Attributes:
        points: the tokens as float32 pairs, `[n, 2]`, in bytes; only their directions matter.
        weights: of the three losses; follows the reader where a kernel runs.
        seed: of the random start; follows the reader likewise.
        palette: a colour a signature.
        alt: what the figure shows, for whoever cannot see it.
        start: what the reset button goes back to.
    """

    _esm = _HERE / "island_plane.js"
    _css = _HERE / "island_plane.css"

    points = traitlets.Bytes().tag(sync=True)
    weights = traitlets.List(traitlets.Float(), [0.0] * len(LOSSES)).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
    palette = traitlets.List(traitlets.Unicode()).tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    start = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        points: ArrayLike | torch.Tensor,
        *,
        alt: str,
        signatures: int = 6,
        seed: int = 0,
        weights: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> None:
        """Check everything and send it.

        Args:
            points: `[n, 2]`, n from 1 to `MOST_POINTS`; array, tensor or nested list.
            alt: what the figure shows, in a sentence or two.
            signatures: how many, from 2 to as many as there are colours.
            seed: of the random start, from 0, below `SEEDS`.
            weights: to start with, of ternary pull, sparsity and diversity, each from 0 to 1.

        Raises:
            TypeError: if a count or a seed is no int, or a weight no number.
            ValueError: if a shape, a number or a text is not as described.
        """
        tokens = _points(points)
        if not isinstance(alt, str) or not alt.strip():
            raise ValueError(f"alt: expected a description of the figure, received {alt!r}")
        count = _int("signatures", signatures, 2, len(PALETTE))
        choices = {"seed": _int("seed", seed, 0, SEEDS - 1), "weights": _weights(weights)}
        super().__init__(
            points=tokens.tobytes(),
            palette=list(PALETTE[:count]),
            alt=alt,
            start=choices,
            **choices,
        )

    @traitlets.validate("weights")
    def _check_weights(self, proposal: Any) -> list[float]:
        return _weights(proposal["value"])

    @traitlets.validate("seed")
    def _check_seed(self, proposal: Any) -> int:
        return _int("seed", proposal["value"], 0, SEEDS - 1)


def _points(values: ArrayLike | torch.Tensor) -> np.ndarray:
    """`values` as float32 `[1 … MOST_POINTS, 2]`, little-endian, or a ValueError."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().float().numpy()
    try:
        pairs = np.asarray(values, dtype="<f4")
    except (TypeError, ValueError) as error:
        raise ValueError(f"points: expected numbers of shape [n, 2], received {error}") from error
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not 1 <= len(pairs) <= MOST_POINTS:
        raise ValueError(
            f"points: expected shape [n, 2] with n from 1 to {MOST_POINTS}, "
            f"received {list(pairs.shape)}"
        )
    if not np.isfinite(pairs).all():
        raise ValueError(f"points: expected finite numbers, received {pairs[~np.isfinite(pairs)]}")
    return pairs


def _weights(values: Sequence[float]) -> list[float]:
    """One number from 0 to 1 a loss, or an error."""
    weights = list(values)
    if len(weights) != len(LOSSES):
        raise ValueError(
            f"weights: expected {len(LOSSES)}, of {', '.join(LOSSES)}, received {len(weights)}"
        )
    for weight in weights:
        if isinstance(weight, bool) or not isinstance(weight, Real):
            raise TypeError(f"weights: expected numbers, received {weight!r}")
        if not 0 <= weight <= 1:
            raise ValueError(f"weights: expected numbers from 0 to 1, received {weight!r}")
    return [float(weight) for weight in weights]


def _int(name: str, value: int, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an int, received {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name}: expected {low} to {high}, received {value}")
    return value
