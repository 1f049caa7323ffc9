"""Words and lines as addresses, against loops over the text."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tests import reference
from tests.counts.texts import ALPHABET, LETTERS, TEXT, encode, grams, verse, words
from trix.counts import words as word_memory
from trix.counts.words import REACH, STEP, backoff_place, letters_of, word_keys


def _slow_addresses(text):
    return [reference.spoken(ALPHABET, text, t, REACH, STEP) for t in range(len(text))]


def _slow_counts(text, folds=1, left_out=-1):
    counts = [Counter() for _ in range(4)]
    for t, addresses in enumerate(_slow_addresses(text)[:-1]):
        if (t + 1) * folds // len(text) != left_out:
            for table, address in zip(counts, addresses, strict=True):
                if address is not None:
                    table[address, ALPHABET.index(text[t + 1])] += 1
    return counts


def _slow_said(counts, taken, address, lower):
    # one row of one table: discounted shares, and the rest from the distribution below
    after = [counts[address, c] for c in range(len(ALPHABET))]
    if sum(after) == 0:
        return lower, [0, 0, 0]
    cut = [min(taken[min(n, 3)], n) for n in after]
    mass = sum(cut) / sum(after)
    said = [(n - d) / sum(after) + mass * p for n, d, p in zip(after, cut, lower, strict=True)]
    return said, [sum(after), sum(n > 0 for n in after), max(after)]


def _slow(text, row, shorter, folds=1, left_out=-1):
    # [time, 4, vocab] and [time, 4, 3]; the discounts are those of the whole text
    whole, kept = _slow_counts(text), _slow_counts(text, folds, left_out)
    taken = [reference.chen_goodman(table) for table in whole]
    p, evidence = [], []
    for t, addresses in enumerate(_slow_addresses(row)):
        lowers = {0: shorter[t, 4].tolist(), 3: shorter[t, 3].tolist()}
        levels = []
        for n, address in enumerate(addresses):
            lower = lowers.get(n) or levels[0]
            known = (lower, [0, 0, 0]) if address is None else None
            said, seen = known or _slow_said(kept[n], taken[n], address, lower)
            levels.append(said)
            evidence.append([math.log(1 + x) for x in seen])
        p.append(levels)
    return torch.tensor(p).double(), torch.tensor(evidence).double().view(len(row), 4, 3)


def _read(text, row, folds=0, left_out=None):
    memory, under = words(text, folds), grams(text, folds)
    tokens = encode(row)[None]
    block = None if left_out is None else torch.tensor([[left_out]])
    shorter = under.read(under.addresses(tokens), block)
    reading = memory.read(memory.addresses(tokens), shorter, block)
    return shorter, reading


ROWS = [TEXT[:70], verse(6, seed=5), "a", "\nE", "'" * 90 + " an'", "bad" * 40, " " * 99]


@pytest.mark.parametrize(
    ("row", "folds"), [*((r, ()) for r in ROWS), (TEXT[100:180], (3, 0)), (TEXT[100:180], (3, 2))]
)
def test_what_is_read_with_and_without_a_block_equals_the_loops(row, folds):
    shorter, reading = _read(TEXT, row, *folds)
    p, evidence = _slow(TEXT, row, shorter.probabilities[0], *folds)
    assert torch.equal(reading.probabilities[0, :, :6], shorter.probabilities[0])
    torch.testing.assert_close(reading.probabilities[0, :, 6:], p)
    torch.testing.assert_close(reading.evidence[0, :, 6:], evidence)


@given(st.text(ALPHABET, min_size=1, max_size=120))
@example(" " + "a" * 99)
@example(" a " + "b" * 99)
@example("\n" + "." * 99)
def test_keys_are_equal_where_the_addresses_are(text):
    keys, known = word_keys(encode(text)[None], LETTERS)
    seen = {}
    for t, addresses in enumerate(_slow_addresses(text)):
        for n, address in enumerate(addresses):
            assert bool(known[0, t, n]) == (address is not None)
            if address is not None:
                # one key an address, one address a key
                assert seen.setdefault((n, address), int(keys[0, t, n])) == int(keys[0, t, n])
    assert len(set(seen.values())) == len(seen)


@given(st.text(ALPHABET, min_size=2, max_size=200), st.integers(0, 199))
def test_no_more_than_its_reach_is_needed(text, cut):
    tokens = encode(text)
    whole, known = word_keys(tokens[None], LETTERS)
    t = cut % len(text)
    part, also = word_keys(tokens[None, max(0, t - REACH + 1) : t + 1], LETTERS)
    assert torch.equal(known[0, t], also[0, -1])
    assert torch.equal(whole[0, t][known[0, t]], part[0, -1][also[0, -1]])


def test_an_address_backs_off_to_an_order_that_is_there():
    places = [[backoff_place(name, n) for name in word_memory.ADDRESSES] for n in (2, 4, 9)]
    assert places == [[1, 2, 2, 1], [3, 4, 4, 3], [4, 9, 9, 3]]


def test_letters_are_alike_in_both_cases():
    assert letters_of("\n 'Aab-Ä").tolist() == [-1, 0, 1, 2, 2, 3, 0, 4]


@pytest.mark.parametrize("piece", [7, 79, 80, 81, 333])
def test_a_text_is_counted_in_pieces_as_in_one(piece, monkeypatch):
    whole = words(TEXT, folds=3)
    monkeypatch.setattr(word_memory, "PIECE", piece)
    parts = words(TEXT, folds=3)
    for a, b in zip(parts.counts, whole.counts, strict=True):
        assert all((x == y).all() for x, y in zip(a, b, strict=True))
