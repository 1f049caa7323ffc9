r"""Context memory: the last 0, 1, 2, … characters are an address, at every length at once.

A longer address is a finer cell of the same hierarchy. What stands at an address of :math:`n`
characters is a distribution over the next one, by modified Kneser–Ney smoothing (Chen and Goodman
1999): with :math:`c(hx)` for how often :math:`x` came after the address :math:`h`,

.. math:: p_n(x \mid h) = \frac{c(hx) - D_{c(hx)}}{c(h)} + \lambda(h)\, p_{n-1}(x \mid h'), \qquad
          p_{-1}(x) = 1 / V

where :math:`h'` lacks the oldest character, the discounts :math:`D_1, D_2, D_{3+}` come from how
many counts are one, two, three and four, and :math:`\lambda(h)` is the discounted mass. Below the
longest address, :math:`c(hx)` is the number of *different* characters that stood before
:math:`hx`: a shorter address is only asked when the longer one does not know, and then common
strings are no better evidence than rare ones.

A memory that is to train a router on the very text that it has counted must not show it the
answer. The text is therefore cut into `folds` blocks, and everything is kept once more without
each block.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trix.checks import positive
from trix.counts.ngram import check_alphabet, check_batch, context_codes
from trix.counts.rows import (
    ContextReading,
    CountRows,
    check_folds,
    row_parts,
    without_each,
)


class OrderCounts(NamedTuple):
    """Counted n-grams of one order, sorted; the contexts are the n-grams of the order below.

    Attributes:
        code: the n-gram as a number in base `vocab_size`, int64 `[entries]`.
        count: how often it occurs in each part of the text, int32 or int64 `[entries, parts]`.
    """

    code: np.ndarray
    count: np.ndarray  # pyright: ignore[reportIncompatibleMethodOverride]


class ContextMemory(CountRows):
    """N-gram tables of every order up to the longest, read all at once.

    The tables are flat, sorted tensors: one search finds the addresses of all lengths, one gather
    fetches what stands there.

    Args:
        tokens: the text to count, int64 `[length]`, values below `vocab_size`.
        order: the longest n-gram; addresses have 0 to `order - 1` characters.
        vocab_size: number of distinct characters.
        folds: blocks of the text that can be left out, see `read`; 0 for none.
        dtype: of what is read.

    Raises:
        TypeError: tokens are not int64.
        ValueError: the text is shorter than `order`, a token is out of range, `folds` is 1 or
            below 0, or numbers of `order` characters do not fit in 63 bits.
    """

    def __init__(
        self,
        tokens: Tensor,
        order: int,
        vocab_size: int,
        folds: int = 8,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """See the class."""
        _check_size(order, vocab_size)
        if tokens.ndim != 1 or len(tokens) < order:
            raise ValueError(f"tokens must be [length >= {order}], got {list(tokens.shape)}")
        check_folds(folds)
        check_alphabet(tokens, vocab_size)
        text = tokens.cpu().numpy()
        counts = [_count(text, n, vocab_size, max(folds, 1)) for n in range(1, order + 1)]
        self._settle(counts, vocab_size, folds, dtype)

    @classmethod
    def from_counts(
        cls,
        counts: Sequence[OrderCounts],
        vocab_size: int,
        folds: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> "ContextMemory":
        """Return the memory of counts that were taken before, as `counts` holds them."""
        _check_size(len(counts), vocab_size)
        memory = cls.__new__(cls)
        memory._settle(list(counts), vocab_size, folds, dtype)
        return memory

    def with_text(self, tokens: Tensor) -> "ContextMemory":
        """Return a memory that has counted another text as well; this one stays as it is.

        Raises:
            TypeError: tokens are not int64.
            ValueError: the text is shorter than the order or has other characters.
        """
        other = ContextMemory(tokens, self.order, self.vocab_size, 0)
        merged = [
            _merge(OrderCounts(a.code, a.count.sum(axis=1, keepdims=True)), b)
            for a, b in zip(self.counts, other.counts, strict=True)
        ]
        memory = ContextMemory.from_counts(merged, self.vocab_size, 0, self.share.dtype)
        return memory.to(self.share.device)

    def memory(self) -> list[int]:
        """Return the bytes of what is read at each order, in memory, shortest address first."""
        contexts = [len(np.unique(c.code // self.vocab_size)) for c in self.counts]
        return [self._bytes(n, len(c.code)) for n, c in zip(contexts, self.counts, strict=True)]

    def addresses(self, tokens: Tensor) -> Tensor:
        """Return where to look after every position.

        Nothing from before `tokens[:, 0]` is used.

        Args:
            tokens: int64 `[batch, time]`.

        Returns:
            int64 `[batch, time, order]`: the place of the address of 0, 1, … characters, or −1
            where the counted text has no such address.

        Raises:
            TypeError: tokens are not int64.
            ValueError: bad shape or token.
        """
        check_batch(tokens, self.vocab_size)
        codes = context_codes(tokens, self.order, self.vocab_size)
        keys = codes + self._first_key.to(codes.device)
        return self.places(keys, codes >= 0)

    def read(self, address: Tensor, left_out: Tensor | None = None) -> ContextReading:
        """Return what stands at addresses.

        Args:
            address: from `addresses`, `[..., order]`; −1 passes the question on to the next
                shorter address.
            left_out: block of the text that is not to be counted, int64 `[...]`; none when not
                given.

        Raises:
            ValueError: the address is not `[..., order]`, or there is nothing to leave out.
            IndexError: there is no such block.
        """
        if address.shape[-1] != self.order:
            raise ValueError(f"address must be [..., {self.order}], got {list(address.shape)}")
        found = self.found(address, left_out)
        share = found.share.reshape(-1, self.order, self.vocab_size)
        backoff_mass = found.backoff_mass.reshape(-1, self.order)
        p = share.new_full((len(share), self.vocab_size), 1 / self.vocab_size)
        levels = []
        for n in range(self.order):
            p = torch.addcmul(share[:, n], backoff_mass[:, n, None], p)
            levels.append(p)
        said = torch.stack(levels, dim=1)
        return ContextReading(said.view_as(found.share), found.evidence)

    def _settle(
        self, counts: list[OrderCounts], vocab_size: int, folds: int, dtype: torch.dtype
    ) -> None:
        self.counts, self.order = counts, len(counts)
        after, parts = without_each(counts[0].count, folds), []
        for n, table in enumerate(counts):
            weight = seen = after
            if n + 1 < self.order:
                after = without_each(counts[n + 1].count, folds)
                shorter = counts[n + 1].code % vocab_size ** (n + 1)
                longer = np.searchsorted(table.code, shorter)
                weight = _sums(after > 0, longer, len(table.code))
            contexts, start = np.unique(table.code // vocab_size, return_index=True)
            key = n * vocab_size ** (self.order - 1) + contexts
            character = table.code % vocab_size
            parts.append(row_parts(key, start, character, (weight, seen), dtype))
        self._store(parts, vocab_size, folds)
        self._first_key = torch.arange(self.order) * vocab_size ** (self.order - 1)


def _check_size(order: int, vocab_size: int) -> None:
    positive("order", order)
    positive("vocab_size", vocab_size)
    if max(order, vocab_size) * vocab_size ** (order - 1) >= 2**63:
        raise ValueError(
            "order times vocab_size ** (order - 1) must be below 2**63, got order "
            f"{order} and vocab_size {vocab_size}"
        )


def _count(text: np.ndarray, order: int, vocab_size: int, folds: int) -> OrderCounts:
    windows = len(text) - order + 1
    code = np.zeros(windows, dtype=np.int64)
    for i in range(order):
        code = code * vocab_size + text[i : i + windows]
    code, entry = np.unique(code, return_inverse=True)
    fold = np.arange(order - 1, len(text)) * folds // len(text)  # of the last character
    count = np.bincount(entry * folds + fold, minlength=len(code) * folds)
    return OrderCounts(code, count.reshape(-1, folds).astype(np.int32))


def _merge(a: OrderCounts, b: OrderCounts) -> OrderCounts:
    code, entry = np.unique(np.concatenate([a.code, b.code]), return_inverse=True)
    return OrderCounts(code, _sums(np.concatenate([a.count, b.count]), entry, len(code)))


def _sums(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    columns = (np.bincount(group, weights=column, minlength=groups) for column in values.T)
    return np.stack([column.astype(np.int32) for column in columns], axis=1)
