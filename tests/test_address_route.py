import pytest
import torch

import trix
from tests import reference


def _case(tokens=29, tiles=13, dim=7, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, dim, dtype=torch.float64, generator=g)
    return x, trix.ternarize(torch.randn(tiles, dim, dtype=torch.float64, generator=g))


@pytest.mark.parametrize("k", [1, 2, 5, 13])
def test_route_equals_brute_force(k):
    x, signatures = _case()
    route = trix.flat_route(x, signatures, top_k=k, temperature=0.7)
    expected = torch.tensor([reference.best_tiles(token, signatures, k) for token in x])
    assert torch.equal(route.index, expected)
    assert torch.equal(route.path, expected.unsqueeze(-1))
    scores = torch.stack([signatures[e] @ t for e, t in zip(expected, x, strict=True)])
    torch.testing.assert_close(route.score, scores, rtol=0, atol=1e-12)
    weights = torch.exp(scores / 0.7) / torch.exp(scores / 0.7).sum(-1, keepdim=True)
    torch.testing.assert_close(route.weight, weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize("k", [1, 3])
def test_the_lower_tile_wins_a_tie(k):
    signatures = torch.tensor([[1.0, 0.0]] * 40 + [[0.0, 1.0]] * 2)
    route = trix.flat_route(torch.tensor([[2.0, -1.0], [-1.0, 2.0]]), signatures, top_k=k)
    assert route.index[0].tolist() == list(range(k))
    assert route.index[1, :2].tolist() == [40, 41][:k]


@pytest.mark.parametrize("k", [1, 4])
def test_nan_stays_with_its_token(k):
    x, signatures = _case()
    clean = trix.flat_route(x, signatures, top_k=k)
    x[3, 2] = float("nan")
    route = trix.flat_route(x, signatures, top_k=k)
    others = torch.arange(len(x)) != 3
    assert torch.equal(route.index[others], clean.index[others])
    assert torch.equal(route.weight[others], clean.weight[others])
    assert route.weight[3].isnan().all()
    assert (route.index >= 0).all()
    assert (route.index < len(signatures)).all()


def test_leading_axes_and_no_tokens():
    x, signatures = _case(tokens=30)
    flat = trix.flat_route(x, signatures, top_k=2)
    shaped = trix.flat_route(x.view(2, 3, 5, 7), signatures, top_k=2)
    assert torch.equal(shaped.index.view(30, 2), flat.index)
    single = trix.flat_route(x[4], signatures, top_k=2)
    assert torch.equal(single.index, flat.index[4])
    assert trix.flat_route(x[:0], signatures, top_k=2).index.shape == (0, 2)


def test_small_temperature_is_the_hard_choice():
    torch.manual_seed(0)
    x, signatures = _case()
    soft = trix.flat_route(x, signatures + 0.3 * torch.randn_like(signatures), 13, 1e-4)
    assert soft.weight[:, 0].min() > 1 - 1e-4


def test_temperature_and_signatures_get_a_gradient():
    x, signatures = _case()
    signatures.requires_grad_()
    temperature = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    route = trix.flat_route(x, signatures, top_k=3, temperature=temperature)
    (route.weight * torch.randn_like(route.weight)).sum().backward()
    assert temperature.grad is not None
    assert signatures.grad is not None
    assert temperature.grad.abs() > 0
    chosen = route.index.unique()
    assert (signatures.grad[chosen].abs().sum(-1) > 0).all()


def test_bad_arguments_are_named():
    x, signatures = _case()
    with pytest.raises(ValueError, match="between 1 and the 13 tiles, got 14"):
        trix.flat_route(x, signatures, top_k=14)
    with pytest.raises(ValueError, match=r"\[\.\.\., 7\], got \[29, 6\]"):
        trix.flat_route(x[:, :6], signatures)
    with pytest.raises(ValueError, match=r"\[tiles >= 1, dim\], got \[7\]"):
        trix.flat_route(x, signatures[0])
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        for given in (temperature, torch.tensor(temperature)):
            with pytest.raises(ValueError, match="temperature must be positive and finite"):
                trix.flat_route(x, signatures, temperature=given)


def test_signatures_equal_the_vote_by_hand():
    weights = torch.randn(5, 3, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = reference.weight_signatures(weights, 0.5)
    assert torch.equal(trix.weight_signatures(weights), expected)
    assert expected.unique().tolist() == [-1, 0, 1]
    with pytest.raises(ValueError, match=r"\[3, 11\]"):
        trix.weight_signatures(weights[0])


def test_the_bias_chooses_and_leaves_the_scores_alone():
    x, signatures = _case()
    bias = torch.randn(13, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    route = trix.flat_route(x, signatures, top_k=2, bias=3 * bias)
    scores = x @ signatures.T
    expected = (scores + 3 * bias).sort(descending=True, stable=True).indices[:, :2]
    assert torch.equal(route.index, expected)
    torch.testing.assert_close(route.score, scores.gather(1, expected))
    assert not torch.equal(route.index, trix.flat_route(x, signatures, top_k=2).index)
    with pytest.raises(ValueError, match=r"bias must be \[13\], got \[12\]"):
        trix.flat_route(x, signatures, bias=bias[:12])


def test_the_route_carries_its_tokens_outside_the_gradient():
    x, signatures = _case()
    route = trix.flat_route(x.requires_grad_(), signatures)
    assert route.token is not None
    assert torch.equal(route.token, x)
    assert not route.token.requires_grad


def test_signatures_must_be_finite():
    x, signatures = _case()
    signatures[4, 1] = float("inf")
    with pytest.raises(ValueError, match=r"finite, got other values in rows \[4\]"):
        trix.flat_route(x, signatures)


@pytest.mark.parametrize("temperature", [1e-45, 1e-30, 1e30])
def test_extreme_temperatures_stay_finite(temperature):
    score = torch.tensor([[3.0, 2.0, -80.0], [1.0, 1.0, 0.0]])
    weight = trix.blend_weights(score, temperature)
    torch.testing.assert_close(weight.sum(-1), torch.ones(2))
    expected = [[1.0, 0, 0], [0.5, 0.5, 0]] if temperature < 1 else [[1 / 3] * 3] * 2
    torch.testing.assert_close(weight, torch.tensor(expected))
