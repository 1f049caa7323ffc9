import pytest
import torch

from trix.address.gate import REACH, ScoreGate, cell_of


def _gate(dim=16, knots=7, seed=0):
    gate = ScoreGate(dim, knots)
    with torch.no_grad():
        steps = torch.randn(knots - 1, generator=torch.Generator().manual_seed(seed))
        gate.steps.copy_(3 * steps)
    return gate


def test_a_number_lies_in_one_cell_and_the_outer_cells_go_on():
    x = torch.tensor([-3.0, -2.0, -1.5, -1.0, 0.5, 1.99, 2.0, 7.0, torch.inf, torch.nan])
    cell, place = cell_of(x, 5, -2.0, 2.0)
    assert cell.tolist() == [0, 0, 0, 1, 2, 3, 3, 3, 3, 0]
    expected = torch.tensor([-1.0, 0, 0.5, 0, 0.5, 0.99, 1, 6, torch.inf, torch.nan])
    torch.testing.assert_close(place, expected, equal_nan=True)


def test_at_initialization_it_is_the_logistic_function():
    gate = ScoreGate(64).double()
    score = torch.linspace(-REACH * 8, REACH * 8, 9, dtype=torch.float64)
    torch.testing.assert_close(gate(score), torch.sigmoid(score / 8), rtol=0, atol=1e-6)
    assert repr(gate) == "ScoreGate(dim=64, knots=9)"


def test_between_knots_it_is_the_line_between_them():
    gate = _gate().double()
    at = torch.linspace(-REACH, REACH, 7, dtype=torch.float64)
    values = gate.values()
    assert (values.diff() > 0).all()
    far = gate(torch.tensor([-torch.inf, torch.inf, torch.nan]).double()).tolist()
    assert far[:2] == [-torch.inf, torch.inf]
    assert far[2] != far[2]
    for i in range(6):
        middle = (0.3 * at[i] + 0.7 * at[i + 1]) * 4
        expected = 0.3 * values[i] + 0.7 * values[i + 1]
        torch.testing.assert_close(gate(middle), expected, rtol=0, atol=1e-12)
    beyond = values[-1] + (values[-1] - values[-2]) * 0.5
    torch.testing.assert_close(gate((at[-1] + (at[1] - at[0]) / 2) * 4), beyond)


@pytest.mark.parametrize(("dim", "dtype"), [(64, torch.float32), (512, torch.bfloat16)])
def test_it_never_reorders_scores(dim, dtype):
    for seed in range(5):
        gate = _gate(dim, knots=9, seed=seed).to(dtype)
        score = (torch.randn(20_000) * 2 * dim**0.5).to(dtype).sort().values
        assert (gate(score).diff() >= 0).all()


def test_every_knot_and_the_score_get_a_gradient():
    gate = _gate().double()
    score = torch.linspace(-20, 20, 50, dtype=torch.float64).requires_grad_()
    gate(score).square().sum().backward()
    for tensor in (score, gate.steps, gate.first):
        assert tensor.grad is not None
        assert (tensor.grad != 0).all()
    assert torch.autograd.gradcheck(gate, (torch.randn(9).double().requires_grad_(),))
