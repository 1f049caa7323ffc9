import pytest
import torch

import trix
from tests import reference
from trix.address.route import flat_route
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


def _route(source, x, **how):
    return source.route(x, source.rows(_parts()), **how)


def test_the_three_read_off_sources_equal_votes_counted_by_hand():
    parts = _parts()
    first = torch.stack([m @ b for m, b in zip(parts.mix, parts.bottleneck, strict=True)])
    assert torch.equal(WeightSource().rows(parts), reference.weight_signatures(first, 0.5))
    expected = reference.weight_signatures(parts.bottleneck, 0.5)
    assert torch.equal(BottleneckSource().rows(parts), expected)
    spline = SplineSource().rows(parts)
    for t in range(TILES):
        votes = reference.ternarize(first[t], 0.5, relative=True)
        rise = parts.spline[t, :, -1] - parts.spline[t, :, 0]
        for c in range(DIM):
            tally = sum(r * v for r, v in zip(rise.tolist(), votes[:, c].tolist(), strict=True))
            assert spline[t, c].item() == (tally > 0) - (tally < 0)
    # three different answers, or they would be one source
    assert not torch.equal(spline, WeightSource().rows(parts))
    assert not torch.equal(spline, BottleneckSource().rows(parts))
    parts.spline.requires_grad_()
    (SplineSource().rows(parts) * torch.randn(TILES, DIM).double()).sum().backward()
    assert parts.spline.grad is not None
    assert (parts.spline.grad != 0).all(dim=(0, 1)).tolist() == [True, False, False, True]
    assert (parts.spline.grad[..., 1:-1] == 0).all()


@pytest.mark.parametrize("kind", [LearnedSource, FrozenRandom, DataSource, LinearRouter])
def test_rows_of_their_own_do_not_hear_the_tiles(kind):
    source = kind(TILES, DIM)
    rows = source.rows(_parts(0))
    assert rows.shape == (TILES, DIM)
    assert torch.equal(rows, source.rows(_parts(1)))
    assert (rows.unique().tolist() == [-1, 0, 1]) == (kind is not LinearRouter)
    assert bool(list(source.parameters())) == (kind in (LearnedSource, LinearRouter))
    again = kind(TILES, DIM)
    again.load_state_dict(source.state_dict())
    assert torch.equal(again.rows(_parts()), rows)
    # they route flat, and pass every choice on
    x, bias = torch.randn(13, DIM), 3 * torch.randn(TILES)
    route, expected = _route(again, x, top_k=2, bias=bias), flat_route(x, rows, 2, 1.0, bias)
    assert torch.equal(route.index, expected.index)
    assert torch.equal(route.score, expected.score)
    if kind is not LinearRouter:
        cool, expected = _route(again, x, top_k=2, temperature=0.7), flat_route(x, rows, 2, 0.7)
        assert torch.equal(cool.weight, expected.weight)


@pytest.mark.parametrize("shared", [0.0, 10.0])
def test_k_means_finds_clusters_that_are_there_whatever_all_tokens_share(shared):
    torch.manual_seed(0)
    truth, shift = trix.ternarize(torch.randn(4, 32)), shared * torch.randn(32)
    source = DataSource(4, 32, decay=0.5)
    g = torch.Generator().manual_seed(1)
    for _ in range(60):
        kind = torch.randint(4, (200,), generator=g)
        x = shift + truth[kind] + 0.3 * torch.randn(200, 32, generator=g)
        source.update(_route(source, x))
    kind = torch.arange(4).repeat_interleave(25)
    x = shift + truth[kind] + 0.3 * torch.randn(100, 32, generator=g)
    route = _route(source, x)
    tile = route.index[:, 0].view(4, 25)
    assert (tile == tile[:, :1]).float().mean() > 0.99
    assert tile[:, 0].unique().numel() == 4
    assert route.token is not None
    assert torch.equal(route.token, x)


def test_k_means_equals_running_means_by_hand():
    torch.manual_seed(0)
    source = DataSource(3, 7, decay=0.9).double()
    x = torch.randn(2, 60, 7, dtype=torch.float64)
    centres = source.centres.clone()
    counts, mean = torch.zeros(3).double(), torch.zeros(7).double()
    for call, batch in enumerate(x):
        route = flat_route(batch - mean, trix.ternarize(centres))
        keep = 0.9 if call else 0.0
        mean = keep * mean + (1 - keep) * batch.mean(0)
        for t in range(3):
            mine = batch[route.index[:, 0] == t] - mean
            assert len(mine) > 5  # none starts again
            counts[t] = keep * counts[t] + (1 - keep) * len(mine)
            share = (1 - keep) * len(mine) / counts[t]
            centres[t] = (1 - share) * centres[t] + share * mine.mean(0)
        source.update(_route(source, batch))
        torch.testing.assert_close(source.centres, centres, rtol=0, atol=1e-12)


