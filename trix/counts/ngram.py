r"""Count tables: the last characters are an address, what followed them is read.

A table of order :math:`n` holds how often each character followed the last :math:`n-1`. Two ways to
turn counts into probabilities:

- *add-one* (Laplace): one imaginary occurrence of every character;
- *Witten–Bell* (1991): a context of total count :math:`c(h)` that was followed by :math:`t(h)`
  different characters trusts itself with :math:`c(h)/(c(h)+t(h))` and its shorter self, the
  context without its oldest character, with the rest:

.. math:: p_n(x \mid h) = \frac{c(hx) + t(h)\,p_{n-1}(x \mid h')}{c(h) + t(h)}, \quad
          p_0(x) = 1 / V
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trix.checks import at_most, indices, one_of, positive, shape, typed

SMOOTHINGS = ("witten-bell", "add-one")
_CHUNK = 16_384  # positions smoothed at a time: bounds memory at about 10 MB an order


class OrderTable(NamedTuple):
    """Counts of one order: sorted codes of contexts, and where entries, what followed, start."""

    contexts: Tensor
    start: Tensor
    character: Tensor
    count: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]


class CountTables:
    """N-gram tables of orders 1 to `order`, read by address.

    >>> tables = CountTables(torch.tensor([0, 1, 0, 2, 0, 1]), order=2, vocab_size=3)
    >>> tables.probabilities(torch.tensor([[0]]), smoothing="add-one")
    tensor([[[0.1667, 0.5000, 0.3333]]], dtype=torch.float64)

    Args:
        tokens, vocab_size: the text to count, int64 `[length]`, values below `vocab_size`.
        order: the longest n-gram; an address holds up to `order - 1` characters.

    Raises:
        TypeError: tokens are not int64, or a size is not an integer.
        ValueError: the text is shorter than `order`, a token is out of range, `vocab_size` to the
            power `order` does not fit in 63 bits, or tokens, order or smoothing cannot be read.
    """

    def __init__(self, tokens: Tensor, order: int, vocab_size: int) -> None:
        self.order, self.vocab_size = positive("order", order), positive("vocab_size", vocab_size)
        if vocab_size**order >= 2**63:
            raise ValueError(f"vocab_size ** order must be below 2**63, got {vocab_size}**{order}")
        shape("tokens", tokens, f"length >= {order}")
        check_alphabet(tokens, vocab_size)
        self.tables = [_count(tokens.cpu(), n, vocab_size) for n in range(1, order + 1)]

    def memory(self) -> list[int]:
        """Return the bytes that each order's arrays take, shortest order first."""
        return [sum(a.numel() * a.element_size() for a in table) for table in self.tables]

    def probabilities(
        self, tokens: Tensor, order: int | None = None, smoothing: str = "witten-bell"
    ) -> Tensor:
        """Return the distribution of the next character, float64 `[batch, time, vocab_size]`.

        Nothing from before the tokens, int64 `[batch, time]`, is used: at the start of a row
        addresses are shorter. The order is the longest n-gram to use; all when not given.
        """
        order = at_most("order", self.order if order is None else order, self.order, "orders")
        one_of("smoothing", smoothing, SMOOTHINGS)
        check_batch(tokens, self.vocab_size)
        codes = context_codes(tokens.cpu(), order, self.vocab_size)
        smooth = self._witten_bell if smoothing == "witten-bell" else self._add_one
        chunks = [smooth(part) for part in codes.flatten(0, 1).split(_CHUNK)]
        empty = torch.empty(0, self.vocab_size, dtype=torch.float64)
        return torch.cat([empty, *chunks]).view(*tokens.shape, self.vocab_size)

    def evidence(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return how often a character followed, and how many different ones did.

        Both are int64 `[batch, time, order]` for tokens `[batch, time]`; entry `n` along the last
        dimension is about the address of the last `n` characters, 0 where so many are not known.
        """
        check_batch(tokens, self.vocab_size)
        codes = context_codes(tokens.cpu(), self.order, self.vocab_size)
        every = (self._counts(n, codes[..., n].flatten()) for n in range(self.order))
        pairs = [(counts.sum(dim=1).long(), (counts > 0).sum(dim=1)) for counts in every]
        total, distinct = (torch.stack(found, dim=-1) for found in zip(*pairs, strict=True))
        return total.view_as(codes), distinct.view_as(codes)

    def _witten_bell(self, codes: Tensor) -> Tensor:
        p = torch.full((len(codes), self.vocab_size), 1 / self.vocab_size, dtype=torch.float64)
        for n in range(codes.shape[1]):
            counts = self._counts(n, codes[:, n])
            distinct = (counts > 0).sum(dim=1, keepdim=True)
            total = counts.sum(dim=1, keepdim=True)
            known = total > 0
            p = torch.where(known, (counts + distinct * p) / (total + distinct).clamp(min=1), p)
        return p

    def _add_one(self, codes: Tensor) -> Tensor:
        longest = (codes >= 0).sum(dim=1) - 1
        counts = torch.zeros(len(codes), self.vocab_size, dtype=torch.float64)
        for n in range(codes.shape[1]):
            read = self._counts(n, codes[:, n])
            counts = torch.where((longest == n)[:, None], read, counts)
        return (counts + 1) / (counts.sum(dim=1, keepdim=True) + self.vocab_size)

    def _counts(self, n: int, codes: Tensor) -> Tensor:
        # the counts that stand at n-character addresses, as dense rows; an address of -1 has none
        table = self.tables[n]
        last = len(table.contexts) - 1
        place = torch.searchsorted(table.contexts, codes.contiguous()).clamp(max=last)
        found = table.contexts[place] == codes
        begin = table.start[place]
        length = torch.where(found, table.start[place + 1] - begin, 0)
        row = torch.repeat_interleave(torch.arange(len(codes)), length)
        first = length.cumsum(0) - length
        entry = torch.arange(len(row)) - first[row] + begin[row]
        counts = torch.zeros(len(codes), self.vocab_size, dtype=torch.float64)
        counts[row, table.character[entry]] = table.count[entry].to(torch.float64)
        return counts


def check_batch(tokens: Tensor, vocab_size: int) -> None:
    """Ask for tokens `[batch, time]`: `ValueError`; see `check_alphabet` for the rest."""
    shape("tokens", tokens, "batch", "time")
    check_alphabet(tokens, vocab_size)


def check_alphabet(tokens: Tensor, vocab_size: int) -> None:
    """Ask for int64 tokens below `vocab_size`: `TypeError` or `ValueError`."""
    typed("tokens", tokens, torch.int64)
    indices("tokens", tokens, vocab_size, ValueError)


def window_codes(tokens: Tensor, length: int, vocab_size: int) -> Tensor:
    """Return each run of `length` tokens as a number, `[..., time - length + 1]`."""
    windows = tokens.shape[-1] - length + 1
    code = torch.zeros_like(tokens[..., :windows])
    for i in range(length):
        code = code * vocab_size + tokens[..., i : i + windows]
    return code


def context_codes(tokens: Tensor, order: int, vocab_size: int) -> Tensor:
    """Return the addresses of 0 to `order - 1` characters after every position, as `window_codes`.

    They are `[batch, time, order]`; −1 where fewer characters are known than an address has.
    """
    codes = tokens.new_full((*tokens.shape, order), -1)
    codes[..., 0] = 0
    for n in range(1, min(order, tokens.shape[1] + 1)):
        codes[:, n - 1 :, n] = window_codes(tokens, n, vocab_size)
    return codes


def _count(tokens: Tensor, order: int, vocab_size: int) -> OrderTable:
    code = window_codes(tokens, order, vocab_size).numpy()
    code, count = np.unique(code, return_counts=True)
    contexts, start = np.unique(code // vocab_size, return_index=True)
    columns = (contexts, np.append(start, len(code)), code % vocab_size, count)
    return OrderTable(*map(torch.from_numpy, columns))
