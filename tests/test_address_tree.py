import copy
import io
import math

import pytest
import torch

from trix.address.route import flat_route
from trix.address.ternary import ternarize
from trix.address.tree import TreeRouter

SHAPES = [
    (13, (3, 5)),
    (5, (1, 7)),
    (7, (7, 1)),
    (13, (2, 3, 3)),
    (29, (4, 4, 2)),
    (31, (2, 2, 2, 2, 2)),
    (64, (4, 4, 4)),
    (7, (7,)),
    (1, (1, 1)),
]


def _case(tokens=29, tiles=13, dim=7, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, dim, dtype=torch.float64, generator=g)
    signatures = ternarize(torch.randn(tiles, dim, dtype=torch.float64, generator=g))
    return x.to(dtype), signatures.to(dtype)


def _built(tiles, branching, beam, dim=7, seed=0):
    x, signatures = _case(tiles=tiles, dim=dim, seed=seed)
    router = TreeRouter(tiles, dim, branching, beam).double()
    router.rebuild(signatures)
    return router, x, signatures


def _descend(router, token, signatures, top_k):
    """Search the tree as `levels` shows it, node by node; count what is compared."""
    levels = router.levels(signatures)
    reached, compared = [0], 0
    for number, level in enumerate(levels):
        children = [n for n, p in enumerate(level.parent.tolist()) if p in reached]
        score = {n: sum((token * level.signatures[n]).tolist()) for n in children}
        compared += len(children)
        keep = top_k if number == len(levels) - 1 else router.beam
        reached = sorted(children, key=lambda n: (-score[n], n))[:keep]
    return reached, compared


@pytest.mark.parametrize("beam", [1, 2, 3, 10])
@pytest.mark.parametrize(("tiles", "branching"), SHAPES)
def test_route_equals_a_slow_descent(tiles, branching, beam):
    router, x, signatures = _built(tiles, branching, beam, dim=16)
    # two tokens fetch what they need, many visit node by node: both ways must agree with the loop
    for tokens in (x[:2], x.repeat(4, 1)):
        for k in {1, min(3, router.reached), router.reached}:
            route = router(tokens, signatures, k)
            for row, token in enumerate(tokens[:29]):
                expected, compared = _descend(router, token, signatures, k)
                assert route.index[row].tolist() == expected
                assert compared <= router.comparisons


@pytest.mark.parametrize(
    ("tiles", "branching", "beam", "count"),
    [(64, (8, 8), 4, 40), (64, (4, 4, 4), 2, 20), (27, (3, 3, 3), 1, 9), (36, (6, 6), 6, 42)],
)
def test_comparisons_are_those_of_the_slow_descent(tiles, branching, beam, count):
    router, x, signatures = _built(tiles, branching, beam, dim=16)
    compared = {_descend(router, token, signatures, 1)[1] for token in x}
    assert compared == {count} == {router.comparisons}


def test_uneven_trees_count_the_worst_case():
    router, x, signatures = _built(13, (3, 5), 1)
    compared = {_descend(router, token, signatures, 1)[1] for token in x}
    assert compared == {3 + 4, 3 + 5}
    assert router.comparisons == 8


@pytest.mark.parametrize("tiles", [64, 256, 1000, 1024, 4096, 16384])
def test_the_count_grows_with_the_root(tiles):
    for beam in (1, 4):
        root = math.sqrt(tiles)
        two = TreeRouter.hierarchical(tiles, 2, beam=beam).comparisons
        assert two <= 3 * root + beam * root
        assert TreeRouter.fractal(tiles, 2, beam=beam).comparisons <= two
    assert TreeRouter(tiles, 2, (tiles,)).comparisons == tiles


def test_three_levels_of_many_tiles_stay_below_240():
    router = TreeRouter.fractal(16384, 2, levels=3, beam=4)
    assert router.branching == (64, 16, 16)
    assert router.comparisons == 192


