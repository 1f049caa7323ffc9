"""`Funnel`: a token on its way through a compression funnel, with and without tiles."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import traitlets

from trix.show.figures.style import NAMED
from trix.show.widgets import base

MOST_TOKENS, MOST_DIM = 400, 128  # more cannot be taken in at a glance, or be told apart
MOST_LEVELS = 32  # a finer grid has cells smaller than a dot

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+"
"""The height of a bar, from -31 to 31, is sent as a letter: a third smaller than bytes in JSON."""

BARS = 4  # how many tiles are listed for a token

_Arrays = tuple[np.ndarray, np.ndarray, np.ndarray | None]


class Squeezed(NamedTuple):
    """What a funnel made of n tokens.

    Attributes:
        points: `[n, 2]` from -1 to 1: the two numbers that each token became, not yet rounded.
        outputs: `[n, dim]`: what the funnel gave for them.
        exact: `[n, dim]`: what it would have given without rounding, if that is known.
    """

    points: base.Numbers
    outputs: base.Numbers
    exact: base.Numbers | None = None


class Funnel(base.Widget):
    """A text whose characters go through a funnel: many numbers, a tile, two numbers, one entry.

    The reader picks a character and sees the numbers that stand for it, the tile that they are
    routed to, the point that the tile makes of them, the cell of a grid that the point is rounded
    to, the table's entry for that cell, and the numbers that it gives. Beside the entry stand the
    tokens that read the very same one and the characters that follow them: what the entry can know
    of the next character. With tiles switched off one plane and one table serve all tokens. The
    cells on the page are those of `Quantizer.codes` in float32.

    Args:
        text: n + 1 characters, n from 1 to `MOST_TOKENS`: the tokens, and what follows the last.
        inputs: `[n, dim]`, dim up to `MOST_DIM`.
        tile: `[n]` integers from 0: the tile that each token is routed to.
        tiled: what the funnel with tiles made of the tokens.
        free: what the funnel with one plane for all of them did.
        levels: rows and columns of the grid, from 2 to `MOST_LEVELS`.
        scores: `[n, tiles]`; without them the figure lists how many tokens each tile reads.

    Attributes:
        position, tiles_on: of the chosen token, from 0, the one in the middle at first; whether the
            funnel with tiles is looked at.
        best: `[tile, number]` of the `BARS` largest numbers of each token (fewer where there are
            fewer tiles), its own tile being among them.
        measure: what these numbers are, "score" or "tokens".
        views: the funnels with tiles ("on") and without ("off"): `points`, float32 in bytes;
            `outputs` and `exact`, a letter each; and `moved`, the distance between these two as a
            share of the latter's length (None where that is 0). Without exact outputs the last two
            are empty.
        largest: what the tallest bar stands for, of each token's inputs ("in") and outputs ("out").
    """

    _esm = base.script("funnel")
    _css = base.style("funnel")

    position, levels = base.synced(traitlets.Int, 2)
    tiles_on = traitlets.Bool(True).tag(sync=True)
    text, measure, inputs = base.synced(traitlets.Unicode, 3)
    tile = traitlets.List(traitlets.Int()).tag(sync=True)
    best = traitlets.List().tag(sync=True)
    views, largest, colours = base.synced(traitlets.Dict, 3)

    def __init__(
        self,
        text: str,
        inputs: base.Numbers,
        tile: base.Numbers,
        tiled: Squeezed,
        free: Squeezed,
        *,
        alt: str,
        levels: int = 16,
        scores: base.Numbers | None = None,
    ) -> None:
        tokens = len(base.text("text", text, 2, MOST_TOKENS + 1)) - 1
        taken = base.array("inputs", inputs, (tokens, range(1, MOST_DIM + 1)))
        dim = taken.shape[1]
        read_by = _tiles(tile, tokens)
        two = {"on": ("tiled", tiled), "off": ("free", free)}
        made = {view: _squeezed(*one, tokens, dim) for view, one in two.items()}
        tallest_in = np.abs(taken).max(axis=1)
        given = [one for each in made.values() for one in each[1:] if one is not None]
        tallest_out = np.abs(np.stack(given)).max(axis=(0, 2))
        super().__init__(
            position=tokens // 2,
            text=text,
            levels=base.whole("levels", levels, range(2, MOST_LEVELS + 1)),
            tile=read_by.tolist(),
            best=_best(read_by, scores),
            measure="tokens" if scores is None else "score",
            inputs=_letters(taken, tallest_in),
            views={name: _view(each, tallest_out) for name, each in made.items()},
            largest={"in": _short(tallest_in), "out": _short(tallest_out)},
            colours={"above": NAMED["teal"], "below": NAMED["orange"]},
            alt=alt,
        )

    _position = base.index("position", "tile")


def _tiles(tile: base.Numbers, tokens: int) -> np.ndarray:
    values = tile.detach().cpu().numpy() if isinstance(tile, torch.Tensor) else np.asarray(tile)
    if values.dtype.kind not in "iu":
        raise TypeError(f"tile: expected integers, received {values.dtype}")
    if values.shape != (tokens,):
        raise ValueError(f"tile: expected shape [{tokens}], received {list(values.shape)}")
    if values.min() < 0:
        raise ValueError(f"tile: expected numbers from 0, received {values.min()}")
    return values


def _squeezed(name: str, made: Squeezed, tokens: int, dim: int) -> _Arrays:
    if not isinstance(made, Squeezed):
        raise TypeError(f"{name}: expected Squeezed, received {type(made).__name__}")
    exact = made.exact
    return (
        base.array(f"{name}.points", made.points, (tokens, 2), -1, 1),
        base.array(f"{name}.outputs", made.outputs, (tokens, dim)),
        None if exact is None else base.array(f"{name}.exact", exact, (tokens, dim)),
    )


def _best(tile: np.ndarray, scores: base.Numbers | None) -> list[list[list[float]]]:
    """Of each token the `BARS` largest `[tile, number]`, the last giving way to its own tile."""
    if scores is None:
        names, counts = np.unique(tile, return_counts=True)
        numbers = np.broadcast_to(counts, (len(tile), len(names)))
        own = np.searchsorted(names, tile)
    else:
        numbers = base.array("scores", scores, (len(tile), "tiles"))
        names, own = np.arange(numbers.shape[1]), tile
        if (last := tile.max()) >= len(names):
            wanted = f"more than {last}, the last tile that is read"
            raise ValueError(f"scores: expected {wanted}, received {len(names)} a token")
    order = np.argsort(-numbers, axis=1, kind="stable")[:, :BARS]
    left_out = (order != own[:, None]).all(axis=1)
    order[left_out, -1] = own[left_out]
    return [
        [[int(names[one]), float(f"{row[one]:.3g}")] for one in chosen]
        for row, chosen in zip(numbers, order, strict=True)
    ]


def _view(made: _Arrays, tallest: np.ndarray) -> dict[str, Any]:
    points, outputs, exact = made
    view = {"points": base.packed(points), "outputs": _letters(outputs, tallest)}
    if exact is None:
        return {**view, "exact": "", "moved": []}
    # of an output that is nothing no distance is a share
    moved = [
        round(float(np.linalg.norm(one - true) / length), 3) if length > 0 else None
        for one, true, length in zip(outputs, exact, np.linalg.norm(exact, axis=1), strict=True)
    ]
    return {**view, "exact": _letters(exact, tallest), "moved": moved}


def _letters(values: np.ndarray, tallest: np.ndarray) -> str:
    """`values`, `[n, dim]`, as letters; `tallest`, `[n]`, is what the last letter stands for."""
    reach = len(LETTERS) // 2
    heights = np.rint(values / np.where(tallest > 0, tallest, 1)[:, None] * reach) + reach
    return "".join(LETTERS[height] for height in heights.astype(np.int64).ravel())


def _short(values: np.ndarray) -> list[float]:
    return [float(f"{value:.3g}") for value in values]
