import math

import pytest
import torch

import trix
from tests import reference
from tests.tiles.helpers import agree, tokens
from trix.tiles.fractal import BinnedFFN, RandomFractalFFN

DIM = 13
MADE = {
    "fractal": lambda: trix.FractalFFN(DIM, (3, 2, 4)),
    "fractal-beam": lambda: trix.FractalFFN(DIM, (3, 2, 4), beam=2),
    "fractal-flat": lambda: trix.FractalFFN(DIM, (7,)),
    "random": lambda: RandomFractalFFN(DIM, (3, 2, 4)),
    "binned": lambda: BinnedFFN(DIM, (3, 2), cells=5),
}


def _layer(name):
    torch.manual_seed(3)
    layer = MADE[name]()
    with torch.no_grad():
        layer.gate.steps.add_(torch.randn_like(layer.gate.steps))
    return layer.double()


def _loop(layer, x, index):
    """Read a base and a slope a token, with a gradient."""
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


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("size", [7, 80])
def test_routes_outputs_and_gradients_equal_the_loop(name, size):
    layer, x = _layer(name), (1.5 * tokens(size)).requires_grad_()
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
    agree(output, _loop(layer, x, route.index[:, 0]), [x, *layer.parameters()])
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
