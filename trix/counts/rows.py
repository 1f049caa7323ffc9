"""Rows of counts: what stands at an address, in a whole text and in it without each block."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class ContextReading(NamedTuple):
    """What a memory says after each position; `[...]` is the shape of the positions.

    Attributes:
        probabilities: of the next character, by each address: n-grams, shortest first, and others
            after them, `[..., addresses, vocab_size]`; each distribution sums to one.
        evidence: what stands at those addresses, `[..., addresses, 3]`: how often a character
            followed, how many different ones did, and how often the commonest, each as
            `log(1 + x)`; 0 where the address is not known.
    """

    probabilities: Tensor
    evidence: Tensor


class Found(NamedTuple):
    """What stands at addresses, before a longer one is filled up from a shorter.

    Attributes:
        share: of each character, what is left of it once discounted, `[..., vocab_size]`.
        backoff_mass: the mass that is passed on, `[...]`; 1 where the address is not known.
        evidence: as in `ContextReading`, `[..., 3]`.
    """

    share: Tensor
    backoff_mass: Tensor
    evidence: Tensor


def extended(shorter: ContextReading, found: Found, asked: Sequence[int]) -> ContextReading:
    """Return a reading with more addresses after those that it has.

    Args:
        shorter: what is already read, `[..., addresses, ...]`.
        found: what stands at the others.
        asked: for each of them, which place among all is asked for what it does not know.
    """
    said = list(shorter.probabilities.unbind(dim=-2))
    for n, place in enumerate(asked):
        said.append(
            torch.addcmul(found.share[..., n, :], found.backoff_mass[..., n, None], said[place])
        )
    return ContextReading(
        torch.stack(said, dim=-2), torch.cat([shorter.evidence, found.evidence], dim=-2)
    )


class CountRows:
    """Sorted addresses, and at each of them the discounted counts of what followed.

    All tensors are flat: one search finds an address, one gather fetches its row. Shares, masses
    and evidence are kept without each of `folds` blocks of the text and, last, with all of it:
    `[folds + 1, ...]`.
    """

    vocab_size: int
    folds: int
    keys: Tensor
    start: Tensor
    character: Tensor
    share: Tensor
    backoff_mass: Tensor
    evidence: Tensor

    def to(self, device: torch.device | str) -> Self:
        """Move what is read to a device; return the memory itself."""
        for name in ("keys", "start", "character", "share", "backoff_mass", "evidence"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def places(self, keys: Tensor, known: Tensor) -> Tensor:
        """Return where keys stand, int64 `[...]`; −1 for those not there and those not `known`."""
        if not len(self.keys):
            return torch.full_like(keys, -1)
        place = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return torch.where((self.keys[place] == keys) & known, place, -1)

    def found(self, address: Tensor, left_out: Tensor | None = None) -> Found:
        """Return what stands at addresses.

        Args:
            address: from `places`, int64 `[..., addresses]`.
            left_out: block of the text that is not to be counted, int64 `[...]`; none when not
                given.

        Raises:
            ValueError: there is nothing to leave out.
            IndexError: there is no such block.
        """
        column = self._column(address, left_out)
        known = address >= 0
        if not len(self.keys):
            nothing = self.share.new_zeros(*address.shape, self.vocab_size + 3)
            share, evidence = nothing.split([self.vocab_size, 3], dim=-1)
            return Found(share, torch.ones_like(share[..., 0]), evidence)
        address = address.clamp(min=0)
        # flat places: PyTorch gathers by one index several times faster than by two
        place = (address + column * self.backoff_mass.shape[1]).flatten()
        backoff_mass = self.backoff_mass.flatten().index_select(0, place).view_as(known)
        evidence = self.evidence.flatten(0, 1).index_select(0, place).view(*known.shape, 3)
        return Found(
            self._shares(address, known, column),
            torch.where(known, backoff_mass, 1.0),
            evidence * known.unsqueeze(-1),
        )

    def _bytes(self, rows: int, entries: int) -> int:
        columns, width = self.folds + 1, self.share.element_size()
        return rows * (8 * 2 + 4 * columns * width) + entries * (8 + columns * width)

    def _column(self, address: Tensor, left_out: Tensor | None) -> Tensor:
        if left_out is None:
            return address.new_full((*address.shape[:-1], 1), self.folds)
        if self.folds == 0:
            raise ValueError("left_out needs a memory with folds, got one without")
        if left_out.numel():
            low, high = int(left_out.min()), int(left_out.max())
            if low < 0 or high >= self.folds:  # the column after them has counted everything
                raise IndexError(f"left_out must be in 0 … {self.folds - 1}, got {low} … {high}")
        return left_out.to(address.device).expand(address.shape[:-1]).unsqueeze(-1)

    def _shares(self, address: Tensor, known: Tensor, column: Tensor) -> Tensor:
        # discounted shares of the characters that followed each address, as dense rows
        begin = self.start[address]
        length = torch.where(known, self.start[address + 1] - begin, 0).flatten()
        row = torch.repeat_interleave(length)
        entry = torch.arange(len(row), device=row.device)
        entry += (begin.flatten() - length.cumsum(0) + length).index_select(0, row)
        first = (column * self.share.shape[1]).expand_as(address).reshape(-1)
        found = self.share.flatten().index_select(0, entry + first.index_select(0, row))
        share = self.share.new_zeros(address.numel() * self.vocab_size)
        share.scatter_(0, row * self.vocab_size + self.character.index_select(0, entry), found)
        return share.view(*address.shape, self.vocab_size)

    def _store(self, parts: list["RowParts"], vocab_size: int, folds: int) -> None:
        # each column is let go of once it is put together: all of them twice would not be little
        self.vocab_size, self.folds = vocab_size, folds
        columns = {name: [getattr(part, name) for part in parts] for name in RowParts._fields}
        parts.clear()
        self.evidence = torch.cat(columns.pop("evidence"), dim=1)
        self.share = torch.cat(columns.pop("share"), dim=1)
        self.backoff_mass = torch.cat(columns.pop("backoff_mass"), dim=1)
        self.keys, self.character = torch.cat(columns["keys"]), torch.cat(columns["character"])
        self.start = F.pad(torch.cat(columns["size"]).cumsum(0), (1, 0))


class RowParts(NamedTuple):
    """The rows of one kind of address, as `CountRows` keeps them; `size` is of each row."""

    keys: Tensor
    size: Tensor
    character: Tensor
    share: Tensor
    backoff_mass: Tensor
    evidence: Tensor


def row_parts(
    keys: np.ndarray,
    start: np.ndarray,
    character: np.ndarray,
    counts: tuple[np.ndarray, np.ndarray],
    dtype: torch.dtype,
) -> RowParts:
    """Return the rows of one kind of address.

    Args:
        keys: of each address, sorted, int64 `[rows]`.
        start: where each row's entries begin, `[rows]`.
        character: of each entry, `[entries]`.
        counts: what is smoothed, and how often the entry was seen, both `[entries, folds + 1]`.
        dtype: of what is read.
    """
    weight, seen = counts
    size = np.diff(np.append(start, len(character)))
    share, backoff_mass = (torch.from_numpy(x).to(dtype) for x in _discounted(weight, start))
    # one after the other: in double precision all three at once are not little
    evidence = [torch.from_numpy(np.log1p(x)).to(dtype) for x in _seen(seen, start)]
    return RowParts(
        *(torch.from_numpy(x) for x in (keys, size, character)),
        *(x.transpose(0, 1) for x in (share, backoff_mass, torch.stack(evidence, dim=-1))),
    )


def check_folds(folds: int) -> None:
    """Raise `ValueError` for a number of blocks that nothing can be left out of in turn."""
    if folds < 0 or folds == 1:
        raise ValueError(f"folds must be 0 or at least 2, got {folds}")


def without_each(count: np.ndarray, folds: int) -> np.ndarray:
    """Return counts without each part of the text and, last, of all of it.

    Args:
        count: `[entries, parts]`.
        folds: as many as there are parts, or 0 for all of it alone.

    Returns:
        `[entries, folds + 1]`.
    """
    total = count.sum(axis=1, keepdims=True, dtype=np.int32)
    return np.concatenate([total - count if folds else total[:, :0], total], axis=1)


def _discounted(weight: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # the share of each entry once discounted, and the mass that each address passes on
    size = np.diff(np.append(start, len(weight)))
    discount = np.minimum(_discounts(weight[:, -1])[np.minimum(weight, 3)], weight)
    total = np.add.reduceat(weight, start, axis=0)
    backoff_mass = np.add.reduceat(discount, start, axis=0)
    backoff_mass = np.where(total > 0, backoff_mass / np.maximum(total, 1), 1.0)
    share = (weight - discount) / np.repeat(np.maximum(total, 1), size, axis=0)
    return share, backoff_mass


def _discounts(weight: np.ndarray) -> np.ndarray:
    # what is taken from a count of 0, 1, 2, and 3 or more; Ney's constant where the text is small
    one, two, three, four = (int((weight == k).sum()) for k in (1, 2, 3, 4))
    if min(one, two, three, four) == 0:
        return np.array([0.0, 0.75, 0.75, 0.75])
    y = one / (one + 2 * two)
    wanted = [0.0, 1 - 2 * y * two / one, 2 - 3 * y * three / two, 3 - 4 * y * four / three]
    return np.clip(wanted, [0.0, 0.1, 0.1, 0.1], [0.0, 1.0, 2.0, 3.0])


def _seen(seen: np.ndarray, start: np.ndarray) -> Iterator[np.ndarray]:
    # how often something followed, how many different characters, and the commonest
    yield np.add.reduceat(seen, start, axis=0)
    yield np.add.reduceat((seen > 0).astype(np.int32), start, axis=0)
    yield np.maximum.reduceat(seen, start, axis=0)
