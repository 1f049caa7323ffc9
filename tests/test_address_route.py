import pytest
import torch

import trix
from tests import reference
from trix.address.route import best


def _case(tokens=29, tiles=13, dim=7, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, dim, dtype=torch.float64, generator=g)
    return x, trix.ternarize(torch.randn(tiles, dim, dtype=torch.float64, generator=g))


@pytest.mark.parametrize("k", [1, 2, 5, 13])
def test_route_equals_brute_force(k):
    x, signatures = _case()
    route = trix.address.route.flat_route(x, signatures, top_k=k, temperature=0.7)
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
    route = trix.address.route.flat_route(
        torch.tensor([[2.0, -1.0], [-1.0, 2.0]]), signatures, top_k=k
    )
    assert route.index[0].tolist() == list(range(k))
    assert route.index[1, :2].tolist() == [40, 41][:k]


@pytest.mark.parametrize("k", [1, 4])
def test_nan_stays_with_its_token(k):
    x, signatures = _case()
    clean = trix.address.route.flat_route(x, signatures, top_k=k)
    x[3, 2] = float("nan")
    route = trix.address.route.flat_route(x, signatures, top_k=k)
    others = torch.arange(len(x)) != 3
    assert torch.equal(route.index[others], clean.index[others])
    assert torch.equal(route.weight[others], clean.weight[others])
    assert route.weight[3].isnan().all()
    assert (route.index >= 0).all()
    assert (route.index < len(signatures)).all()


def test_leading_axes_and_no_tokens():
    x, signatures = _case(tokens=30)
    flat = trix.address.route.flat_route(x, signatures, top_k=2)
    shaped = trix.address.route.flat_route(x.view(2, 3, 5, 7), signatures, top_k=2)
    assert torch.equal(shaped.index.view(30, 2), flat.index)
    single = trix.address.route.flat_route(x[4], signatures, top_k=2)
    assert torch.equal(single.index, flat.index[4])
    assert trix.address.route.flat_route(x[:0], signatures, top_k=2).index.shape == (0, 2)


def test_small_temperature_is_the_hard_choice():
    torch.manual_seed(0)
    x, signatures = _case()
    soft = trix.address.route.flat_route(
        x, signatures + 0.3 * torch.randn_like(signatures), 13, 1e-4
    )
    assert soft.weight[:, 0].min() > 1 - 1e-4


def test_temperature_and_signatures_get_a_gradient():
    x, signatures = _case()
    signatures.requires_grad_()
    temperature = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    route = trix.address.route.flat_route(x, signatures, top_k=3, temperature=temperature)
    (route.weight * torch.randn_like(route.weight)).sum().backward()
    assert temperature.grad is not None
    assert signatures.grad is not None
    assert temperature.grad.abs() > 0
    chosen = route.index.unique()
    assert (signatures.grad[chosen].abs().sum(-1) > 0).all()


def test_bad_arguments_are_named():
    x, signatures = _case()
    with pytest.raises(ValueError, match="at most the 13 tiles, got 14"):
        trix.address.route.flat_route(x, signatures, top_k=14)
    with pytest.raises(ValueError, match=r"\[\.\.\., 7\], got \[29, 6\]"):
        trix.address.route.flat_route(x[:, :6], signatures)
    with pytest.raises(ValueError, match=r"\[tiles >= 1, dim\], got \[7\]"):
        trix.address.route.flat_route(x, signatures[0])
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        for given in (temperature, torch.tensor(temperature)):
            with pytest.raises(ValueError, match="temperature must be positive and finite"):
                trix.address.route.flat_route(x, signatures, temperature=given)


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
    route = trix.address.route.flat_route(x, signatures, top_k=2, bias=3 * bias)
    scores = x @ signatures.T
    expected = (scores + 3 * bias).sort(descending=True, stable=True).indices[:, :2]
    assert torch.equal(route.index, expected)
    torch.testing.assert_close(route.score, scores.gather(1, expected))
    assert not torch.equal(route.index, trix.address.route.flat_route(x, signatures, top_k=2).index)
    with pytest.raises(ValueError, match=r"bias must have shape \[13\], got \[12\]"):
        trix.address.route.flat_route(x, signatures, bias=bias[:12])


def test_the_route_carries_its_tokens_outside_the_gradient():
    x, signatures = _case()
    route = trix.address.route.flat_route(x.requires_grad_(), signatures)
    assert route.token is not None
    assert torch.equal(route.token, x)
    assert not route.token.requires_grad


def test_signatures_must_be_finite():
    x, signatures = _case()
    signatures[4, 1] = float("inf")
    with pytest.raises(ValueError, match=r"finite, got \[inf\]"):
        trix.address.route.flat_route(x, signatures)


@pytest.mark.parametrize("temperature", [1e-45, 1e-30, 1e30])
def test_extreme_temperatures_stay_finite(temperature):
    score = torch.tensor([[3.0, 2.0, -80.0], [1.0, 1.0, 0.0]])
    weight = trix.address.route.blend_weights(score, temperature)
    torch.testing.assert_close(weight.sum(-1), torch.ones(2))
    expected = [[1.0, 0, 0], [0.5, 0.5, 0]] if temperature < 1 else [[1 / 3] * 3] * 2
    torch.testing.assert_close(weight, torch.tensor(expected))


def _full_sort(scores, k):
    """Sort each row in full: highest first, the lower place first among equals."""
    rows = scores.reshape(-1, scores.shape[-1]).tolist()
    found = [sorted(range(len(row)), key=lambda n: (-row[n], n))[:k] for row in rows]
    return torch.tensor(found, dtype=torch.int64).view(*scores.shape[:-1], k)


def _scores(kind, rows=31, n=13, dtype=torch.float32):
    generator = torch.Generator().manual_seed(7)
    scores = torch.randn(rows, n, generator=generator)
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
    infinite = torch.tensor([[-torch.inf, torch.inf, 0.0, torch.inf, -torch.inf]])
    assert best(infinite, 4).tolist() == [[1, 3, 2, 0]]


@pytest.mark.parametrize("kind", ["real", "whole"])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_nan_comes_first_and_spoils_no_other_row(k, kind):
    scores = _scores(kind)
    clean = best(scores, k)
    scores[3, [6, 1]] = float("nan")
    got = best(scores, k)
    others = torch.arange(len(scores)) != 3
    assert torch.equal(got[others], clean[others])
    assert set(got[3, :2].tolist()) <= {1, 6}
    rest = scores[3].masked_fill(scores[3].isnan(), -torch.inf)
    assert got[3, 2:].tolist() == _full_sort(rest, max(k - 2, 0)).tolist()
    all_nan = torch.full((2, 13), float("nan"))
    assert len(set(best(all_nan, k)[0].tolist())) == k


@pytest.mark.parametrize("k", [1, 2, 13])
def test_the_best_are_the_same_when_compiled(k):
    torch.compiler.reset()
    compiled = torch.compile(best, fullgraph=True, backend="eager")
    for kind in ("real", "whole"):
        scores = _scores(kind)
        assert torch.equal(compiled(scores, k), best(scores, k))
