import math
import random
from collections import Counter

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tests import reference
from trix.counts import words as word_memory
from trix.counts.context import ContextMemory
from trix.counts.rows import Counts as AddressCounts
from trix.counts.words import REACH, STEP, WordMemory, letters_of, word_keys

ALPHABET = "\n ',.ABEabden"
LETTERS = letters_of(ALPHABET)


def _encode(text):
    return torch.tensor([ALPHABET.index(c) for c in text])


def _verse(lines, seed=0):
    draw = random.Random(seed)
    words = ["a", "Bad", "bead", "'neAn", "ended", "be", "dad", "Eden"]
    return "".join(
        " ".join(draw.choices(words, k=draw.randrange(1, 9))) + draw.choice([",\n", ".\n\n", "\n"])
        for _ in range(lines)
    )


TEXT = _verse(40)


def _memory(text, folds=0):
    return WordMemory(_encode(text), LETTERS, folds, torch.float64)


def _grams(text, folds=0, order=6):
    return ContextMemory(_encode(text), order, len(ALPHABET), folds, torch.float64)


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


def _slow(text, row, grams, folds=1, left_out=-1):
    # [time, 4, vocab] and [time, 4, 3]; the discounts are those of the whole text
    whole, kept = _slow_counts(text), _slow_counts(text, folds, left_out)
    taken = [reference.chen_goodman(table) for table in whole]
    p, evidence = [], []
    for t, addresses in enumerate(_slow_addresses(row)):
        lowers = {0: grams[t, 4].tolist(), 3: grams[t, 3].tolist()}
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
    memory, grams = _memory(text, folds), _grams(text, folds)
    tokens = _encode(row)[None]
    block = None if left_out is None else torch.tensor([[left_out]])
    shorter = grams.read(grams.addresses(tokens), block)
    reading = memory.read(memory.addresses(tokens), shorter, block)
    return shorter, reading


ROWS = [
    TEXT[:70],
    TEXT[11:90],
    _verse(6, seed=5),
    "a",
    "\nE",
    "'" * 90 + " an'",
    "bad" * 40,
    " " * 99,
]


@pytest.mark.parametrize("row", ROWS)
def test_what_is_read_equals_the_loops(row):
    shorter, reading = _read(TEXT, row)
    p, evidence = _slow(TEXT, row, shorter.probabilities[0])
    assert torch.equal(reading.probabilities[0, :, :6], shorter.probabilities[0])
    torch.testing.assert_close(reading.probabilities[0, :, 6:], p)
    torch.testing.assert_close(reading.evidence[0, :, 6:], evidence)
    torch.testing.assert_close(reading.probabilities.sum(-1), torch.ones(1, len(row), 10).double())


@pytest.mark.parametrize("block", [0, 2])
def test_leaving_a_block_out_is_as_if_it_had_not_been_counted(block):
    shorter, reading = _read(TEXT, TEXT[100:180], 3, block)
    p, evidence = _slow(TEXT, TEXT[100:180], shorter.probabilities[0], 3, block)
    torch.testing.assert_close(reading.probabilities[0, :, 6:], p)
    torch.testing.assert_close(reading.evidence[0, :, 6:], evidence)


@given(st.text(ALPHABET, min_size=1, max_size=120))
@example(" " + "a" * 99)
@example(" a " + "b" * 99)
@example("\n" + "." * 99)
def test_keys_are_equal_where_the_addresses_are(text):
    keys, known = word_keys(_encode(text)[None], LETTERS)
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
    tokens = _encode(text)
    whole, known = word_keys(tokens[None], LETTERS)
    t = cut % len(text)
    part, also = word_keys(tokens[None, max(0, t - REACH + 1) : t + 1], LETTERS)
    assert torch.equal(known[0, t], also[0, -1])
    assert torch.equal(whole[0, t][known[0, t]], part[0, -1][also[0, -1]])


def test_another_text_counts_as_well():
    other = _verse(9, seed=3)
    memory = _memory(TEXT, folds=2).with_text(_encode(other))
    counts = [a + b for a, b in zip(_slow_counts(TEXT), _slow_counts(other), strict=True)]
    tokens = _encode(_verse(5, seed=8))[None]
    evidence = memory.found(memory.addresses(tokens)).evidence[0].expm1()
    for t, addresses in enumerate(_slow_addresses(_verse(5, seed=8))):
        for n, address in enumerate(addresses):
            after = [counts[n][address, c] for c in range(len(ALPHABET))]
            expected = [sum(after), sum(x > 0 for x in after), max(after)]
            assert evidence[t, n].tolist() == pytest.approx(expected)
    assert memory.share.dtype == torch.float64


