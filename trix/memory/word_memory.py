"""Word memory: other addresses than the last n characters; the word, the words before, the line.

An address is any function of the past. The last n characters are one family of them, and a poor one
where words are long: eight characters are little more than a word. Here what comes next is looked
up under four others, see `ADDRESSES`:

- `word`: the word so far, capital and small letters alike, and the last character;
- `pair`: that, and the word before;
- `apart`: that, and the word before the one before, whatever stands between;
- `line`: the last three characters, and how far into its line the text is, in steps of six.

Compressors of text are good because they blend many addresses like these (PAQ, Mahoney 2005).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trix.memory.context import check_alphabet, check_batch
from trix.memory.count_rows import (
    ContextReading,
    CountRows,
    check_folds,
    extended,
    row_parts,
    without_each,
)
from trix.memory.word_keys import ADDRESSES, REACH, word_keys

PIECE = 65_536
"""Characters whose keys are worked out at a time when a text is counted."""


class AddressCounts(NamedTuple):
    """What followed one kind of address, sorted by key and character.

    Attributes:
        key: of the address, int64 `[entries]`.
        character: that followed, int64 `[entries]`.
        count: how often, in each part of the text, int32 `[entries, parts]`.
    """

    key: np.ndarray
    character: np.ndarray
    count: np.ndarray  # pyright: ignore[reportIncompatibleMethodOverride]


class WordMemory(CountRows):
    """Counts under the addresses that words and lines are, read after those of a `ContextMemory`.

    Args:
        tokens: the text to count, int64 `[length]`, at least two.
        letters: what each character is, from `letters_of`, int64 `[vocab_size]`.
        folds: blocks of the text that can be left out, see `read`; 0 for none.
        dtype: of what is read.

    Raises:
        TypeError: tokens are not int64.
        ValueError: the text is too short, a token is out of range, or `folds` is 1 or below 0.
    """

    def __init__(
        self,
        tokens: Tensor,
        letters: Tensor,
        folds: int = 8,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """See the class."""
        if tokens.ndim != 1 or len(tokens) < 2:
            raise ValueError(f"tokens must be [length >= 2], got {list(tokens.shape)}")
        check_folds(folds)
        check_alphabet(tokens, len(letters))
        keys, known = _in_pieces(tokens.cpu(), letters.cpu())
        after = tokens[1:].cpu().numpy()
        part = np.arange(1, len(tokens)) * max(folds, 1) // len(tokens)
        counts = [
            _count(keys[:-1, a].numpy(), known[:-1, a].numpy(), after, part, max(folds, 1))
            for a in range(len(ADDRESSES))
        ]
        self._settle(counts, letters, folds, dtype)

    @classmethod
    def from_counts(
        cls,
        counts: Sequence[AddressCounts],
        letters: Tensor,
        folds: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> "WordMemory":
        """Return the memory of counts that were taken before, as `counts` holds them."""
        memory = cls.__new__(cls)
        memory._settle(list(counts), letters, folds, dtype)
        return memory

    def with_text(self, tokens: Tensor) -> "WordMemory":
        """Return a memory that has counted another text as well; this one stays as it is.

        Raises:
            TypeError: tokens are not int64.
            ValueError: the text is too short or has other characters.
        """
        other = WordMemory(tokens, self.letters, 0)
        merged = [_merge(a, b) for a, b in zip(self.counts, other.counts, strict=True)]
        memory = WordMemory.from_counts(merged, self.letters, 0, self.share.dtype)
        return memory.to(self.share.device)

    def memory(self) -> list[int]:
        """Return the bytes of what is read at each kind of address, in memory."""
        return [self._bytes(len(np.unique(c.key)), len(c.key)) for c in self.counts]

    def addresses(self, tokens: Tensor) -> Tensor:
        """Return where to look after every position.

        Nothing from before `tokens[:, 0]` is used: a word that begins there may have begun earlier,
        and is not known.

        Args:
            tokens: int64 `[batch, time]`.

        Returns:
            int64 `[batch, time, 4]`: the place of each kind of address, or −1.

        Raises:
            TypeError: tokens are not int64.
            ValueError: bad shape or token.
        """
        check_batch(tokens, self.vocab_size)
        return self.places(*word_keys(tokens, self.letters.to(tokens.device)))

    def read(
        self, address: Tensor, shorter: ContextReading, left_out: Tensor | None = None
    ) -> ContextReading:
        """Return what stands at addresses, after what stands at those of a `ContextMemory`.

        Args:
            address: from `addresses`, `[..., 4]`; −1 passes the question on.
            shorter: what n-grams say there, `[..., order, ...]`: they are asked for what an address
                does not know.
            left_out: block of the text that is not to be counted, int64 `[...]`; none when not
                given.

        Raises:
            ValueError: the address is not `[..., 4]`, or there is nothing to leave out.
            IndexError: there is no such block.
        """
        if address.shape[-1] != len(ADDRESSES):
            raise ValueError(f"address must be [..., {len(ADDRESSES)}], got {list(address.shape)}")
        order = shorter.probabilities.shape[-2]
        places = [asked(name, order) for name in ADDRESSES]
        return extended(shorter, self.found(address, left_out), places)

    def _settle(
        self, counts: list[AddressCounts], letters: Tensor, folds: int, dtype: torch.dtype
    ) -> None:
        self.counts, self.letters = counts, letters
        parts = []
        for table in counts:
            keys, start = np.unique(table.key, return_index=True)
            seen = without_each(table.count, folds)
            parts.append(row_parts(keys, start, table.character, (seen, seen), dtype))
        self._store(parts, len(letters), folds)


def asked(address: str, order: int) -> int:
    """Return who is asked for what an address does not know: a place among n-grams and addresses.

    Args:
        address: one of `ADDRESSES`.
        order: of the n-grams, whose places come first, shortest first.
    """
    if address in ("pair", "apart"):
        return order + ADDRESSES.index("word")
    return min({"word": 4, "line": 3}[address], order - 1)


def _in_pieces(text: Tensor, letters: Tensor) -> tuple[Tensor, Tensor]:
    # `word_keys` of a whole text, `[length, 4]` both, in little memory
    keys = text.new_empty(len(text), len(ADDRESSES))
    known = torch.empty_like(keys, dtype=torch.bool)
    for begin in range(0, len(text), PIECE):
        end, before = begin + PIECE, min(begin, REACH - 1)
        both = word_keys(text[None, begin - before : end], letters)
        keys[begin:end], known[begin:end] = (part[0, before:] for part in both)
    return keys, known


def _count(
    keys: np.ndarray, known: np.ndarray, after: np.ndarray, part: np.ndarray, parts: int
) -> AddressCounts:
    keys, after, part = keys[known], after[known], part[known]
    key, row = np.unique(keys, return_inverse=True)
    letters = int(after.max(initial=0)) + 1
    code, entry = np.unique(row * letters + after, return_inverse=True)
    count = np.bincount(entry * parts + part, minlength=len(code) * parts)
    return AddressCounts(
        key[code // letters], code % letters, count.reshape(-1, parts).astype(np.int32)
    )


def _merge(a: AddressCounts, b: AddressCounts) -> AddressCounts:
    key, character = (np.concatenate(x) for x in zip(a[:2], b[:2], strict=True))
    count = np.concatenate([c.count.sum(axis=1, dtype=np.int32) for c in (a, b)])
    order = np.lexsort((character, key))
    key, character, count = key[order], character[order], count[order]
    differs = np.append(True, (np.diff(key) != 0) | (np.diff(character) != 0))[: len(key)]
    first = np.flatnonzero(differs)
    total = np.add.reduceat(count, first) if len(first) else count
    return AddressCounts(key[first], character[first], total[:, None])
