"""Fixed groups by position: against a search that works the means out tile by tile."""

import copy

import pytest
import torch

from trix.address import nested
from trix.address.nested import NestedRouter
from trix.address.route import flat_route
from trix.address.ternary import ternarize

SHAPES = [(13, (3, 5)), (5, (1, 7)), (7, (7, 1)), (13, (2, 3, 3)), (29, (4, 4, 2)), (7, (7,))]


@pytest.fixture(autouse=True, params=["way-down", "one-product"])
def way(request, monkeypatch):
    # a product with all signatures, or the descent of larger trees: no test may tell them apart
    monkeypatch.setattr(nested, "FEW", 0 if request.param == "way-down" else 29)


def _case(tokens=29, tiles=13, dim=7, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, dim, dtype=torch.float64, generator=generator)
    signatures = ternarize(torch.randn(tiles, dim, dtype=torch.float64, generator=generator))
    return x.to(dtype), signatures.to(dtype)


def _cut(run, width):
    """Cut a run of tiles in at most `width` runs, the longer ones first, none empty."""
    parts = min(width, len(run))
    sizes = [len(run) // parts + (part < len(run) % parts) for part in range(parts)]
    ends = [sum(sizes[: part + 1]) for part in range(parts)]
    return [run[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def _slow(token, signatures, branching, beam, k):
    """Go down run by run; return the tiles found, best first, and the way to each."""
    everywhere = [list(range(len(signatures)))]
    reached = [(everywhere[0], [])]
    for level, width in enumerate(branching):
        everywhere = [part for run in everywhere for part in _cut(run, width)]
        runs = [
            (part, [*path, everywhere.index(part)])
            for run, path in reached
            for part in _cut(run, width)
        ]
        merit = [float(token @ signatures[run].mean(0)) for run, _ in runs]
        best = sorted(range(len(runs)), key=lambda n: (-merit[n], runs[n][0]))
        keep = k if level == len(branching) - 1 else beam
        reached = [runs[n] for n in best[:keep]]
    return [run[0] for run, _ in reached], [path for _, path in reached]


@pytest.mark.parametrize("beam", [1, 2, 3, 10])
@pytest.mark.parametrize(("tiles", "branching"), SHAPES)
def test_route_equals_a_slow_search_through_means(tiles, branching, beam):
    x, signatures = _case(tiles=tiles)
    router = NestedRouter(tiles, 7, branching, beam)
    # two tokens fetch what they need, many visit node by node
    for tokens in (x[:2], x.repeat(4, 1)):
        for k in {1, min(3, router.reached), router.reached}:
            route = router(tokens, signatures, k, 0.7)
            for row, token in enumerate(tokens[:29]):
                index, path = _slow(token, signatures, branching, beam, k)
                assert route.index[row].tolist() == index
                assert route.path[row].tolist() == path
                score = torch.stack([token @ signatures[t] for t in index])
                torch.testing.assert_close(route.score[row], score)
                torch.testing.assert_close(route.weight[row], torch.softmax(score / 0.7, 0))


@pytest.mark.parametrize(("tiles", "branching"), SHAPES)
def test_a_beam_as_wide_as_the_groups_is_flat(tiles, branching):
    x, signatures = _case(tiles=tiles)
    router = NestedRouter(tiles, 7, branching, beam=tiles)
    assert router.reached == tiles
    for k in (1, min(tiles, 5)):
        route, flat = router(x, signatures, k), flat_route(x, signatures, k)
        assert torch.equal(route.index, flat.index)
        torch.testing.assert_close(route.weight, flat.weight)


@pytest.mark.parametrize("tokens", [2, 120])
def test_the_lower_cluster_and_the_lower_tile_win_a_tie(tokens):
    generator = torch.Generator().manual_seed(4)
    signatures = torch.randint(-1, 2, (16, 2), generator=generator).double()
    x = torch.randint(-2, 3, (tokens, 2), generator=generator).double()
    router = NestedRouter(16, 2, (4, 4), beam=2)
    route = router(x, signatures, 3)
    for row, token in enumerate(x):
        assert route.index[row].tolist() == _slow(token, signatures, (4, 4), 2, 3)[0]


def test_neighbours_share_a_cluster_and_its_signature_is_their_mean_now():
    _, signatures = _case(tiles=29)
    router = NestedRouter(29, 7, (4, 4, 2))
    for rows in (signatures, -3 * signatures.roll(1, 0)):
        top, middle, leaves = router.levels(rows)
        assert torch.equal(leaves.signatures, rows)
        assert leaves.parent.tolist() == sorted(leaves.parent.tolist())
        assert middle.parent.tolist() == sorted(middle.parent.tolist())
        above = middle.parent[leaves.parent]
        for level, node in ((middle, leaves.parent), (top, above)):
            for number, row in enumerate(level.signatures):
                torch.testing.assert_close(row, rows[node == number].mean(0))


def test_the_lowest_clusters_are_those_above_the_tiles():
    _, signatures = _case(tiles=29)
    router = NestedRouter(29, 7, (4, 4, 2))
    runs = [run for part in _cut(list(range(29)), 4) for run in _cut(part, 4)]
    assert router.cluster_sizes.tolist() == [len(run) for run in runs]
    means = torch.stack([signatures[run].mean(0) for run in runs])
    torch.testing.assert_close(router.cluster_signatures(signatures), means)


def test_the_route_follows_signatures_that_move_and_rebuilding_does_nothing():
    x, signatures = _case()
    router = NestedRouter(13, 7, (3, 5))
    before = router(x, signatures).index
    moved = router(x, -signatures).index
    assert not torch.equal(before, moved)
    for row, token in enumerate(x):
        assert moved[row].tolist() == _slow(token, -signatures, (3, 5), 1, 1)[0]
    router.rebuild(-signatures, x)
    assert torch.equal(router(x, signatures).index, before)


def test_there_is_nothing_to_save_and_forward_writes_nothing():
    x, signatures = _case()
    router = NestedRouter(13, 7, (3, 5), 2)
    assert router.state_dict() == {}
    assert list(router.parameters()) == []
    kept = {name: buffer.clone() for name, buffer in router.named_buffers()}
    for mode in (True, False):
        router.train(mode)
        router(x, signatures, 2)
    for name, buffer in router.named_buffers():
        assert torch.equal(buffer, kept[name]), name
    fresh = NestedRouter(13, 7, (3, 5), 2)
    fresh.load_state_dict(router.state_dict(), strict=True)
    twin = copy.deepcopy(router)
    for other in (fresh, twin):
        assert torch.equal(other(x, signatures, 2).index, router(x, signatures, 2).index)


def test_gradient_is_that_of_the_scores_of_the_chosen_tiles():
    x, signatures = _case()
    router = NestedRouter(13, 7, (3, 5), 2)
    index = router(x, signatures, 3).index
    weigh = torch.randn(29, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    grads = []
    for fast in (True, False):
        t, s = x.clone().requires_grad_(), signatures.clone().requires_grad_()
        if fast:
            route = router(t, s, 3)
            score, weight = route.score, route.weight
        else:
            score = (t @ s.T).gather(-1, index)
            weight = torch.softmax(score, -1)
        ((weight + score) * weigh).sum().backward()
        grads.append((t.grad, s.grad))
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("tokens", [2, 120])
def test_nan_stays_with_its_token(tokens):
    x, signatures = _case(tokens=tokens)
    router = NestedRouter(13, 7, (3, 5), 2)
    clean = router(x, signatures, 2)
    x[1, 2] = float("nan")
    route = router(x, signatures, 2)
    others = torch.arange(tokens) != 1
    assert torch.equal(route.index[others], clean.index[others])
    assert torch.equal(route.weight[others], clean.weight[others])
    assert route.weight[1].isnan().all()
    assert 0 <= int(route.index.min()) <= int(route.index.max()) < 13


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtypes_and_leading_axes(dtype):
    x, signatures = _case(tokens=30, dtype=dtype)
    router = NestedRouter(13, 7, (3, 5), 2)
    flat = router(x, signatures, 2)
    assert flat.score.dtype == flat.weight.dtype == dtype
    shaped = router(x.view(2, 3, 5, 7), signatures, 2)
    assert torch.equal(shaped.index.view(30, 2), flat.index)
    assert torch.equal(router(x[4], signatures, 2).index, flat.index[4])
    assert router(x[:0], signatures, 2).path.shape == (0, 2, 2)


def test_compiles_to_one_graph():
    router = NestedRouter(29, 7, (4, 4, 2), 3)
    torch.compiler.reset()
    compiled = torch.compile(router, fullgraph=True, backend="eager")
    for tokens in (2, 120, 7):
        x, signatures = _case(tokens=tokens, tiles=29)
        for mine, theirs in zip(compiled(x, signatures, 2), router(x, signatures, 2), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"room for 13 tiles, got \[3, 4\] with room for 12"):
        NestedRouter(13, 7, (3, 4))
    with pytest.raises(ValueError, match="beam must be at least 1, got 0"):
        NestedRouter(13, 7, (3, 5), beam=0)
    x, signatures = _case()
    router = NestedRouter(13, 7, (3, 5))
    with pytest.raises(ValueError, match=r"at most the 4 tiles that beam 1 .*, got 5"):
        router(x, signatures, 5)
    with pytest.raises(ValueError, match=r"\[13, 7\], got \[12, 7\]"):
        router(x, signatures[:12])
