import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests import reference
from tests.tiles.helpers import agree, grad
from trix.tiles.tile import ACTIVATIONS, REACH, through_tiles

DIM, SEEN, WRITTEN = 7, 3, 4
FEW_AND_MANY = [(5, 7), (10, 5), (11, 5), (61, 3), (40, 1)]
"""Tokens and tiles, on both sides of the rule, FEW per tile, and at its edge."""


def _dispatched(tokens, tiles, seed=0):
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=draw, requires_grad=True)

    x, first, second = normal(tokens, DIM), normal(tiles, SEEN, DIM), normal(tiles, WRITTEN, DIM)
    tile = torch.randint(tiles, (tokens,), generator=draw)
    return x, tile, first, second, normal(tiles, WRITTEN), normal(tokens, 1)


def _fast(x, tile, first, second, scale, grade):
    def activation(units, tile, token):
        # depends on the units, the tile and the token, and is wider than what it gets
        wide = torch.cat([units.sin(), units[..., :1] * units[..., 1:2]], dim=-1)
        return wide * scale[tile] + grade[token]

    return through_tiles(x, tile, first, activation, second)


def _loop(x, tile, first, second, scale, grade):
    out = []
    for n, t in enumerate(tile.tolist()):
        units = first[t] @ x[n]
        wide = torch.cat([units.sin(), units[:1] * units[1:2]])
        out.append((wide * scale[t] + grade[n]) @ second[t])
    return torch.stack(out)


def _compare(case):
    agree(_fast(*case), _loop(*case), [t for t in case if t.is_floating_point()])


@pytest.mark.parametrize(("tokens", "tiles"), FEW_AND_MANY)
def test_reads_and_gradients_equal_the_loop(tokens, tiles):
    _compare(_dispatched(tokens, tiles))


def test_one_tile_may_be_read_by_all_and_another_by_none():
    x, tile, *rest = _dispatched(37, 5)
    for alone in (0, 2, 4):
        _compare((x, torch.full_like(tile, alone), *rest))
    _compare((x, torch.where(torch.arange(37) == 17, 3, 0), *rest))  # and one by a single token


@pytest.mark.parametrize("tokens", [4, 60])
def test_a_nan_stays_with_its_token(tokens):
    x, *rest = _dispatched(tokens, 5)
    clean = _fast(x, *rest)
    x = x.detach().clone()
    x[3, 2] = float("nan")
    spoilt = _fast(x, *rest)
    assert spoilt[3].isnan().all()
    others = torch.arange(tokens) != 3
    torch.testing.assert_close(spoilt[others], clean[others], rtol=0, atol=1e-13)


@pytest.mark.parametrize("tokens", [5, 41])
def test_one_graph_serves_whatever_is_read(tokens):
    torch.compiler.reset()
    case, (_, other, *_) = _dispatched(tokens, 5), _dispatched(tokens, 5, seed=1)
    compiled = torch.compile(_fast, fullgraph=True, backend="eager")
    for tile in (case[1], other, other * 0):
        each = (case[0], tile, *case[2:])
        torch.testing.assert_close(compiled(*each), _fast(*each), rtol=0, atol=1e-13)
    low = _fast(case[0].float(), case[1], *case[2:4], *(t.float() for t in case[4:]))
    assert low.dtype == torch.float32  # tokens decide the precision
    torch.testing.assert_close(low.double(), _fast(*case), rtol=1e-4, atol=1e-4)


# Activations

TILES, RANK, CELLS = 5, 3, 7


def _activate(kind, move=0.4) -> Any:
    torch.manual_seed(2)
    activation = ACTIVATIONS[kind](TILES, RANK, CELLS).double()
    with torch.no_grad():
        for parameter in activation.parameters():
            parameter.add_(move * torch.randn_like(parameter))
    return activation


def _case(*shape):
    draw = torch.Generator().manual_seed(1)
    units = 2.5 * torch.randn(*shape, RANK, dtype=torch.float64, generator=draw)
    return units, torch.randint(TILES, shape, generator=draw)


def _floor(u):
    return min(max(math.floor((u + REACH) / (2 * REACH) * CELLS), 0), CELLS - 1)


def _slow(activation, kind, units, tile):
    if kind == "constant":
        return activation.value[tile]
    if not kind.endswith("-cells"):
        assert (activation.spline.low, activation.spline.high) == (-REACH, REACH)
        own = [torch.tensor(tile * RANK + unit) for unit in range(RANK)]
        return torch.stack([activation.spline(u, w) for u, w in zip(units, own, strict=True)])
    if kind == "floor-cells":
        cell = _floor(units[0].item())
    else:
        rows = activation.slope[tile].detach()
        rows = reference.ternarize(rows, 0.5, relative=True)
        scores = ((activation.fixed[tile] if kind == "random-cells" else rows) @ units).tolist()
        cell = max(range(CELLS), key=lambda c: (scores[c], -c))
    return activation.base[tile, cell] + activation.slope[tile, cell] * units


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_each_unit_is_activated_as_the_loop_does_in_rows_and_in_blocks(kind):
    activation, (units, tile) = _activate(kind), _case(10, 5)
    rows = zip(units.flatten(0, 1), tile.flatten().tolist(), strict=True)
    expected = torch.stack([_slow(activation, kind, u, t) for u, t in rows])
    torch.testing.assert_close(activation(units, tile).flatten(0, 1), expected)
    torch.testing.assert_close(activation(units.flatten(0, 1), tile.flatten()), expected)
    one = tile[:, :1].expand(10, 5)  # blocks of one tile
    torch.testing.assert_close(activation(units, one)[4], activation(units[4], one[4]))


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_only_what_was_read_has_a_gradient_and_a_nan_stays_in_its_row(kind):
    activation, (units, tile) = _activate(kind), _case(60)
    tile = torch.where(tile == 3, 1, tile)
    clean = activation(units, tile)
    clean.square().sum().backward()
    for parameter in activation.parameters():
        if kind == "ternary-layer":  # one scale for all: everyone has a hand in it
            continue
        used = grad(parameter).reshape(TILES, -1).abs().sum(dim=-1) > 0
        assert used.tolist() == [True, True, True, False, True]
    units[2] = float("nan")
    spoilt, others = activation(units, tile), torch.arange(60) != 2
    assert spoilt[2].isnan().all()
    assert torch.equal(spoilt[others], clean[others])


def test_splines_are_initially_as_near_the_gelu_as_their_cells_allow():
    for kind, cells, gap in (("knots", 60, 2e-3), ("cells", 60, 2e-3), ("ternary-cell", 60, 0.9)):
        activation = ACTIVATIONS[kind](2, RANK, cells).double()
        units = torch.linspace(-3, 3, 301, dtype=torch.float64).unsqueeze(1).repeat(1, RANK)
        far = (activation(units, torch.zeros(301, dtype=torch.int64)) - F.gelu(units)).abs().max()
        assert far < gap, kind
    for kind, scales in (("cell", 105), ("tile", 5), ("layer", 1)):
        assert _activate(f"ternary-{kind}").spline.groups == scales
