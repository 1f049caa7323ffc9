"""What `SurgeryTable` checks and sends; what the page makes of it is tested in a browser."""

import json
import math

import numpy as np
import pytest
import torch
from ipywidgets.embed import dependency_state

import trix
from trix.show.figures.style import PALETTE
from trix.show.widgets.surgery_table import Numbers, SurgeryTable

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


@pytest.mark.parametrize(
    "change",
    [np.ndarray.tolist, torch.tensor, lambda one: torch.tensor(one).float().requires_grad_()],
)
def test_tensors_arrays_and_lists_are_the_same(change):
    plain = table(designs={"mine": DESIGN}, classes={"vowels": VOWELS}).get_state()
    state = table(
        tokens=change(TOKENS),
        signatures=change(SIGNATURES),
        designs={"mine": change(DESIGN)},
        classes={"vowels": torch.tensor(VOWELS)},
    ).get_state()
    for name in ("tokens", "signatures", "designs", "classes", "start"):
        assert state[name] == plain[name]


def test_low_precision_tokens_are_taken_as_they_are():
    tokens = torch.tensor(TOKENS).bfloat16()
    sent = np.frombuffer(table(tokens=tokens).tokens, "<f4").reshape(N, DIM)
    assert torch.equal(torch.tensor(sent), tokens.float())


def test_the_largest_table_is_small_enough_for_a_page():
    n, dim, tiles = 400, 48, len(PALETTE)
    made = SurgeryTable(
        "x" * n,
        RANDOM.normal(size=(n, dim)),
        RANDOM.integers(-1, 2, size=(tiles, dim)),
        alt="Many.",
        classes={"a": np.ones(n, bool), "b": np.zeros(n, bool)},
    )
    states = dependency_state([made], drop_defaults=False).values()
    (entry,) = [one for one in states if "_esm" in one["state"]]
    for code in ("_esm", "_css"):
        del entry["state"][code]
    assert len(json.dumps(entry)) < 150_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alt": " "}, "alt: expected a description of the table, received ' '"),
        ({"text": ""}, "text: expected 1 to 400 characters, received 0"),
        ({"text": "x" * 401}, "text: .* received 401"),
        ({"text": None}, "text: .* received None"),
        ({"tokens": TOKENS[1:]}, r"tokens: expected shape \[7, dim\] .* received \[6, 5\]"),
        ({"tokens": TOKENS[0]}, r"tokens: .* received \[5\]"),
        ({"tokens": np.zeros((N, 49))}, r"tokens: .* dim from 1 to 48, received \[7, 49\]"),
        ({"tokens": np.zeros((N, 0))}, r"tokens: .* received \[7, 0\]"),
        ({"tokens": np.full((N, DIM), math.nan)}, r"tokens: expected finite .* received \[nan"),
        ({"tokens": np.full((N, DIM), 1e39)}, r"tokens: expected finite float32, .* \[1\.e\+39"),
        ({"tokens": "many"}, "tokens: expected numbers, received <U4"),
        ({"tokens": [[1.0], [1.0, 2.0]]}, "tokens: expected numbers, received"),
        ({"signatures": SIGNATURES[:, 1:]}, r"signatures: expected shape \[3, 5\], .* \[3, 4\]"),
        ({"signatures": SIGNATURES[0]}, r"signatures: expected shape \[5, 5\], received \[5\]"),
        ({"signatures": 1}, "signatures: expected 1 to 8 tiles, one a colour, received 0"),
        ({"signatures": np.zeros((0, DIM))}, "signatures: expected 1 to 8 tiles, .* received 0"),
        ({"signatures": np.zeros((9, DIM))}, "signatures: expected 1 to 8 tiles, .* received 9"),
        ({"signatures": SIGNATURES + 0.5}, r"signatures: expected -1, 0 and 1, received \["),
        ({"signatures": SIGNATURES * math.nan}, r"signatures: expected -1, .* received \[nan"),
        ({"designs": {"a": DESIGN[1:]}}, r"designs\['a'\]: expected shape \[5\], received \[4\]"),
        ({"designs": {"a": 2 * DESIGN}}, r"designs\['a'\]: .* received \[ 2 -2\]"),
        ({"designs": {" ": DESIGN}}, "designs: expected names, received ' '"),
        ({"classes": {3: VOWELS}}, "classes: expected names, received 3"),
        ({"classes": {"a": VOWELS[1:]}}, r"classes\['a'\]: expected 7 bools, .* shape \[6\]"),
        ({"classes": {"a": VOWELS * 1}}, r"classes\['a'\]: expected 7 bools, received int64"),
        ({"frozen": [TILES]}, "frozen: expected an int from 0 to 2, received 3"),
        ({"frozen": [-1]}, "frozen: .* received -1"),
        ({"frozen": [True]}, "frozen: .* received True"),
        ({"frozen": [0.0]}, r"frozen: .* received 0\.0"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        table(**options)


@pytest.mark.parametrize(
    ("name", "good", "bad", "message"),
    [
        ("signatures", np.zeros((TILES, DIM)), np.zeros((2, DIM)), r"expected shape \[3, 5\]"),
        ("signatures", -SIGNATURES, 2 * SIGNATURES, "signatures: expected -1, 0 and 1"),
        ("frozen", [1], [3], "frozen: expected an int from 0 to 2, received 3"),
        ("selected", 2, 3, "selected: expected an int from 0 to 2, received 3"),
        ("position", 6, 7, "position: expected an int from 0 to 6, received 7"),
    ],
)
def test_what_is_set_later_is_checked_too(name, good, bad, message):
    made = table()
    good, bad = (one.tolist() if isinstance(one, np.ndarray) else one for one in (good, bad))
    setattr(made, name, good)
    with pytest.raises(ValueError, match=message):
        setattr(made, name, bad)
    assert getattr(made, name) == good
    assert made.start["signatures"] == SIGNATURES.tolist()
