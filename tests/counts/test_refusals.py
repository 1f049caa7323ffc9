"""What the tables and the gate refuse: the argument, what was expected, what was received."""

import functools

import pytest
import torch

from tests.counts.texts import LETTERS, grams, read, words
from trix.counts.context import ContextMemory
from trix.counts.gate import ContextGate
from trix.counts.match import echoes
from trix.counts.ngram import CountTables
from trix.counts.rows import ContextReading, Counts
from trix.counts.words import WordMemory

T = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1])


TABLES = CountTables(T, 3, 4)


@functools.cache
def _grams(folds=0):
    return grams("a bad bead\n" * 3, folds, order=2)


@functools.cache
def _words(folds=0):
    return words("a bad bead\n" * 3, folds)


def _reading(tables=5):
    return ContextReading(torch.full((2, tables, 3), 1 / 3), torch.zeros(2, tables, 3))


GATE = ContextGate(5, 7)
STATE, OWN, TOO_LONG = torch.zeros(2, 7), torch.zeros(2, 3), [Counts(*[torch.zeros(1).numpy()] * 3)]

REFUSED = [
    (lambda: CountTables(T, 0, 4), ValueError, "order must be at least 1, got 0"),
    (lambda: CountTables(T, 2, 0), ValueError, "vocab_size must be at least 1, got 0"),
    (lambda: CountTables(T, 9, 4), ValueError, r"length >= 9\], got \[8\]"),
    (lambda: CountTables(T, 2, 2), ValueError, "0 … 1, got 0 … 2"),
    (lambda: CountTables(T.float(), 2, 4), TypeError, "int64, got torch"),
    (lambda: CountTables(T, 7, 512), ValueError, r"below 2\*\*63, got 512\*\*7"),
    (lambda: TABLES.probabilities(T[None], 4), ValueError, "at most the 3 orders, got 4"),
    (lambda: TABLES.probabilities(T[None], 2, "kneser-ney"), ValueError, "got 'kneser-ney'"),
    (lambda: TABLES.probabilities(T), ValueError, r"\[batch, time\], got \[8\]"),
    (lambda: TABLES.evidence(T[None] - 1), ValueError, "0 … 3, got -1 … 1"),
    (lambda: ContextMemory(T, 59, 2), ValueError, "got order 59 and vocab_size 2"),
    (lambda: ContextMemory(T, 14, 28), ValueError, "got order 14 and vocab_size 28"),
    (lambda: ContextMemory(T, 2, 3037000500), ValueError, "order 2 and vocab_size 3037000500"),
    (lambda: ContextMemory(T, 0, 5), ValueError, "order must be at least 1, got 0"),
    (lambda: ContextMemory(T, 3, 0), ValueError, "vocab_size must be at least 1, got 0"),
    (lambda: ContextMemory.from_counts(TOO_LONG * 59, 2), ValueError, "order 59 and vocab_size 2"),
    (lambda: ContextMemory.from_counts([], 2), ValueError, "order must be at least 1, got 0"),
    (lambda: ContextMemory(T, 2.0, 3), TypeError, r"order must be an integer, got 2\.0"),  # pyright: ignore[reportArgumentType]
    (lambda: ContextMemory(T[:3], 4, 3), ValueError, r"\[length >= 4\], got \[3\]"),
    (lambda: ContextMemory(T[None], 1, 3), ValueError, r"got \[1, 8\]"),
    (lambda: ContextMemory(T.int(), 2, 3), TypeError, "int64, got torch.int32"),
    (lambda: ContextMemory(T, 2, 2), ValueError, "0 … 1, got 0 … 2"),
    (lambda: ContextMemory(T, 2, 3, 1), ValueError, "folds must be 0 or at least 2, got 1"),
    (lambda: ContextMemory(T, 2, 3, -2), ValueError, "folds must be 0 or at least 2, got -2"),
    (lambda: WordMemory(T[:1], LETTERS), ValueError, r"length >= 2\], got \[1\]"),
    (lambda: WordMemory(T[None], LETTERS), ValueError, r"length >= 2\], got \[1, 8\]"),
    (lambda: WordMemory(T, LETTERS, 1), ValueError, "folds must be 0 or at least 2, got 1"),
    (lambda: WordMemory(T, LETTERS[:2]), ValueError, "tokens must be in 0 … 1, got 0 … 2"),
    *(
        (lambda call=call, make=make: call(make), error, match)
        for make in (_grams, _words)
        for call, error, match in (
            (lambda m: m().addresses(T), ValueError, r"\[batch, time\], got \[8\]"),
            (lambda m: m().addresses(T[None] - 1), ValueError, "0 … 12, got -1 … 1"),
            (lambda m: m().addresses(torch.zeros(1, 2)), TypeError, "int64, got torch.float32"),
            (lambda m: m().with_text(T[:1]), ValueError, r"length >= 2\], got \[1\]"),
            (lambda m: m().with_text(T + 12), ValueError, "0 … 12, got 12 … 14"),
            (lambda m: m().found(torch.zeros(1, 3).long()), ValueError, r"got \[1, 3\]"),
            (lambda m: read(m(), T[None], T[:1, None]), ValueError, "left_out needs a memory with"),
            (lambda m: read(m(3), T[None], T[:1, None] - 1), IndexError, "0 … 2, got -1 … -1"),
            (lambda m: read(m(3), T[None], T[:1, None] + 3), IndexError, "0 … 2, got 3 … 3"),
        )
    ),
    (lambda: echoes(torch.zeros(2, 3), 5), TypeError, "int64"),
    (lambda: echoes(T, 5), ValueError, r"\[batch, time\]"),
    (lambda: echoes(T[None] + 3, 5), ValueError, "0 … 4, got 3 … 5"),
    (lambda: ContextGate(0, 7), ValueError, "tables must be at least 1, got 0"),
    (lambda: ContextGate(5, 0), ValueError, "state_dim must be at least 1, got 0"),
    (lambda: ContextGate(5, 7, hidden=0), ValueError, "hidden must be at least 1, got 0"),
    (lambda: ContextGate("a", 7), TypeError, "tables must be an integer, got 'a'"),  # pyright: ignore[reportArgumentType]
    (lambda: GATE.forbid(-1), IndexError, "place must be in 0 … 5, got -1"),
    (lambda: GATE.forbid(6), IndexError, "place must be in 0 … 5, got 6"),
    (lambda: GATE.allow(-1), IndexError, "place must be in 0 … 5, got -1"),
    (lambda: GATE.allow(6), IndexError, "place must be in 0 … 5, got 6"),
    (lambda: GATE(_reading(), STATE[:, :6], OWN), ValueError, "5 tables and 7 .* got 5 and 6"),
    (lambda: GATE(_reading(4), STATE, OWN), ValueError, "5 tables and 7 features, got 4 and 7"),
    (lambda: GATE(_reading(), STATE), ValueError, "logits must be given, got None"),
    (
        lambda: ContextGate(5, 7, False)(_reading(), STATE, OWN),
        ValueError,
        r"left out, got \[2",
    ),
]


@pytest.mark.parametrize(("call", "error", "match"), REFUSED)
def test_bad_arguments_are_named(call, error, match):
    with pytest.raises(error, match=match):
        call()
