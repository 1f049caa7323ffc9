"""Training windows within one block of the text, so that it can be left out of the tables."""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class BlockDraw:
    """Draws training windows that lie within one block of the text, and says which.

    What a `Draw` gives, and for each window the number of its block: the model leaves that block
    out of its tables.

    Attributes:
        text: int64 `[length]`.
        folds: blocks, as the memory cuts them; 0 draws anywhere.
    """

    text: Tensor
    folds: int

    def __repr__(self) -> str:
        """Say what is drawn, for a checkpoint."""
        digest = hashlib.sha256(self.text.numpy().tobytes()).hexdigest()
        return f"BlockDraw({digest}, {self.folds})"

    def __call__(self, batch: int, length: int, sampler: torch.Generator) -> tuple[Tensor, ...]:
        """Return tokens and targets `[batch, length]`, and the windows' blocks `[batch]`.

        Raises:
            ValueError: a block does not hold a window.
        """
        if (shortest := len(self.text) // max(self.folds, 1)) <= length:
            raise ValueError(f"blocks must be longer than {length}, got {shortest}")
        first = torch.randint(len(self.text) - length, (batch,), generator=sampler)
        block: tuple[Any, ...] = ()
        if self.folds:
            # a window that begins in one block and ends in another moves back into the first
            fold = first * self.folds // len(self.text)
            end = -(-(fold + 1) * len(self.text) // self.folds)
            first, block = torch.minimum(first, end - length - 1), (fold,)
        window = self.text[first[:, None] + torch.arange(length + 1)]
        return window[:, :-1], window[:, 1:], *block
