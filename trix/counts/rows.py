"""Rows of counts: what stands at an address, in a whole text and in it without each block."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trix.checks import indices


class ContextReading(NamedTuple):
    """What a memory predicts by each address: n-grams, shortest first, and others after them.

    Probabilities are `[..., addresses, vocab_size]`. The evidence, `[..., addresses, 3]`, is how
    often a character followed, how many different ones did, and how often the commonest, each as
    `log(1 + x)`; 0 where the address is not known.
    """

    probabilities: Tensor
    evidence: Tensor


class Found(NamedTuple):
    """What stands at addresses, before a longer one is filled up from a shorter."""

    share: Tensor  # discounted, of each character, [..., vocab_size]
    backoff_mass: Tensor  # the mass that is passed on, [...], 1 where the address is not known
    evidence: Tensor  # as in `ContextReading`


def extended(shorter: ContextReading, found: Found, lower: Sequence[int]) -> ContextReading:
    """Return a reading with more addresses; each backs off to the place that `lower` says."""
    levels = list(shorter.probabilities.unbind(dim=-2))
    for n, place in enumerate(lower):
        share, mass = found.share[..., n, :], found.backoff_mass[..., n, None]
        levels.append(torch.addcmul(share, mass, levels[place]))
    return ContextReading(
        torch.stack(levels, dim=-2), torch.cat([shorter.evidence, found.evidence], dim=-2)
    )


class Counts(NamedTuple):
    """What followed one kind of address, sorted by address and then by character.

    The address as a number and the character are int64 `[entries]`, and how often it followed, in
    each part of the text, int32 or int64 `[entries, parts]`.
    """

    key: np.ndarray
    character: np.ndarray
    count: np.ndarray  # pyright: ignore[reportIncompatibleMethodOverride]


class CountRows:
    """Sorted addresses of several kinds, and at each the discounted counts of what followed.

    All tensors are flat: one search finds an address, one gather fetches its row. Shares, masses
    and evidence are kept without each of `folds` blocks of the text and, last, with all of it:
    `[folds + 1, ...]`. So what is read may leave a block out, int64 `[...]`.

    Raises:
        IndexError: a block to leave out is not there.
        TypeError: tokens are not int64.
        ValueError: tokens of another shape or range, addresses of another memory, or a block to
            leave out where there are no folds.
    """

    vocab_size: int
    stride = 0
    """How far apart the keys of one kind and the next are, where `Counts` do not have it yet."""

    def __init__(self, tokens: Tensor, folds: int, dtype: torch.dtype) -> None:
        if folds < 0 or folds == 1:
            raise ValueError(f"folds must be 0 or at least 2, got {folds}")
        self._settle(self._count(tokens, max(folds, 1)), folds, dtype)

    @classmethod
    def from_counts(
        cls,
        counts: Sequence[Counts],
        characters: Any,
        folds: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Return the memory of counts that were taken before, as `counts` holds them.

        The characters are `vocab_size` for a `ContextMemory`, `letters` for a `WordMemory`.
        """
        memory = cls.__new__(cls)
        memory._about(characters, len(counts))
        memory._settle(list(counts), folds, dtype)
        return memory

    def with_text(self, tokens: Tensor) -> Self:
        """Return a memory without folds that has counted another text as well as this one has."""
        memory = copy.copy(self)
        pairs = zip(self.counts, self._count(tokens, 1), strict=True)
        memory._settle([_merged(a, b) for a, b in pairs], 0, self.share.dtype)
        return memory.to(self.share.device)

    def to(self, device: torch.device | str) -> Self:
        """Move what is read to a device; return the memory itself."""
        for name in ("keys", "start", "character", "share", "backoff_mass", "evidence"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def memory(self) -> list[int]:
        """Return the bytes of what is read at each kind of address, in their order."""
        columns, width = self.folds + 1, self.share.element_size()
        row, entry = 8 * 2 + 4 * columns * width, 8 + columns * width
        return [len(run_starts(c.key)) * row + len(c.key) * entry for c in self.counts]

    def addresses(self, tokens: Tensor) -> Tensor:
        """Return where to look after tokens `[batch, time]`, int64 `[batch, time, kinds]`.

        Nothing from before `tokens[:, 0]` is used; −1 is where the text has no such address.
        """
        raise NotImplementedError

    def places(self, keys: Tensor, known: Tensor) -> Tensor:
        """Return where keys stand, int64 `[...]`; −1 for those not there and those not `known`."""
        if not len(self.keys):
            return torch.full_like(keys, -1)
        place = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return torch.where((self.keys[place] == keys) & known, place, -1)

    def found(self, address: Tensor, left_out: Tensor | None = None) -> Found:
        """Return what stands at addresses, int64 `[..., kinds]`, without the blocks left out."""
        if address.shape[-1] != len(self.counts):
            raise ValueError(
                f"address must be [..., {len(self.counts)}], got {list(address.shape)}"
            )
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

    def _about(self, characters: Any, kinds: int) -> None:
        raise NotImplementedError

    def _count(self, tokens: Tensor, parts: int) -> list[Counts]:
        raise NotImplementedError

    def _smoothed(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        # for each kind of address, what is discounted and how often the entry was seen, both
        # `[entries, folds + 1]`
        for table in self.counts:
            seen = without_each(table.count, self.folds)
            yield seen, seen

    def _settle(self, counts: list[Counts], folds: int, dtype: torch.dtype) -> None:
        self.counts, self.folds = counts, folds
        rows = [
            _rows(table, n * self.stride, *pair, dtype)
            for n, (table, pair) in enumerate(zip(counts, self._smoothed(), strict=True))
        ]
        columns = [list(column) for column in zip(*rows, strict=True)]
        # each column is let go of once it is put together: all of them twice would not be little
        del rows
        self.evidence, self.backoff_mass, self.share = (
            torch.cat(columns.pop(), dim=1) for _ in range(3)
        )
        self.character, size, self.keys = (torch.cat(columns.pop()) for _ in range(3))
        self.start = F.pad(size.cumsum(0), (1, 0))

    def _column(self, address: Tensor, left_out: Tensor | None) -> Tensor:
        if left_out is None:
            return address.new_full((*address.shape[:-1], 1), self.folds)
        if self.folds == 0:
            raise ValueError("left_out needs a memory with folds, got one without")
        indices("left_out", left_out, self.folds)  # the column after them has counted everything
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


def tally(code: np.ndarray, part: np.ndarray, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the different codes, sorted, and how often each part has each, `[entries, parts]`."""
    code, entry = np.unique(code, return_inverse=True)
    count = np.bincount(entry * parts + part, minlength=len(code) * parts)
    return code, count.reshape(-1, parts).astype(np.int32)


def without_each(count: np.ndarray, folds: int) -> np.ndarray:
    """Return counts `[entries, parts]` without each part, if there are folds, and, last, of all."""
    total = count.sum(axis=1, keepdims=True, dtype=np.int32)
    return np.concatenate([total - count if folds else total[:, :0], total], axis=1)


def run_starts(*columns: np.ndarray) -> np.ndarray:
    """Return where each run of equal rows begins in sorted columns, each `[entries]`."""
    new = np.ones(len(columns[0]), dtype=bool)
    new[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return np.flatnonzero(new)


def _merged(a: Counts, b: Counts) -> Counts:
    key, character = (np.concatenate(both) for both in zip(a[:2], b[:2], strict=True))
    count = np.concatenate([c.count.sum(axis=1, dtype=np.int32) for c in (a, b)])
    order = np.lexsort((character, key))
    key, character, count = key[order], character[order], count[order]
    first = run_starts(key, character)
    total = np.add.reduceat(count, first) if len(first) else count
    return Counts(key[first], character[first], total[:, None])


def _rows(
    table: Counts, first_key: int, weight: np.ndarray, seen: np.ndarray, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    # what `CountRows` keeps of one kind of address, with the size of each row for where it starts
    start = run_starts(table.key)
    size = np.diff(np.append(start, len(table.key)))
    share, backoff_mass = (torch.from_numpy(x).to(dtype) for x in _discounted(weight, start, size))
    # how often something followed, how many different characters did, and the commonest; one after
    # the other: in double precision all three at once are not little
    evidence = [
        torch.from_numpy(np.log1p(ufunc.reduceat(of, start, axis=0, dtype=np.int64))).to(dtype)
        for ufunc, of in ((np.add, seen), (np.add, seen > 0), (np.maximum, seen))
    ]
    return (
        *(torch.from_numpy(x) for x in (first_key + table.key[start], size, table.character)),
        *(x.transpose(0, 1) for x in (share, backoff_mass, torch.stack(evidence, dim=-1))),
    )


def _discounted(
    weight: np.ndarray, start: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    # the share of each entry once discounted, and the mass that each address passes on
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
