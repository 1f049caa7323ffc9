import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import trix
from tests import reference
from trix.address.ternary import row_scale, straight_through


def _drawn(*shape, seed=1):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("threshold", "relative"),
    [(0.0, True), (0.3, False), (0.5, True), (0.7, False), (0.7, True), (1.5, True)],
)
def test_ternarize_equals_the_loop(threshold, relative):
    x = _drawn(7, 13)
    x[2] = 0.0
    x[3, :4] = torch.tensor([threshold, -threshold, 2 * threshold, 0])  # of that size: cut
    expected = reference.ternarize(x, threshold, relative)
    assert torch.equal(trix.ternarize(x, threshold, relative), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_are_exactly_ternary_while_the_gradient_passes(dtype):
    x = (37.3 * _drawn(5, 257)).to(dtype).requires_grad_()
    t = trix.ternarize(x)
    assert set(t.detach().flatten().tolist()) == {-1.0, 0.0, 1.0}
    upstream = _drawn(5, 257, seed=2).to(dtype)
    t.backward(upstream)
    assert x.grad is not None
    assert torch.equal(x.grad, upstream)
    value = 0.1 * torch.randn(10_000)  # shown to the last bit
    assert torch.equal(straight_through(value, 100 * torch.randn(10_000)), value)


@settings(max_examples=30)
@given(st.integers(1, 7), st.integers(1, 13), st.integers(0, 10_000))
def test_row_scale_is_least_squares(rows, dim, seed):
    x = _drawn(rows, dim, seed=seed)
    x[0] = 0
    t = trix.ternarize(x)
    for row, cut, scale in zip(x, t, row_scale(x, t)[:, 0].tolist(), strict=True):
        best = torch.linalg.lstsq(cut[:, None], row[:, None]).solution.item() if cut.any() else 0
        assert scale == pytest.approx(best, rel=1e-12)


def test_ternary_fraction_counts():
    assert trix.ternary_fraction(torch.tensor([0.0, 1.0, -1.0, 0.5, 2.0])) == pytest.approx(0.6)
    assert trix.ternary_fraction(torch.tensor([0.9, 0.5]), tolerance=0.2) == pytest.approx(0.5)
    assert trix.ternary_fraction(torch.zeros(0)) == 1.0


def test_signatures_equal_the_vote_by_hand():
    weights = _drawn(5, 3, 11, seed=2)
    for threshold in (0.5, 0.9):
        expected = reference.weight_signatures(weights, threshold)
        assert torch.equal(trix.weight_signatures(weights, threshold), expected)
        assert expected.unique().tolist() == [-1, 0, 1]
    weights.requires_grad_()
    trix.weight_signatures(weights).sum().backward()
    assert weights.grad is not None
    assert torch.equal(weights.grad, torch.full_like(weights, 1 / 3))
