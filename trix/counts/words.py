"""Keys of words and lines: where the text stands, as numbers that can be looked up.

A word is known by a number, a polynomial in its letters, and an address by 60 bits of what is made
of such numbers: among the half million addresses of a megabyte of text, two share theirs with a
probability of about one in ten million.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trix.counts.ngram import check_alphabet, check_batch
from trix.counts.rows import (
    ContextReading,
    CountRows,
    check_folds,
    extended,
    row_parts,
    without_each,
)

ADDRESSES = ("word", "pair", "apart", "line")
"""The addresses, in the order in which they are read."""

REACH = 80
"""Characters that an address reaches back at most: what begins before them is not known."""

STEP = 6
"""Characters of a line that count as one place."""

BASE = 0x9E3779B97F4A7C15
"""What the polynomials are polynomials of: odd, so that it has an inverse."""

FACTORS = tuple(
    factor - 2**64  # as a signed integer of 64 bits has them
    for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F)
)
"""What keeps the parts of a key apart."""

BITS = 60
"""Of a key; those above them are the address's own number."""


def letters_of(alphabet: str) -> Tensor:
    """Return what each character of an alphabet is, int64 `[len(alphabet)]`.

    A number from 1 for what words are made of, letters and apostrophes, and the same for a capital
    and its small letter; −1 for the end of a line; 0 for anything else.
    """
    numbers: dict[str, int] = {}
    found = []
    for character in alphabet:
        if character.isalpha() or character == "'":
            found.append(numbers.setdefault(character.lower(), len(numbers) + 1))
        else:
            found.append(-1 if character == "\n" else 0)
    return torch.tensor(found)


def word_keys(tokens: Tensor, letters: Tensor) -> tuple[Tensor, Tensor]:
    """Return the keys of the addresses after every position, and which of them are known.

    Args:
        tokens: int64 `[batch, time]`.
        letters: of each character, see `letters_of`.

    Returns:
        Both `[batch, time, 4]`: int64, of which only what is known means anything, and bool.
    """
    at = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    letter = letters[tokens]
    inside = letter > 0
    power, inverse = (p.to(tokens.device) for p in _powers(tokens.shape[1]))
    total = (letter.clamp(min=0) * power).cumsum(dim=1)
    # the latest place outside a word: what stands after it is the word so far
    gap = _latest(~inside, at)
    first = gap.clamp(min=0)
    word = (total - total.gather(1, first)) * inverse[first]
    # the place where the latest finished word ends, and the one before it
    ended = ~inside
    ended[:, 1:] &= inside[:, :-1]
    end = _latest(ended, at) - 1
    one, gap_one = word.gather(1, end.clamp(min=0)), _from(gap, end)
    end_two = _from(end, end)
    two, gap_two = word.gather(1, end_two.clamp(min=0)), _from(gap, end_two)
    turn = _latest(letter < 0, at)
    before = [F.pad(tokens, (n, 0))[:, : tokens.shape[1]] for n in (1, 2)]
    keys = combined((word, one, two), (tokens, *before), at - turn, len(letters))
    known = torch.stack(
        [(at - place < REACH) & (place >= 0) for place in (gap, gap_one, gap_two, turn)], dim=-1
    )
    known[..., 3] &= at >= 2
    return torch.stack(keys, dim=-1), known


def combined(words: Sequence[Any], latest: Sequence[Any], column: Any, vocab_size: int) -> list:
    """Return the keys of the addresses, of one position as integers or of many as tensors.

    Args:
        words: the numbers of the word so far, the one before, and the one before that.
        latest: the last three characters, the last one first.
        column: characters since the line began.
        vocab_size: number of distinct characters.
    """
    here = words[0] * FACTORS[0] + (latest[0] + 1) * FACTORS[1]
    three = latest[0] + vocab_size * (latest[1] + vocab_size * latest[2])
    hashed = (
        here,
        here + words[1] * FACTORS[2],
        here + words[2] * FACTORS[3],
        three * FACTORS[2] + (column // STEP + 1) * FACTORS[3],
    )
    return [(h & (2**BITS - 1)) + (n << BITS) for n, h in enumerate(hashed)]


def _latest(event: Tensor, at: Tensor) -> Tensor:
    return torch.where(event, at, -1).cummax(dim=1).values


def _from(places: Tensor, at: Tensor) -> Tensor:
    # places that were known at an earlier place; −1 stays
    return torch.where(at >= 0, places.gather(1, at.clamp(min=0)), -1)


def _powers(length: int) -> tuple[Tensor, Tensor]:
    # of the base and of its inverse; integers of 64 bits wrap around, which is the modulus
    found = []
    for base in (BASE, pow(BASE, -1, 2**64)):
        steps = np.full(length, base, dtype=np.uint64)
        steps[:1] = 1
        found.append(torch.from_numpy(np.cumprod(steps, dtype=np.uint64).view(np.int64)))
    return found[0], found[1]


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
