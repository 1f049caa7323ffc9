import math

import pytest
import torch

from tests import reference
from tests.reference import routing_case
from trix.address.route import best, blend_weights, check_temperature, flat_route

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("k", [1, 2, 5, 13])
def test_route_equals_brute_force(k):
    x, signatures = routing_case()
    route = flat_route(x, signatures, top_k=k, temperature=0.7)
    expected = torch.tensor([reference.best_tiles(token, signatures, k) for token in x])
    assert torch.equal(route.index, expected)
    assert torch.equal(route.path, expected.unsqueeze(-1))
    scores = torch.stack([signatures[e] @ t for e, t in zip(expected, x, strict=True)])
    torch.testing.assert_close(route.score, scores, rtol=0, atol=1e-12)
    weights = torch.exp(scores / 0.7) / torch.exp(scores / 0.7).sum(-1, keepdim=True)
    torch.testing.assert_close(route.weight, weights, rtol=0, atol=1e-12)


def test_leading_axes_no_tokens_and_a_nan_that_stays_with_its_token():
    x, signatures = routing_case(tokens=30)
    flat = flat_route(x, signatures, top_k=2)
    shaped = flat_route(x.view(2, 3, 5, 7), signatures, top_k=2)
    assert torch.equal(shaped.index.view(30, 2), flat.index)
    assert torch.equal(flat_route(x[4], signatures, top_k=2).index, flat.index[4])
    assert flat_route(x[:0], signatures, top_k=2).index.shape == (0, 2)
    x[3, 2] = NAN
    route, others = flat_route(x, signatures, top_k=2), torch.arange(30) != 3
    assert torch.equal(route.index[others], flat.index[others])
    assert torch.equal(route.weight[others], flat.weight[others])
    assert route.weight[3].isnan().all()
    assert ((route.index >= 0) & (route.index < len(signatures))).all()


def test_tokens_temperature_and_signatures_get_a_gradient_and_the_route_s_token_none():
    x, signatures = routing_case()
    temperature = torch.tensor(0.5, dtype=torch.float64)
    learned = [t.requires_grad_() for t in (x, signatures, temperature)]
    route = flat_route(x, signatures, top_k=3, temperature=temperature)
    weigh = torch.randn(route.weight.shape, generator=torch.Generator().manual_seed(1))
    (route.weight * weigh).sum().backward()
    for tensor in learned:
        assert tensor.grad is not None
    assert temperature.grad != 0
    assert (signatures.grad[route.index.unique()].abs().sum(-1) > 0).all()  # pyright: ignore[reportOptionalSubscript]
    assert route.token is not None
    assert torch.equal(route.token, x)
    assert not route.token.requires_grad


def test_the_bias_chooses_and_leaves_the_scores_alone():
    x, signatures = routing_case()
    bias = 3 * torch.randn(13, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    route = flat_route(x, signatures, top_k=2, bias=bias)
    scores = x @ signatures.T
    expected = (scores + bias).sort(descending=True, stable=True).indices[:, :2]
    assert torch.equal(route.index, expected)
    torch.testing.assert_close(route.score, scores.gather(1, expected))
    torch.testing.assert_close(route.weight, route.score.softmax(-1))
    assert not torch.equal(route.index, flat_route(x, signatures, top_k=2).index)


@pytest.mark.parametrize("temperature", [1e-45, 1e-30, 1e-4, 1e30])
def test_extreme_temperatures_stay_finite(temperature):
    score = torch.tensor([[3.0, 2.0, -80.0], [1.0, 1.0, 0.0]])
    weight = blend_weights(score, temperature)
    torch.testing.assert_close(weight.sum(-1), torch.ones(2))
    expected = [[1.0, 0, 0], [0.5, 0.5, 0]] if temperature < 1 else [[1 / 3] * 3] * 2
    torch.testing.assert_close(weight, torch.tensor(expected))
    assert torch.equal(blend_weights(score), blend_weights(score, 1.0))


@pytest.mark.parametrize("bad", [0.0, -1.0, NAN, INF])
def test_a_temperature_that_is_not_positive_and_finite_is_named(bad):
    for given in (bad, torch.tensor(bad), torch.tensor([1.0, bad, 2.0])):
        with pytest.raises(ValueError, match=f"temperature must be positive and finite, got {bad}"):
            check_temperature(given)
    check_temperature(torch.tensor([1e-30, 1e30]))


# the best of each row: against a full sort of lists


def _full_sort(scores, k):
    rows = scores.reshape(-1, scores.shape[-1]).tolist()
    found = [sorted(range(len(row)), key=lambda n: (-row[n], n))[:k] for row in rows]
    return torch.tensor(found, dtype=torch.int64).view(*scores.shape[:-1], k)


def _scores(kind, rows=31, n=13, dtype=torch.float32):
    scores = torch.randn(rows, n, generator=torch.Generator().manual_seed(7))
    return ((2 * scores).round() if kind == "whole" else scores).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("kind", ["real", "whole"])
@pytest.mark.parametrize("k", [1, 2, 5, 12, 13])
def test_the_best_are_those_of_a_full_stable_sort(k, kind, dtype):
    scores = _scores(kind, dtype=dtype)
    assert torch.equal(best(scores, k), _full_sort(scores, k))
    shaped = scores[:30].view(2, 3, 5, 13)
    assert torch.equal(best(shaped, k), _full_sort(shaped, k))
    assert torch.equal(best(scores[4], k), _full_sort(scores[4], k))
    assert best(scores[:0], k).shape == (0, k)


def test_a_tie_at_the_border_goes_to_the_lower_place():
    # 63 places share the second score: a selection that is not stable takes any of them
    scores = torch.ones(5, 64)
    scores[:, 40] = 2.0
    assert best(scores, 3).tolist() == [[40, 0, 1]] * 5
    assert best(-scores, 2).tolist() == [[0, 1]] * 5
    # a tie in one row alone must not hide behind rows without one
    scores = _scores("real")
    scores[17, [2, 9]] = scores[17].sort(descending=True).values[4]
    assert torch.equal(best(scores, 5), _full_sort(scores, 5))
    signs = torch.tensor([[0.0, -0.0, 1.0, 0.0, -0.0]])
    assert best(signs, 3).tolist() == [[2, 0, 1]]
    assert best(torch.tensor([[-INF, INF, 0.0, INF, -INF]]), 4).tolist() == [[1, 3, 2, 0]]


@pytest.mark.parametrize("kind", ["real", "whole"])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_nan_comes_first_and_spoils_no_other_row(k, kind):
    scores = _scores(kind)
    clean = best(scores, k)
    scores[3, [6, 1]] = NAN
    got = best(scores, k)
    others = torch.arange(len(scores)) != 3
    assert torch.equal(got[others], clean[others])
    assert set(got[3, :2].tolist()) <= {1, 6}
    rest = scores[3].masked_fill(scores[3].isnan(), -INF)
    assert got[3, 2:].tolist() == _full_sort(rest, max(k - 2, 0)).tolist()
    assert len(set(best(torch.full((2, 13), NAN), k)[0].tolist())) == k


@pytest.mark.parametrize("k", [1, 2, 13])
def test_the_best_are_the_same_when_compiled(k):
    torch.compiler.reset()
    compiled = torch.compile(best, fullgraph=True, backend="eager")
    for kind in ("real", "whole"):
        scores = _scores(kind)
        assert torch.equal(compiled(scores, k), best(scores, k))
