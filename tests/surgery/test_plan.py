"""Designed signatures and plans: what is foreseen is what happens, or nothing does."""

import pytest
import torch

from tests.surgery.layers import DIM, LAYERS, made, same, state, tokens
from trix.surgery import Insertion, SurgeryPlan, signature_from_examples

ROW = torch.tensor([1.0, -1, 0, 0, 1, -1, 1])
PLAN = SurgeryPlan((Insertion(3, ROW, tag="a"), Insertion(1, -ROW, freeze=False)))


def _layer(name="lookup"):
    layer = made(name)
    layer.insert_signature(1, ROW.roll(1), tag="before")
    return layer


def test_a_signature_of_examples_is_the_cut_difference_of_means():
    wanted, others = 0.5 * tokens(9) + ROW, tokens(20)
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
    assert not signature_from_examples(learned, tokens(3)).requires_grad


GOOD = torch.ones(4, DIM)


@pytest.mark.parametrize(
    ("wanted", "others", "match"),
    [
        (GOOD[:0], GOOD, r"wanted must have shape \[n >= 1, 7\], got \[0, 7\]"),
        (GOOD, GOOD[:0], r"others must have shape \[n >= 1, 7\], got \[0, 7\]"),
        (GOOD[0], GOOD, r"wanted must have shape \[n >= 1, 7\], got \[7\]"),
        (GOOD, GOOD[:, :6], r"others must have shape \[n >= 1, 7\], got \[4, 6\]"),
        (GOOD * torch.nan, GOOD, r"wanted must be finite, got \[nan"),
        (GOOD, GOOD / 0, r"others must be finite, got \[inf"),
    ],
)
def test_bad_examples_are_named(wanted, others, match):
    with pytest.raises(ValueError, match=match):
        signature_from_examples(wanted, others)


@pytest.mark.parametrize("name", LAYERS)
def test_a_preview_edits_nothing_and_is_what_applying_does(name):
    layer, x = _layer(name), tokens(4, 10, seed=2)
    unedited, before = state(layer), layer.routed(x).route
    preview = PLAN.preview(layer, x)
    assert same(state(layer), unedited)
    assert SurgeryPlan(()).preview(layer, x).moves() == []
    PLAN.apply(layer)
    after = layer.routed(x).route
    for foreseen, real in ((preview.before, before), (preview.after, after)):
        assert torch.equal(foreseen.index, real.index)
        assert torch.equal(foreseen.score, real.score)
    assert torch.equal(layer.signatures[3], ROW)
    assert torch.equal(layer.signatures[1], -ROW)
    assert (layer.is_frozen(3), layer.is_frozen(1)) == (True, False)
    assert layer.get_signature_analysis(3)["tag"] == "a"
    ends = [route.index[..., 0].flatten().tolist() for route in (before, after)]
    moved = list(zip(*ends, strict=True))
    assert preview.moved.shape == (4, 10)
    assert preview.moved.flatten().tolist() == [a != b for a, b in moved]
    counts = {pair: moved.count(pair) for pair in moved if pair[0] != pair[1]}
    assert len(counts) > 1
    expected = sorted((-n, a, b) for (a, b), n in counts.items())
    assert preview.moves() == [(a, b, -n) for n, a, b in expected]
    for _ in PLAN.edits:
        layer.undo_surgery()
    assert same(state(layer), unedited)


@pytest.mark.parametrize("name", ["lookup", "funnel"])
@pytest.mark.parametrize(
    ("edit", "error", "match"),
    [
        (Insertion(5, ROW), IndexError, "tile must be in 0 … 4, got 5"),
        (Insertion(-1, ROW), IndexError, "got -1"),
        (Insertion(0, ROW[:3]), ValueError, r"\[7\], got \[3\]"),
        (Insertion(0, ROW * 2), ValueError, r"alone, got \[2\.0"),
        (Insertion(0, ROW * torch.nan), ValueError, r"alone, got \[nan"),
    ],
)
def test_a_plan_with_one_bad_edit_makes_none(name, edit, error, match):
    layer = _layer(name)
    unedited = state(layer)
    again = Insertion(3, ROW.roll(2), freeze=False, tag="b")  # the same tile once more
    for place in range(4):
        edits = [*PLAN.edits, again]
        edits.insert(place, edit)
        plan = SurgeryPlan(tuple(edits))
        for call in (plan.apply, lambda layer, plan=plan: plan.preview(layer, tokens(3))):
            with pytest.raises(error, match=match):
                call(layer)
            assert same(state(layer), unedited)
