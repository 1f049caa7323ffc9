import copy

import pytest
import torch

from tests.reference import routing_case, tree_search
from trix.address.nested import NestedRouter
from trix.address.route import flat_route
from trix.address.ternary import ternarize
from trix.address.tree import TreeRouter


def _built(tiles, branching, beam, dim=7):
    x, signatures = routing_case(tiles=tiles, dim=dim)
    router = TreeRouter(tiles, dim, branching, beam).double()
    router.rebuild(signatures)
    return router, x, signatures


@pytest.mark.parametrize(
    ("tiles", "branching", "beam", "counts"),
    [
        (64, (8, 8), 4, {40}),
        (64, (4, 4, 4), 2, {20}),
        (27, (3, 3, 3), 1, {9}),
        (36, (6, 6), 6, {42}),
        (13, (3, 5), 1, {3 + 4, 3 + 5}),  # of an uneven tree the worst case
    ],
)
def test_comparisons_are_those_of_the_slow_descent(tiles, branching, beam, counts):
    router, x, signatures = _built(tiles, branching, beam, dim=16)
    assert {tree_search(router, token, signatures, 1)[1] for token in x} == counts
    assert router.comparisons == max(counts)


def test_shapes_of_two_and_more_levels():
    assert TreeRouter.hierarchical(13, 7).branching == (4, 4)
    assert TreeRouter.hierarchical(16, 7).branching == (4, 4)
    assert TreeRouter.hierarchical(13, 7, 5).branching == (3, 5)
    assert TreeRouter.hierarchical(5, 7, 7, beam=2).branching == (1, 7)
    assert TreeRouter(1000, 2, (1000,)).comparisons == 1000
    assert TreeRouter.hierarchical(1000, 2, beam=1).comparisons == 32 + 32
    assert TreeRouter.fractal(1000, 2, beam=1).branching == (10, 10, 10)
    large = TreeRouter.fractal(16384, 8)
    assert (large.branching, large.beam, large.comparisons) == ((64, 16, 16), 4, 192)
    x, signatures = routing_case(tokens=64, tiles=16384, dim=8, dtype=torch.float32)
    large.rebuild(signatures)
    assert sorted(large.order.tolist()) == list(range(16384))
    assert [len(level.parent) for level in large.levels(signatures)] == [64, 1024, 16384]
    assert (large(x, signatures).score > 0).all()
    for tiles in (1, 2, 5, 7, 13, 64):
        for levels in (1, 2, 3, 4):
            router = TreeRouter.fractal(tiles, 7, levels, beam=tiles).double()
            x, signatures = routing_case(tiles=tiles)
            router.rebuild(signatures)
            assert len(router.levels(signatures)) == levels
            assert torch.equal(router(x, signatures).index, flat_route(x, signatures).index)


def test_rebuilding_alone_changes_the_tree_and_gives_the_same_whatever_the_global_seed():
    router, x, signatures = _built(29, (4, 4, 2), 3)
    before = copy.deepcopy(router.state_dict())
    router.rebuild(-signatures)
    assert not torch.equal(router.inner, before["inner"])
    trees = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        router.rebuild(signatures, x)
        assert torch.equal(torch.get_rng_state(), state)
        trees.append(copy.deepcopy(router.state_dict()))
    for name, value in trees[0].items():
        assert torch.equal(value, trees[1][name])


def test_an_unmade_tree_says_so_unless_it_has_one_level():
    router, x, signatures = _built(29, (4, 4, 2), 3)
    fresh = TreeRouter(29, 7, (4, 4, 2), 3).double()
    empty = copy.deepcopy(fresh.state_dict())
    for use in (lambda: fresh(x, signatures), lambda: fresh.levels(signatures)):
        with pytest.raises(RuntimeError, match="rebuild"):
            use()
    fresh.load_state_dict(router.state_dict())
    fresh(x, signatures)
    fresh.load_state_dict(empty)
    with pytest.raises(RuntimeError, match="rebuild"):
        fresh(x, signatures)
    one = TreeRouter(29, 7, (29,), beam=1)
    assert torch.equal(one(x, signatures, 3).index, flat_route(x, signatures, 3).index)
    (level,) = one.levels(signatures)
    assert torch.equal(level.signatures, signatures)
    assert level.parent.tolist() == [0] * 29


