import pytest
import torch

from trix.tiles.tile import FEW, through_tiles

DIM, SEEN, WRITTEN = 7, 3, 4
FEW_AND_MANY = [(5, 7, 1), (7, 5, 3), (13, 6, 1), (13, 5, 2), (60, 5, 1), (61, 3, 3), (40, 1, 1)]
"""Tokens, tiles and reads a token, on both sides of the rule and at its edge."""


def _case(tokens, tiles, k, seed=0):
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=draw, requires_grad=True)

    x, first, second = normal(tokens, DIM), normal(tiles, SEEN, DIM), normal(tiles, WRITTEN, DIM)
    scale, grade = normal(tiles, WRITTEN), normal(tokens * k, 1)
    index = torch.stack([torch.randperm(tiles, generator=draw)[:k] for _ in range(tokens)])
    return x, index, first, second, scale, grade


def _activate(scale, grade):
    # depends on the units, the tile and the read, and is wider than what it gets
    def activation(units, tile, visit):
        wide = torch.cat([units.sin(), units[..., :1] * units[..., 1:2]], dim=-1)
        return wide * scale[tile] + grade[visit]

    return activation


def _loop(x, index, first, second, scale, grade):
    out = []
    for n, token in enumerate(x):
        for place, tile in enumerate(index[n].tolist()):
            units = first[tile] @ token
            wide = torch.cat([units.sin(), units[:1] * units[1:2]])
            activated = wide * scale[tile] + grade[n * index.shape[1] + place]
            out.append(activated @ second[tile])
    return torch.stack(out).view(*index.shape, DIM)


def _fast(x, index, first, second, scale, grade):
    return through_tiles(x, index, first, _activate(scale, grade), second)


def _agree(case):
    numbers = [t for t in case if t.is_floating_point()]
    fast, slow = _fast(*case), _loop(*case)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    weight = torch.randn(fast.shape, dtype=torch.float64)
    for ours, theirs in zip(
        torch.autograd.grad((fast * weight).sum(), numbers),
        torch.autograd.grad((slow * weight).sum(), numbers),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("tokens", "tiles", "k"), FEW_AND_MANY)
def test_reads_and_gradients_equal_the_loop(tokens, tiles, k):
    _agree(_case(tokens, tiles, k))


def test_the_cases_lie_on_both_sides_of_the_rule():
    many = {tokens * k > FEW * tiles for tokens, tiles, k in FEW_AND_MANY}
    assert many == {True, False}


@pytest.mark.parametrize("tile", [0, 2, 4])
def test_one_tile_may_be_read_by_all(tile):
    x, index, *rest = _case(37, 5, 1)
    _agree((x, torch.full_like(index, tile), *rest))
    index = torch.where(torch.arange(37).unsqueeze(1) == 17, 3, index * 0 + tile)
    _agree((x, index, *rest))  # and one by a single token


def test_a_tile_that_nobody_reads_has_no_gradient():
    x, index, first, second, scale, grade = _case(37, 5, 1)
    index = torch.where(index == 2, 0, index)
    _fast(x, index, first, second, scale, grade).sum().backward()
    assert first.grad is not None
    unread = first.grad.abs().sum(dim=(1, 2)) == 0
    assert unread.tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("tokens", [4, 60])
def test_a_nan_stays_with_its_token(tokens):
    x, *rest = _case(tokens, 5, 2)
    clean = _fast(x, *rest)
    x = x.detach().clone()
    x[3, 2] = float("nan")
    spoilt = _fast(x, *rest)
    assert spoilt[3].isnan().all()
    others = torch.arange(tokens) != 3
    torch.testing.assert_close(spoilt[others], clean[others], rtol=0, atol=1e-13)


def test_no_tokens_read_nothing():
    x, index, *rest = _case(5, 3, 2)
    assert _fast(x[:0], index[:0], *rest).shape == (0, 2, DIM)


@pytest.mark.parametrize("tokens", [5, 41])
def test_one_graph_serves_whatever_is_read(tokens):
    torch.compiler.reset()
    case, (_, index, *_) = _case(tokens, 5, 2), _case(tokens, 5, 2, seed=1)
    compiled = torch.compile(_fast, fullgraph=True, backend="eager")
    for chosen in (case[1], index, index * 0):
        each = (case[0], chosen, *case[2:])
        torch.testing.assert_close(compiled(*each), _fast(*each), rtol=0, atol=1e-13)


def test_tokens_decide_the_precision():
    x, index, *rest = _case(20, 3, 1)
    low = _fast(x.to(torch.bfloat16), index, *(t.to(torch.bfloat16) for t in rest))
    assert low.dtype == torch.bfloat16
    mixed = through_tiles(
        x.float(), index, rest[0], lambda units, tile, visit: units.tanh(), rest[1][:, :SEEN]
    )
    exact = through_tiles(
        x, index, rest[0], lambda units, tile, visit: units.tanh(), rest[1][:, :SEEN]
    )
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed.double(), exact, rtol=1e-4, atol=1e-4)
