import pytest
import torch

import trix
from trix.address.signatures import SignatureRows


def _improve(parameters, loss, steps=200, lr=0.05):
    optimizer = torch.optim.SGD(parameters, lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def test_load_balance_equals_the_sum_by_hand_and_is_nothing_at_even_use():
    index = torch.tensor([[0], [0], [0], [2]])
    score = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    route = trix.Route(index, torch.ones_like(score), score, index[..., None])
    size = (30 / 4) ** 0.5
    p = [torch.sigmoid(torch.tensor(s / size)).item() for s in (1, 2, 3, 4)]
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

    def entropy():
        return trix.lab.normalized_entropy(
            trix.lab.usage(trix.address.route.flat_route(x, rows), 6)
        )

    assert entropy() < 0.05
    _improve([rows], lambda: trix.load_balance(trix.address.route.flat_route(x, rows), 6), lr=1.0)
    assert entropy() > 0.5


def test_load_balance_opens_ternary_rows_through_the_cut():
    torch.manual_seed(0)
    x = torch.randn(400, 16) + 2 * torch.ones(16)
    rows = SignatureRows(6, 16)
    rows.insert(2, torch.ones(16))

    def entropy():
        return trix.lab.normalized_entropy(
            trix.lab.usage(trix.address.route.flat_route(x, rows()), 6)
        )

    before = entropy()
    _improve([rows.raw], lambda: trix.load_balance(trix.address.route.flat_route(x, rows()), 6))
    assert before < 0.2
    assert entropy() > before + 0.2


def test_diversity_is_the_mean_squared_cosine():
    rows = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, -2.0]])
    cosines = [2**-0.5, 0.0, -(2**-0.5)]
    assert trix.diversity(rows).item() == pytest.approx(sum(c * c for c in cosines) / 3)


def test_diversity_alone_parts_duplicates():
    torch.manual_seed(0)
    rows = torch.nn.Parameter(torch.ones(4, 8) + 0.01 * torch.randn(4, 8))
    before = trix.diversity(rows).item()
    _improve([rows], lambda: trix.diversity(rows), steps=50, lr=1.0)
    assert trix.diversity(rows).item() < before / 2
    table = SignatureRows(4, 32)
    with torch.no_grad():
        table.raw.copy_(table.raw[:1] + 0.01 * torch.randn(4, 32))
    before = trix.diversity(table()).item()
    _improve([table.raw], lambda: trix.diversity(table()))
    assert trix.diversity(table()).item() < before / 2


def test_ternary_pull_is_the_squared_distance_and_closes_it():
    rows = torch.tensor([[0.2, -0.6, 1.5]])
    assert trix.ternary_pull(rows).item() == pytest.approx((0.04 + 0.16 + 0.25) / 3)
    torch.manual_seed(0)
    rows = torch.nn.Parameter(torch.randn(5, 7))
    before = trix.ternary_fraction(rows, tolerance=0.1)
    _improve([rows], lambda: trix.ternary_pull(rows), lr=2.0)
    assert before < 0.5
    assert trix.ternary_fraction(rows, tolerance=0.1) == 1.0


def test_sparsity_is_the_ratio_of_norms_and_forgets_the_scale():
    rows = torch.tensor([[3.0, 0, -4, 0], [1, -1, 1, 1]])
    expected = (7 / 4 / (25 / 4) ** 0.5 + 1) / 2
    assert trix.sparsity(rows).item() == pytest.approx(expected)
    assert trix.sparsity(100 * rows).item() == pytest.approx(expected)


@pytest.mark.parametrize("steps", [300, 3000])
@pytest.mark.parametrize("relative", [True, False])
def test_sparsity_alone_empties_dense_rows_and_leaves_them_empty(steps, relative):
    torch.manual_seed(0)
    raw = torch.nn.Parameter(torch.randn(5, 64).abs() + 0.8)

    def zeros():
        return (trix.ternarize(raw, 0.5, relative) == 0).double().mean()

    before = zeros()
    _improve([raw], lambda: trix.sparsity(raw), steps=steps, lr=10.0)
    assert before < 0.05
    assert zeros() > 0.3


def test_pull_and_sparsity_reach_the_learned_rows_of_a_layer():
    for layer in (
        trix.TiledFFN(16, tiles=4, source="decoupled"),
        trix.SparseLookupFFN(16, tiles=4, tiles_per_cluster=2),
    ):
        table = next(part for part in layer.modules() if isinstance(part, SignatureRows))
        far = (table.latent() - table().detach()).abs().mean()
        _improve([table.raw], lambda x=layer: trix.ternary_pull(x.latent), steps=300, lr=0.05)
        assert (table.latent() - table().detach()).abs().mean() < 0.2 * far
        dense = (table() == 0).double().mean()
        _improve([table.raw], lambda x=layer: trix.sparsity(x.latent), steps=300, lr=0.5)
        assert (table() == 0).double().mean() > dense + 0.2
    with pytest.raises(ValueError, match="learned rows, got WeightSource"):
        trix.TiledFFN(16).latent  # noqa: B018


@pytest.mark.parametrize("row", ["same", "opposite"])
def test_diversity_parts_rows_that_are_exactly_parallel(row):
    torch.manual_seed(0)
    first = torch.randn(1, 32)
    rows = torch.cat([first, -first if row == "opposite" else first, first])
    table = SignatureRows(3, 32)
    with torch.no_grad():
        table.raw.copy_(rows)
    assert trix.diversity(table()).item() == pytest.approx(1)
    _improve([table.raw], lambda: trix.diversity(table()), lr=1.0)
    assert trix.diversity(table()).item() < 0.2


def test_bad_arguments_are_named():
    rows = torch.ones(3, 4)
    with pytest.raises(ValueError, match="tiles >= 2"):
        trix.diversity(rows[:1])
    broken = rows.clone()
    broken[1, 2] = float("nan")
    for loss in (trix.diversity, trix.ternary_pull, trix.sparsity):
        with pytest.raises(ValueError, match=r"finite, got \[nan\]"):
            loss(broken)
        with pytest.raises(ValueError, match=r"got \[4\]"):
            loss(rows[0])
    route = trix.address.route.flat_route(torch.randn(5, 4), torch.eye(4))
    with pytest.raises(ValueError, match=r"route.index must be in 0 … 0, got"):
        trix.load_balance(route, tiles=1)
    with pytest.raises(ValueError, match="at least one token, got none"):
        trix.load_balance(trix.address.route.flat_route(torch.randn(0, 4), torch.eye(4)), tiles=4)
