"""Keys of words and lines: where the text stands, as numbers that can be looked up.

A word is known by a number, a polynomial in its letters, and an address by 60 bits of what is made
of such numbers: among the half million addresses of a megabyte of text, two share theirs with a
probability of about one in ten million.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

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
