"""Tables of n-grams, smoothed by Witten–Bell or by adding one, against loops over the text."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import trix
from tests import reference
from trix.lab import texts as tinyshakespeare

TEXT = [0, 1, 0, 2, 0, 1, 1, 0, 1, 0, 2, 3, 0, 1, 0]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize(
    ("smoothing", "slow"), [("witten-bell", reference.witten_bell), ("add-one", reference.add_one)]
)
def test_distributions_equal_the_loop(order, smoothing, slow):
    tables = trix.CountTables(torch.tensor(TEXT), order=5, vocab_size=5)
    rows = torch.tensor([[0, 1, 0, 2, 4, 0, 1], [3, 3, 0, 1, 1, 0, 2]])
    got = tables.probabilities(rows, order, smoothing)
    for b, row in enumerate(rows.tolist()):
        for t in range(len(row)):
            expected = slow(TEXT, row[: t + 1], order, 5)
            assert got[b, t].tolist() == pytest.approx(expected, abs=1e-12)


@given(
    st.lists(st.integers(0, 3), min_size=4, max_size=60),
    st.lists(st.integers(0, 3), min_size=1, max_size=9),
    st.integers(1, 4),
)
def test_any_text_equals_the_loop_and_sums_to_one(text, context, order):
    tables = trix.CountTables(torch.tensor(text), order=4, vocab_size=4)
    got = tables.probabilities(torch.tensor([context]), order)[0]
    torch.testing.assert_close(got.sum(-1), torch.ones(len(context), dtype=torch.float64))
    expected = reference.witten_bell(text, context, order, 4)
    assert got[-1].tolist() == pytest.approx(expected, abs=1e-12)


def test_long_queries_are_cut_in_pieces_without_a_seam(monkeypatch):
    tables = trix.CountTables(torch.tensor(TEXT), order=3, vocab_size=4)
    row = torch.randint(4, (1, 101))
    whole = tables.probabilities(row)
    monkeypatch.setattr("trix.counts.ngram._CHUNK", 7)
    assert torch.equal(tables.probabilities(row), whole)


def test_memory_is_what_the_arrays_take():
    tables = trix.CountTables(torch.tensor(TEXT), order=2, vocab_size=4)
    # order 1: one address, two fences, four characters and counts; order 2: 4 addresses, 5, 8, 8
    pairs = len(set(itertools.pairwise(TEXT)))
    assert tables.memory() == [8 * (1 + 2 + 4 + 4), 8 * (4 + 5 + 2 * pairs)]


@pytest.mark.skipif(tinyshakespeare.find_local() is None, reason="needs the canonical text")
def test_canonical_perplexities():
    corpus = trix.lab.load_corpus("tinyshakespeare")
    tables = trix.CountTables(corpus.train, order=6, vocab_size=corpus.vocab_size)
    uncut = len(corpus.val)
    for order, expected in ((2, 12.01), (3, 7.76), (4, 5.89), (5, 5.31), (6, 5.46)):
        score = trix.lab.evaluate(trix.lab.table_log_probs(tables, order), corpus.val, uncut)
        assert score.perplexity == pytest.approx(expected, abs=0.005)


def test_evidence_is_what_the_loop_counts():
    tables = trix.CountTables(torch.tensor(TEXT), order=3, vocab_size=4)
    row = [0, 1, 0, 2, 3, 3, 1]
    total, distinct = tables.evidence(torch.tensor([row]))
    for t in range(len(row)):
        for n in range(3):
            found = reference.followers(TEXT, row[t + 1 - n : t + 1]) if n <= t + 1 else {}
            assert (total[0, t, n], distinct[0, t, n]) == (sum(found.values()), len(found))
