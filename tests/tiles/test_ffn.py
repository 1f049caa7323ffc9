import math

import pytest
import torch

import trix
from tests import reference
from tests.tiles.helpers import agree, tokens

DIM, KEYS = 14, 7


@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_trix_ffn_equals_the_loop(top_k):
    torch.manual_seed(3)
    layer, x = trix.TriXFFN(7, 5, 3, top_k).double(), tokens(13, dim=7)
    expected = reference.trix_ffn(x, layer.up.detach(), layer.down.detach(), top_k)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_dense_ffn_equals_the_formula_and_has_biases_when_asked():
    layer, x = trix.DenseFFN(5, 11, bias=True).double(), tokens(3, dim=5)
    hidden = (x @ layer.up.weight.T + layer.up.bias).detach().apply_(reference.gelu)
    expected = hidden @ layer.down.weight.T + layer.down.bias
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
    assert trix.DenseFFN(5).up.bias is None
    assert trix.DenseFFN(5).down.bias is None


def _search_of_all_pairs(layer, x):
    out, chosen = [], []
    keys = [torch.cat([i, j]) for i in layer.halves[0] for j in layer.halves[1]]
    for token in x:
        query = layer.query.weight @ token
        scores = torch.stack([query @ key for key in keys])
        values = scores.tolist()
        best = sorted(range(KEYS * KEYS), key=lambda p: (-values[p], p))[: layer.top_k]
        share = torch.softmax(scores[best], dim=0)
        out.append(sum(a * layer.values[p] for a, p in zip(share, best, strict=True)))
        chosen.append(best)
    return torch.stack(out), chosen, torch.stack(keys)


@pytest.mark.parametrize("top_k", [1, 3, KEYS])
def test_product_keys_equal_the_search_of_all_pairs(top_k):
    torch.manual_seed(3)
    layer = trix.ProductKeyFFN(DIM, KEYS, top_k).double()
    x = tokens(13, dim=DIM).requires_grad_()
    output, route = layer.routed(x)
    slow, chosen, keys = _search_of_all_pairs(layer, x)
    assert torch.equal(layer.signatures, keys)
    assert route.index.tolist() == chosen
    torch.testing.assert_close(route.score, (layer.query(x) @ keys.T).gather(1, route.index))
    agree(output, slow, [x, *layer.parameters()])


def test_initial_scales_are_those_that_were_published():
    torch.manual_seed(0)
    memory = trix.ProductKeyFFN(64)
    assert memory.halves.std().item() == pytest.approx(1 / math.sqrt(32), rel=0.1)
    assert memory.values.std().item() == pytest.approx(0.02, rel=0.05)
    wide = trix.WideDenseFFN(64)
    assert wide.up.weight.std().item() == pytest.approx(1 / 8, rel=0.05)
    assert wide.up.out_features == 256
    assert trix.TriXFFN(64, 16).up.shape[1] == 16  # all tiles together as a dense layer
