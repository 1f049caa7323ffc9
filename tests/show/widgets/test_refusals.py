"""What widgets refuse: the checks that they share, and what each of them asks for."""

import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from tests.show.widgets.test_address_plane import POINTS, plane
from tests.show.widgets.test_context_lens import ALPHABET, lens, tables
from tests.show.widgets.test_funnel import FREE, SCORES, TEXT, TILE, TILED, funnel
from tests.show.widgets.test_funnel import INPUTS as MANY
from tests.show.widgets.test_island_plane import island_plane
from tests.show.widgets.test_ledger import claim
from tests.show.widgets.test_memory_reader import BACK, READ, WRITE, reader, shares
from tests.show.widgets.test_mixture_lens import mixture_lens
from tests.show.widgets.test_route_tree import FLAT, TILES, TWO, draw, route_tree, with_level
from tests.show.widgets.test_soft_blend import ANSWERS, GRID, SIGNATURES, soft_blend
from tests.show.widgets.test_spline_explorer import SINE, explorer
from tests.show.widgets.test_surgery_table import DESIGN, TOKENS, VOWELS, table
from tests.show.widgets.test_surgery_table import SIGNATURES as ROWS
from trix.ledger.claims import settle
from trix.show import live, provenance
from trix.show.widgets import base
from trix.show.widgets.context_lens import ContextLens
from trix.show.widgets.funnel import MOST_TOKENS, Squeezed
from trix.show.widgets.island_plane import MOST_POINTS, SEEDS
from trix.show.widgets.ledger import Ledger
from trix.show.widgets.spline_explorer import MOST_POINTS as MOST_HEIGHTS

SETTLED = settle(claim(), [])


def ledger(rows=(SETTLED,), alt="One claim.") -> Ledger:
    return Ledger(rows, alt=alt)


slider = partial(live, str, value=1, low=0, high=2, step=1, label="x")
origin = partial(provenance, corpus=None, seeds=[0], budget="quick", started=0.0)


BUILDERS = [
    plane, lens, funnel, island_plane, ledger, reader, mixture_lens, route_tree, soft_blend,
    explorer, table,
]  # fmt: skip
V, T = ValueError, TypeError

SHARED = [
    (base.array, ("x", [1, 2], (3,)), V, r"x: expected shape \[3\], received \[2\]"),
    (base.array, ("x", [[1]], ("n",)), V, r"x: expected shape \[n\], received \[1, 1\]"),
    (base.array, ("x", [[]], (1, range(1, 9))), V, r"shape \[1, 1 … 8\], received \[1, 0\]"),
    (base.array, ("x", [0] * 9, (range(1, 9),)), V, r"shape \[1 … 8\], received \[9\]"),
    (base.array, ("x", "high", ("n",)), V, r"x: expected numbers of shape \[n\], received"),
    (base.array, ("x", [[1], [1, 2]], ("n", "m")), V, "x: expected numbers of shape"),
    (base.array, ("x", [1, math.nan], (2,)), V, r"x: expected finite numbers, received \[nan\]"),
    (base.array, ("x", [-math.inf], (1,)), V, r"x: expected finite .* received \[-inf\]"),
    (base.array, ("x", [0, 1.1, -2.0], (3,), -1, 1), V, r"from -1 to 1, received \[ 1\.1 -2\. \]"),
    (base.floats, ("x", [1e39], (1,)), V, r"x: expected finite numbers, received \[1\.e\+39\]"),
    (base.integers, ("x", [0.5, 3, 1], (3,), range(2)), V, r"whole .*0 to 1, received \[0\.5 3"),
    (base.integers, ("x", [2], (1,), (-1, 0, 1)), V, r"\[-1, 0, 1\], received \[2\.\]"),
    (base.whole, ("x", 2.0, range(3)), T, r"x: expected an int, received 2\.0"),
    (base.whole, ("x", True, range(3)), T, "x: expected an int, received True"),
    (base.whole, ("x", 3, range(3)), V, "x: expected 0 to 2, received 3"),
    (base.whole, ("x", -1, range(3)), V, "x: expected 0 to 2, received -1"),
    (base.whole, ("x", 3, (2, 4)), V, r"x: expected one of \[2, 4\], received 3"),
    (base.number, ("x", "1", 0, 1), T, "x: expected a number, received '1'"),
    (base.number, ("x", True, 0, 1), T, "x: expected a number, received True"),
    (base.number, ("x", 1.01, 0, 1), V, r"x: expected a number from 0 to 1, received 1\.01"),
    (base.number, ("x", -0.01, 0, 1), V, r"received -0\.01"),
    (base.number, ("x", math.nan, 0, 1), V, "received nan"),
    (base.text, ("x", "", 1, 3), V, "x: expected 1 to 3 characters, received 0"),
    (base.text, ("x", "four", 1, 3), V, "x: expected 1 to 3 characters, received 4"),
    (base.text, ("x", None, 1, 3), V, "x: expected .* received None"),
    (base.labels, (["a"], 2, 9), V, "labels: expected none or 2, received 1"),
    (base.labels, (["a", ""], 2, 9), V, "labels: expected 1 to 9 characters, received 0"),
    (base.labels, (["ab"], 1, 1), V, "labels: expected 1 characters, received 2"),
    (base.named, ("x", " "), V, "x: expected names, received ' '"),
    (base.named, ("x", 3), V, "x: expected names, received 3"),
]

