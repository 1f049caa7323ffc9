"""Designed signatures and plans: what is foreseen is what happens, or nothing does."""

from typing import Any

import pytest
import torch

import trix
from trix.surgery import (
    Insertion,
    SurgeryPlan,
    signature_from_examples,
    signature_from_features,
    signature_from_tile,
)

DIM, TILES = 7, 5
LAYERS: dict[str, Any] = {
    "lookup": lambda: trix.SparseLookupFFN(DIM, TILES, None, 4),
    "clusters": lambda: trix.SparseLookupFFN(DIM, TILES, 3, None, top_k=2, beam=2),
    "codebook": lambda: trix.CodebookFFN(DIM, TILES, top_k=2),
    "funnel": lambda: trix.FunnelFFN(DIM, TILES, 3, levels=3),
    "tiled": lambda: trix.TiledFFN(DIM, TILES, source="decoupled"),
}
ROW = torch.tensor([1.0, -1, 0, 0, 1, -1, 1])
PLAN = SurgeryPlan((Insertion(3, ROW, tag="a"), Insertion(1, -ROW, freeze=False)))


def _layer(name="lookup") -> Any:
    torch.manual_seed(0)
    layer = LAYERS[name]()
    layer.insert_signature(1, ROW.roll(1), tag="before")
    return layer


def _state(layer):
    return {name: value.detach().clone() for name, value in layer.state_dict().items()}


def _same(first, second):
    return first.keys() == second.keys() and all(
        first[name].numpy().tobytes() == second[name].numpy().tobytes() for name in first
    )


def _x(*shape):
    return torch.randn(*shape, DIM, generator=torch.Generator().manual_seed(2))


# Signatures


def test_a_signature_of_examples_is_the_cut_difference_of_means():
    wanted, others = 0.5 * _x(9) + ROW, _x(20)
    for threshold in (0.0, 0.5, 1.2):
        means = [
            sum(float(t[d]) for t in wanted) / 9 - sum(float(t[d]) for t in others) / 20
            for d in range(DIM)
        ]
        cut = threshold * sum(abs(m) for m in means) / DIM
        expected = [0.0 if abs(m) <= cut else 1.0 if m > 0 else -1.0 for m in means]
        assert signature_from_examples(wanted, others, threshold).tolist() == expected
    assert signature_from_examples(2 * ROW[None], ROW[None]).tolist() == ROW.tolist()
    assert signature_from_examples(ROW[None], ROW[None]).tolist() == [0.0] * DIM
    learned = ROW[None].clone().requires_grad_()
    assert not signature_from_examples(learned, _x(3)).requires_grad


def test_a_signature_of_features_is_what_was_named():
    assert signature_from_features(7, [0, 4, 6], (1, 5)).tolist() == ROW.tolist()
    assert signature_from_features(3).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", LAYERS)
def test_a_signature_of_a_tile_is_a_copy(name):
    layer = _layer(name)
    row = signature_from_tile(layer, 1)
    assert torch.equal(row, ROW.roll(1))
    assert torch.equal(signature_from_tile(layer, 4), layer.signatures[4])
    row.zero_()
    assert torch.equal(layer.signatures[1], ROW.roll(1))
    layer.insert_signature(0, signature_from_tile(layer, 1))
    assert torch.equal(layer.signatures[0], ROW.roll(1))


