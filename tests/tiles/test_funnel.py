import math

import pytest
import torch

import trix
from tests import reference
from tests.tiles.helpers import agree, grad, tokens

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