OWN = [
    (slider, {"value": 3}, V, "expected low <= value <= high, received 0, 3, 2"),
    (slider, {"low": 2, "value": 2}, V, "received 2, 2, 2"),
    (slider, {"step": 0}, V, "step: expected a positive number"),
    (slider, {"label": ""}, V, "label: expected a name"),
    (origin, {"budget": "huge"}, V, "budget: expected 'quick' or 'full', received 'huge'"),
    (origin, {"seeds": []}, V, "seeds: expected at least one"),
    (origin, {"started": math.inf}, V, "started: expected an earlier reading"),
    (plane, {"points": torch.zeros(5001, 2)}, V, r"points: .*\[1 … 5000, 2\], .*\[5001, 2\]"),
    (plane, {"signatures": torch.zeros(9, 2)}, V, r"signatures: .*\[1 … 8, 2\], .*\[9, 2\]"),
    (plane, {"temperature": 0.0}, V, r"temperature: .* from 0\.05 to 10, received 0\.0"),
    (plane, {"temperature": 11}, V, "temperature: .* received 11"),
    (plane, {"labels": ["a"]}, V, "labels: expected none or 7"),
    (plane, {"labels": ["ab"] * 7}, V, "labels: expected 1 characters"),
    (plane, {"classes": ["a"] * 6}, V, "classes: expected none or 7, received 6"),
    (plane, {"classes": list("abcdeab")}, V, "classes: expected at most 4 different"),
    (plane, {"classes": [""] * 7}, V, "classes: expected names"),
    (lens, {"passage": "the cat?"}, V, r"passage: .*alphabet, received '\?'"),
    (lens, {"passage": "a" * 601}, V, "passage: expected 1 to 600 characters, received 601"),
    (lens, {"passage": ""}, V, "passage: expected 1 to 600 characters, received 0"),
    (lens, {"order": 0}, V, "order: expected 1 to 5, received 0"),
    (lens, {"order": 6}, V, "order: expected 1 to 5, received 6"),
    (funnel, {"text": "x"}, V, "text: expected 2 to 401 characters, received 1"),
    (funnel, {"text": "x" * (MOST_TOKENS + 2)}, V, "text: .* received 402"),
    (funnel, {"text": TEXT + "x"}, V, r"inputs: .*\[8, 1 … 128\], received \[7, 5\]"),
    (funnel, {"inputs": np.zeros((7, 129))}, V, r"inputs: .* received \[7, 129\]"),
    (funnel, {"tile": TILE[:-1]}, V, r"tile: expected shape \[7\], received \[6\]"),
    (funnel, {"tile": TILE - 9}, V, "tile: expected numbers from 0, received -"),
    (funnel, {"tile": TILE + 0.5}, T, "tile: expected integers, received float64"),
    (funnel, {"tiled": TILED._replace(points=np.full((7, 2), 1.01))}, V, r"points: .* 1\.01"),
    (funnel, {"free": FREE._replace(outputs=MANY[:, :4])}, V, r"free\.outputs: .* \[7, 4\]"),
    (funnel, {"free": FREE._replace(exact=MANY[:6])}, V, r"free\.exact: .* \[6, 5\]"),
    (funnel, {"tiled": tuple(TILED)}, T, "tiled: expected Squeezed, received tuple"),
    (funnel, {"free": None}, T, "free: expected Squeezed, received NoneType"),
    (funnel, {"scores": SCORES[:, : TILE.max()]}, V, f"scores: expected more than {TILE.max()}"),
    (funnel, {"scores": SCORES[1:]}, V, r"scores: .* received \[6, 6\]"),
    (funnel, {"levels": 1}, V, "levels: expected 2 to 32, received 1"),
    (funnel, {"levels": 33}, V, "levels: .* received 33"),
    (island_plane, {"points": torch.ones(MOST_POINTS + 1, 2)}, V, r"points: .* \[2001, 2\]"),
    (island_plane, {"signatures": 1}, V, "signatures: expected 2 to 8, received 1"),
    (island_plane, {"signatures": 9}, V, "signatures: expected 2 to 8, received 9"),
    (island_plane, {"seed": -1}, V, "seed: expected 0 to 4294967295, received -1"),
    (island_plane, {"seed": SEEDS}, V, "seed: .* received 4294967296"),
    (island_plane, {"weights": (0, 1)}, V, "weights: expected 3, of ternary pull, .* received 2"),
    (island_plane, {"weights": (0, 1.1, 0)}, V, r"weights: .* from 0 to 1, received 1\.1"),
    (island_plane, {"weights": ("1", 0, 0)}, T, "weights: expected a number"),
    (ledger, {"rows": []}, V, "rows: expected different claims, at least one"),
    (ledger, {"rows": [SETTLED] * 2}, V, "rows: expected different claims"),
    (reader, {"text": ""}, V, "text: expected 1 to 100 characters, received 0"),
    (reader, {"text": "x" * 101}, V, "text: .* received 101"),
    (reader, {"text": "so sad\nx"}, V, r"write: .*\[1 … 1024, 1 … 1024, 8, .*received \[2, 3, 7"),
    (reader, {"read": READ[..., :4]}, V, r"read: .* \[2, 3, 7, 5\], received \[2, 3, 7, 4\]"),
    (reader, {"write": WRITE[..., :0]}, V, r"write: .* received \[2, 3, 7, 0\]"),
    (reader, {"write": WRITE * 2}, V, r"write: expected finite numbers from 0 to 1\.001"),
    (reader, {"read": WRITE - 1}, V, r"read: expected finite numbers from 0 to 1\.001"),
    (reader, {"back": BACK[..., :6]}, V, r"back: .*\[2, 3, 7, 7\], .* \[2, 3, 7, 6\]"),
    (reader, {"back": BACK.swapaxes(-1, -2)}, V, "back: expected zeros where s comes after t"),
    (reader, {"back": BACK + np.eye(7, k=1)}, V, "back: expected zeros where s comes after t"),
    (reader, {"back": -BACK}, V, "back: expected finite numbers from 0"),
    (reader, {"layers": (1,)}, V, r"layers: expected 2 whole numbers, received \[1\]"),
    (reader, {"layers": (1, 2.5)}, V, r"layers: .* received \[1, 2\.5\]"),
    (mixture_lens, {"model": None}, T, "model: expected a LookupLM, received NoneType"),
    (mixture_lens, {"lines": []}, V, "lines: expected 1 to 12 texts, received 0"),
    (mixture_lens, {"lines": ["no"] * 13}, V, "lines: expected 1 to 12 texts, received 13"),
    (mixture_lens, {"lines": "the"}, V, "received 'the'"),
    (mixture_lens, {"lines": ["a"]}, V, "line: expected 2 to 300 characters, received 1"),
    (mixture_lens, {"lines": ["a" * 301]}, V, "received 301"),
    (mixture_lens, {"lines": ["the cat?"]}, V, r"the model knows, received \['\?'\]"),
    (mixture_lens, {"alphabet": "ab"}, V, "the model knows"),
    (route_tree, {"inputs": draw(41, 5)}, V, r"inputs: .*\[1 … 40, .* received \[41, 5\]"),
    (route_tree, {"inputs": draw(3, 4)}, V, r"trees\[0\]\[0\] signatures: .*, 4\], .* \[7, 5\]"),
    (route_tree, {"trees": []}, V, "trees: expected at least one, received none"),
    (route_tree, {"trees": [[]]}, V, r"trees\[0\]: expected 1 to 6 levels, received 0"),
    (route_tree, {"trees": [FLAT * 7]}, V, r"trees\[0\]: expected 1 to 6 levels, received 7"),
    (route_tree, {"trees": [[TILES]]}, V, r"trees\[0\]\[0\]: expected a pair \(parent, sign"),
    (route_tree, {"trees": [TWO, TWO]}, V, r"one a depth, received depths \[2, 2\]"),
    (
        route_tree, {"trees": [with_level(TWO, 1, parent=[3, 0, 1, 2, 0, 3, 4])]}, V,
        r"trees\[0\]\[1\] parent: expected whole numbers, 0 to 3, received \[4",
    ),
    (route_tree, {"trees": [with_level(TWO, 0, parent=[0, 0, 1, 0])]}, V, r"0 to 0, received \[1"),
    (
        route_tree, {"trees": [with_level(TWO, 1, parent=[3, 0, 1, 1, 0, 3, 3])]}, V,
        r"expected a child for each of the 4 nodes above, received none for \[2\]",
    ),
    (route_tree, {"trees": [with_level(TWO, 1, parent=[0] * 6)]}, V, r"parent: .*\[7\], .*\[6\]"),
    (
        route_tree, {"trees": [FLAT, with_level(TWO, 1, [0, 1, 2, 3], TILES[:4])]}, V,
        r"trees\[1\]: expected 7 tiles, as trees\[0\] has, received 4",
    ),
    (
        route_tree, {"trees": [FLAT, with_level(TWO, 1, signatures=TILES.flip(0))]}, V,
        r"trees\[1\]: expected the tiles of trees\[0\], .* for tile 0",
    ),
    (
        route_tree, {"inputs": draw(1, 2), "trees": [[([0] * 1101, draw(1101, 2))]]}, V,
        r"\[1 … 1100, 2\], received \[1101, 2\]",
    ),
    *(
        (
            route_tree, {"inputs": [[1e30]], "trees": [[([0], [[sign * 1e30]])]]}, V,
            r"scores: expected them to fit float32, received 1e\+60",
        )
        for sign in (1, -1)
    ),
    (route_tree, {"labels": ["a", "b", "c" * 61]}, V, "labels: expected 1 to 60 characters"),
    (route_tree, {"beam": 0}, V, "beam: expected 1 to 8, received 0"),
    (route_tree, {"beam": 9}, V, "beam: expected 1 to 8, received 9"),
    (route_tree, {"depth": 4}, V, r"depth: expected one of \[1, 2, 3\], received 4"),
    (soft_blend, {"signatures": SIGNATURES[:1]}, V, r"signatures: .*\[2 … 6, 2\], .*\[1, 2\]"),
    (soft_blend, {"signatures": torch.zeros(7, 2)}, V, r"signatures: .* received \[7, 2\]"),
    (soft_blend, {"signatures": [[0, 1], [2, 1001]]}, V, "from -1000 to 1000, received"),
    (soft_blend, {"answers": ANSWERS[:2]}, V, "answers: expected 3, one a signature, received 2"),
    (soft_blend, {"answers": -2000 * ANSWERS}, V, "answers: .* from -1000 to 1000"),
    (soft_blend, {"target": GRID[:-1]}, V, r"target: expected shape \[121\], received \[120\]"),
    (soft_blend, {"target": lambda x: 1001}, V, "target: .* from -1000 to 1000"),
    (soft_blend, {"temperature": 0.019}, V, r"temperature: .* from 0\.02 to 20, received 0\.019"),
    (soft_blend, {"temperature": 21}, V, "temperature: .* received 21"),
    (soft_blend, {"top_k": 0}, V, "top_k: expected 1 to 3, received 0"),
    (soft_blend, {"top_k": 4}, V, "top_k: expected 1 to 3, received 4"),
    (explorer, {"targets": {}}, V, "targets: expected at least one, received none"),
    (explorer, {"targets": [SINE]}, T, "targets: expected a mapping of name to heights"),
    (explorer, {"targets": {" ": SINE}}, V, "targets: expected names, received ' '"),
    (explorer, {"targets": {"a": [1.0]}}, V, r"targets\['a'\]: .*\[2 … 4096\], received \[1\]"),
    (explorer, {"targets": {"a": torch.zeros(MOST_HEIGHTS + 1)}}, V, r"received \[4097\]"),
    (explorer, {"targets": {"a": [0, 1001]}}, V, "from -1000 to 1000, received"),
    (explorer, {"targets": {"a": SINE, "b": SINE[1:]}}, V, r"targets\['b'\]: .*\[13\], .*\[12\]"),
    (explorer, {"low": 1}, V, "low, high: expected low < high, received 1 and 1.0"),
    (explorer, {"high": math.inf}, V, "high: expected a number from -1000 to 1000, received inf"),
    (explorer, {"low": "0"}, T, "low: expected a number, received '0'"),
    (explorer, {"cells": 3}, V, r"cells: expected one of \[2, 4, 8, 16\], received 3"),
    (explorer, {"kind": "cubic"}, V, "kind must be one of .* got 'cubic'"),
    (table, {"text": ""}, V, "text: expected 1 to 400 characters, received 0"),
    (table, {"text": "x" * 401}, V, "text: .* received 401"),
    (table, {"tokens": TOKENS[1:]}, V, r"tokens: .*\[7, 1 … 48\], received \[6, 5\]"),
    (table, {"tokens": np.zeros((7, 49))}, V, r"tokens: .* received \[7, 49\]"),
    (table, {"signatures": ROWS[:, 1:]}, V, r"signatures: .*\[1 … 8, 5\], received \[3, 4\]"),
    (table, {"signatures": np.zeros((9, 5))}, V, r"signatures: .* received \[9, 5\]"),
    (table, {"signatures": ROWS + 0.5}, V, "signatures: expected whole numbers, .*-1, 0, 1"),
    (table, {"designs": {"a": DESIGN[1:]}}, V, r"designs\['a'\]: .*\[5\], received \[4\]"),
    (table, {"designs": {"a": 2 * DESIGN}}, V, r"designs\['a'\]: .* received \[ 2\. -2\.\]"),
    (table, {"designs": {" ": DESIGN}}, V, "designs: expected names"),
    (table, {"classes": {3: VOWELS}}, V, "classes: expected names, received 3"),
    (table, {"classes": {"a": VOWELS[1:]}}, V, r"classes\['a'\]: expected 7 bools, .* shape \[6\]"),
    (table, {"classes": {"a": VOWELS * 1}}, V, r"classes\['a'\]: expected 7 bools, .* int64"),
    (table, {"frozen": [3]}, V, "frozen: expected 0 to 2, received 3"),
    (table, {"frozen": [True]}, T, "frozen: expected an int, received True"),
]  # fmt: skip

