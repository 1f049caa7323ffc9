"""What tables of n-grams and of words have in common: counting on, leaving out, moving, bytes."""

from collections import Counter

import pytest
import torch

from tests.counts.texts import (
    ALPHABET,
    LETTERS,
    TEXT,
    WHAT_IS_READ,
    encode,
    grams,
    read,
    verse,
    words,
)
from trix.counts.context import ContextMemory
from trix.counts.rows import Counts
from trix.counts.words import WordMemory

MAKE = {"grams": grams, "words": words}
each = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
AGAIN = {
    ContextMemory: lambda counts, *more: ContextMemory.from_counts(counts, len(ALPHABET), *more),
    WordMemory: lambda counts, *more: WordMemory.from_counts(counts, LETTERS, *more),
}
ROWS = encode(TEXT[7:46] + TEXT[90:129]).view(2, 39)


def _counted(memory):
    # how often each character followed each address
    return Counter(
        {
            (n, key, character): sum(count)
            for n, table in enumerate(memory.counts)
            for key, character, count in zip(*(part.tolist() for part in table), strict=True)
        }
    )


def _same(a, b):
    for name in WHAT_IS_READ:
        assert torch.equal(getattr(a, name), getattr(b, name)), name


@pytest.mark.parametrize("folds", [0, 3])
@each
def test_counts_make_the_same_memory_again(make, folds):
    memory = make(TEXT, folds)
    again = AGAIN[type(memory)](memory.counts, folds, torch.float64)
    assert (again.vocab_size, again.folds) == (len(ALPHABET), folds)
    _same(again, memory)
    for got, expected in zip(read(again, ROWS), read(memory, ROWS), strict=True):
        assert torch.equal(got, expected)


@each
def test_another_text_is_counted_beside_the_first(make):
    other = verse(9, seed=3)
    memory, second = make(TEXT, folds=3), make(other)
    before = [getattr(memory, name).clone() for name in WHAT_IS_READ]
    both = memory.with_text(encode(other))
    assert _counted(both) == _counted(memory) + _counted(second)
    assert (both.folds, both.share.dtype, type(both)) == (0, torch.float64, type(memory))
    _same(both, AGAIN[type(memory)](both.counts, 0, torch.float64))
    third = both.with_text(encode(TEXT))
    assert _counted(third) == _counted(both) + _counted(memory)
    for name, kept in zip(WHAT_IS_READ, before, strict=True):
        assert torch.equal(getattr(memory, name), kept), name
    assert memory.folds == 3
    for table in both.counts:  # sorted by address and then by character, each once
        pairs = list(zip(table.key.tolist(), table.character.tolist(), strict=True))
        assert pairs == sorted(set(pairs))


@each
def test_every_position_may_leave_out_another_block(make):
    memory = make(TEXT, folds=5)
    blocks = torch.arange(78).view(2, 39) % 5
    found = read(memory, ROWS, blocks)
    one = read(memory, ROWS, torch.tensor([[4], [0]]))
    for block in range(5):
        alone = read(memory, ROWS, torch.full((2, 1), block))
        for got, expected in zip(found, alone, strict=True):
            assert torch.equal(got[blocks == block], expected[blocks == block])
        for row in (r for r, left in enumerate((4, 0)) if left == block):
            assert torch.equal(one.evidence[row], alone.evidence[row])
    assert not torch.equal(found.evidence, read(memory, ROWS).evidence)
    for got, expected in zip(read(memory, ROWS), read(make(TEXT), ROWS), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@each
def test_lower_precision_comes_near(make):
    fine = read(make(TEXT), ROWS)
    for dtype, near in ((torch.float32, 1e-6), (torch.bfloat16, 3e-2)):
        for got, expected in zip(read(make(TEXT, 0, dtype), ROWS), fine, strict=True):
            assert got.dtype == dtype
            torch.testing.assert_close(got.double(), expected, rtol=near, atol=near)


@pytest.mark.parametrize(("folds", "dtype"), [(0, torch.float32), (3, torch.float64)])
@each
def test_bytes_add_up_to_the_arrays(make, folds, dtype):
    memory = make(TEXT, folds, dtype)
    arrays = [getattr(memory, name) for name in WHAT_IS_READ]
    in_all = sum(a.numel() * a.element_size() for a in arrays)
    assert sum(memory.memory()) == in_all - 8  # the end of the last entry is no order's
    width, columns = dtype.itemsize, folds + 1
    assert memory.memory() == [
        len(set(c.key.tolist())) * (16 + 4 * columns * width) + len(c.key) * (8 + columns * width)
        for c in memory.counts
    ]
    assert memory.to("meta") is memory
    assert all(getattr(memory, name).is_meta for name in WHAT_IS_READ)
    args = (encode(TEXT), *((LETTERS,) if make is words else (6, len(ALPHABET))))
    plain = type(memory)(*args)
    assert (plain.folds, plain.share.dtype, len(plain.share)) == (8, torch.float32, 9)


@each
def test_an_empty_table_backs_off_everywhere(make):
    full = make(TEXT)
    none = [Counts(*(part[:0] for part in table)) for table in full.counts]
    memory = AGAIN[type(full)](none, 0, torch.float64)
    reading = read(memory, ROWS)
    assert torch.equal(reading.probabilities, torch.full_like(reading.probabilities, 1 / 13))
    assert not reading.evidence.any()
    assert sum(memory.memory()) == 0
