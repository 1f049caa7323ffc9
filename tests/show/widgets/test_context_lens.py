"""The numbers behind `ContextLens`, against loops over strings."""

import math
from collections import Counter

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


def addresses(passage: str, order: int) -> list[str]:
    return [passage[max(0, t - order + 1) : t] for t in range(len(passage))]


def sent(made: ContextLens, trait: str, kind: str, *shape: int) -> np.ndarray:
    return np.frombuffer(getattr(made, trait), kind).reshape(shape)


# ------------------------------------------------------------------ CountTables.evidence


def test_evidence_counts_what_stands_at_each_address():
    rows = ["the hut", "wassand", "\n\nmoon "]
    total, distinct = tables().evidence(torch.stack([encode(row) for row in rows]))
    assert total.dtype == distinct.dtype == torch.int64
    for b, row in enumerate(rows):
        for t in range(len(row)):
            for n in range(ORDER):
                counts = followers(row[t + 1 - n : t + 1]) if n <= t + 1 else Counter()
                assert (total[b, t, n], distinct[b, t, n]) == (counts.total(), len(counts))
    assert (total[..., ORDER - 1] == 0).any()
    assert (total[..., ORDER - 1] > 1).any()


def test_evidence_of_nothing_is_empty():
    total, distinct = tables().evidence(torch.zeros(3, 0, dtype=torch.int64))
    assert total.shape == distinct.shape == (3, 0, ORDER)


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        (torch.zeros(4, dtype=torch.int64), ValueError, r"\[batch, time\], got \[4\]"),
        (torch.zeros(1, 4), TypeError, "int64, got torch.float32"),
        (torch.full((1, 4), SIZE), ValueError, f"0 … {SIZE - 1}, got {SIZE} … {SIZE}"),
    ],
)
def test_evidence_refuses_what_are_no_tokens(tokens, error, message):
    with pytest.raises(error, match=message):
        tables().evidence(tokens)


# ------------------------------------------------------------------ what the widget sends


def test_costs_are_those_of_the_formula_with_no_context_from_before_the_passage():
    costs = sent(lens(), "costs", "<f4", ORDER, len(PASSAGE))
    expected = [
        [-math.log(witten_bell(a, c)) for a, c in zip(addresses(PASSAGE, n), PASSAGE, strict=True)]
        for n in range(1, ORDER + 1)
    ]
    np.testing.assert_allclose(costs, expected, rtol=1e-6)


def test_the_likeliest_characters_and_their_shares_are_those_of_the_formula():
    made = lens()
    likeliest = sent(made, "likeliest", "<u2", ORDER, len(PASSAGE), 6)
    shares = sent(made, "shares", "<f4", ORDER, len(PASSAGE), 6)
    for n in range(1, ORDER + 1):
        for t, address in enumerate(addresses(PASSAGE, n)):
            p = {c: witten_bell(address, c) for c in ALPHABET}
            best = sorted(p.values(), reverse=True)[:6]
            np.testing.assert_allclose(shares[n - 1, t], best, rtol=1e-6)
            # ties may be listed either way round; each share must be its own character's
            listed = [p[ALPHABET[i]] for i in likeliest[n - 1, t]]
            np.testing.assert_allclose(shares[n - 1, t], listed, rtol=1e-6)
            assert len(set(likeliest[n - 1, t])) == 6


def test_totals_and_distincts_are_counted():
    made = lens()
    totals = sent(made, "totals", "<u4", len(PASSAGE), ORDER)
    distincts = sent(made, "distincts", "<u4", len(PASSAGE), ORDER)
    for t in range(len(PASSAGE)):
        for n in range(ORDER):
            counts = followers(PASSAGE[t - n : t]) if n <= t else Counter()
            assert (totals[t, n], distincts[t, n]) == (counts.total(), len(counts))


def test_a_passage_of_one_character_and_a_small_alphabet_will_do():
    small = CountTables(torch.tensor([0, 1, 0, 0, 1, 2, 0]), 3, 3)
    made = ContextLens(small, "xyz", "y", alt=ALT, order=1)
    assert sent(made, "costs", "<f4", 3).tolist() == pytest.approx(
        [-math.log((2 + 3 / 3) / 10)] * 3
    )
    assert sent(made, "likeliest", "<u2", 3, 3).tolist() == [[0, 1, 2]] * 3
    assert sent(made, "totals", "<u4", 3).tolist() == [7, 0, 0]
    assert made.position == 0


def test_the_reader_starts_in_the_middle_and_at_the_order_asked_for():
    made = lens(order=2)
    assert (made.order, made.position, made.orders) == (2, len(PASSAGE) // 2, ORDER)
    assert (made.passage, made.alphabet, made.alt) == (PASSAGE, ALPHABET, ALT)
    assert set(made.colours.values()) <= set(style.PALETTE)
