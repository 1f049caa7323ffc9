import copy
import math

import pytest
import torch

from tests.reference import routing_case, tree_search
from trix.address import nested
from trix.address.nested import NestedRouter
from trix.address.route import flat_route
from trix.address.tree import TreeRouter

SHAPES = [
    (13, (3, 5), 2),
    (13, (3, 5), 10),
    (5, (1, 7), 1),
    (7, (7, 1), 3),
    (13, (2, 3, 3), 3),
    (29, (4, 4, 2), 1),
    (29, (4, 4, 2), 3),
    (31, (2, 2, 2, 2, 2), 2),
    (64, (4, 4, 4), 2),
    (7, (7,), 1),
    (1, (1, 1), 1),
]


@pytest.fixture(params=["fitted", "way-down", "one-product"])
def made(request, monkeypatch):
    # a product with all signatures, or the descent of larger trees: no test may tell them apart
    monkeypatch.setattr(nested, "FEW", 0 if request.param == "way-down" else 99)
    kind = TreeRouter if request.param == "fitted" else NestedRouter

    def make(signatures, branching, beam):
        router = kind(len(signatures), signatures.shape[1], branching, beam).to(signatures.dtype)
        router.rebuild(signatures)
        return router

    return make


def _way(levels, tile):
    path = [tile]
    for level in reversed(levels[1:]):
        path.insert(0, int(level.parent[path[0]]))
    return path


@pytest.mark.parametrize(("tiles", "branching", "beam"), SHAPES)
def test_route_equals_a_slow_descent(made, tiles, branching, beam):
    x, signatures = routing_case(tiles=tiles, dim=16)
    router = made(signatures, branching, beam)
    levels = router.levels(signatures)
    # two tokens fetch what they need, many visit node by node: both ways must agree with the loop
    for tokens in (x[:2], x.repeat(4, 1)):
        for k in {1, min(3, router.reached), router.reached}:
            route = router(tokens, signatures, k, 0.7)
            assert torch.equal(route.token, tokens)
            for row, token in enumerate(tokens[:29]):
                index, compared = tree_search(router, token, signatures, k)
                assert compared <= router.comparisons
                assert route.index[row].tolist() == index
                assert route.path[row].tolist() == [_way(levels, tile) for tile in index]
                score = signatures[index] @ token
                torch.testing.assert_close(route.score[row], score)
                torch.testing.assert_close(route.weight[row], torch.softmax(score / 0.7, 0))


