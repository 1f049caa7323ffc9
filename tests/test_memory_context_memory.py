import math
import random
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import reference
from trix.counts.context import ContextMemory
from trix.counts.rows import Counts

WHAT_IS_READ = ("keys", "start", "character", "share", "backoff_mass", "evidence")


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


def _added(counts):
    return [sum(tables, start=Counter()) for tables in zip(*counts, strict=True)]


def _slow(texts, order, vocab_size, row, folds=1, left_out=-1):
    # [time, order, vocab]; the discounts are those of everything, whatever is left out
    whole = _added([_counts(text, order) for text in texts])
    kept = _added([_counts(text, order, folds, left_out) for text in texts])
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
        _close(p, _slow([text], order, vocab_size, row))
        _close(evidence, _slow_evidence(_counts(text, order), row, vocab_size))
        _close(p.sum(dim=-1), torch.ones_like(p[..., 0]))


def test_the_discounts_are_both_fitted_and_fallen_back_on_in_these_texts():
    fitted, fallen, clipped = 0, 0, 0
    for text, order, _ in TEXTS:
        for table in reference.continuations(_counts(text, order)):
            discount = reference.chen_goodman(table)
            fallen += discount[3] == 0.75
            fitted += discount[3] != 0.75
            clipped += discount[3] != 0.75 and bool({0.1, 1, 2, 3} & set(discount))
    assert min(fitted, fallen, clipped) > 0


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


def test_a_shorter_address_counts_what_stood_before_not_how_often():
    # 1 is more frequent than 2, but always after 0; 2 comes after everything
    text = [0, 1] * 9 + [0, 2, 1, 2, 2, 3, 2, 4, 2]
    p, evidence = _read(_memory(text, 2, 5), [3])
    assert p[0, 0, 2] > p[0, 0, 1]
    assert evidence[0, 0, 2].item() == pytest.approx(math.log(1 + text.count(1)))


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
        _close(p, _slow([text], order, 4, row, folds, left_out))
        _close(evidence, _slow_evidence(_counts(text, order, folds, left_out), row, 4))
        _close(p.sum(dim=-1), torch.ones_like(p[..., 0]))