LATER = [
    (plane, "signatures", [[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]], [[0, 1], [1, 0]], r"\[3, 2\], "),
    (plane, "temperature", 10.0, -1, "temperature"),
    (lens, "order", 5, 6, "order: expected 1 to 5, received 6"),
    (lens, "position", 22, 23, "position: expected 0 to 22, received 23"),
    (lens, "position", 0, -1, "position: expected 0 to 22, received -1"),
    (funnel, "position", 6, 7, "position: expected 0 to 6, received 7"),
    (island_plane, "weights", [0.25, 0.5, 1.0], [0.0, 0.0, 2.0], "weights: .* received 2"),
    (island_plane, "weights", [0.0, 0.5, 1.0], [0.0, 0.0], "weights: expected 3"),
    (island_plane, "seed", 3, -3, "seed: .* received -3"),
    (ledger, "part", "A", "B", r"part: expected '' or one of \['A'\], received 'B'"),
    (reader, "position", 6, 7, "position: expected 0 to 6, received 7"),
    (reader, "layer", 1, 2, "layer: expected 0 to 1, received 2"),
    (reader, "head", 2, 3, "head: expected 0 to 2, received 3"),
    (mixture_lens, "line", 2, 3, "line: expected 0 to 2, received 3"),
    (mixture_lens, "position", 1, 0, "position: expected 1 to"),
    (route_tree, "input", 2, 3, "input: expected 0 to 2, received 3"),
    (route_tree, "beam", 8, 9, "beam: expected 1 to 8, received 9"),
    (route_tree, "depth", 1, 0, r"depth: expected one of \[1, 2, 3\], received 0"),
    (soft_blend, "temperature", 0.5, 0, "temperature: expected .* received 0"),
    (soft_blend, "top_k", 3, 4, "top_k: expected 1 to 3, received 4"),
    (explorer, "target", "2", "cosine", "target must be one of .* got 'cosine'"),
    (explorer, "cells", 2, 5, "cells: expected .* received 5"),
    (explorer, "kind", "table", "cubic", "kind must be one of"),
    (explorer, "scale", "all", "tile", "scale must be one of"),
    (explorer, "levels", 256, 17, "levels: expected .* received 17"),
    (explorer, "x", -1, 1.25, r"x: expected a number from -1 to 1, received 1\.25"),
    (table, "signatures", [[0] * 5] * 3, [[0] * 5] * 2, r"signatures: .*\[3, 5\]"),
    (table, "signatures", (-ROWS).tolist(), (2 * ROWS).tolist(), "signatures: expected whole"),
    (table, "frozen", [1], [3], "frozen: expected 0 to 2, received 3"),
    (table, "selected", 2, 3, "selected: expected 0 to 2, received 3"),
    (table, "position", 6, 7, "position: expected 0 to 6, received 7"),
]


