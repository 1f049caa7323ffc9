"""What `SurgeryTable` checks and sends; what the page makes of it is tested in a browser."""

import numpy as np
import torch

import trix
from tests.static_page import size_on_page
from trix.show.figures.style import PALETTE
from trix.show.widgets.base import Numbers
from trix.show.widgets.surgery_table import SurgeryTable

TEXT = "so so\nsad"[:7]
N, DIM, TILES = 7, 5, 3
RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.normal(size=(N, DIM))
SIGNATURES = RANDOM.integers(-1, 2, size=(TILES, DIM))
VOWELS = np.array([c in "aeiou" for c in TEXT])
DESIGN = np.array([1, 0, -1, 0, 0])


def table(
    text=TEXT, tokens: Numbers = TOKENS, signatures: Numbers = SIGNATURES, **options
) -> SurgeryTable:
    return SurgeryTable(text, tokens, signatures, **{"alt": "Three tiles.", **options})


def test_what_is_sent_is_what_was_given():
    made = table(classes={"vowels": VOWELS}, designs={"mine": DESIGN}, frozen=[2, 0, 2])
    sent = np.frombuffer(made.tokens, "<f4").reshape(N, DIM)
    assert sent.tolist() == TOKENS.astype("f4").tolist()
    assert made.signatures == SIGNATURES.tolist()
    assert made.classes == [["vowels", VOWELS.tolist()]]
    assert made.designs == [["mine", DESIGN.tolist()]]
    # names keep their order in a notebook's file, which sorts the keys of mappings
    several = table(designs={"b": DESIGN, "a": DESIGN})
    assert [name for name, _ in several.designs] == ["b", "a"]
    assert made.frozen == [0, 2]
    assert made.start == {"signatures": SIGNATURES.tolist(), "frozen": [0, 2]}
    assert made.palette == list(PALETTE[:TILES])
    assert (made.selected, made.position, made.history) == (0, 0, [])
    assert trix.show.SurgeryTable is SurgeryTable


def test_tensors_and_arrays_are_the_same():
    def change(one) -> torch.Tensor:
        return torch.tensor(one).float().requires_grad_()

    plain = table(designs={"mine": DESIGN}, classes={"vowels": VOWELS}).get_state()
    state = table(
        tokens=change(TOKENS),
        signatures=change(SIGNATURES),
        designs={"mine": change(DESIGN)},
        classes={"vowels": torch.tensor(VOWELS)},
    ).get_state()
    for name in ("tokens", "signatures", "designs", "classes", "start"):
        assert state[name] == plain[name]
    low = torch.tensor(TOKENS).bfloat16()
    assert table(tokens=low).tokens == low.float().numpy().astype("<f4").tobytes()


def test_the_largest_table_is_small_enough_for_a_page():
    n, dim, tiles = 400, 48, len(PALETTE)
    made = SurgeryTable(
        "x" * n,
        RANDOM.normal(size=(n, dim)),
        RANDOM.integers(-1, 2, size=(tiles, dim)),
        alt="Many.",
        classes={"a": np.ones(n, bool), "b": np.zeros(n, bool)},
    )
    assert size_on_page(made) < 150_000
