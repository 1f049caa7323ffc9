import pytest
import torch

import trix
from trix.address.gate import REACH, ScoreGate


def _gate(dim=16, knots=7, seed=0):
    """Return a gate with steep and flat stretches, as training might leave one."""
    torch.manual_seed(seed)
    gate = ScoreGate(dim, knots)
    with torch.no_grad():
        gate.steps.copy_(3 * torch.randn(knots - 1))
    return gate


def test_it_begins_as_the_logistic_function():
    gate = ScoreGate(64).double()
    score = torch.linspace(-REACH * 8, REACH * 8, 9, dtype=torch.float64)
    torch.testing.assert_close(gate(score), torch.sigmoid(score / 8), rtol=0, atol=1e-6)


def test_between_knots_it_is_the_line_between_them():
    gate = _gate().double()
    at = torch.linspace(-REACH, REACH, 7, dtype=torch.float64)
    values = gate.values()
    assert (values.diff() > 0).all()
    for i in range(6):
        middle = (0.3 * at[i] + 0.7 * at[i + 1]) * 4
        expected = 0.3 * values[i] + 0.7 * values[i + 1]
        torch.testing.assert_close(gate(middle), expected, rtol=0, atol=1e-12)
    beyond = values[-1] + (values[-1] - values[-2]) * 0.5
    torch.testing.assert_close(gate((at[-1] + (at[1] - at[0]) / 2) * 4), beyond)


@pytest.mark.parametrize("dim", [64, 512, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_never_reorders_scores(dim, dtype):
    for seed in range(5):
        gate = _gate(dim, knots=9, seed=seed).to(dtype)
        score = (torch.randn(20_000) * 2 * dim**0.5).to(dtype).sort().values
        assert (gate(score).diff() >= 0).all()


@pytest.mark.parametrize("dim", [64, 512, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_chosen_tile_stays_whatever_the_gate(dim, dtype):
    torch.manual_seed(0)
    layer = trix.TiledFFN(dim, tiles=8, hidden=4, top_k=2, source="decoupled").to(dtype)
    x = torch.randn(200, dim).to(dtype)
    before = layer.routed(x)
    assert torch.equal(
        before.route.index, trix.address.route.flat_route(x, layer.signatures, 2).index
    )
    with torch.no_grad():
        layer.gate.steps.copy_(3 * torch.randn(8))
    after = layer.routed(x)
    assert torch.equal(before.route.index, after.route.index)
    assert not torch.equal(before.output, after.output)
    # the best place stays the best once it is calibrated
    gate = layer.gate(trix.address.route.flat_route(x, layer.signatures, 8).score)
    assert (gate[:, :1] >= gate).all()


def test_every_knot_and_the_score_get_a_gradient():
    gate = _gate().double()
    score = torch.linspace(-20, 20, 50, dtype=torch.float64).requires_grad_()
    gate(score).square().sum().backward()
    assert score.grad is not None
    assert gate.steps.grad is not None
    assert gate.first.grad is not None
    assert (score.grad != 0).all()
    assert (gate.steps.grad != 0).all()
    assert torch.autograd.gradcheck(gate, (torch.randn(9).double().requires_grad_(),))


def test_nan_and_infinity():
    out = _gate()(torch.tensor([0.0, float("nan"), float("inf"), float("-inf")]))
    assert out[0].isfinite()
    assert out[1].isnan()
    assert out[2] == float("inf")
    assert out[3] == float("-inf")


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="knots must be at least 2, got 1"):
        ScoreGate(8, knots=1)
