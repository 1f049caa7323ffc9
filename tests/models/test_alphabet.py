"""Characters have numbers and back, for a corpus and for a saved model alike."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trix.models.alphabet import decode, encode


@settings(max_examples=50)
@given(st.text(min_size=1), st.data())
def test_decode_undoes_encode(text, data):
    alphabet = "".join(data.draw(st.permutations(sorted(set(text)))))
    piece = data.draw(st.text(alphabet=list(alphabet)))
    numbers = encode(piece, alphabet, "of a test")
    assert numbers.tolist() == [alphabet.index(character) for character in piece]
    assert numbers.dtype == torch.long
    assert decode(numbers, alphabet) == decode(numbers.tolist(), alphabet) == piece


@pytest.mark.parametrize("text", ["q", "aé", "\x00", "{", "ab~", "\ud800"])
def test_a_character_outside_the_alphabet_is_named(text):
    message = re.escape(
        f"character {text[-1]!r} at {len(text) - 1} is not among the 3 of a test: 'cab'"
    )
    with pytest.raises(ValueError, match=message):
        encode(text, "cab", "of a test")


@pytest.mark.parametrize(
    ("numbers", "error", "message"),
    [
        ([0, 3], IndexError, "numbers must be in 0 … 2, got 0 … 3"),
        ([-1, 2], IndexError, "numbers must be in 0 … 2, got -1 … 2"),
        ([0.5], TypeError, "float32"),
        ([True], TypeError, "bool"),
        ([[0, 1]], ValueError, r"numbers must have shape \[length\], got \[1, 2\]"),
    ],
)
def test_numbers_without_a_character_are_refused(numbers, error, message):
    with pytest.raises(error, match=message):
        decode(numbers, "abc")


def test_only_text_is_encoded():
    with pytest.raises(TypeError, match=r"expected a str, got b'abc'"):
        encode(b"abc", "abc", "of a test")  # pyright: ignore[reportArgumentType]