def test_a_starved_centre_starts_again_where_tokens_are_and_nan_spoils_nothing():
    source = DataSource(3, 7, decay=0.5)
    source.centres[:] = torch.tensor([1.0, -1.0, -1.0])[:, None]
    x = torch.ones(50, 7) + 0.1 * torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    route = _route(source, x)
    assert route.index.unique().tolist() == [0]
    worst = route.score[:, 0].argsort()[:3]
    source.update(route)
    assert torch.equal(source.centres[1:], (x - x.mean(0))[worst[1:]])
    torch.testing.assert_close(source.counts, torch.tensor([50.0, 50 / 3, 50 / 3]))
    for _ in range(5):
        source.update(_route(source, x))
    assert len(_route(source, x).index.unique()) == 3
    before = source.centres.clone()
    spoilt = x.clone()
    spoilt[4, 2] = torch.nan
    source.update(_route(source, spoilt))
    assert source.centres.isfinite().all()
    assert not torch.equal(source.centres, before)
    before = source.centres.clone()
    source.update(_route(source, spoilt[4:5]))
    assert torch.equal(source.centres, before)


def test_the_learned_router_is_the_softmax_over_all():
    source = LinearRouter(TILES, DIM).double()
    x = torch.randn(13, DIM, dtype=torch.float64)
    route = _route(source, x, top_k=2, temperature=0.7)
    full = torch.softmax(x @ source.matrix.T / 0.7, dim=-1)
    torch.testing.assert_close(route.weight, full.gather(1, route.index), rtol=0, atol=1e-12)
    assert torch.equal(route.index[:, 0], full.argmax(-1))
    route.weight[:, 0].sum().backward()
    assert source.matrix.grad is not None
    assert (source.matrix.grad.abs().sum(-1) > 0).all()


def test_hashes_are_even_repeatable_and_deaf_to_all_but_their_key():
    torch.manual_seed(0)
    source, labels = TokenHash(7, DIM), torch.arange(1000).repeat(2)
    index = _route(source, torch.randn(2000, DIM), labels=labels).index[:, 0]
    assert torch.equal(index[:1000], index[1000:])
    assert torch.bincount(index, minlength=7).min() > 200  # of 286
    source = UniformRandom(7, DIM)
    x = torch.randn(7000, DIM)
    route = _route(source, x, top_k=3)
    assert torch.equal(route.index, _route(source, x, top_k=3).index)
    assert torch.bincount(route.index[:, 0], minlength=7).min() > 850
    assert all(len(set(row)) == 3 for row in route.index[:50].tolist())
    for other in (x * (1 + 1e-6), x.flip(1)):
        same = _route(source, other).index[:, 0] == route.index[:, 0]
        assert same.float().mean() < 0.2  # one in seven at random


@pytest.mark.parametrize("kind", [TokenHash, UniformRandom])
def test_a_hash_draws_its_own_salt_and_a_nan_stays_with_its_token(kind):
    source, x = kind(7, DIM), torch.randn(60, DIM)
    assert (source.rows(_parts()) == 0).all()
    clean = _route(source, x, labels=torch.arange(60), top_k=2)
    assert (clean.weight == 0.5).all()
    assert (clean.score == 0).all()
    other = _route(kind(7, DIM), x, labels=torch.arange(60))
    assert not torch.equal(other.index, clean.index[:, :1])
    x[2, 3] = torch.nan
    route = _route(source, x, labels=torch.arange(60), top_k=2)
    others = torch.arange(60) != 2
    assert route.weight[2].isnan().all()
    assert torch.equal(route.index[others], clean.index[others])
    assert route.weight[others].isfinite().all()
    assert ((route.index >= 0) & (route.index < 7)).all()


def test_shuffling_moves_addresses_and_nothing_else():
    source, order = LearnedSource(TILES, DIM), torch.tensor([1, 2, 3, 4, 0])
    shuffled = Shuffled(source, order)
    x = torch.randn(40, DIM)
    before, after = _route(source, x, top_k=2), _route(shuffled, x, top_k=2)
    assert torch.equal(order[after.index], before.index)
    assert torch.equal(after.weight, before.weight)
    # what its source does not route by rows stays where it was
    hashed = TokenHash(TILES, DIM)
    labels = torch.arange(40)
    moved = _route(Shuffled(hashed, order), x, labels=labels)
    assert torch.equal(moved.index, _route(hashed, x, labels=labels).index)
