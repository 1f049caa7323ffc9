"""What echoes in a text, against a loop over it."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import reference
from trix.counts.match import LENGTHS, REACH, echoes


def _slow(text, vocab_size, first):
    nothing = [0.0] * vocab_size  # from below, so that only the shares are left
    return [
        [reference.echo(text[: t + 1], vocab_size, nothing, (n,), REACH)[0] for n in LENGTHS]
        for t in range(first, len(text))
    ]


def _check(text, vocab_size, first=0):
    tokens = torch.tensor([text, text[::-1]])
    got = echoes(tokens, vocab_size, first, torch.float64)
    for row, known in zip(tokens.tolist(), range(2), strict=True):
        slow = _slow(row, vocab_size, first)
        assert got.place[known].tolist() == [[place for place, _, _ in heard] for heard in slow]
        for t, heard in enumerate(slow):
            for n, (place, share, evidence) in enumerate(heard):
                found = (part[known, t, n] for part in got.found)
                shares, back, known_of = (x.tolist() for x in found)
                assert shares == pytest.approx(share, abs=1e-12)
                assert known_of == pytest.approx(evidence, abs=1e-12)
                # with nothing from below, what is missing is what would have come from there
                assert back == pytest.approx(1 - sum(share), abs=1e-12)
                assert (back == 1) == (place == -1)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.integers(0, 45))
def test_a_short_text_is_what_the_loop_finds(text, first):
    _check(text, 3, first)


@pytest.mark.parametrize("first", [0, 1, 255, 256, 257, 600])
def test_a_long_text_is_heard_no_further_back_than_the_reach(first):
    draw = random.Random(3)
    phrase = [draw.randrange(9) for _ in range(5)]
    text = [draw.randrange(9) for _ in range(700)]
    for at in (0, 250, 253, 254, 256, 512):  # just within reach of one another, and just not
        text[at : at + 5] = phrase
    _check(text, 9, first)


def test_counts_in_half_the_bits_are_as_large_as_they_are():
    tokens = torch.zeros(1, 400).long()
    whole = echoes(tokens, 3).found
    with torch.autocast("cpu", torch.bfloat16):
        coarse = echoes(tokens, 3).found
    for got, expected in zip(coarse, whole, strict=True):
        assert torch.equal(got, expected)
    assert whole.evidence[0, -1, 0, 0].expm1().round() == REACH - LENGTHS[0]


def test_where_nothing_is_asked_nothing_echoes():
    assert echoes(torch.zeros(2, 3).long(), 5, first=3).place.shape == (2, 0, 2)
    assert echoes(torch.zeros(2, 3).long(), 5, first=3).found.share.shape == (2, 0, 2, 5)