@pytest.mark.parametrize("folds", [2, 3, 8])
def test_without_a_block_equals_counts_without_it(folds):
    text = _text(203, 5, 3)
    memory = _memory(text, 4, 5, folds)
    edges = [-(-block * len(text) // folds) for block in range(folds + 1)]
    for block in range(folds):
        # the end of the block before, its own first characters, and the next block's
        for row in (
            text[max(0, edges[block] - 4) : edges[block] + 5],
            text[edges[block + 1] - 5 :][:9],
        ):
            p, evidence = _read(memory, row, block)
            _close(p, _slow([text], 4, 5, row, folds, block))
            _close(evidence, _slow_evidence(_counts(text, 4, folds, block), row, 5))
    p, _ = _read(memory, text[:50])
    _close(p, _slow([text], 4, 5, text[:50]))
    _close(p, _read(_memory(text, 4, 5), text[:50])[0])


def test_an_n_gram_belongs_to_the_block_of_its_last_character():
    # 3 stands once, the first character of the second block; 2 before it, the last of the first
    text = [0, 1, 0, 1, 2, 3, 0, 1, 0, 1]
    memory = _memory(text, 2, 4, 2)
    after_two = [_read(memory, [2], block)[1][0, 1, 0].item() for block in (0, 1)]
    assert after_two == pytest.approx([math.log(2), 0])
    after_three = [_read(memory, [3], block)[1][0, 1, 0].item() for block in (0, 1)]
    assert after_three == pytest.approx([math.log(2), 0])
    after_one = [_read(memory, [1], block)[1][0, 1, 0].item() for block in (0, 1)]
    assert after_one == pytest.approx([math.log(2), math.log(3)])


def test_every_row_may_leave_out_another_block():
    text = _text(203, 5, 3)
    memory = _memory(text, 4, 5, 5)
    rows = torch.tensor([text[7:20], text[60:73], text[7:20]])
    reading = memory.read(memory.addresses(rows), torch.tensor([[4], [1], [0]]))
    for r, block in enumerate((4, 1, 0)):
        p, evidence = _read(memory, rows[r].tolist(), block)
        assert torch.equal(reading.probabilities[r], p)
        assert torch.equal(reading.evidence[r], evidence)
    each = torch.tensor([[4, 1, 0] * 4 + [2]] * 3)
    reading = memory.read(memory.addresses(rows), each)
    for t, block in enumerate(each[1].tolist()):
        assert torch.equal(
            reading.probabilities[1, t], _read(memory, rows[1].tolist(), block)[0][t]
        )


def test_a_second_text_is_counted_beside_the_first():
    first, second = _text(150, 5, 7), _text(90, 5, 8)
    memory = _memory(first, 4, 5, 3)
    before = [getattr(memory, name).clone() for name in WHAT_IS_READ]
    both = memory.with_text(torch.tensor(second))
    # no n-gram spans the seam: the row that crosses it is read as well
    for row in (first[-3:] + second[:4], second[20:33], _text(13, 5, 9)):
        p, evidence = _read(both, row)
        _close(p, _slow([first, second], 4, 5, row))
        added = _added([_counts(first, 4), _counts(second, 4)])
        _close(evidence, _slow_evidence(added, row, 5))
    third = both.with_text(torch.tensor(first))
    _close(_read(third, first[:13])[0], _slow([first, second, first], 4, 5, first[:13]))
    assert both.share.dtype == torch.float64
    assert both.folds == 0
    for name, kept in zip(WHAT_IS_READ, before, strict=True):
        assert torch.equal(getattr(memory, name), kept), name


def test_addresses_use_nothing_from_before_the_row():
    text = _text(301, 5)
    memory = _memory(text, 4, 5)
    rows = torch.tensor([text[40:53], text[100:113]])
    whole = memory.addresses(rows)
    later = memory.addresses(rows[:, 4:])
    # with fewer characters known than an address has, there is none
    for t in range(9):
        for n in range(4):
            expected = whole[:, 4 + t, n] if n <= t + 1 else torch.tensor([-1, -1])
            assert torch.equal(later[:, t, n], expected)
    assert (later[:, 0, :2] >= 0).all()


def test_an_address_is_the_same_place_wherever_it_is_met_and_no_other():
    text = _text(301, 5)
    memory = _memory(text, 4, 5)
    places = memory.addresses(torch.tensor([text]))[0]
    seen: dict[int, tuple] = {}
    for t in range(3, len(text)):
        for n in range(4):
            address = (n, *text[t + 1 - n : t + 1])
            assert seen.setdefault(int(places[t, n]), address) == address or places[t, n] < 0
    assert (places[3:-1] >= 0).all()
    assert len(seen) == len(set(seen.values()))
    assert torch.equal(torch.tensor(sorted({*seen} - {-1})), torch.arange(len(memory.keys)))


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
    nothing = memory.read(torch.full((1, 4), -1))
    assert torch.equal(nothing.probabilities, torch.full((1, 4, 5), 0.2, dtype=torch.float64))


@pytest.mark.parametrize("folds", [0, 3])
def test_counts_make_the_same_memory_again(folds):
    memory = _memory(_text(203, 5), 4, 5, folds)
    again = ContextMemory.from_counts(memory.counts, 5, folds, torch.float64)
    assert (again.order, again.vocab_size, again.folds) == (4, 5, folds)
    for name in WHAT_IS_READ:
        assert torch.equal(getattr(again, name), getattr(memory, name)), name


def test_counts_are_those_of_the_loop_block_by_block():
    text = _text(203, 5)
    memory = _memory(text, 3, 5, 4)
    for n, table in enumerate(memory.counts, start=1):
        assert isinstance(table, Counts)
        whole = reference.grams(text, n)
        without = [reference.grams(text, n, 4, block) for block in range(4)]
        expected = {
            sum(c * 5 ** (n - 1 - i) for i, c in enumerate(gram)): [
                count - others[gram] for others in without
            ]
            for gram, count in whole.items()
        }
        assert (table.key * 5 + table.character).tolist() == sorted(expected)
        assert table.count.tolist() == [expected[code] for code in sorted(expected)]


def test_numbers_of_other_kinds():
    text = _text(301, 5)
    fine, row = _memory(text, 4, 5), text[40:53]
    for dtype, near in ((torch.float32, 1e-6), (torch.bfloat16, 3e-2)):
        for got, expected in zip(
            _read(_memory(text, 4, 5, dtype=dtype), row), _read(fine, row), strict=True
        ):
            assert got.dtype == dtype
            torch.testing.assert_close(got.double(), expected, rtol=near, atol=near)
    assert ContextMemory(torch.tensor(text), 4, 5).share.dtype == torch.float32


def test_moving_moves_all_that_is_read():
    memory = _memory(_text(60, 5), 3, 5, 2)
    assert memory.to("meta") is memory
    assert all(getattr(memory, name).is_meta for name in WHAT_IS_READ)


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("folds", [0, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bytes_by_order_add_up_to_the_arrays(order, folds, dtype):
    text = _text(203, 5)
    memory = _memory(text, order, 5, folds, dtype)
    arrays = [getattr(memory, name) for name in WHAT_IS_READ]
    in_all = sum(a.numel() * a.element_size() for a in arrays)
    assert sum(memory.memory()) == in_all - 8  # the end of the last entry is no order's
    width, columns = dtype.itemsize, folds + 1
    for n, taken in enumerate(memory.memory()):
        entries = reference.grams(text, n + 1)
        contexts = {gram[:-1] for gram in entries}
        assert taken == len(contexts) * (16 + 4 * columns * width) + len(entries) * (
            8 + columns * width
        )


@pytest.mark.parametrize(("order", "vocab_size"), [(58, 2), (13, 28), (2, 3037000499), (1, 2**40)])
def test_the_longest_order_that_fits_is_still_right(order, vocab_size):
    # the highest characters there are, so that numbers are as large as they get
    low, high = vocab_size - 2, vocab_size - 1
    text = [high, low, high, high, low, high] * 3 + [high] * (order + 1) + [low, high, low]
    memory = _memory(text, order, vocab_size)
    row = torch.tensor([text[-order - 5 :]])
    places = memory.addresses(row)[0]
    assert (places[order - 2 : -1] >= 0).all()
    known: dict[int, tuple] = {}
    for t in range(len(row[0])):
        for n in range(min(t + 1, order - 1) + 1):
            address = (n, *row[0, t + 1 - n : t + 1].tolist())
            assert known.setdefault(int(places[t, n]), address) == address or places[t, n] < 0
    assert sum(memory.memory()) > 0
    if vocab_size < 100:
        p = memory.read(memory.addresses(row)).probabilities[0]
        _close(p, _slow([text], order, vocab_size, row[0].tolist()))


@pytest.mark.parametrize(
    ("order", "vocab_size", "message"),
    [
        (59, 2, "got order 59 and vocab_size 2"),
        (14, 28, "got order 14 and vocab_size 28"),
        (2, 3037000500, "got order 2 and vocab_size 3037000500"),
        (0, 5, "order must be at least 1, got 0"),
        (3, 0, "vocab_size must be at least 1, got 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(order, vocab_size, message):
    with pytest.raises(ValueError, match=message):
        _memory([1, 0] * 40, order, vocab_size)
    counts = [Counts(*(torch.zeros(1, 1).long().numpy(),) * 3)] * order
    with pytest.raises(ValueError, match=message):
        ContextMemory.from_counts(counts, vocab_size)


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match=r"order must be an integer, got 2\.0"):
        _memory([0, 1, 2], 2.0, 3)
    with pytest.raises(ValueError, match=r"\[length >= 4\], got \[3\]"):
        _memory([0, 1, 2], 4, 3)
    with pytest.raises(ValueError, match=r"got \[1, 3\]"):
        _memory([[0, 1, 2]], 1, 3)
    with pytest.raises(TypeError, match=r"int64, got torch.int32"):
        ContextMemory(torch.tensor([0, 1, 2], dtype=torch.int32), 2, 3)
    with pytest.raises(ValueError, match=r"0 … 2, got 0 … 3"):
        _memory([0, 3, 2], 2, 3)
    for folds in (1, -2):
        with pytest.raises(ValueError, match=f"folds must be 0 or at least 2, got {folds}"):
            _memory([0, 1, 2], 2, 3, folds)
    memory = _memory([0, 1, 2, 1], 2, 3)
    with pytest.raises(ValueError, match=r"\[batch, time\], got \[3\]"):
        memory.addresses(torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"0 … 2, got -1 … 1"):
        memory.addresses(torch.tensor([[1, -1]]))
    with pytest.raises(TypeError, match=r"int64, got torch.float32"):
        memory.addresses(torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"address must be \[\.\.\., 2\], got \[1, 3\]"):
        memory.read(torch.zeros(1, 3).long())
    with pytest.raises(ValueError, match="left_out needs a memory with folds"):
        memory.read(torch.zeros(1, 2).long(), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"\[length >= 2\], got \[1\]"):
        memory.with_text(torch.tensor([0]))
    with pytest.raises(ValueError, match=r"0 … 2, got 0 … 3"):
        memory.with_text(torch.tensor([0, 3]))


@pytest.mark.parametrize("block", [-1, 3])
def test_a_block_that_is_not_there_is_refused(block):
    memory = ContextMemory(torch.arange(30) % 4, 2, 4, folds=3)
    address = memory.addresses(torch.tensor([[0, 1]]))
    with pytest.raises(IndexError, match=rf"left_out must be in 0 … 2, got {block} … {block}"):
        memory.read(address, torch.tensor([[block]]))


def test_one_position_is_read_as_a_text_of_one():
    memory = _memory(_text(60, 4), 3, 4, 2)
    address = memory.addresses(torch.tensor([[1, 2]]))
    whole = memory.read(address, torch.tensor([[1]]))
    p, evidence = memory.read(address[0, 1], torch.tensor(1))
    assert torch.equal(p, whole.probabilities[0, 1])
    assert torch.equal(evidence, whole.evidence[0, 1])
