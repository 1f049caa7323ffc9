import pytest
import torch

from trix.address.kmeans import balanced_kmeans, blocks_of, weighted_mean


def _blobs(sizes, dim=3, apart=50.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    owner = owner[torch.randperm(len(owner), generator=generator)]
    centres = apart * torch.randn(len(sizes), dim, dtype=torch.float64, generator=generator)
    noise = torch.randn(len(owner), dim, dtype=torch.float64, generator=generator)
    return centres[owner] + noise, owner


def _partition(label):
    return {frozenset((label == c).nonzero().flatten().tolist()) for c in label.unique()}


@pytest.mark.parametrize("sizes", [[[5]], [[3, 2]], [[5, 4, 4]], [[1] * 7], [[2, 2, 1], [4, 3]]])
def test_every_cluster_gets_its_size_from_its_own_group(sizes):
    total, flat = sum(map(sum, sizes)), [size for row in sizes for size in row]
    drawn = torch.randn(total, 4, generator=torch.Generator().manual_seed(1))
    for points in (drawn, torch.ones(total, 4)):  # points that are all alike are split too
        label = balanced_kmeans(points, sizes)
        assert torch.bincount(label, minlength=len(flat)).tolist() == flat
        done = first = 0
        for row in sizes:
            mine = label[done : done + sum(row)]
            assert mine.min() >= first
            assert mine.max() < first + len(row)
            done, first = done + sum(row), first + len(row)


def test_two_clusters_far_apart_are_found_in_each_group():
    first, owner_1 = _blobs([6, 6])
    second, owner_2 = _blobs([4, 4], seed=1)
    label = balanced_kmeans(torch.cat([first, second]), [[6, 6], [4, 4]])
    assert _partition(label[:12]) == _partition(owner_1)
    assert _partition(label[12:]) == _partition(owner_2)


def test_the_last_round_leaves_no_swap_that_would_help_much():
    points, _ = _blobs([8] * 5, dim=4, apart=1.0)
    label = balanced_kmeans(points, [[8] * 5])
    centres = weighted_mean(points, points.new_ones(40), label, 5)
    far = torch.cdist(points, centres).square()
    cost = far.gather(1, label[:, None])[:, 0]
    swapped = far[:, label] + far[:, label].T - cost[:, None] - cost
    assert (swapped < -1e-9).double().mean() < 0.02


def test_weights_pull_the_centres():
    # against the same call without weights, the heavy points end nearer to their centres
    cost = {True: 0.0, False: 0.0}
    for seed in range(10):
        points, _ = _blobs([8] * 5, dim=4, apart=1.0, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(40, dtype=torch.float64, generator=generator).mul(3).exp()
        for weighted in cost:
            label = balanced_kmeans(points, [[8] * 5], weights if weighted else None)
            centres = weighted_mean(points, weights, label, 5)
            far = (points - centres[label]).square().sum(1)
            cost[weighted] += float((weights * far).sum() / weights.sum())
    assert cost[True] < 0.9 * cost[False]


# Blocks

CASES = [(29, 5, 3), (13, 7, 1), (7, 13, 4), (1, 5, 2), (1, 1, 7), (64, 3, 5), (40, 1, 13)]


def _visits(count, owners, seed=0):
    return torch.randint(owners, (count,), generator=torch.Generator().manual_seed(seed))


def _slow(visits, owners, rows):
    blocks = []
    for owner in range(owners):
        queue = [i for i, wanted in enumerate(visits.tolist()) if wanted == owner]
        blocks += [(owner, queue[i : i + rows]) for i in range(0, len(queue), rows)]
    return blocks


def _check(visits, owners, rows):
    got, expected = blocks_of(visits, owners, rows), _slow(visits, owners, rows)
    count = len(visits) // rows + owners
    assert got.visit.shape == (count, rows)
    assert len(expected) <= len(got.owner) == count
    place = [-1] * len(visits)
    for block, (owner, queue) in enumerate(expected):
        assert int(got.owner[block]) == owner
        assert got.visit[block, : len(queue)].tolist() == queue
        for row, visit in enumerate(queue):
            place[visit] = block * rows + row
    assert got.place.tolist() == place
    # what fills blocks up is still a visit and an owner that exist
    assert 0 <= int(got.visit.min()) <= int(got.visit.max()) < len(visits)
    assert 0 <= int(got.owner.min()) <= int(got.owner.max()) < owners


@pytest.mark.parametrize(("count", "owners", "rows"), CASES)
def test_blocks_are_the_queues_cut_in_pieces(count, owners, rows):
    for seed in range(5):
        _check(_visits(count, owners, seed), owners, rows)


def test_one_owner_may_get_every_visit_and_the_bound_on_blocks_is_met():
    for owner, rows in ((0, 1), (3, 4), (6, 5), (6, 100)):
        _check(torch.full((13,), owner), 7, rows)
    # each owner has one visit more than fills its blocks
    visits = torch.tensor([0] * 4 + [1] * 4 + [2])
    _check(visits, 3, 3)
    assert len(_slow(visits, 3, 3)) == 5
    assert len(_slow(torch.arange(5), 5, 7)) == 5 == len(blocks_of(torch.arange(5), 5, 7).owner)


def test_one_graph_serves_whoever_is_visited():
    torch.compiler.reset()
    compiled = torch.compile(
        lambda visits: blocks_of(visits, 7, 4), fullgraph=True, backend="eager"
    )
    for visits in (_visits(29, 7), torch.full((29,), 6), torch.zeros(29, dtype=torch.int64)):
        for mine, theirs in zip(compiled(visits), blocks_of(visits, 7, 4), strict=True):
            assert torch.equal(mine, theirs)