@pytest.mark.parametrize(("tiles", "branching"), SHAPES)
@pytest.mark.parametrize("k", [1, 2, 5])
def test_a_beam_as_wide_as_the_tree_is_flat(tiles, branching, k):
    k = min(k, tiles)
    router, x, signatures = _built(tiles, branching, beam=tiles, dim=16)
    assert router.reached == tiles
    route, flat = router(x, signatures, k, 0.7), flat_route(x, signatures, k, 0.7)
    assert torch.equal(route.index, flat.index)
    torch.testing.assert_close(route.score, flat.score, rtol=0, atol=1e-12)
    torch.testing.assert_close(route.weight, flat.weight, rtol=0, atol=1e-12)


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_lower_tile_wins_a_tie(k, dtype):
    generator = torch.Generator().manual_seed(3)
    # three features and small integers: nearly every score is shared
    signatures = torch.randint(-1, 2, (29, 3), generator=generator).to(dtype)
    x = torch.randint(-2, 3, (200, 3), generator=generator).to(dtype)
    for branching in ((6, 5), (3, 4, 4)):
        router = TreeRouter(29, 3, branching, beam=29)
        router.rebuild(signatures)
        for tokens in (x[:2], x):
            route, flat = router(tokens, signatures, k), flat_route(tokens, signatures, k)
            assert torch.equal(route.index, flat.index)
            assert torch.equal(route.score, flat.score)


@pytest.mark.parametrize("tokens", [2, 120])
def test_on_the_way_down_the_lower_node_wins_a_tie(tokens):
    generator = torch.Generator().manual_seed(4)
    router, _, signatures = _built(64, (4, 4, 4), 3, dim=3)
    # small integers, so that most nodes share their score with others
    router.inner.copy_(torch.randint(-1, 2, router.inner.shape, generator=generator))
    x = torch.randint(-2, 3, (tokens, 3), generator=generator).double()
    route = router(x, signatures, 2)
    for row, token in enumerate(x):
        assert route.index[row].tolist() == _descend(router, token, signatures, 2)[0]


def test_every_tile_can_be_reached_and_siblings_are_even():
    for tiles, branching in SHAPES:
        router, _, signatures = _built(tiles, branching, 1)
        *inner, leaves = router.levels(signatures)
        assert torch.equal(leaves.signatures, signatures)
        parent, below = leaves.parent, torch.ones(tiles, dtype=torch.int64)
        for level in reversed([None, *inner]):
            nodes = 1 if level is None else len(level.parent)
            below = torch.zeros(nodes, dtype=torch.int64).index_add(0, parent, below)
            assert below.min() >= 1
            assert below.max() - below.min() <= 1
            parent = torch.zeros(1) if level is None else level.parent
        assert below.tolist() == [tiles]
        assert sorted(router.order.tolist()) == list(range(tiles))


def test_each_nodes_signature_is_the_mean_of_its_childrens_tiles():
    router, _, signatures = _built(29, (4, 4, 2), 1)
    top, middle, leaves = router.levels(signatures)
    above = middle.parent[leaves.parent]
    for node in range(len(middle.parent)):
        torch.testing.assert_close(
            middle.signatures[node], signatures[leaves.parent == node].mean(0)
        )
    for node in range(len(top.parent)):
        torch.testing.assert_close(top.signatures[node], signatures[above == node].mean(0))
    assert top.parent.tolist() == [0] * 4


def test_the_path_is_the_way_down():
    router, x, signatures = _built(29, (4, 4, 2), 3)
    route = router(x, signatures, 2)
    _, middle, leaves = router.levels(signatures)
    assert route.path.shape == (29, 2, 3)
    assert torch.equal(route.path[..., 2], route.index)
    assert torch.equal(route.path[..., 1], leaves.parent[route.index])
    assert torch.equal(route.path[..., 0], middle.parent[route.path[..., 1]])


@pytest.mark.parametrize("tokens", [2, 120])
@pytest.mark.parametrize("k", [1, 3])
def test_nan_and_infinity_stay_with_their_token(k, tokens):
    router, _, signatures = _built(29, (4, 4, 2), 3)
    x, _ = _case(tokens=tokens)
    clean = router(x, signatures, k)
    others = torch.arange(tokens) != 1
    for bad in (math.nan, math.inf):
        x[1, 2] = bad
        route = router(x, signatures, k)
        assert torch.equal(route.index[others], clean.index[others])
        torch.testing.assert_close(route.weight[others], clean.weight[others])
        assert (route.index >= 0).all()
        assert (route.index < 29).all()
    x[1, 2] = math.nan
    route = router(x, signatures, k)
    assert route.score[1].isnan().all()
    assert route.weight[1].isnan().all()


def test_leading_axes_and_no_tokens():
    router, _, signatures = _built(29, (4, 4, 2), 3)
    x, _ = _case(tokens=120)
    flat = router(x, signatures, 2)
    shaped = router(x.view(2, 3, 20, 7), signatures, 2)
    assert torch.equal(shaped.index.view(120, 2), flat.index)
    assert shaped.path.shape == (2, 3, 20, 2, 3)
    assert torch.equal(router(x[4], signatures, 2).index, flat.index[4])
    for none in (x[:0], x.view(2, 60, 7)[:, :0]):
        route = router(none, signatures, 2)
        assert route.index.shape == (*none.shape[:-1], 2)
        assert route.path.shape == (*none.shape[:-1], 2, 3)


