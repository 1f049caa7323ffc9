"""The numbers behind `ContextLens`, against loops over strings."""

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch

from trix.counts.ngram import CountTables
from trix.show.figures import style
from trix.show.widgets.context_lens import ContextLens

TEXT = """the sun sets
the moon rose
and the water
was calm

no one saw the hen that ran at dawn
a clear bell rang on the hot sand
the men ran to the road
"""
ALPHABET = "".join(sorted(set(TEXT)))
SIZE = len(ALPHABET)
PASSAGE = "the hut\nwas hot\n or not"
ORDER = 5
ALT = "Twenty-odd characters, tinted."


def encode(text: str) -> torch.Tensor:
    return torch.tensor([ALPHABET.index(c) for c in text], dtype=torch.int64)


def tables() -> CountTables:
    return CountTables(encode(TEXT), ORDER, SIZE)


def lens(passage: str = PASSAGE, **options) -> ContextLens:
    return ContextLens(tables(), ALPHABET, passage, **{"alt": ALT, **options})


def followers(address: str) -> Counter:
    """What followed an address in the text, by looking at every place of it."""
    n = len(address)
    return Counter(TEXT[i + n] for i in range(len(TEXT) - n) if TEXT[i : i + n] == address)


def witten_bell(address: str, character: str) -> float:
    """The module's formula, as it is written there."""
    shorter = witten_bell(address[1:], character) if address else 1 / SIZE
    counts = followers(address)
    if not counts:
        return shorter
    return (counts[character] + len(counts) * shorter) / (counts.total() + len(counts))


def sent(made: ContextLens, trait: str, kind: str, *shape: int) -> np.ndarray:
    return np.frombuffer(getattr(made, trait), kind).reshape(shape)


def test_what_is_sent_is_counted_and_follows_the_formula():
    made = lens(order=2)
    assert (made.order, made.position, made.orders) == (2, len(PASSAGE) // 2, ORDER)
    assert (made.passage, made.alphabet, made.alt) == (PASSAGE, ALPHABET, ALT)
    assert set(made.colours.values()) <= set(style.PALETTE)
    n = len(PASSAGE)
    costs = sent(made, "costs", "<f4", ORDER, n)
    likeliest = sent(made, "likeliest", "<u2", ORDER, n, 6)
    shares = sent(made, "shares", "<f4", ORDER, n, 6)
    totals, distincts = (sent(made, one, "<u4", n, ORDER) for one in ("totals", "distincts"))
    for order, t in product(range(ORDER), range(n)):  # with no context from before the passage
        address = PASSAGE[max(0, t - order) : t]
        p = {c: witten_bell(address, c) for c in ALPHABET}
        assert costs[order, t] == pytest.approx(-math.log(p[PASSAGE[t]]), rel=1e-6)
        best = sorted(p.values(), reverse=True)[:6]
        np.testing.assert_allclose(shares[order, t], best, rtol=1e-6)
        # ties may be listed either way round; each share must be its own character's
        listed = [p[ALPHABET[i]] for i in likeliest[order, t]]
        np.testing.assert_allclose(shares[order, t], listed, rtol=1e-6)
        assert len(set(likeliest[order, t])) == 6
        counts = followers(address) if order <= t else Counter()
        assert (totals[t, order], distincts[t, order]) == (counts.total(), len(counts))


def test_a_passage_of_one_character_and_a_small_alphabet_will_do():
    small = CountTables(torch.tensor([0, 1, 0, 0, 1, 2, 0]), 3, 3)
    made = ContextLens(small, "xyz", "y", alt=ALT, order=1)
    assert sent(made, "costs", "<f4", 3).tolist() == pytest.approx(
        [-math.log((2 + 3 / 3) / 10)] * 3
    )
    assert sent(made, "likeliest", "<u2", 3, 3).tolist() == [[0, 1, 2]] * 3
    assert sent(made, "totals", "<u4", 3).tolist() == [7, 0, 0]
    assert made.position == 0
