import pytest
import torch

from trix.address.kmeans import balanced_kmeans, weighted_mean


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
    total = sum(map(sum, sizes))
    points = torch.randn(total, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    label = balanced_kmeans(points, sizes)
    flat = [size for row in sizes for size in row]
    assert torch.bincount(label, minlength=len(flat)).tolist() == flat
    done = first = 0
    for row in sizes:
        mine = label[done : done + sum(row)]
        assert mine.min() >= first
        assert mine.max() < first + len(row)
        done, first = done + sum(row), first + len(row)


def test_points_that_are_all_alike_are_split_all_the_same():
    label = balanced_kmeans(torch.ones(13, 5), [[5, 4, 4]])
    assert torch.bincount(label).tolist() == [5, 4, 4]


def test_two_clusters_far_apart_are_found_in_each_group():
    first, owner_1 = _blobs([6, 6])
    second, owner_2 = _blobs([4, 4], seed=1)
    label = balanced_kmeans(torch.cat([first, second]), [[6, 6], [4, 4]])
    assert _partition(label[:12]) == _partition(owner_1)
    assert _partition(label[12:]) == _partition(owner_2)


def test_clusters_are_tighter_than_a_random_split():
    points, _ = _blobs([13] * 7, dim=5, apart=2.0)
    label = balanced_kmeans(points, [[13] * 7])
    ones = points.new_ones(len(points))

    def scatter(split):
        return (points - weighted_mean(points, ones, split, 7)[split]).square().sum()

    assert scatter(label) < scatter(label[torch.randperm(91)]) / 2


def test_the_last_round_leaves_no_swap_that_would_help_much():
    points, _ = _blobs([8] * 5, dim=4, apart=1.0)
    label = balanced_kmeans(points, [[8] * 5])
    centres = weighted_mean(points, points.new_ones(40), label, 5)
    far = torch.cdist(points, centres).square()
    cost = far.gather(1, label[:, None])[:, 0]
    swapped = far[:, label] + far[:, label].T - cost[:, None] - cost
    share = (swapped < -1e-9).double().mean()
    assert share < 0.02


def test_the_same_call_gives_the_same_split_whatever_the_global_seed():
    points, _ = _blobs([9] * 5, apart=1.0)
    torch.manual_seed(1)
    first = balanced_kmeans(points, [[9] * 5])
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(balanced_kmeans(points, [[9] * 5]), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_weighted_mean_by_hand():
    points = torch.tensor([[1.0, 0.0], [3.0, 4.0], [5.0, 5.0]])
    mean = weighted_mean(points, torch.tensor([1.0, 3.0, 2.0]), torch.tensor([1, 1, 0]), 2)
    assert mean.tolist() == [[5.0, 5.0], [2.5, 3.0]]


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


def test_bad_sizes_are_named():
    with pytest.raises(ValueError, match="add up to the 5 points, got 4"):
        balanced_kmeans(torch.ones(5, 2), [[2, 2]])
    for sizes in ([], [[]], [[5, 0]], [[6, -1]]):
        with pytest.raises(ValueError, match="at least 1 point"):
            balanced_kmeans(torch.ones(5, 2), sizes)