@pytest.mark.parametrize(("check", "given", "error", "message"), SHARED)
def test_shared_checks_name_what_is_wrong(check, given, error, message):
    with pytest.raises(error, match=message):
        check(*given)


def test_shared_checks_give_back_what_is_right():
    for values in (POINTS, POINTS.double().requires_grad_(), POINTS.numpy(), POINTS.tolist()):
        assert np.array_equal(base.array("x", values, (range(1, 9), "two")), POINTS.double())
    assert base.floats("x", POINTS.bfloat16(), (7, 2)).dtype == np.dtype("<f4")
    assert np.array_equal(base.floats("x", POINTS.bfloat16(), (7, 2)), POINTS.bfloat16().float())
    assert base.integers("x", [[1.0, -1]], (1, 2), (-1, 1)) == [[1, -1]]
    assert base.whole("x", 2, range(3)) == 2
    assert [base.number("x", one, 0, 1) for one in (0, 1)] == [0.0, 1.0]
    assert base.text("x", "a", 1, 3) + base.text("x", "abc", 1, 3) == "aabc"
    assert base.labels([], 3, 9) == []
    assert base.labels(["a b", "\n", "c\td"], 3, 3) == ["a␣b", "↵", "c⇥d"]
    assert base.packed(torch.tensor([1, 258]), "<u2") == bytes([1, 0, 2, 1])
    assert base.packed([1.0]) == np.float32(1).tobytes()


