"""`AddressPlane`: tokens in a plane, and signatures that the reader drags to redraw its tiles.

Python checks and sends the data; everything the reader does is handled in `address_plane.js`, so
the widget works the same in a notebook and on a page with no kernel. Where there is a kernel, what
the reader chose comes back in `signatures`, `soft`, `temperature` and `ternary`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from numpy.typing import ArrayLike

from trix.address.ternary import ternarize
from trix.show.figures.style import PALETTE

MOST_POINTS = 5000
"""More points than this make dragging stutter."""

MOST_CLASSES = 4
"""A class of points is told by its mark's shape: circle, square, triangle, diamond."""

_HERE = Path(__file__).parent
_VISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥"}


class AddressPlane(anywidget.AnyWidget):
    """A plane of tokens, coloured by the tile that reads them.

    Each signature is an arrow from the origin, moved with the pointer or, once it has the focus,
    with the arrow keys. A token x is scored against each signature s by x·s. Routed hard, the tile
    with the highest score reads it (the first of several equal ones, as `torch.argmax` has it);
    routed soft, tile i reads the share softmax(scores / temperature)[i].

    Attributes:
        points: the tokens as float32 pairs, `[tokens, 2]`, in bytes.
        signatures: one [x, y] a tile; follows the reader's hand where a kernel runs.
        soft: whether tiles share a token.
        temperature: of the softmax.
        ternary: whether signatures keep to coordinates -1, 0 and 1, as `ternarize` cuts them.
        labels: a character a token, or nothing.
        classes: a class name a token, or nothing.
        palette: a colour a tile.
        alt: what the plane shows, for whoever cannot see it.
        start: what the reset button goes back to.
    """

    _esm = _HERE / "address_plane.js"
    _css = _HERE / "address_plane.css"

    points = traitlets.Bytes().tag(sync=True)
    signatures = traitlets.List().tag(sync=True)
    soft = traitlets.Bool().tag(sync=True)
    temperature = traitlets.Float().tag(sync=True)
    ternary = traitlets.Bool().tag(sync=True)
    labels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    classes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    palette = traitlets.List(traitlets.Unicode()).tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    start = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        points: ArrayLike | torch.Tensor,
        signatures: ArrayLike | torch.Tensor,
        *,
        alt: str,
        labels: Sequence[str] = (),
        classes: Sequence[str] = (),
        soft: bool = False,
        temperature: float = 1.0,
        ternary: bool = False,
    ) -> None:
        """Check everything and lay out the plane.

        Args:
            points: `[tokens, 2]`, at most `MOST_POINTS`; array, tensor or nested list.
            signatures: `[tiles, 2]`, as many as there are colours or fewer.
            alt: what the plane shows, in a sentence or two.
            labels: a character a token, drawn in place of its mark.
            classes: a class name a token, at most `MOST_CLASSES` different ones.
            soft: start with soft routing.
            temperature: of soft routing, between 0.05 and 10.
            ternary: start with signatures cut to -1, 0 and 1.

        Raises:
            ValueError: if a shape, a length, a number or a text is not as described.
        """
        tokens = _pairs("points", points, most=MOST_POINTS)
        tiles = _pairs("signatures", signatures, most=len(PALETTE))
        if not isinstance(alt, str) or not alt.strip():
            raise ValueError(f"alt: expected a description of the plane, received {alt!r}")
        if ternary:
            tiles = ternarize(torch.from_numpy(tiles)).numpy()
        choices = {
            "signatures": tiles.tolist(),
            "soft": bool(soft),
            "temperature": _temperature(temperature),
            "ternary": bool(ternary),
        }
        super().__init__(
            points=tokens.tobytes(),
            labels=_labels(labels, len(tokens)),
            classes=_classes(classes, len(tokens)),
            palette=list(PALETTE[: len(tiles)]),
            alt=alt,
            start=choices,
            **choices,
        )

    @traitlets.validate("signatures")
    def _check_signatures(self, proposal: Any) -> list[list[float]]:
        tiles = _pairs("signatures", proposal["value"], most=len(PALETTE))
        if self.palette and len(tiles) != len(self.palette):
            raise ValueError(
                f"signatures: expected {len(self.palette)}, one a tile, received {len(tiles)}"
            )
        return tiles.tolist()

    @traitlets.validate("temperature")
    def _check_temperature(self, proposal: Any) -> float:
        return _temperature(proposal["value"])


def _pairs(name: str, values: ArrayLike | torch.Tensor, most: int) -> np.ndarray:
    """`values` as float32 `[1 … most, 2]`, little-endian, or a ValueError."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().float().numpy()
    try:
        pairs = np.asarray(values, dtype="<f4")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected numbers of shape [n, 2], received {error}") from error
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not 1 <= len(pairs) <= most:
        raise ValueError(
            f"{name}: expected shape [n, 2] with n from 1 to {most}, received {list(pairs.shape)}"
        )
    if not np.isfinite(pairs).all():
        raise ValueError(f"{name}: expected finite numbers, received {pairs[~np.isfinite(pairs)]}")
    return pairs


def _temperature(value: float) -> float:
    if not 0.05 <= value <= 10:
        raise ValueError(f"temperature: expected a number from 0.05 to 10, received {value!r}")
    return float(value)


def _labels(labels: Sequence[str], tokens: int) -> list[str]:
    if len(labels) not in (0, tokens):
        raise ValueError(f"labels: expected none or {tokens}, received {len(labels)}")
    for label in labels:
        if not isinstance(label, str) or len(label) != 1:
            raise ValueError(f"labels: expected single characters, received {label!r}")
    return [_VISIBLE.get(label, label) for label in labels]


def _classes(classes: Sequence[str], tokens: int) -> list[str]:
    if len(classes) not in (0, tokens):
        raise ValueError(f"classes: expected none or {tokens}, received {len(classes)}")
    names = list(dict.fromkeys(classes))
    if len(names) > MOST_CLASSES:
        raise ValueError(
            f"classes: expected at most {MOST_CLASSES} different ones, received {names}"
        )
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"classes: expected names, received {name!r}")
    return list(classes)
