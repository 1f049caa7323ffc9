"""Texts to count, and tables of them."""

import random

import torch

from trix.counts.context import ContextMemory
from trix.counts.rows import ContextReading
from trix.counts.words import WordMemory, letters_of

ALPHABET = "\n ',.ABEabden"
LETTERS = letters_of(ALPHABET)
WHAT_IS_READ = ("keys", "start", "character", "share", "backoff_mass", "evidence")


def encode(text):
    return torch.tensor([ALPHABET.index(c) for c in text])


def verse(lines, seed=0):
    draw = random.Random(seed)
    words = ["a", "Bad", "bead", "'neAn", "ended", "be", "dad", "Eden"]
    return "".join(
        " ".join(draw.choices(words, k=draw.randrange(1, 9))) + draw.choice([",\n", ".\n\n", "\n"])
        for _ in range(lines)
    )


TEXT = verse(40)


def grams(text, folds=0, dtype=torch.float64, order=6):
    return ContextMemory(encode(text), order, len(ALPHABET), folds, dtype)


def words(text, folds=0, dtype=torch.float64):
    return WordMemory(encode(text), LETTERS, folds, dtype)


def read(memory, tokens, left_out=None):
    """Read a table of either kind; under words lie n-grams that know nothing."""
    address = memory.addresses(tokens)
    if isinstance(memory, ContextMemory):
        return memory.read(address, left_out)
    shape, size = (*tokens.shape, 6), memory.vocab_size
    even = torch.full((*shape, size), 1 / size, dtype=memory.share.dtype)
    return memory.read(address, ContextReading(even, even.new_zeros(*shape, 3)), left_out)
