import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import trix
from tests import reference


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.5])
def test_ternarize_equals_the_loop(threshold, relative):
    x = torch.randn(7, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x[2] = 0.0
    expected = reference.ternarize(x, threshold, relative)
    assert torch.equal(trix.ternarize(x, threshold, relative), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_are_exactly_ternary_while_the_gradient_passes(dtype):
    x = (37.3 * torch.randn(5, 257)).to(dtype).requires_grad_()
    t = trix.ternarize(x)
    assert set(t.detach().flatten().tolist()) == {-1.0, 0.0, 1.0}
    upstream = torch.randn(5, 257).to(dtype)
    t.backward(upstream)
    assert x.grad is not None
    assert torch.equal(x.grad, upstream)


def test_a_number_of_the_threshold_s_size_is_cut():
    x = torch.tensor([[0.5, -0.5, 0.75, -0.75]])
    assert trix.ternarize(x, 0.5, relative=False).tolist() == [[0, 0, 1, -1]]


def test_straight_through_shows_the_value_to_the_last_bit():
    value, proxy = 0.1 * torch.randn(10_000), 100 * torch.randn(10_000)
    assert torch.equal(trix.address.ternary.straight_through(value, proxy), value)


def test_one_row_does_not_change_another():
    x = torch.randn(4, 11, dtype=torch.float64)
    before = trix.ternarize(x)
    x[0] *= 1000
    assert torch.equal(trix.ternarize(x)[1:], before[1:])


@given(st.integers(1, 7), st.integers(1, 13), st.integers(0, 10_000))
def test_row_scale_is_least_squares(rows, dim, seed):
    x = torch.randn(rows, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    t = trix.ternarize(x)
    scale = trix.address.ternary.row_scale(x, t)
    for r in range(rows):
        if t[r].any():
            best = torch.linalg.lstsq(t[r][:, None], x[r][:, None]).solution.item()
            assert scale[r].item() == pytest.approx(best, rel=1e-12)
        else:
            assert scale[r].item() == 0.0


def test_ternary_fraction_counts():
    assert trix.ternary_fraction(torch.tensor([0.0, 1.0, -1.0, 0.5, 2.0])) == pytest.approx(0.6)
    assert trix.ternary_fraction(torch.tensor([0.9, 0.5]), tolerance=0.2) == pytest.approx(0.5)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="not negative, got -1"):
        trix.ternarize(torch.ones(2), threshold=-1)
    with pytest.raises(ValueError, match="finite"):
        trix.ternarize(torch.ones(2), threshold=float("nan"))
    with pytest.raises(TypeError, match="int64"):
        trix.ternarize(torch.ones(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"\[2, 3\], got \[3, 2\]"):
        trix.address.ternary.row_scale(torch.ones(2, 3), torch.ones(3, 2))
