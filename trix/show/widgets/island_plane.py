"""`IslandPlane`: what losses do to signatures in a plane, with tokens to read and with none."""

from __future__ import annotations

from collections.abc import Sequence

import traitlets

from trix.show.figures.style import PALETTE
from trix.show.widgets import base

MOST_POINTS = 2000  # more make the sliders stutter: each is looked at in every step
LOSSES = ("ternary pull", "sparsity", "diversity")  # what the weights are of, in their order
SEEDS = 2**32  # seeds are below this, which is all that the generator takes in


class IslandPlane(base.Widget):
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

    Args:
        points: `[n, 2]`, n from 1 to `MOST_POINTS`; only their directions matter.
        signatures: how many, from 2 to as many as there are colours.
        seed: of the random start, from 0, below `SEEDS`.
        weights: to start with, of ternary pull, sparsity and diversity, each from 0 to 1.
    """

    _esm = base.script("island_plane", "plane")
    _css = base.style("island_plane")

    points = traitlets.Bytes().tag(sync=True)
    weights = traitlets.List(traitlets.Float(), [0.0] * len(LOSSES)).tag(sync=True)
    seed = traitlets.Int(0).tag(sync=True)
    palette = traitlets.List(traitlets.Unicode()).tag(sync=True)
    start = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        points: base.Numbers,
        *,
        alt: str,
        signatures: int = 6,
        seed: int = 0,
        weights: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> None:
        tokens = base.floats("points", points, (range(1, MOST_POINTS + 1), 2))
        count = base.whole("signatures", signatures, range(2, len(PALETTE) + 1))
        choices = {"seed": base.whole("seed", seed, range(SEEDS)), "weights": _weights(weights)}
        super().__init__(
            points=base.packed(tokens),
            palette=list(PALETTE[:count]),
            alt=alt,
            start=choices,
            **choices,
        )

    _weights = base.checked("weights", lambda _, value: _weights(value))
    _seed = base.checked("seed", base.whole, range(SEEDS))


def _weights(values: Sequence[float]) -> list[float]:
    """One number from 0 to 1 a loss, or an error."""
    weights = list(values)
    if len(weights) != len(LOSSES):
        wanted = f"{len(LOSSES)}, of {', '.join(LOSSES)}"
        raise ValueError(f"weights: expected {wanted}, received {len(weights)}")
    return [base.number("weights", weight, 0, 1) for weight in weights]
