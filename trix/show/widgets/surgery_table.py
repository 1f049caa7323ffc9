"""`SurgeryTable`: the ternary signatures of a layer, edited by hand, and who reads what then.

Python checks the numbers and sends them; routing, edits and counts are worked out in
`surgery_table.js`, so the widget is as quick on a page with no kernel. Where there is a kernel,
what the reader made comes back in `signatures`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from numpy.typing import ArrayLike

from trix.show.figures.style import PALETTE

MOST_CHARACTERS = 400
"""A longer text is not taken in at a glance."""

MOST_DIM = 48
"""A wider table is mostly out of sight."""

_HERE = Path(__file__).parent

Numbers = ArrayLike | torch.Tensor
"""What can be read as an array of numbers."""


class SurgeryTable(anywidget.AnyWidget):
    """Signatures as rows of +, 0 and −, and a text in the colours of the tiles that claim it.

    A character x is scored against each signature s by x·s, in float64 over the float32 numbers,
    and claimed by the tile with the highest score (the first of several equal ones, as
    `torch.argmax` has it). The reader changes a cell, puts a designed signature into a row, locks a
    row, undoes and resets; the text is claimed anew at once.

    Of the chosen tile and each class of characters the page says, before the first edit and now,
    the *claim rate* (the share of the class's characters that the tile claims) and the *purity*
    (the share of the tile's characters that are of the class).

    Attributes:
        signatures: `[tiles][dim]` of -1, 0 and 1; follows the reader's hand where a kernel runs.
        frozen: the tiles whose cells are locked, in order; follows the reader likewise.
        selected: the tile that is looked at, from 0; likewise.
        position: the character whose scores are shown, from 0; likewise.
        history: what undo goes back through, the last edit last: of each edit the rows that it
            changed, as `[tile, signature before, whether it was locked]`.
        text: a character a token.
        tokens: what the layer sees at each, float32 `[n, dim]`, in bytes.
        classes: a name and, for every character, whether it is in that class.
        designs: a name and a signature that can be put into a row.
        palette: a colour a tile.
        alt: what the table shows, for whoever cannot see it.
        start: what the reset button goes back to, and what "before" means.
    """

    _esm = _HERE / "surgery_table.js"
    _css = _HERE / "surgery_table.css"

    signatures = traitlets.List().tag(sync=True)
    frozen = traitlets.List().tag(sync=True)
    selected = traitlets.Int().tag(sync=True)
    position = traitlets.Int().tag(sync=True)
    history = traitlets.List().tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
    tokens = traitlets.Bytes().tag(sync=True)
    # pairs of name and values: a notebook's file would sort the names of a mapping
    classes = traitlets.List().tag(sync=True)
    designs = traitlets.List().tag(sync=True)
    palette = traitlets.List(traitlets.Unicode()).tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    start = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        text: str,
        tokens: Numbers,
        signatures: Numbers,
        *,
        alt: str,
        classes: Mapping[str, Numbers] | None = None,
        designs: Mapping[str, Numbers] | None = None,
        frozen: Iterable[int] = (),
    ) -> None:
        """Check everything and lay out the table.

        Args:
            text: n characters, n from 1 to `MOST_CHARACTERS`.
            tokens: `[n, dim]`, dim up to `MOST_DIM`: what the layer sees at each character. Array,
                tensor or nested list, as all numbers.
            signatures: `[tiles, dim]` of exactly -1, 0 and 1, as many rows as there are colours or
                fewer.
            alt: what the table shows, in a sentence or two.
            classes: classes of characters by name, "vowels" say: a bool a character.
            designs: signatures by name, "designed for vowels" say: `[dim]` of -1, 0 and 1.
            frozen: tiles that start locked.

        Raises:
            ValueError: if a shape, a number or a text is not as described.
        """
        if not isinstance(alt, str) or not alt.strip():
            raise ValueError(f"alt: expected a description of the table, received {alt!r}")
        count = _characters(text)
        seen = _tokens(tokens, count)
        rows = _signatures(signatures, seen.shape[1])
        begun = {"signatures": rows, "frozen": _frozen(frozen, len(rows))}
        super().__init__(
            text=text,
            tokens=seen.tobytes(),
            classes=[
                [_name("classes", name), _members(name, one, count)]
                for name, one in (classes or {}).items()
            ],
            designs=[
                [_name("designs", name), _ternary(f"designs[{name!r}]", one, (seen.shape[1],))]
                for name, one in (designs or {}).items()
            ],
            palette=list(PALETTE[: len(rows)]),
            alt=alt,
            start=begun,
            **begun,
        )

    # while the widget is being made, `start` may not stand yet

    @traitlets.validate("signatures")
    def _check_signatures(self, proposal: Any) -> list[list[int]]:
        rows = self.start.get("signatures", proposal["value"])
        return _ternary("signatures", proposal["value"], (len(rows), len(rows[0])))

    @traitlets.validate("frozen")
    def _check_frozen(self, proposal: Any) -> list[int]:
        return _frozen(proposal["value"], len(self.palette) or len(PALETTE))

    @traitlets.validate("selected")
    def _check_selected(self, proposal: Any) -> int:
        return _within("selected", proposal["value"], len(self.palette) or len(PALETTE))

    @traitlets.validate("position")
    def _check_position(self, proposal: Any) -> int:
        return _within("position", proposal["value"], len(self.text) or MOST_CHARACTERS)


def _characters(text: str) -> int:
    """How many characters the text has, or a ValueError."""
    if not isinstance(text, str) or not 1 <= len(text) <= MOST_CHARACTERS:
        raise ValueError(
            f"text: expected 1 to {MOST_CHARACTERS} characters, received "
            + (f"{len(text)}" if isinstance(text, str) else f"{text!r}")
        )
    return len(text)


def _array(name: str, values: Numbers) -> np.ndarray:
    """`values` as an array of numbers or bools, or a ValueError."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of several lengths
        raise ValueError(f"{name}: expected numbers, received {error}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name}: expected numbers, received {array.dtype}")
    return array


def _tokens(tokens: Numbers, count: int) -> np.ndarray:
    """`tokens` as finite float32 `[count, 1 … MOST_DIM]`, little-endian, or a ValueError."""
    array = _array("tokens", tokens)
    if array.ndim != 2 or len(array) != count or not 1 <= array.shape[1] <= MOST_DIM:
        raise ValueError(
            f"tokens: expected shape [{count}, dim] with dim from 1 to {MOST_DIM}, received "
            f"{list(array.shape)}"
        )
    fits = np.abs(array) <= np.finfo(np.float32).max  # so is no NaN
    if not fits.all():
        raise ValueError(f"tokens: expected finite float32, received {array[~fits][:5]}")
    return array.astype("<f4")


def _signatures(values: Numbers, dim: int) -> list[list[int]]:
    """`values` as -1, 0 and 1, a row a tile, or a ValueError."""
    array = _array("signatures", values)
    tiles = len(array) if array.ndim else 0
    if not 1 <= tiles <= len(PALETTE):
        raise ValueError(
            f"signatures: expected 1 to {len(PALETTE)} tiles, one a colour, received {tiles}"
        )
    return _ternary("signatures", values, (tiles, dim))


def _ternary(name: str, values: Numbers, shape: tuple[int, ...]) -> list[Any]:
    """`values` as integers -1, 0 and 1 of this shape, or a ValueError."""
    array = _array(name, values)
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {list(shape)}, received {list(array.shape)}")
    wrong = array[~np.isin(array, (-1, 0, 1))]
    if len(wrong):
        raise ValueError(f"{name}: expected -1, 0 and 1, received {wrong[:5]}")
    return array.astype(np.int64).tolist()


def _members(name: str, values: Numbers, count: int) -> list[bool]:
    """`values` as a bool a character, or a ValueError."""
    array = _array(f"classes[{name!r}]", values)
    if array.dtype != np.bool_ or array.shape != (count,):
        raise ValueError(
            f"classes[{name!r}]: expected {count} bools, received {array.dtype} of shape "
            f"{list(array.shape)}"
        )
    return array.tolist()


def _name(kind: str, name: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{kind}: expected names, received {name!r}")
    return name


def _frozen(frozen: Iterable[int], tiles: int) -> list[int]:
    return sorted({_within("frozen", tile, tiles) for tile in frozen})


def _within(name: str, value: int, size: int) -> int:
    """`value` as an index, or a ValueError."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not 0 <= value < size:
        raise ValueError(f"{name}: expected an int from 0 to {size - 1}, received {value!r}")
    return int(value)
