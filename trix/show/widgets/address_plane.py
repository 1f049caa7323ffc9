"""`AddressPlane`: tokens in a plane, and signatures that the reader drags to redraw its tiles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import traitlets

from trix.address.ternary import ternarize
from trix.show.figures.style import PALETTE
from trix.show.widgets import base

MOST_POINTS = 5000  # more points than this make dragging stutter
TEMPERATURES = (0.05, 10.0)  # the ends of the slider
MOST_CLASSES = 4  # a class of points is told by its mark's shape: circle, square, triangle, diamond


class AddressPlane(base.Widget):
    """A plane of tokens, coloured by the tile that reads them.

    Each signature is an arrow from the origin, moved with the pointer or, once it has the focus,
    with the arrow keys. A token x is scored against each signature s by x·s. Routed hard, the tile
    with the highest score reads it (the first of several equal ones, as `torch.argmax` has it);
    routed soft, tile i reads the share softmax(scores / temperature)[i].

    Args:
        points: `[tokens, 2]`, at most `MOST_POINTS`.
        signatures: `[tiles, 2]`, as many as there are colours or fewer.
        labels: a character a token, drawn in place of its mark.
        classes: a class name a token, at most `MOST_CLASSES` different ones.
        soft, ternary: start with soft routing, with signatures cut to -1, 0 and 1.
        temperature: of soft routing, between 0.05 and 10.
    """

    _esm = base.script("address_plane", "plane")
    _css = base.style("address_plane")

    points = traitlets.Bytes().tag(sync=True)
    signatures = traitlets.List().tag(sync=True)
    soft, ternary = base.synced(traitlets.Bool, 2)
    temperature = traitlets.Float().tag(sync=True)
    labels, classes, palette = base.synced(lambda: traitlets.List(traitlets.Unicode()), 3)
    start = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        points: base.Numbers,
        signatures: base.Numbers,
        *,
        alt: str,
        labels: Sequence[str] = (),
        classes: Sequence[str] = (),
        soft: bool = False,
        temperature: float = 1.0,
        ternary: bool = False,
    ) -> None:
        tokens = base.floats("points", points, (range(1, MOST_POINTS + 1), 2))
        tiles = base.floats("signatures", signatures, (range(1, len(PALETTE) + 1), 2))
        if ternary:
            tiles = ternarize(torch.from_numpy(tiles)).numpy()
        choices = {
            "signatures": tiles.tolist(),
            "soft": bool(soft),
            "temperature": base.number("temperature", temperature, *TEMPERATURES),
            "ternary": bool(ternary),
        }
        super().__init__(
            points=base.packed(tokens),
            labels=base.labels(labels, len(tokens), 1),
            classes=_classes(classes, len(tokens)),
            palette=list(PALETTE[: len(tiles)]),
            alt=alt,
            start=choices,
            **choices,
        )

    _signatures = base.checked(
        "signatures",
        lambda *given: base.floats(*given).tolist(),
        lambda self: (len(self.palette), 2),
    )
    _temperature = base.checked("temperature", base.number, *TEMPERATURES)


def _classes(classes: Sequence[str], tokens: int) -> list[str]:
    if len(classes) not in (0, tokens):
        raise ValueError(f"classes: expected none or {tokens}, received {len(classes)}")
    names = list(dict.fromkeys(classes))
    if len(names) > MOST_CLASSES:
        raise ValueError(f"classes: expected at most {MOST_CLASSES} different, received {names}")
    return [base.named("classes", name) for name in classes]
