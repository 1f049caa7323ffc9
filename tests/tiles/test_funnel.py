import math

import pytest
import torch

import trix
from tests import reference
from tests.tiles.helpers import agree, grad, tokens
from trix.tiles.fractal import BinnedFFN, RandomFractalFFN

DIM = 13
SHAPES = [(11, 1, 7), (11, 2, 5), (1, 1, 2), (1, 3, 6)]
"""Tiles, pairs and levels."""


def _layer(tiles, pairs, levels):
    torch.manual_seed(3)
    layer = trix.FunnelFFN(DIM, tiles, 4, levels, pairs, width=5)
    with torch.no_grad():
        layer.gate.steps.add_(torch.randn_like(layer.gate.steps))
        layer.table.add_(0.5 * torch.randn_like(layer.table))
    return layer.double()


def _surface(entries, point, levels):
    # the four entries around a point, each by its nearness
    (r, c) = ((p + 1) / 2 * (levels - 1) for p in point)
    row, column = (min(math.floor(a.item()), levels - 2) for a in (r, c))
    total = torch.zeros_like(entries[0])
    for i in (row, row + 1):
        for j in (column, column + 1):
            total = total + (1 - (r - i).abs()) * (1 - (c - j).abs()) * entries[i * levels + j]
    return total


def _loop(layer, x, index):
    out, cells = [], []
    for token, tile in zip(x, index, strict=True):
        read = torch.zeros(layer.width, dtype=x.dtype)
        cells.append([])
        for pair in range(layer.pairs):
            point = (layer.project[tile, 2 * pair : 2 * pair + 2] @ token).tanh()
            cell = [round((p + 1) / 2 * (layer.levels - 1)) for p in point.tolist()]
            entries = layer.table[tile, pair]
            hard = entries[cell[0] * layer.levels + cell[1]].detach()
            soft = _surface(entries, point, layer.levels)
            read = read + hard + soft - soft.detach()
            cells[-1].append(cell)
        gate = layer.gate(token @ layer.signatures[tile])
        out.append(gate * (read @ layer.expand[tile]))
    return torch.stack(out), cells