@pytest.mark.parametrize(("tiles", "branching"), [(13, (2, 3, 3)), (29, (6, 5)), (29, (3, 4, 4))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_beam_as_wide_as_the_tree_is_flat_with_the_lower_tile_at_a_tie(
    made, tiles, branching, dtype
):
    generator = torch.Generator().manual_seed(3)
    # three features and small integers: nearly every score is shared
    signatures = torch.randint(-1, 2, (tiles, 3), generator=generator).to(dtype)
    x = torch.randint(-2, 3, (200, 3), generator=generator).to(dtype)
    router = made(signatures, branching, tiles)
    assert router.reached == tiles
    for k in (1, 4):
        for tokens in (x[:2], x):
            route, flat = router(tokens, signatures, k), flat_route(tokens, signatures, k)
            assert torch.equal(route.index, flat.index)
            assert torch.equal(route.score, flat.score)
            assert torch.equal(route.weight, flat.weight)


@pytest.mark.parametrize("tokens", [2, 120])
@pytest.mark.parametrize(("tiles", "branching", "beam"), [(16, (4, 4), 2), (64, (4, 4, 4), 3)])
def test_on_the_way_down_the_lower_node_wins_a_tie(made, tiles, branching, beam, tokens):
    generator = torch.Generator().manual_seed(4)
    signatures = torch.randint(-1, 2, (tiles, 2), generator=generator).double()
    x = torch.randint(-2, 3, (tokens, 2), generator=generator).double()
    router = made(signatures, branching, beam)
    if hasattr(router, "inner"):  # small integers, so that most nodes share their score with others
        router.inner.copy_(torch.randint(-1, 2, router.inner.shape, generator=generator))
    route = router(x, signatures, 2)
    for row, token in enumerate(x):
        assert route.index[row].tolist() == tree_search(router, token, signatures, 2)[0]


def test_siblings_are_even_and_each_nodes_signature_is_the_mean_of_its_tiles(made):
    for tiles, branching, _ in SHAPES:
        _, signatures = routing_case(tiles=tiles)
        *inner, leaves = made(signatures, branching, 1).levels(signatures)
        assert torch.equal(leaves.signatures, signatures)
        node = leaves.parent  # of each tile, from the lowest level up
        for level in reversed(inner):
            below = node.bincount(minlength=len(level.parent))
            assert 1 <= below.min() <= below.max() <= below.min() + 1
            for number, row in enumerate(level.signatures):
                torch.testing.assert_close(row, signatures[node == number].mean(0))
            node = level.parent[node]
        assert node.tolist() == [0] * tiles


@pytest.mark.parametrize("tokens", [2, 120])
@pytest.mark.parametrize("k", [1, 3])
def test_nan_and_infinity_stay_with_their_token(made, k, tokens):
    x, signatures = routing_case(tokens=tokens, tiles=29)
    router = made(signatures, (4, 4, 2), 3)
    clean = router(x, signatures, k)
    others = torch.arange(tokens) != 1
    for bad in (math.inf, math.nan):
        x[1, 2] = bad
        route = router(x, signatures, k)
        assert torch.equal(route.index[others], clean.index[others])
        torch.testing.assert_close(route.weight[others], clean.weight[others])
        assert ((route.index >= 0) & (route.index < 29)).all()
    assert route.score[1].isnan().all()
    assert route.weight[1].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_leading_axes_no_tokens_dtypes_and_autocast(made, dtype):
    x, signatures = routing_case(tokens=120, tiles=29, dtype=dtype)
    router = made(signatures.float(), (4, 4, 2), 3)
    flat = router(x, signatures, 2)
    assert flat.score.dtype == flat.weight.dtype == dtype
    assert (flat.score.diff(dim=-1) <= 0).all()
    shaped = router(x.view(2, 3, 20, 7), signatures, 2)
    assert torch.equal(shaped.index.view(120, 2), flat.index)
    assert shaped.path.shape == (2, 3, 20, 2, 3)
    assert torch.equal(router(x[4], signatures, 2).index, flat.index[4])
    for none in (x[:0], x.view(2, 60, 7)[:, :0]):
        route = router(none, signatures, 2)
        assert route.index.shape == (*none.shape[:-1], 2)
        assert route.path.shape == (*none.shape[:-1], 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for tokens in (x[:2], x):
            score = router(tokens.float(), signatures.float(), 3).score
            assert score.isfinite().all()
            assert (score.diff(dim=-1) <= 0).all()


def test_gradient_is_that_of_the_flat_route_on_the_chosen_tiles(made):
    x, signatures = routing_case(tiles=29)
    router = made(signatures, (4, 4, 2), 3)
    index = router(x, signatures, 3).index
    weigh = torch.randn(29, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    grads = []
    for fast in (True, False):
        t, s = x.clone().requires_grad_(), signatures.clone().requires_grad_()
        heat = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        if fast:
            route = router(t, s, 3, heat)
            score, weight = route.score, route.weight
            assert not route.token.requires_grad
        else:
            score = (t @ s.T).gather(-1, index)
            weight = torch.softmax(score / heat, -1)
        ((weight + score) * weigh).sum().backward()
        grads.append((t.grad, s.grad, heat.grad))
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs)
    reached = grads[0][1].abs().sum(-1) > 0
    assert reached.nonzero().flatten().tolist() == index.unique().tolist()


@pytest.mark.parametrize(
    ("branching", "numbers"),
    [
        ((6, 5), (120,)),
        pytest.param((29,), (2, 120, 7, 300, 0, 1), marks=pytest.mark.slow),
        pytest.param((4, 4, 2), (2, 120, 7, 300, 0, 1), marks=pytest.mark.slow),
    ],
)
def test_compiles_to_one_graph_for_any_number_of_tokens(made, branching, numbers):
    _, signatures = routing_case(tiles=29)
    router = made(signatures, branching, 3)
    torch.compiler.reset()  # so that the shapes tried before do not count against the limit
    compiled = torch.compile(router, fullgraph=True, backend="eager")
    for tokens in numbers:
        x, _ = routing_case(tokens=tokens)
        for mine, theirs in zip(compiled(x, signatures, 2), router(x, signatures, 2), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_forward_writes_nothing_and_what_is_saved_or_copied_routes_alike(made):
    x, signatures = routing_case(tiles=29)
    router = made(signatures, (4, 4, 2), 3)
    kept = {name: buffer.clone() for name, buffer in router.named_buffers()}
    for mode in (True, False):
        router.train(mode)
        router(x, -signatures, 2)
    assert list(router.parameters()) == []
    for name, buffer in router.named_buffers():
        assert torch.equal(buffer, kept[name]), name
    fresh = type(router)(29, 7, (4, 4, 2), 3).double()
    outer = torch.nn.ModuleDict({"router": fresh})
    outer.load_state_dict({f"router.{k}": v for k, v in router.state_dict().items()})
    for other in (fresh, copy.deepcopy(router)):
        for mine, theirs in zip(other(x, signatures, 2), router(x, signatures, 2), strict=True):
            assert torch.equal(mine, theirs)
    assert "tiles=29, dim=7, branching=(4, 4, 2), beam=3" in repr(router)
