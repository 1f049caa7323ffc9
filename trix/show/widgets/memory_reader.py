"""`MemoryReader`: where characters write and read, and what comes back of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
import traitlets
from torch import nn

from trix.memory.slots import MemoryReading, RoutedMemory, memory_reading
from trix.models.charlm import CharLM
from trix.show.figures.style import NAMED
from trix.show.widgets import base

MOST_CHARACTERS = 100  # a longer sentence is not taken in at a glance
MOST_SLOTS = 1024  # of all heads of all layers: more make the page heavy

TINTS, CELL_TINTS = 255, 15
"""How strong the tint of a character, or of a slot, can be: in whole steps of the strongest."""


class MemoryReader(base.Widget):
    """A sentence as a routed memory reads it, one character at a time.

    The reader picks a character, a layer and a head, and sees what comes back there: every earlier
    character in a tint that says how large a part of what is read it is. Below stand the head's
    slots twice, as the character writes them and as it reads them.

    Args:
        text: n characters, n from 1 to `MOST_CHARACTERS`.
        write: `[layers, heads, n, slots]` from 0 to 1, at most `MOST_SLOTS` slots in all:
            how much of each slot a character writes, as in a `MemoryReading`.
        read: the same shape: how much it reads.
        back: `[layers, heads, n, n]`, at least 0: how much of character s comes back at
            character t, zero where s comes after t.
        layers: the layers' numbers in the model; 1, 2, … when not given.

    Attributes:
        position: of the character that reads, from 0; the one in the middle at first.
        layer, head: that are looked at, from 0.
        heads, slots: of each layer, of each head.
        back: uint8 `[layers, heads, n (n + 1) / 2]`: for each character those up to itself, in
            steps of 1 / `TINTS` of their largest.
        written, read: `[layers, heads, n, slots]` in steps of 1 / `CELL_TINTS` of the largest (none
            but the first of these has all of them); two a byte, the first in the upper half.
        largest: what the strongest step stands for, uint16 `[layers, heads, n]` in bytes, in
            1 / 65535, under the names of the three: of slots a share of the character's address,
            of characters a share of all that comes back (zeros where nothing does).
    """

    _esm = base.script("memory_reader", "passage")
    _css = base.style("memory_reader", "passage")

    position, layer, head, heads, slots = base.synced(traitlets.Int, 5)
    text = traitlets.Unicode().tag(sync=True)
    layers = traitlets.List(traitlets.Int()).tag(sync=True)
    back, written, read = base.synced(traitlets.Bytes, 3)
    largest, colours = base.synced(traitlets.Dict, 2)

    def __init__(
        self,
        text: str,
        write: base.Numbers,
        read: base.Numbers,
        back: base.Numbers,
        *,
        alt: str,
        layers: Sequence[int] = (),
    ) -> None:
        count = len(base.text("text", text, 1, MOST_CHARACTERS))
        some = range(1, MOST_SLOTS + 1)
        written, taken = (
            base.array(name, values, (some, some, count, some), 0, 1 + 1e-3).clip(max=1)
            for name, values in (("write", write), ("read", read))
        )
        if taken.shape != written.shape:
            shapes = f"{list(written.shape)}, received {list(taken.shape)}"
            raise ValueError(f"read: expected the shape of write, {shapes}")
        depth, heads, _, slots = written.shape
        if depth * heads * slots > MOST_SLOTS:
            raise ValueError(
                f"write: expected at most {MOST_SLOTS} slots in all heads of all layers, "
                f"received {depth} × {heads} × {slots}"
            )
        numbers = list(layers) or list(range(1, depth + 1))
        if len(numbers) != depth or not all(isinstance(number, int) for number in numbers):
            raise ValueError(f"layers: expected {depth} whole numbers, received {numbers}")
        parts = _parts(base.array("back", back, (depth, heads, count, count), 0))
        earlier = np.tril_indices(count)
        super().__init__(
            position=count // 2,
            text=text,
            layers=numbers,
            heads=heads,
            slots=slots,
            back=_steps(parts, TINTS)[..., *earlier].tobytes(),
            written=_cells(written),
            read=_cells(taken),
            largest={
                name: base.packed(np.rint(values.max(axis=-1) * 65535), "<u2")
                for name, values in (("back", parts), ("written", written), ("read", taken))
            },
            colours={"written": NAMED["orange"], "read": NAMED["teal"]},
            alt=alt,
        )

    @classmethod
    @torch.no_grad()
    def from_model(cls, model: CharLM, tokens: torch.Tensor, text: str, *, alt: str) -> Self:
        """Show every routed memory of a model, as many heads and slots in each.

        `tokens`, `[n]`, are the numbers of the characters of `text`. A TypeError if `model` is no
        `CharLM`, an IndexError if a token is none of its characters, a ValueError if it has no
        routed memory, or anything else is not as described.
        """
        if not isinstance(model, CharLM):
            raise TypeError(f"model: expected a CharLM, received {type(model).__name__}")
        if tokens.shape != (len(text),):
            count, received = len(text), list(tokens.shape)
            raise ValueError(
                f"tokens: expected shape [{count}], one a character, received {received}"
            )
        base.text("text", text, 1, MOST_CHARACTERS)
        training = model.training
        model.eval()
        try:
            found = _readings(model, tokens[None])
        finally:
            model.train(training)
        if not found:
            raise ValueError(f"model: expected a routed memory, received {model.config.mixer!r}")
        write, read, back = (torch.cat(parts) for parts in zip(*found.values(), strict=True))
        return cls(text, write, read, back, alt=alt, layers=list(found))

    _position = base.index("position", "text")
    _layer = base.index("layer", "layers")
    _head = base.checked("head", base.whole, lambda self: range(self.heads))


def _readings(model: CharLM, tokens: torch.Tensor) -> dict[int, MemoryReading]:
    """What the memory of each block that has one does with `tokens`, `[1, n]`; blocks from 1."""
    model(tokens)  # which says what is wrong with them, if anything is
    x = model.embed(tokens)
    if model.position is not None:
        x = x + model.position.weight[: tokens.shape[1]]
    found = {}
    for number, block in enumerate(model.blocks, start=1):
        mixer, norm = block.mixer, block.mixer_norm
        if isinstance(mixer, RoutedMemory) and isinstance(norm, nn.Module):
            found[number] = memory_reading(mixer, norm(x))
        x, _, _ = block(x, None, tokens)
    return found


def _parts(back: np.ndarray) -> np.ndarray:
    """What comes back at each character as parts of all that does there; zeros if nothing does."""
    if np.triu(back, 1).any():
        raise ValueError("back: expected zeros where s comes after t, received other numbers")
    total = back.sum(axis=-1, keepdims=True)
    return back / np.where(total > 0, total, 1)


def _steps(values: np.ndarray, most: int) -> np.ndarray:
    """`values`, `[…, n]`, as whole steps of which the largest of each row has `most`."""
    largest = values.max(axis=-1, keepdims=True)
    return np.rint(values / np.where(largest > 0, largest, 1) * most).astype(np.uint8)


def _cells(values: np.ndarray) -> bytes:
    """`values`, `[…, slots]`, in steps of the largest, two a byte; a 0 fills the last byte.

    The strongest step is left to the first of the largest, so that the page can name it.
    """
    steps = _steps(values, CELL_TINTS)
    first = np.arange(values.shape[-1]) == values.argmax(axis=-1)[..., None]
    steps = np.where(first, steps, steps.clip(max=CELL_TINTS - 1))
    pairs = np.append(steps.ravel(), np.zeros(steps.size % 2, np.uint8)).reshape(-1, 2)
    return (pairs[:, 0] << 4 | pairs[:, 1]).tobytes()
