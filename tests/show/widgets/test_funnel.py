"""What `Funnel` checks and sends; what the page makes of it is tested in a browser."""

import numpy as np
import pytest
import torch

from tests.static_page import size_on_page
from trix.show.widgets.base import Numbers
from trix.show.widgets.funnel import LETTERS, Funnel, Squeezed

N, DIM, TILES = 7, 5, 6
TEXT = "so so sad"[: N + 1]
RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(N, DIM))
SCORES = RANDOM.normal(size=(N, TILES))
TILE = SCORES.argmax(1)


def squeezed(seed: int, exact: bool = True, tokens: int = N, dim: int = DIM) -> Squeezed:
    random = np.random.default_rng(seed)
    points = random.uniform(-1, 1, size=(tokens, 2))
    outputs, true = random.normal(size=(2, tokens, dim))
    return Squeezed(points, outputs, true if exact else None)


TILED, FREE = squeezed(1), squeezed(2)


def funnel(
    text=TEXT, inputs: Numbers = INPUTS, tile: Numbers = TILE, tiled=TILED, free=FREE, **options
) -> Funnel:
    return Funnel(text, inputs, tile, tiled, free, **{"alt": "Seven characters.", **options})


def heights(letters: str) -> np.ndarray:
    places = np.array([LETTERS.index(letter) for letter in letters])
    return (places / 31 - 1).reshape(N, DIM)


def test_numbers_are_sent_as_heights_of_bars():
    made = funnel()
    tallest = np.abs(INPUTS).max(axis=1)
    assert made.largest["in"] == pytest.approx(tallest.tolist(), rel=5e-3)
    error = heights(made.inputs) * tallest[:, None] - INPUTS
    assert np.abs(error / tallest[:, None]).max() <= 0.5 / 31 + 1e-9
    assert np.abs(heights(made.inputs)).max(axis=1).tolist() == [1] * N
    # all outputs of a token share one scale
    given = [TILED.outputs, TILED.exact, FREE.outputs, FREE.exact]
    tallest = np.abs(np.stack([np.asarray(one) for one in given])).max(axis=(0, 2))
    assert made.largest["out"] == pytest.approx(tallest.tolist(), rel=5e-3)
    for name, one in (("on", TILED), ("off", FREE)):
        view = made.views[name]
        points = np.frombuffer(view["points"], "<f4").reshape(N, 2)
        assert np.array_equal(points, np.asarray(one.points).astype("f4"))
        for key, values in (("outputs", one.outputs), ("exact", one.exact)):
            error = heights(view[key]) * tallest[:, None] - values
            assert np.abs(error / tallest[:, None]).max() <= 0.5 / 31 + 1e-9
        outputs, exact = np.asarray(one.outputs), np.asarray(one.exact)
        away = np.linalg.norm(outputs - exact, axis=1) / np.linalg.norm(exact, axis=1)
        assert view["moved"] == pytest.approx(away.tolist(), abs=6e-4)


def test_outputs_may_be_zeros_or_have_no_exact_ones():
    made = funnel(free=squeezed(2, exact=False))
    assert (made.views["off"]["exact"], made.views["off"]["moved"]) == ("", [])
    assert len(made.views["on"]["exact"]) == N * DIM
    exact = np.array(TILED.exact)
    exact[2] = 0
    moved = funnel(tiled=TILED._replace(exact=exact)).views["on"]["moved"]
    assert [one is None for one in moved] == [token == 2 for token in range(N)]
    nothing = np.zeros((N, DIM))
    flat = Squeezed(TILED.points, nothing)
    made = funnel(inputs=nothing, tiled=flat, free=flat)
    assert set(made.inputs + made.views["on"]["outputs"]) == {LETTERS[31]}


def test_the_best_tiles_are_listed_and_the_own_one_is_among_them():
    tile = TILE.copy()
    tile[3] = SCORES[3].argmin()  # as a layer that balances its tiles may choose
    made = funnel(tile=tile, scores=SCORES)
    assert made.measure == "score"
    for token, listed in enumerate(made.best):
        ranked = sorted(range(TILES), key=lambda one, row=SCORES[token]: -row[one])
        expected = ranked[:3] + ([int(tile[3])] if token == 3 else ranked[3:4])
        assert [name for name, _ in listed] == expected
        for name, number in listed:
            assert number == pytest.approx(SCORES[token, name], rel=5e-3)
    made = funnel(tile=[9, 2, 9, 4, 2, 9, 70])
    assert made.measure == "tokens"
    assert made.best[0] == [[9, 3], [2, 2], [4, 1], [70, 1]]
    made = funnel(tile=[9, 2, 9, 4, 2, 70, 71])
    assert made.best[6] == [[2, 2], [9, 2], [4, 1], [71, 1]]


def test_tensors_and_arrays_are_the_same():
    def change(one) -> torch.Tensor:
        return torch.tensor(np.asarray(one)).requires_grad_()

    state = funnel(
        inputs=change(INPUTS),
        tile=torch.tensor(TILE),
        tiled=Squeezed(*map(change, TILED)),
        scores=change(SCORES),
    ).get_state()
    plain = funnel(scores=SCORES).get_state()
    for name in ("inputs", "tile", "best", "views", "largest"):
        assert state[name] == plain[name]


def test_the_largest_funnel_is_small_enough_for_a_page():
    tokens, dim, tiles = 400, 128, 64
    random = np.random.default_rng(3)
    scores = random.normal(size=(tokens, tiles))
    made = Funnel(
        "x" * (tokens + 1),
        random.normal(size=(tokens, dim)),
        scores.argmax(1),
        squeezed(4, tokens=tokens, dim=dim),
        squeezed(5, tokens=tokens, dim=dim),
        alt="Many.",
        levels=32,
        scores=scores,
    )
    assert size_on_page(made) < 300_000