def test_gradient_is_that_of_the_flat_route_on_the_chosen_tiles():
    router, x, signatures = _built(29, (4, 4, 2), 3)
    grads = []
    weigh = torch.randn(29, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    route = router(x, signatures, 3)
    for how in ("tree", "slow"):
        t, s = x.clone().requires_grad_(), signatures.clone().requires_grad_()
        heat = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        if how == "tree":
            made = router(t, s, 3, heat)
            score, weight = made.score, made.weight
        else:
            score = (t @ s.T).gather(-1, route.index)
            weight = torch.softmax(score / heat, -1)
        ((weight + score) * weigh).sum().backward()
        grads.append((t.grad, s.grad, heat.grad))
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs)
    chosen = route.index.unique()
    reached = grads[0][1].abs().sum(-1) > 0
    assert reached[chosen].all()
    assert reached.sum() == len(chosen)


@pytest.mark.parametrize("tokens", [2, 120])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtypes_and_autocast(dtype, tokens):
    x, signatures = _case(tokens=tokens, tiles=29, dtype=dtype)
    router = TreeRouter(29, 7, (4, 4, 2), beam=4)
    router.rebuild(signatures)
    route = router(x, signatures.float(), 2)
    assert route.score.dtype == route.weight.dtype == dtype
    assert torch.equal(route.score.argsort(descending=True, stable=True)[:, 0], x.new_zeros(tokens))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        route = router(x.float(), signatures.float(), 2)
    assert route.score.isfinite().all()


