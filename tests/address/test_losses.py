import math

import pytest
import torch

import trix
from trix.address.losses import straight_through_weights
from trix.address.route import Route, flat_route
from trix.address.signatures import SignatureRows


def _improve(parameter, loss, steps=200, lr=0.05):
    optimizer = torch.optim.SGD([parameter], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def _evenness(x, rows):
    tiles = len(rows)
    share = flat_route(x, rows).index.flatten().bincount(minlength=tiles).double() / len(x)
    return float(torch.special.entr(share).sum()) / math.log(tiles)


def test_load_balance_equals_the_sum_by_hand_and_is_nothing_at_even_use():
    index = torch.tensor([[0], [0], [0], [2]])
    score = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    route = Route(index, torch.ones_like(score), score, index[..., None])
    size = (30 / 4) ** 0.5
    p = [1 / (1 + math.exp(-s / size)) for s in (1, 2, 3, 4)]
    # tile 0 has three quarters of the reads, tile 1 none, tile 2 one quarter
    expected = (3 * 0.75 - 1) * (p[0] + p[1] + p[2]) / 4 + (3 * 0.25 - 1) * p[3] / 4
    assert trix.load_balance(route, tiles=3).item() == pytest.approx(expected, abs=1e-6)
    even = route._replace(index=torch.tensor([[0], [1], [0], [1]]))
    assert trix.load_balance(even, tiles=2).item() == pytest.approx(0, abs=1e-7)


def test_load_balance_alone_opens_a_collapsed_routing():
    torch.manual_seed(0)
    x = torch.randn(400, 16) + 3 * torch.ones(16)
    rows = torch.nn.Parameter(0.3 * torch.randn(6, 16))
    with torch.no_grad():
        rows[2] = 2 * torch.ones(16)  # the one that takes all
    assert _evenness(x, rows) < 0.05
    _improve(rows, lambda: trix.load_balance(flat_route(x, rows), 6), lr=1.0)
    assert _evenness(x, rows) > 0.5


@pytest.mark.parametrize("sign", [1, -1])
def test_diversity_is_the_mean_squared_cosine_and_parts_rows_that_are_parallel(sign):
    cosines = [2**-0.5, 0.0, -(2**-0.5)]
    rows = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, -2.0]])
    assert trix.diversity(rows).item() == pytest.approx(sum(c * c for c in cosines) / 3)
    torch.manual_seed(0)
    table, first = SignatureRows(3, 32), torch.randn(1, 32)
    table.raw.data.copy_(torch.cat([first, sign * first, first]))
    assert trix.diversity(table()).item() == pytest.approx(1)
    _improve(table.raw, lambda: trix.diversity(table()), lr=1.0)
    assert trix.diversity(table()).item() < 0.2


def test_ternary_pull_is_the_squared_distance_and_closes_it():
    rows = torch.tensor([[0.2, -0.6, 1.5]])
    assert trix.ternary_pull(rows).item() == pytest.approx((0.04 + 0.16 + 0.25) / 3)
    torch.manual_seed(0)
    rows = torch.nn.Parameter(torch.randn(5, 7))
    assert trix.ternary_fraction(rows, tolerance=0.1) < 0.5
    _improve(rows, lambda: trix.ternary_pull(rows), lr=2.0)
    assert trix.ternary_fraction(rows, tolerance=0.1) == 1.0


@pytest.mark.parametrize("steps", [300, pytest.param(3000, marks=pytest.mark.slow)])
def test_sparsity_is_the_ratio_of_norms_and_alone_empties_dense_rows_for_good(steps):
    rows = torch.tensor([[3.0, 0, -4, 0], [1, -1, 1, 1]])
    for scaled in (rows, 100 * rows):
        assert trix.sparsity(scaled).item() == pytest.approx((7 / 4 / (25 / 4) ** 0.5 + 1) / 2)
    assert trix.sparsity(torch.zeros(1, 3)).item() == 0
    torch.manual_seed(0)
    raw = torch.nn.Parameter(torch.randn(5, 64).abs() + 0.8)

    def empty():
        return [(trix.ternarize(raw, 0.5, how) == 0).double().mean() for how in (False, True)]

    assert max(empty()) < 0.05
    _improve(raw, lambda: trix.sparsity(raw), steps=steps, lr=10.0)
    assert min(empty()) > 0.3


def test_temperature_falls_by_equal_factors():
    falls = [trix.annealed(8.0, 0.5, step / 4) for step in range(5)]
    assert falls == pytest.approx([8.0, 4.0, 2.0, 1.0, 0.5])


def test_the_straight_through_blend_is_hard_forward_and_soft_backward():
    score = torch.tensor([[3.0, 1.0, -1.0]], dtype=torch.float64, requires_grad=True)
    weigh = torch.tensor([[1.0, 2.0, -4.0]], dtype=torch.float64)
    grads = []
    for weight in (straight_through_weights(score, 0.7), torch.softmax(score / 0.7, -1)):
        grads += torch.autograd.grad((weight * weigh).sum(), score)
    assert straight_through_weights(score, 0.7).tolist() == [[1, 0, 0]]
    torch.testing.assert_close(*grads)