def test_bad_examples_features_and_tiles_are_named():
    good = _x(4)
    nan = good.clone()
    nan[1, 2] = torch.nan
    for wanted, others, message in (
        (good[:0], good, r"wanted must be \[n >= 1, 7\], got \[0, 7\]"),
        (good, good[:0], r"others must be \[n >= 1, 7\], got \[0, 7\]"),
        (good[0], good, r"wanted must be \[n >= 1, 7\], got \[7\]"),
        (good, good[:, :6], r"others must be \[n >= 1, 7\], got \[4, 6\]"),
        (nan, good, r"wanted must be finite, got \[nan\]"),
        (good, good / 0, r"others must be finite, got \["),
    ):
        with pytest.raises(ValueError, match=message):
            signature_from_examples(wanted, others)
    with pytest.raises(ValueError, match=r"wanted or unwanted, got \[2\] as both"):
        signature_from_features(7, [1, 2], [2, 3])
    for feature in (-1, 7):
        with pytest.raises(IndexError, match=f"features must be in 0 … 6, got {feature}"):
            signature_from_features(7, [0], [feature])
    with pytest.raises(TypeError, match=r"features must be an integer, got 1\.0"):
        signature_from_features(7, [1.0])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        signature_from_features(0)
    for tile in (-1, 5):
        with pytest.raises(IndexError, match=f"tile_idx must be in 0 … 4, got {tile}"):
            signature_from_tile(_layer(), tile)
    with pytest.raises(TypeError, match="tile_idx must be an integer, got True"):
        signature_from_tile(_layer(), True)


# Plans


@pytest.mark.parametrize("name", LAYERS)
def test_a_preview_edits_nothing_and_is_what_applying_does(name):
    layer, x = _layer(name), _x(4, 10)
    begin, before = _state(layer), layer.routed(x).route
    preview = PLAN.preview(layer, x)
    assert _same(_state(layer), begin)
    PLAN.apply(layer)
    after = layer.routed(x).route
    for foreseen, real in ((preview.before, before), (preview.after, after)):
        assert torch.equal(foreseen.index, real.index)
        assert torch.equal(foreseen.score, real.score)
    assert torch.equal(layer.signatures[3], ROW)
    assert torch.equal(layer.signatures[1], -ROW)
    assert (layer.is_frozen(3), layer.is_frozen(1)) == (True, False)
    assert layer.get_signature_analysis(3)["tag"] == "a"
    moved = [
        (a, b)
        for a, b in zip(
            before.index[..., 0].flatten().tolist(),
            after.index[..., 0].flatten().tolist(),
            strict=True,
        )
    ]
    assert preview.moved.shape == (4, 10)
    assert preview.moved.flatten().tolist() == [a != b for a, b in moved]
    counts = {pair: moved.count(pair) for pair in moved if pair[0] != pair[1]}
    assert len(counts) > 1
    expected = sorted((-n, a, b) for (a, b), n in counts.items())
    assert preview.moves() == [(a, b, -n) for n, a, b in expected]
    for _ in PLAN.edits:
        layer.undo_surgery()
    assert _same(_state(layer), begin)


def test_a_plan_without_edits_moves_nothing():
    preview = SurgeryPlan(()).preview(_layer(), _x(6))
    assert not preview.moved.any()
    assert preview.moves() == []


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(
    ("edit", "kind", "message"),
    [
        (Insertion(5, ROW), IndexError, "tile must be in 0 … 4, got 5"),
        (Insertion(-1, ROW), IndexError, "got -1"),
        (Insertion(0, ROW[:3]), ValueError, r"\[7\], got \[3\]"),
        (Insertion(0, ROW * 2), ValueError, r"alone, got \[2\.0"),
        (Insertion(0, ROW * torch.nan), ValueError, r"alone, got \[nan"),
    ],
)
def test_a_plan_with_one_bad_edit_makes_none(name, edit, kind, message):
    layer = _layer(name)
    begin = _state(layer)
    again = Insertion(3, ROW.roll(2), freeze=False, tag="b")  # the same tile once more
    for place in range(4):
        edits = [*PLAN.edits, again]
        edits.insert(place, edit)
        plan = SurgeryPlan(tuple(edits))
        with pytest.raises(kind, match=message):
            plan.apply(layer)
        assert _same(_state(layer), begin)
        with pytest.raises(kind, match=message):
            plan.preview(layer, _x(3))
        assert _same(_state(layer), begin)