def test_every_widget_must_say_what_it_shows():
    for build, alt in product(BUILDERS, (" ", None)):
        with pytest.raises(ValueError, match="alt: expected a description of the figure, received"):
            build(alt=alt)


@pytest.mark.parametrize(("build", "options", "error", "message"), OWN)
def test_bad_arguments_are_named(build, options, error, message):
    with pytest.raises(error, match=message):
        build(**options)


@pytest.mark.parametrize(("build", "trait", "good", "bad", "message"), LATER)
def test_what_is_set_later_is_checked_too(build, trait, good, bad, message):
    made = build()
    if build is mixture_lens and trait == "position":
        made.line = 1
    setattr(made, trait, good)
    with pytest.raises(ValueError, match=message):
        setattr(made, trait, bad)
    assert getattr(made, trait) == good


def test_what_takes_more_than_one_argument_to_be_wrong():
    with pytest.raises(ValueError, match=f"the {len(ALPHABET)} characters .* received 'ab'"):
        ContextLens(tables(), "ab", "ab", alt="A passage.")
    with pytest.raises(ValueError, match="alphabet: expected no character twice"):
        ContextLens(tables(), "a" + ALPHABET[1:], "the", alt="A passage.")
    with pytest.raises(TypeError, match="tables: expected CountTables, received list"):
        ContextLens([], ALPHABET, "the", alt="A passage.")  # pyright: ignore[reportArgumentType]
    many = shares(4, 4, 1, 65)
    with pytest.raises(ValueError, match=r"at most 1024 slots .* received 4 × 4 × 65"):
        reader("x", many, many, np.ones((4, 4, 1, 1)))
    for trait, value in (("order", "chance"), ("verdicts", ["maybe"])):
        with pytest.raises(Exception, match=trait):
            setattr(ledger(), trait, value)
    assert len(Squeezed(MANY, MANY)) == 3