def test_counts_come_back_from_counts():
    memory = _memory(TEXT)
    again = WordMemory.from_counts(memory.counts, LETTERS, dtype=torch.float64)
    for name in ("keys", "start", "character", "share", "backoff_mass", "evidence"):
        assert torch.equal(getattr(again, name), getattr(memory, name))


def test_a_text_without_words_and_lines_says_what_the_n_grams_say():
    text = ", . ,, ." * 9
    empty = WordMemory.from_counts([AddressCounts(*c) for c in _memory("a. ").counts], LETTERS)
    assert len(empty.keys) > 0
    none = [AddressCounts(c.key[:0], c.character[:0], c.count[:0]) for c in empty.counts]
    memory = WordMemory.from_counts(none, LETTERS, dtype=torch.float64)
    grams = _grams(text)
    tokens = _encode(text[:9])[None]
    shorter = grams.read(grams.addresses(tokens))
    reading = memory.read(memory.addresses(tokens), shorter)
    assert torch.equal(reading.probabilities[..., 6, :], shorter.probabilities[..., 4, :])
    assert torch.equal(reading.probabilities[..., 9, :], shorter.probabilities[..., 3, :])
    assert not reading.evidence[..., 6:, :].any()


def test_few_orders_are_asked_for_what_is_there():
    grams = _grams(TEXT, order=2)
    memory = _memory(TEXT)
    tokens = _encode("..")[None]
    shorter = grams.read(grams.addresses(tokens))
    reading = memory.read(torch.full((1, 2, 4), -1), shorter)
    assert torch.equal(reading.probabilities[..., 2, :], shorter.probabilities[..., 1, :])
    assert torch.equal(reading.probabilities[..., 5, :], shorter.probabilities[..., 1, :])


def test_letters_are_alike_in_both_cases():
    assert letters_of("\n 'Aab-Ä").tolist() == [-1, 0, 1, 2, 2, 3, 0, 4]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: WordMemory(torch.tensor([1]), LETTERS), "length >= 2"),
        (lambda: WordMemory(torch.tensor([[1, 2]]), LETTERS), "length >= 2"),
        (lambda: WordMemory(torch.tensor([1, 2]), LETTERS, 1), "folds must be 0 or at least 2"),
        (lambda: WordMemory(torch.tensor([1, 99]), LETTERS), "tokens must be in 0 …"),
        (lambda: _memory(TEXT).addresses(torch.tensor([1])), r"\[batch, time\]"),
        (lambda: _memory(TEXT).addresses(torch.tensor([[99]])), "tokens must be in 0 …"),
    ],
)
def test_bad_input_is_refused(call, error):
    with pytest.raises(ValueError, match=error):
        call()


def test_bad_addresses_and_blocks_are_refused():
    memory, grams = _memory(TEXT, 2), _grams(TEXT, 2)
    address = memory.addresses(_encode("a b")[None])
    shorter = grams.read(grams.addresses(_encode("a b")[None]))
    with pytest.raises(ValueError, match=r"address must be \[\.\.\., 4\]"):
        memory.read(address[..., :3], shorter)
    with pytest.raises(IndexError, match="left_out must be in 0 … 1"):
        memory.read(address, shorter, torch.tensor([[2]]))
    with pytest.raises(ValueError, match="folds"):
        _memory(TEXT).read(address, shorter, torch.tensor([[0]]))
    with pytest.raises(TypeError, match="int64"):
        memory.addresses(torch.zeros(1, 3))


@pytest.mark.parametrize("piece", [1, 79, 80, 81, 333])
def test_a_text_is_counted_in_pieces_as_in_one(piece, monkeypatch):
    whole = _memory(TEXT, folds=3)
    monkeypatch.setattr(word_memory, "PIECE", piece)
    parts = _memory(TEXT, folds=3)
    for a, b in zip(parts.counts, whole.counts, strict=True):
        assert all((x == y).all() for x, y in zip(a, b, strict=True))
