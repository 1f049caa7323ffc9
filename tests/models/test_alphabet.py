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
    message = f"character {text[-1]!r} at {len(text) - 1} is not among the 3 of a test: 'cab'"
    with pytest.raises(ValueError, match=re.escape(message)):
        encode(text, "cab", "of a test")
