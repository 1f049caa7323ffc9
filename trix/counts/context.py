r"""Context memory: the last 0, 1, 2, … characters are an address, at every length at once.

What stands at an address of :math:`n` characters is a distribution over the next one, by modified
Kneser–Ney smoothing (Chen and Goodman 1999): with :math:`c(hx)` for how often :math:`x` came after
the address :math:`h`,

.. math:: p_n(x \mid h) = \frac{c(hx) - D_{c(hx)}}{c(h)} + \lambda(h)\, p_{n-1}(x \mid h'), \qquad
          p_{-1}(x) = 1 / V

where :math:`h'` lacks the oldest character, the discounts :math:`D_1, D_2, D_{3+}` come from how
many counts are one, two, three and four, and :math:`\lambda(h)`, the backoff mass, is what they
took. Below the longest address, :math:`c(hx)` is the number of *different* characters that stood
before :math:`hx`: a shorter address is only read where the longer one is not known, and then common
strings are no better evidence than rare ones.

A memory that is to train a router on the very text that it has counted must not show it the
answer, so the text is cut into `folds` blocks, and all is kept once more without each.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from trix.checks import positive, shape
from trix.counts.ngram import check_alphabet, check_batch, context_codes, window_codes
from trix.counts.rows import ContextReading, CountRows, Counts, tally, without_each


class ContextMemory(CountRows):
    """N-gram tables of every order up to the longest, read all at once.

    >>> text = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    >>> memory = ContextMemory(text, order=3, vocab_size=3, folds=0)
    >>> reading = memory.read(memory.addresses(text[None]))
    >>> reading.probabilities[0, -1].argmax(dim=-1).tolist()  # after "1", "01"
    [0, 2, 2]

    Args:
        tokens, vocab_size: the text to count, int64 `[length]`, values below `vocab_size`.
        order: the longest n-gram; addresses have 0 to `order - 1` characters.
        folds: blocks of the text that can be left out, see `read`; 0 for none.
        dtype: of what is read.

    Raises:
        TypeError: tokens are not int64, or a size is not an integer.
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
        self._about(vocab_size, order)
        super().__init__(tokens, folds, dtype)

    def addresses(self, tokens: Tensor) -> Tensor:
        """Return where to look, `[batch, time, order]`, by addresses of 0, 1, … characters."""
        check_batch(tokens, self.vocab_size)
        codes = context_codes(tokens, self.order, self.vocab_size)
        keys = codes + self.stride * torch.arange(self.order, device=codes.device)
        return self.places(keys, codes >= 0)

    def read(self, address: Tensor, left_out: Tensor | None = None) -> ContextReading:
        """Return what stands at addresses, `[..., order]`; −1 backs off to the next shorter one.

        The block of the text that is `left_out`, int64 `[...]`, is not counted.
        """
        found = self.found(address, left_out)
        share = found.share.reshape(-1, self.order, self.vocab_size)
        backoff_mass = found.backoff_mass.reshape(-1, self.order)
        p = share.new_full((len(share), self.vocab_size), 1 / self.vocab_size)
        levels = []
        for n in range(self.order):
            p = torch.addcmul(share[:, n], backoff_mass[:, n, None], p)
            levels.append(p)
        return ContextReading(torch.stack(levels, dim=1).view_as(found.share), found.evidence)

    def _about(self, characters: int, kinds: int) -> None:
        vocab_size, order = characters, kinds
        self.order, self.vocab_size = positive("order", order), positive("vocab_size", vocab_size)
        self.stride = vocab_size ** (order - 1)
        if max(order, vocab_size) * self.stride >= 2**63:
            raise ValueError(
                "order times vocab_size ** (order - 1) must be below 2**63, got order "
                f"{order} and vocab_size {vocab_size}"
            )

    def _count(self, tokens: Tensor, parts: int) -> list[Counts]:
        shape("tokens", tokens, f"length >= {self.order}")
        check_alphabet(tokens, self.vocab_size)
        length, counts = len(tokens), []
        for n in range(1, self.order + 1):
            code = window_codes(tokens.cpu(), n, self.vocab_size).numpy()
            part = np.arange(n - 1, length) * parts // length  # of the last character
            code, count = tally(code, part, parts)
            counts.append(Counts(*np.divmod(code, self.vocab_size), count))
        return counts

    def _smoothed(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        after = without_each(self.counts[0].count, self.folds)
        for n, table in enumerate(self.counts):
            weight = seen = after
            if n + 1 < self.order:
                longer = self.counts[n + 1]
                after = without_each(longer.count, self.folds)
                code = table.key * self.vocab_size + table.character
                # a longer n-gram without its oldest character
                shorter = longer.key % self.vocab_size**n * self.vocab_size + longer.character
                place = np.searchsorted(code, shorter)
                sums = (np.bincount(place, known, minlength=len(code)) for known in (after > 0).T)
                weight = np.stack([column.astype(np.int32) for column in sums], axis=1)
            yield weight, seen
