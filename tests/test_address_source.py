import pytest
import torch

import trix
from tests import reference
from trix.address.sources import (
    BottleneckSource,
    DataSource,
    FrozenRandom,
    LearnedSource,
    LinearRouter,
    Shuffled,
    SplineSource,
    TileParts,
    TokenHash,
    UniformRandom,
    WeightSource,
)

TILES, HIDDEN, RANK, DIM, KNOTS = 5, 6, 3, 11, 4


def _parts(seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = ((TILES, RANK, DIM), (TILES, HIDDEN, RANK), (TILES, HIDDEN, KNOTS))
    return TileParts(*(torch.randn(s, dtype=torch.float64, generator=g) for s in shapes))


def test_the_three_read_off_sources_equal_votes_counted_by_hand():
    parts = _parts()
    first = torch.stack([m @ b for m, b in zip(parts.mix, parts.bottleneck, strict=True)])
    assert torch.equal(WeightSource().rows(parts), reference.weight_signatures(first, 0.5))
    expected = reference.weight_signatures(parts.bottleneck, 0.5)
    assert torch.equal(BottleneckSource().rows(parts), expected)
    spline = SplineSource().rows(parts)
    for t in range(TILES):
        votes = reference.ternarize(first[t], 0.5, relative=True)
        for c in range(DIM):
            tally = sum(
                (parts.spline[t, h, -1] - parts.spline[t, h, 0]).item() * votes[h, c].item()
                for h in range(HIDDEN)
            )
            assert spline[t, c].item() == (tally > 0) - (tally < 0)
    # three different answers, or they would be one source
    assert not torch.equal(spline, WeightSource().rows(parts))
    assert not torch.equal(spline, BottleneckSource().rows(parts))


def test_splines_that_all_rise_alike_vote_as_the_weights_do():
    parts = _parts()
    alike = parts._replace(spline=torch.linspace(0, 1, KNOTS).double().expand(TILES, HIDDEN, KNOTS))
    assert torch.equal(SplineSource().rows(alike), WeightSource().rows(alike))
    falling = alike._replace(spline=-alike.spline)
    assert torch.equal(SplineSource().rows(falling), -WeightSource().rows(alike))


def test_the_spline_coefficients_get_a_gradient_through_the_address():
    parts = _parts()
    parts.spline.requires_grad_()
    (SplineSource().rows(parts) * torch.randn(TILES, DIM).double()).sum().backward()
    assert parts.spline.grad is not None
    assert (parts.spline.grad[..., [0, -1]].abs() > 0).all()
    assert (parts.spline.grad[..., 1:-1] == 0).all()


def test_decoupled_rows_do_not_hear_the_tiles():
    source = LearnedSource(TILES, DIM)
    assert torch.equal(source.rows(_parts(0)), source.rows(_parts(1)))
    assert source.rows(_parts()).unique().tolist() == [-1, 0, 1]


def test_k_means_finds_clusters_that_are_there():
    torch.manual_seed(0)
    truth = trix.ternarize(torch.randn(4, 32))
    source = DataSource(4, 32, decay=0.5)
    g = torch.Generator().manual_seed(1)
    for _ in range(40):
        kind = torch.randint(4, (200,), generator=g)
        x = truth[kind] + 0.3 * torch.randn(200, 32, generator=g)
        source.update(source.route(x, source.rows(_parts())))
    kind = torch.arange(4).repeat_interleave(25)
    x = truth[kind] + 0.3 * torch.randn(100, 32, generator=g)
    tile = source.route(x, source.rows(_parts())).index[:, 0].view(4, 25)
    assert (tile == tile[:, :1]).float().mean() > 0.99
    assert tile[:, 0].unique().numel() == 4


def test_k_means_does_not_hear_what_all_tokens_share():
    torch.manual_seed(0)
    truth, shared = trix.ternarize(torch.randn(4, 32)), 10 * torch.randn(32)
    source = DataSource(4, 32, decay=0.5)
    g = torch.Generator().manual_seed(1)
    kind = torch.randint(4, (200,), generator=g)
    for _ in range(60):
        x = shared + truth[kind] + 0.3 * torch.randn(200, 32, generator=g)
        source.update(source.route(x, source.rows(_parts())))
    x = shared + truth[kind] + 0.3 * torch.randn(200, 32, generator=g)
    route = source.route(x, source.rows(_parts()))
    assert trix.lab.mutual_information(route, kind, 4) > 1.2  # of log 4


def test_k_means_equals_running_means_by_hand():
    torch.manual_seed(0)
    source = DataSource(3, 7, decay=0.9).double()
    x = torch.randn(2, 60, 7, dtype=torch.float64)
    centres = source.centres.clone()
    counts, mean = torch.zeros(3).double(), torch.zeros(7).double()
    for call, batch in enumerate(x):
        route = trix.address.route.flat_route(batch - mean, trix.ternarize(centres))
        keep = 0.9 if call else 0.0
        mean = keep * mean + (1 - keep) * batch.mean(0)
        for t in range(3):
            mine = batch[route.index[:, 0] == t] - mean
            assert len(mine) > 5  # none starts again
            counts[t] = keep * counts[t] + (1 - keep) * len(mine)
            share = (1 - keep) * len(mine) / counts[t]
            centres[t] = (1 - share) * centres[t] + share * mine.mean(0)
        source.update(source.route(batch, source.rows(_parts())))
        torch.testing.assert_close(source.centres, centres, rtol=0, atol=1e-12)


def test_a_starved_centre_starts_again_where_tokens_are():
    source = DataSource(3, 7, decay=0.5)
    source.centres[:] = torch.tensor([1.0, -1.0, -1.0])[:, None]
    x = torch.ones(50, 7) + 0.1 * torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    route = source.route(x, source.rows(_parts()))
    assert route.index.unique().tolist() == [0]
    source.update(route)
    for _ in range(5):
        source.update(source.route(x, source.rows(_parts())))
    assert len(source.route(x, source.rows(_parts())).index.unique()) == 3
    before = source.centres.clone()
    spoilt = x.clone()
    spoilt[4, 2] = float("nan")
    source.update(source.route(spoilt, source.rows(_parts())))
    assert source.centres.isfinite().all()
    assert not torch.equal(source.centres, before)
    with pytest.raises(ValueError, match="token=None"):
        source.update(route._replace(token=None))


def test_frozen_random_stays_and_has_no_parameters():
    source = FrozenRandom(TILES, DIM)
    assert not list(source.parameters())
    assert torch.equal(source.rows(_parts(0)), source.rows(_parts(1)))
    assert "fixed" in source.state_dict()


def test_the_learned_router_is_the_softmax_over_all():
    source = LinearRouter(TILES, DIM).double()
    x = torch.randn(13, DIM, dtype=torch.float64)
    route = source.route(x, source.rows(_parts()), top_k=2, temperature=0.7)
    full = torch.softmax(x @ source.matrix.T / 0.7, dim=-1)
    torch.testing.assert_close(route.weight, full.gather(1, route.index), rtol=0, atol=1e-12)
    assert torch.equal(route.index[:, 0], full.argmax(-1))
    route.weight[:, 0].sum().backward()
    assert source.matrix.grad is not None
    assert (source.matrix.grad.abs().sum(-1) > 0).all()


def test_the_token_hash_hears_the_label_alone():
    torch.manual_seed(0)
    source = TokenHash(7, DIM)
    labels = torch.arange(1000).repeat(2)
    x = torch.randn(2000, DIM)
    index = source.route(x, source.rows(_parts()), labels=labels).index[:, 0]
    assert torch.equal(index[:1000], index[1000:])
    assert torch.bincount(index, minlength=7).min() > 200  # of 286
    with pytest.raises(ValueError, match=r"labels must have shape \[2000\], got \[3\]"):
        source.route(x, source.rows(_parts()), labels=labels[:3])
    with pytest.raises(ValueError, match="got None"):
        source.route(x, source.rows(_parts()))


def test_chance_is_even_repeatable_and_deaf_to_likeness():
    torch.manual_seed(0)
    source = UniformRandom(7, DIM)
    x = torch.randn(7000, DIM)
    route = source.route(x, source.rows(_parts()), top_k=3)
    assert torch.equal(route.index, source.route(x, source.rows(_parts()), top_k=3).index)
    assert torch.bincount(route.index[:, 0], minlength=7).min() > 850
    assert all(len(set(row)) == 3 for row in route.index[:50].tolist())
    near = source.route(x * (1 + 1e-6), source.rows(_parts())).index[:, 0]
    assert (near == route.index[:, 0]).float().mean() < 0.2  # one in seven by chance
    turned = source.route(x.flip(1), source.rows(_parts())).index[:, 0]
    assert (turned == route.index[:, 0]).float().mean() < 0.2


@pytest.mark.parametrize("kind", [TokenHash, UniformRandom])
def test_a_nan_stays_with_its_token(kind):
    source = kind(7, DIM)
    x = torch.randn(6, DIM)
    x[2, 3] = float("nan")
    route = source.route(x, source.rows(_parts()), labels=torch.arange(6))
    assert route.weight[2].isnan().all()
    assert route.weight[[0, 1, 3, 4, 5]].isfinite().all()
    assert ((route.index >= 0) & (route.index < 7)).all()
    with pytest.raises(ValueError, match="at most the 7 tiles, got 8"):
        source.route(x, source.rows(_parts()), top_k=8, labels=torch.arange(6))


def test_shuffling_moves_addresses_and_nothing_else():
    source, order = LearnedSource(TILES, DIM), torch.tensor([1, 2, 3, 4, 0])
    shuffled = Shuffled(source, order)
    x = torch.randn(40, DIM)
    before = source.route(x, source.rows(_parts())).index
    after = shuffled.route(x, shuffled.rows(_parts())).index
    assert torch.equal(order[after], before)
    with pytest.raises(ValueError, match="permutation"):
        Shuffled(source, torch.tensor([0, 0, 1, 2, 3]))