def test_sample_inputs_fit_the_tree_to_them():
    # only four directions matter to the tokens; the others, which tell the tiles apart, are noise
    generator = torch.Generator().manual_seed(0)
    useful = 3 * torch.randn(4000, 4, generator=generator)
    x = torch.cat([useful, 0.01 * torch.randn(4000, 60, generator=generator)], dim=1)
    signatures = ternarize(torch.randn(256, 64, generator=generator))
    flat = flat_route(x[2000:], signatures).index
    found = []
    for inputs in (None, x[:2000].view(2, 1000, 64)):
        router = TreeRouter.hierarchical(256, 64, beam=2)
        router.rebuild(signatures, inputs)
        found.append((router(x[2000:], signatures).index == flat).double().mean())
    assert found[0] < 0.6
    assert found[1] > 0.9


def test_a_tile_weighs_in_its_clusters_by_how_often_it_wins():
    x, signatures = routing_case(tokens=200)
    router = TreeRouter(13, 7, (3, 5)).double()
    router.rebuild(signatures, x.bfloat16())  # samples may come in another dtype
    won = flat_route(x.bfloat16().double(), signatures).index.flatten()
    wins = won.bincount(minlength=13).double() + 1
    top, leaves = router.levels(signatures)
    for number, row in enumerate(top.signatures):
        mine = leaves.parent == number
        expected = (wins[mine, None] * signatures[mine]).sum(0) / wins[mine].sum()
        torch.testing.assert_close(row, expected)


@pytest.mark.parametrize("scale", [1e-30, 1e20, 1e30])
def test_a_tree_can_be_made_at_any_scale(scale):
    signatures = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    router, same = TreeRouter(9, 4, (3, 3)), TreeRouter(9, 4, (3, 3))
    router.rebuild(signatures * scale)
    same.rebuild(signatures)
    assert torch.equal(router.order, same.order)
    router.rebuild(signatures, inputs=torch.ones(5, 4) * 1e25)
    same.rebuild(signatures, inputs=torch.ones(5, 4))
    assert torch.equal(router.order, same.order)


def test_the_state_of_another_tree_is_refused():
    made = TreeRouter(16, 8, (2, 4, 2))
    made.rebuild(torch.randn(16, 8, generator=torch.Generator().manual_seed(0)))
    other = {**made.state_dict(), "shape": torch.tensor([4, 2, 2])}
    with pytest.raises(ValueError, match=r"branching \[2, 4, 2\], got \[4, 2, 2\]"):
        TreeRouter(16, 8, (2, 4, 2)).load_state_dict(other)
    broken = {**made.state_dict(), "order": torch.zeros(16, dtype=torch.int64)}
    with pytest.raises(ValueError, match="each of 16 tiles once"):
        TreeRouter(16, 8, (2, 4, 2)).load_state_dict(broken)


# Fixed groups


def _cut(run, width):
    parts = min(width, len(run))
    sizes = [len(run) // parts + (part < len(run) % parts) for part in range(parts)]
    ends = [sum(sizes[: part + 1]) for part in range(parts)]
    return [run[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def test_neighbours_share_a_cluster_and_its_signature_is_their_mean_now():
    _, signatures = routing_case(tiles=29)
    router = NestedRouter(29, 7, (4, 4, 2))
    router.rebuild(-signatures)  # does nothing
    assert router.state_dict() == {}
    runs = [run for part in _cut(list(range(29)), 4) for run in _cut(part, 4)]
    assert router.cluster_sizes.tolist() == [len(run) for run in runs]
    for rows in (signatures, -3 * signatures.roll(1, 0)):
        means = torch.stack([rows[run].mean(0) for run in runs])
        torch.testing.assert_close(router.cluster_signatures(rows), means)
        _, middle, leaves = router.levels(rows)
        torch.testing.assert_close(middle.signatures, means)
        assert leaves.parent.tolist() == [n for n, run in enumerate(runs) for _ in run]
        assert middle.parent.tolist() == sorted(middle.parent.tolist())
