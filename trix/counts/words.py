"""Word memory: counts under addresses that words and lines are, where n-grams end too soon.

The addresses are the word so far (with the latest character), it and the word before, it and the
word before that one, and the place on the line with the last three characters. A word is hashed by
a polynomial in its letters, and an address to 60 bits: among half a million addresses, two share
theirs with a probability of about one in ten million.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trix.checks import shape
from trix.counts.ngram import check_alphabet, check_batch
from trix.counts.rows import ContextReading, CountRows, Counts, extended, tally

ADDRESSES = ("word", "pair", "apart", "line")
"""The addresses, in the order in which they are read."""
REACH = 80
"""Characters that an address reaches back at most: what started before them is not known."""
STEP = 6
"""Characters of a line that count as one place on it."""
BASE = 0x9E3779B97F4A7C15
"""What the polynomials are polynomials of: odd, so that it has an inverse."""
FACTORS = tuple(
    factor - 2**64  # as a signed integer of 64 bits has them
    for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F)
)
"""What keeps the parts of a key apart."""
BITS = 60
"""Of a key; those above them are the number of the kind of address."""
PIECE = 65_536
"""Characters whose keys are computed at a time when a text is counted."""


def letters_of(alphabet: str) -> Tensor:
    """Return what each character is: −1 the end of a line, 0 no letter, else the letter's number.

    Letters, in both cases alike, and apostrophes are numbered from 1.
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
    """Return the keys of the addresses after tokens `[batch, time]`, and which are known.

    Both are `[batch, time, 4]`; a key that is not known means nothing.
    """
    at = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    letter = letters[tokens]
    inside = letter > 0
    power, inverse = (_powers(b, tokens) for b in (BASE, pow(BASE, -1, 2**64)))
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

    They are made of the last three words and the last three characters, the latest first, and of
    the characters since the start of the line.
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


def backoff_place(address: str, order: int) -> int:
    """Return which table gets the backoff mass of one of `ADDRESSES`, which follow the n-grams."""
    if address in ("pair", "apart"):
        return order + ADDRESSES.index("word")
    return min({"word": 4, "line": 3}[address], order - 1)


class WordMemory(CountRows):
    """Counts under the addresses that words and lines are, read after those of a `ContextMemory`.

    >>> import trix
    >>> text = torch.tensor([[" abc".index(c) for c in " ab c ab c"]])
    >>> grams = trix.ContextMemory(text[0], order=2, vocab_size=4, folds=0)
    >>> words = WordMemory(text[0], letters_of(" abc"), folds=0)
    >>> reading = words.read(words.addresses(text), grams.read(grams.addresses(text)))
    >>> list(reading.probabilities.shape)  # two orders of n-grams and four more addresses
    [1, 10, 6, 4]

    Args:
        tokens: the text to count, int64 `[length]`, at least two.
        letters: what each character is, from `letters_of`, int64 `[vocab_size]`.
        folds, dtype: blocks that can be left out, see `read`; 0 for none; of what is read.

    Raises:
        TypeError: tokens are not int64.
        ValueError: the text is too short, a token is out of range, or `folds` is 1 or below 0.
    """

    def __init__(
        self, tokens: Tensor, letters: Tensor, folds: int = 8, dtype: torch.dtype = torch.float32
    ) -> None:
        self._about(letters, len(ADDRESSES))
        super().__init__(tokens, folds, dtype)

    def addresses(self, tokens: Tensor) -> Tensor:
        """Return where to look, `[batch, time, 4]`; a word at the start of a row is not known."""
        check_batch(tokens, self.vocab_size)
        return self.places(*word_keys(tokens, self.letters.to(tokens.device)))

    def read(
        self, address: Tensor, shorter: ContextReading, left_out: Tensor | None = None
    ) -> ContextReading:
        """Return what stands at addresses, `[..., 4]`, after what n-grams predict there.

        The block of the text that is `left_out`, int64 `[...]`, is not counted.
        """
        order = shorter.probabilities.shape[-2]
        places = [backoff_place(name, order) for name in ADDRESSES]
        return extended(shorter, self.found(address, left_out), places)

    def _about(self, characters: Tensor, kinds: int) -> None:
        self.letters, self.vocab_size = characters, len(characters)

    def _count(self, tokens: Tensor, parts: int) -> list[Counts]:
        shape("tokens", tokens, "length >= 2")
        check_alphabet(tokens, self.vocab_size)
        text, letters, length = tokens.cpu(), self.letters.cpu(), len(tokens)
        keys = text.new_empty(length, len(ADDRESSES))
        known = torch.empty_like(keys, dtype=torch.bool)
        for begin in range(0, length, PIECE):
            end, before = begin + PIECE, min(begin, REACH - 1)
            both = word_keys(text[None, begin - before : end], letters)
            keys[begin:end], known[begin:end] = (part[0, before:] for part in both)
        after, part = text[1:].numpy(), np.arange(1, length) * parts // length
        counts = []
        for n in range(len(ADDRESSES)):
            at = known[:-1, n].numpy()
            key, row = np.unique(keys[:-1, n].numpy()[at], return_inverse=True)
            code, count = tally(row * self.vocab_size + after[at], part[at], parts)
            row, character = np.divmod(code, self.vocab_size)
            counts.append(Counts(key[row], character, count))
        return counts


def _latest(event: Tensor, at: Tensor) -> Tensor:
    return torch.where(event, at, -1).cummax(dim=1).values


def _from(places: Tensor, at: Tensor) -> Tensor:
    # places that were known at an earlier place; −1 stays
    return torch.where(at >= 0, places.gather(1, at.clamp(min=0)), -1)


def _powers(base: int, tokens: Tensor) -> Tensor:
    # one per place; integers of 64 bits wrap around, which is the modulus
    steps = np.full(tokens.shape[1], base, dtype=np.uint64)
    steps[:1] = 1
    return torch.from_numpy(np.cumprod(steps, dtype=np.uint64).view(np.int64)).to(tokens.device)