@pytest.mark.parametrize("branching", [(29,), (6, 5), (4, 4, 2)])
def test_compiles_to_one_graph_for_any_number_of_tokens(branching):
    router, _, signatures = _built(29, branching, 3)
    torch.compiler.reset()  # so that the shapes tried before do not count against the limit
    compiled = torch.compile(router, fullgraph=True, backend="eager")
    for tokens in (2, 120, 7, 300, 0, 1):
        x, _ = _case(tokens=tokens)
        for mine, theirs in zip(compiled(x, signatures, 2), router(x, signatures, 2), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_only_rebuilding_changes_the_tree():
    router, x, signatures = _built(29, (4, 4, 2), 3)
    before = copy.deepcopy(router.state_dict())
    for mode in (True, False):
        router.train(mode)
        router(x, -signatures)
    for name, value in router.state_dict().items():
        assert torch.equal(value, before[name])
    router.rebuild(-signatures)
    assert not torch.equal(router.inner, before["inner"])
    assert list(router.parameters()) == []


def test_rebuilding_gives_the_same_tree_whatever_the_global_seed():
    trees = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        router, x, signatures = _built(29, (4, 4, 2), 3)
        state = torch.get_rng_state()
        router.rebuild(signatures, x)
        assert torch.equal(torch.get_rng_state(), state)
        trees.append(router.state_dict())
    for name, value in trees[0].items():
        assert torch.equal(value, trees[1][name])


def test_a_saved_tree_routes_alike_and_an_unmade_one_says_so():
    router, x, signatures = _built(29, (4, 4, 2), 3)
    fresh = TreeRouter(29, 7, (4, 4, 2), 3).double()
    for use in (lambda: fresh(x, signatures), lambda: fresh.levels(signatures)):
        with pytest.raises(RuntimeError, match="rebuild"):
            use()
    empty = copy.deepcopy(fresh.state_dict())
    file = io.BytesIO()
    torch.save(router.state_dict(), file)
    file.seek(0)
    outer = torch.nn.ModuleDict({"router": fresh})
    outer.load_state_dict({f"router.{k}": v for k, v in torch.load(file).items()})
    for mine, theirs in zip(fresh(x, signatures, 2), router(x, signatures, 2), strict=True):
        assert torch.equal(mine, theirs)
    fresh.load_state_dict(empty)
    with pytest.raises(RuntimeError, match="rebuild"):
        fresh(x, signatures)
    twin = copy.deepcopy(router)
    assert torch.equal(twin(x, signatures).index, router(x, signatures).index)


def test_one_level_needs_no_tree():
    x, signatures = _case()
    router = TreeRouter(13, 7, (13,), beam=1)
    assert torch.equal(router(x, signatures, 3).index, flat_route(x, signatures, 3).index)
    router.rebuild(signatures)
    (level,) = router.levels(signatures)
    assert torch.equal(level.signatures, signatures)
    assert level.parent.tolist() == [0] * 13


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


def test_a_large_tree_is_made_and_searched():
    x, signatures = _case(tokens=64, tiles=16384, dim=8, dtype=torch.float32)
    router = TreeRouter.fractal(16384, 8)
    router.rebuild(signatures)
    assert sorted(router.order.tolist()) == list(range(16384))
    assert [len(level.parent) for level in router.levels(signatures)] == [64, 1024, 16384]
    assert (router(x, signatures).score > 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TreeRouter(13, 7, (3, 4)), r"room for 13 tiles, got \[3, 4\] with room for 12"),
        (lambda: TreeRouter(13, 7, ()), "room for 13 tiles"),
        (lambda: TreeRouter(13, 7, (3, 0)), "branching must be at least 1, got 0"),
        (lambda: TreeRouter(13, 7, (3, 5), beam=0), "beam must be at least 1, got 0"),
        (lambda: TreeRouter(0, 7, (3, 5)), "tiles must be at least 1, got 0"),
        (lambda: TreeRouter(13, 0, (3, 5)), "dim must be at least 1, got 0"),
        (lambda: TreeRouter.hierarchical(13, 7, 0), "cluster_size must be at least 1, got 0"),
        (lambda: TreeRouter.hierarchical(0, 7), "tiles must be at least 1, got 0"),
        (lambda: TreeRouter.fractal(13, 7, levels=0), "levels must be at least 1, got 0"),
        (lambda: TreeRouter.fractal(13, 7, beam=0), "beam must be at least 1, got 0"),
    ],
)
def test_bad_shapes_of_trees_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_arguments_are_named():
    router, x, signatures = _built(13, (3, 5), 2)
    for bad in (0, 9):
        with pytest.raises(ValueError, match=f"top_k must be at .* got {bad}"):
            router(x, signatures, bad)
    with pytest.raises(ValueError, match=r"\[\.\.\., 7\], got \[29, 6\]"):
        router(x[:, :6], signatures)
    with pytest.raises(ValueError, match=r"\[13, 7\], got \[12, 7\]"):
        router(x, signatures[:12])
    with pytest.raises(ValueError, match=r"\[13, 7\], got \[13, 6\]"):
        router.rebuild(signatures[:, :6])
    with pytest.raises(ValueError, match="temperature"):
        router(x, signatures, temperature=0.0)
    with pytest.raises(ValueError, match=r"\[\.\.\., 7\], got \[29, 5\]"):
        router.rebuild(signatures, x[:, :5])
    for inputs in (x[:0], x * math.nan):
        with pytest.raises(ValueError, match="inputs must"):
            router.rebuild(signatures, inputs)
    spoilt = signatures.clone()
    spoilt[4, 2] = math.nan
    for use in (router.rebuild, router.levels, lambda s: router(x, s)):
        with pytest.raises(ValueError, match="finite"):
            use(spoilt)


@pytest.mark.parametrize(("tiles", "cluster_size", "branching"), [(13, 5, (3, 5)), (5, 7, (1, 7))])
def test_clusters_of_any_size(tiles, cluster_size, branching):
    assert TreeRouter.hierarchical(tiles, 7, cluster_size).branching == branching


def test_depths_of_every_kind():
    for tiles in (1, 2, 5, 7, 13, 64):
        for levels in (1, 2, 3, 4):
            router = TreeRouter.fractal(tiles, 7, levels, beam=tiles)
            x, signatures = _case(tiles=tiles)
            router.double().rebuild(signatures)
            assert len(router.levels(signatures)) == levels
            assert torch.equal(router(x, signatures).index, flat_route(x, signatures).index)


def test_the_state_of_another_tree_is_refused():
    made = TreeRouter(16, 8, (2, 4, 2))
    made.rebuild(torch.randn(16, 8, generator=torch.Generator().manual_seed(0)))
    other = TreeRouter(16, 8, (4, 2, 2))
    with pytest.raises((ValueError, RuntimeError), match=r"branching \[4, 2, 2\]|size mismatch"):
        other.load_state_dict(made.state_dict())
    broken = {**made.state_dict(), "order": torch.zeros(16, dtype=torch.int64)}
    with pytest.raises(ValueError, match="each of 16 tiles once"):
        TreeRouter(16, 8, (2, 4, 2)).load_state_dict(broken)


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