@pytest.mark.parametrize(("tiles", "pairs", "levels"), SHAPES)
@pytest.mark.parametrize("size", [7, 60])
def test_routes_outputs_gradients_and_stages_equal_the_loop(tiles, pairs, levels, size):
    layer, x = _layer(tiles, pairs, levels), tokens(size).requires_grad_()
    output, route = layer.routed(x)
    rows, branching = layer.signatures.detach(), layer.router.branching
    index = [reference.nested_tiles(token, rows, branching, 1)[0] for token in x.detach()]
    assert route.index[:, 0].tolist() == index
    slow, cells = _loop(layer, x, index)
    agree(output, slow, [x, *layer.parameters()])
    with torch.no_grad():
        torch.testing.assert_close(layer(x), slow, rtol=0, atol=1e-12)
    stages = layer.stages(x.detach().view(1, size, DIM))
    assert stages.route.index[0, :, 0].tolist() == index
    assert stages.cells[0].tolist() == cells
    assert torch.equal(stages.entry, stages.cells[..., 0] * levels + stages.cells[..., 1])
    positions = 2 * stages.cells / (levels - 1) - 1
    assert ((positions - stages.points).abs() <= 1 / (levels - 1) + 1e-12).all()
    tile = stages.route.index[..., 0]
    read = layer.table[tile.unsqueeze(-1), torch.arange(pairs), stages.entry].sum(dim=-2)
    torch.testing.assert_close(stages.read, read.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(stages.output[0], slow.detach(), rtol=0, atol=1e-12)


def test_half_precision_never_looks_beside_the_table():
    # in bfloat16 the last of 260 levels would round to one that is not there
    layer = trix.FunnelFFN(DIM, 1, 1, levels=260).bfloat16()
    for sign in (-1, 1):
        cells = layer.stages(100.0 * sign * layer.project[0, :1].detach()).cells
        assert ((cells >= 0) & (cells < 260)).all()
        assert cells[0, 0, 0] == (0 if sign < 0 else 259)


def test_the_farthest_points_read_the_outer_entries():
    layer = _layer(1, 1, 7)
    with torch.no_grad():
        layer.project.zero_()
        layer.project[0, 0, 0], layer.project[0, 1, 1] = 1e9, 1e9
    x = torch.zeros(4, DIM, dtype=torch.float64)
    x[:, :2] = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
    assert layer.stages(x).entry.flatten().tolist() == [0, 6, 42, 48]
    layer(x.requires_grad_()).square().sum().backward()
    grad(x)


def test_a_nan_reads_nothing_and_spoils_no_table():
    layer, x = _layer(11, 2, 5), tokens(9)
    x[4, 0] = float("nan")
    stages = layer.stages(x)
    assert ((stages.entry >= 0) & (stages.entry < 25)).all()
    assert stages.output[4].isnan().all()
    assert stages.output[[0, 1, 2, 3, 5, 6, 7, 8]].isfinite().all()


# Fractal routing

FRACTALS = {
    "fractal": lambda: trix.FractalFFN(DIM, (3, 2, 4)),
    "fractal-beam": lambda: trix.FractalFFN(DIM, (3, 2, 4), beam=2),
    "fractal-flat": lambda: trix.FractalFFN(DIM, (7,)),
    "random": lambda: RandomFractalFFN(DIM, (3, 2, 4)),
    "binned": lambda: BinnedFFN(DIM, (3, 2), cells=5),
}


def _fractal(name):
    torch.manual_seed(3)
    layer = FRACTALS[name]()
    with torch.no_grad():
        layer.gate.steps.add_(torch.randn_like(layer.gate.steps))
    return layer.double()


def _fractal_loop(layer, x, index):
    out, signatures = [], layer.signatures
    for token, tile in zip(x, index.tolist(), strict=True):
        u = layer.look[tile] @ token / math.sqrt(DIM)
        cell = tile
        if isinstance(layer, BinnedFFN):
            at = math.floor((u.item() + 3) / 6 * layer.lines)
            cell = tile * layer.lines + min(max(at, 0), layer.lines - 1)
        line = layer.base[cell] + u * layer.slope[cell]
        out.append(layer.gate(token @ signatures[tile]) * line)
    return torch.stack(out)


@pytest.mark.parametrize("name", FRACTALS)
@pytest.mark.parametrize("size", [7, 80])
def test_routes_outputs_and_gradients_equal_the_fractal_loop(name, size):
    layer, x = _fractal(name), (1.5 * tokens(size)).requires_grad_()
    output, route = layer.routed(x)
    branching, beam = layer.router.branching, layer.router.beam
    assert beam == (2 if name == "fractal-beam" else 1)
    if name != "random":
        voted = reference.ternarize(layer.look.detach(), 0.5, relative=True)
        assert torch.equal(layer.signatures.detach(), voted)
    index = [
        reference.nested_tiles(token, layer.signatures.detach(), branching, beam)[0]
        for token in x.detach()
    ]
    assert route.index[:, 0].tolist() == index
    assert len(set(index)) > 3
    agree(output, _fractal_loop(layer, x, route.index[:, 0]), [x, *layer.parameters()])
    if name == "fractal":  # the path names cluster, tile and cell
        cell = route.path[:, 0, 2]
        assert torch.equal(route.path[:, 0], torch.stack([cell // 8, cell // 4, cell], dim=1))
    if name == "random":  # the addresses stay, whatever is learned
        before = layer.signatures.clone()
        assert set(before.unique().tolist()) == {-1.0, 0.0, 1.0}
        layer.look.data.neg_()
        assert torch.equal(layer.signatures, before)


def test_bins_are_equal_and_the_outer_ones_go_on():
    layer = BinnedFFN(1, (1,), cells=3).double()
    with torch.no_grad():
        layer.look.fill_(1.0)
        layer.slope.zero_()
        layer.base.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
    u = torch.tensor([-50.0, -2.9, -1.01, -0.99, 0.0, 0.99, 1.01, 2.9, 50.0]).double().unsqueeze(1)
    read = layer(u) / layer.gate(u)
    expected = [1.0, 1, 1, 2, 2, 2, 3, 3, 3]
    torch.testing.assert_close(read[:, 0], torch.tensor(expected, dtype=torch.float64))
