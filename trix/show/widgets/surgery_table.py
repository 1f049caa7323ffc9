"""`SurgeryTable`: the ternary signatures of a layer, edited by hand, and who reads what then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import traitlets

from trix.show.figures.style import PALETTE
from trix.show.widgets import base

MOST_CHARACTERS = 400  # a longer text is not taken in at a glance
MOST_DIM = 48  # a wider table is mostly out of sight


class SurgeryTable(base.Widget):
    """Signatures as rows of +, 0 and −, and a text in the colours of the tiles that claim it.

    A character x is scored against each signature s by x·s, in float64 over the float32 numbers,
    and claimed by the tile with the highest score (the first of several equal ones, as
    `torch.argmax` has it). The reader changes a cell, puts a designed signature into a row, locks a
    row, undoes and resets; the text is claimed anew at once.

    Of the chosen tile and each class of characters the page says, before the first edit and now,
    the *claim rate* (the share of the class's characters that the tile claims) and the *purity*
    (the share of the tile's characters that are of the class).

    Args:
        text: n characters, n from 1 to `MOST_CHARACTERS`.
        tokens: `[n, dim]`, dim up to `MOST_DIM`: what the layer sees at each character.
        signatures: `[tiles, dim]` of exactly -1, 0 and 1, as many as there are colours or fewer.
        classes: classes of characters by name, "vowels" say: a bool a character.
        designs: signatures by name, "designed for vowels" say: `[dim]` of -1, 0 and 1.
        frozen: tiles that start locked.

    Attributes:
        selected, position: the tile looked at and the character whose scores are shown, from 0.
        history: what undo goes back through, the last edit last: of each edit the rows that it
            changed, as `[tile, signature before, whether it was locked]`.
    """

    _esm = base.script("surgery_table", "claims")
    _css = base.style("surgery_table")

    # classes and designs as pairs: a notebook's file would sort the names of a mapping
    signatures, frozen, history, classes, designs = base.synced(traitlets.List, 5)
    selected, position = base.synced(traitlets.Int, 2)
    text = traitlets.Unicode().tag(sync=True)
    tokens = traitlets.Bytes().tag(sync=True)
    palette = traitlets.List(traitlets.Unicode()).tag(sync=True)
    start = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        text: str,
        tokens: base.Numbers,
        signatures: base.Numbers,
        *,
        alt: str,
        classes: Mapping[str, base.Numbers] | None = None,
        designs: Mapping[str, base.Numbers] | None = None,
        frozen: Iterable[int] = (),
    ) -> None:
        count = len(base.text("text", text, 1, MOST_CHARACTERS))
        seen = base.floats("tokens", tokens, (count, range(1, MOST_DIM + 1)))
        dim = seen.shape[1]
        rows = _ternary("signatures", signatures, range(1, len(PALETTE) + 1), dim)
        begun = {"signatures": rows, "frozen": _frozen("frozen", frozen, len(rows))}
        super().__init__(
            text=text,
            tokens=base.packed(seen),
            classes=[
                [base.named("classes", name), _members(name, one, count)]
                for name, one in (classes or {}).items()
            ],
            designs=[
                [base.named("designs", name), _ternary(f"designs[{name!r}]", one, dim)]
                for name, one in (designs or {}).items()
            ],
            palette=list(PALETTE[: len(rows)]),
            alt=alt,
            start=begun,
            **begun,
        )

    _selected = base.index("selected", "palette")
    _position = base.index("position", "text")
    _frozen = base.checked("frozen", lambda *given: _frozen(*given), lambda self: len(self.palette))
    _signatures = base.checked(
        "signatures",
        lambda *given: _ternary(*given),
        lambda self: len(self.palette),
        lambda self: len(self.start["signatures"][0]),
    )


def _ternary(name: str, values: base.Numbers, *axes: base.Axis) -> list[Any]:
    return base.integers(name, values, axes, (-1, 0, 1))


def _members(name: str, values: base.Numbers, count: int) -> list[bool]:
    """`values` as a bool a character, or a ValueError."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.dtype != np.bool_ or array.shape != (count,):
        received = f"{array.dtype} of shape {list(array.shape)}"
        raise ValueError(f"classes[{name!r}]: expected {count} bools, received {received}")
    return array.tolist()


def _frozen(name: str, frozen: Iterable[int], tiles: int) -> list[int]:
    return sorted({base.whole(name, tile, range(tiles)) for tile in frozen})
