"""N-gram memory by modified Kneser–Ney smoothing, against loops over the text."""

import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import reference
from trix.counts.context import ContextMemory


def _text(length, vocab_size, seed=0):
    # sentences that come again with changes: counts from one to many at every order
    draw = random.Random(seed)
    said = [[draw.randrange(vocab_size) for _ in range(draw.randrange(2, 6))] for _ in range(7)]
    text: list[int] = []
    while len(text) < length:
        text += draw.choice(said[: draw.randrange(1, 8)])
        if draw.random() < 0.2:
            text.append(draw.randrange(vocab_size))
    return text[:length]


def _memory(text, order, vocab_size, folds=0, dtype=torch.float64):
    return ContextMemory(torch.tensor(text), order, vocab_size, folds, dtype)


def _counts(text, order, folds=1, left_out=-1):
    return [reference.grams(text, n, folds, left_out) for n in range(1, order + 1)]


def _slow(text, order, vocab_size, row, folds=1, left_out=-1):
    # [time, order, vocab]; the discounts are those of everything, whatever is left out
    whole, kept = _counts(text, order), _counts(text, order, folds, left_out)
    taken = [reference.chen_goodman(c) for c in reference.continuations(whole)]
    weights = reference.continuations(kept)
    said = [reference.kneser_ney(weights, taken, row[: t + 1], vocab_size) for t in range(len(row))]
    return torch.tensor(said, dtype=torch.float64)


def _slow_evidence(counts, row, vocab_size):
    found = []
    for t in range(len(row)):
        known = row[: t + 1]
        levels = []
        for n, table in enumerate(counts):
            address = tuple(known[len(known) - n :])
            after = [table[(*address, c)] for c in range(vocab_size)] if n <= len(known) else [0]
            numbers = (sum(after), sum(a > 0 for a in after), max(after))
            levels.append([math.log(1 + number) for number in numbers])
        found.append(levels)
    return torch.tensor(found, dtype=torch.float64)


def _read(memory, row, left_out=None):
    block = None if left_out is None else torch.tensor([[left_out]])
    reading = memory.read(memory.addresses(torch.tensor([row])), block)
    return reading.probabilities[0], reading.evidence[0]


def _close(got, expected):
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


TEXTS = [
    ([0, 1, 0, 2, 0, 1, 1, 0, 1, 0, 2, 3, 0, 1, 0], 3, 5),
    (_text(301, 5), 4, 5),
    (_text(997, 7, 1), 5, 7),
    (_text(400, 2, 2), 7, 2),
    ([0] * 13, 4, 1),
    ([3, 1, 2], 3, 5),
    ([2], 1, 3),
]


@pytest.mark.parametrize(("text", "order", "vocab_size"), TEXTS)
def test_what_is_read_equals_the_loops_at_every_order(text, order, vocab_size):
    memory = _memory(text, order, vocab_size)
    # what was counted, its last characters, and what was never seen
    rows = [text[-13:], text[2:9] or text, _text(13, vocab_size, 5), [vocab_size - 1] * 7]
    for row in rows:
        p, evidence = _read(memory, row)
        _close(p, _slow(text, order, vocab_size, row))
        _close(evidence, _slow_evidence(_counts(text, order), row, vocab_size))
        _close(p.sum(dim=-1), torch.ones_like(p[..., 0]))


def test_discounts_by_hand():
    # one, two, three and four n-grams that occur four, three, two and one times
    counts = [1] * 4 + [2] * 3 + [3] * 2 + [4]
    text = [c for c, count in enumerate(counts) for _ in range(count)]
    p, _ = _read(_memory(text, 1, 13), [0])
    y = 4 / (4 + 2 * 3)
    one, two, more = 1 - 2 * y * 3 / 4, 2 - 3 * y * 2 / 3, 3 - 4 * y * 1 / 2
    passed_on = (4 * one + 3 * two + 3 * more) / 20
    assert p[0, 0, 0].item() == pytest.approx((1 - one) / 20 + passed_on / 13)
    assert p[0, 0, 5].item() == pytest.approx((2 - two) / 20 + passed_on / 13)
    assert p[0, 0, 9].item() == pytest.approx((4 - more) / 20 + passed_on / 13)
    assert p[0, 0, 12].item() == pytest.approx(passed_on / 13)


@given(
    st.lists(st.integers(0, 3), min_size=4, max_size=60),
    st.lists(st.integers(0, 3), min_size=1, max_size=9),
    st.integers(1, 4),
    st.integers(2, 5),
)
def test_any_text_with_and_without_a_block_equals_the_loops(text, row, order, folds):
    memory = _memory(text, order, 4, folds)
    for block in (None, 0, folds - 1):
        left_out = -1 if block is None else block
        p, evidence = _read(memory, row, block)
        _close(p, _slow(text, order, 4, row, folds, left_out))
        _close(evidence, _slow_evidence(_counts(text, order, folds, left_out), row, 4))
        _close(p.sum(dim=-1), torch.ones_like(p[..., 0]))


def test_without_a_block_equals_counts_without_it():
    text = _text(203, 5, 3)
    memory = _memory(text, 4, 5, 8)
    edges = [-(-block * len(text) // 8) for block in range(9)]
    for block in range(8):
        # the end of the block before, its own first characters, and the next block's
        for at in (max(0, edges[block] - 4), edges[block + 1] - 5):
            row = text[at : at + 9]
            p, evidence = _read(memory, row, block)
            _close(p, _slow(text, 4, 5, row, 8, block))
            _close(evidence, _slow_evidence(_counts(text, 4, 8, block), row, 5))
    _close(_read(memory, text[:50])[0], _slow(text, 4, 5, text[:50]))


def test_an_unknown_address_asks_the_next_shorter_one():
    text = _text(301, 5)
    memory = _memory(text, 4, 5)
    address = memory.addresses(torch.tensor([text[40:53]]))
    whole = memory.read(address)
    address[..., 2] = -1
    reading = memory.read(address)
    assert torch.equal(reading.probabilities[..., 2, :], whole.probabilities[..., 1, :])
    assert not reading.evidence[..., 2, :].any()
    assert torch.equal(reading.evidence[..., 3, :], whole.evidence[..., 3, :])
    assert not torch.allclose(reading.probabilities[..., 3, :], whole.probabilities[..., 3, :])
    one = memory.read(address[0, 7])  # a position by itself
    assert all(torch.equal(a, b[0, 7]) for a, b in zip(one, reading, strict=True))
    nothing = memory.read(torch.full((1, 4), -1))
    assert torch.equal(nothing.probabilities, torch.full((1, 4, 5), 0.2, dtype=torch.float64))


@pytest.mark.parametrize(("order", "vocab_size"), [(58, 2), (13, 28), (2, 3037000499), (1, 2**40)])
def test_the_longest_order_that_fits_is_still_right(order, vocab_size):
    # the highest characters there are, so that numbers are as large as they get
    low, high = vocab_size - 2, vocab_size - 1
    text = [high, low, high, high, low, high] * 3 + [high] * (order + 1) + [low, high, low]
    memory, row = _memory(text, order, vocab_size), text[-order - 5 :]
    places = memory.addresses(torch.tensor([row]))[0]
    assert (places[order - 2 : -1] >= 0).all()
    known: dict[int, tuple] = {}
    for t in range(len(row)):
        for n in range(min(t + 1, order - 1) + 1):
            address = (n, *row[t + 1 - n : t + 1])
            assert known.setdefault(int(places[t, n]), address) == address or places[t, n] < 0
    if vocab_size < 100:
        _close(_read(memory, row)[0], _slow(text, order, vocab_size, row))
