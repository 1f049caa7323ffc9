import math

import pytest
import torch

import trix
from tests import reference
from tests.tiles.helpers import agree, grad, tokens

DIM, KEYS = 14, 7


def _trix(top_k=2):
    torch.manual_seed(3)
    return trix.TriXFFN(7, 5, 3, top_k).double()


def _memory(top_k):
    torch.manual_seed(3)
    return trix.ProductKeyFFN(DIM, KEYS, top_k).double()


@pytest.mark.parametrize("top_k", [1, 2, 5])
def test_trix_ffn_equals_the_loop(top_k):
    layer, x = _trix(top_k), tokens(13, dim=7)
    expected = reference.trix_ffn(x, layer.up.detach(), layer.down.detach(), top_k)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_dense_ffn_equals_the_formula_and_has_biases_when_asked():
    layer, x = trix.DenseFFN(5, 11, bias=True).double(), tokens(3, dim=5)
    hidden = (x @ layer.up.weight.T + layer.up.bias).detach().apply_(reference.gelu)
    expected = hidden @ layer.down.weight.T + layer.down.bias
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
    assert trix.DenseFFN(5).up.bias is None
    assert trix.DenseFFN(5).down.bias is None


@pytest.mark.parametrize("top_k", [1, 3])
def test_the_task_alone_moves_every_address_that_was_read(top_k):
    torch.manual_seed(3)
    layer, x = trix.TriXFFN(16, 6, 4, top_k).double(), tokens(200, dim=16)
    route = layer.routed(x).route
    assert route.index.unique().tolist() == list(range(6))
    # through the address alone: the same reading with the tiles' own weights held still
    share = route.weight * torch.sigmoid(route.score / 4)
    (share * tokens(200, dim=top_k, seed=2)).sum().backward()
    assert (grad(layer.up).abs().amax(dim=(1, 2)) > 0).all()


def _search_of_all_pairs(layer, x):
    out, chosen = [], []
    for token in x:
        query = layer.query.weight @ token
        halves = query[: DIM // 2], query[DIM // 2 :]
        scores = torch.stack(
            [
                halves[0] @ layer.halves[0, i] + halves[1] @ layer.halves[1, j]
                for i in range(KEYS)
                for j in range(KEYS)
            ]
        )
        values = scores.tolist()
        best = sorted(range(KEYS * KEYS), key=lambda p: (-values[p], p))[: layer.top_k]
        share = torch.softmax(scores[best], dim=0)
        out.append(sum(a * layer.values[p] for a, p in zip(share, best, strict=True)))
        chosen.append(best)
    return torch.stack(out), chosen


@pytest.mark.parametrize("top_k", [1, 3, KEYS])
def test_product_keys_equal_the_search_of_all_pairs(top_k):
    layer, x = _memory(top_k), tokens(13, dim=DIM).requires_grad_()
    output, route = layer.routed(x)
    slow, chosen = _search_of_all_pairs(layer, x)
    assert route.index.tolist() == chosen
    agree(output, slow, [x, *layer.parameters()])
    if top_k > 1:  # one weight alone is 1 and teaches no key
        layer(x).square().sum().backward()
        for key in (layer.query.weight, layer.halves):
            assert (grad(key).abs().sum(dim=-1) > 0).any()


def test_product_keys_are_full_keys_for_the_query():
    layer, x = _memory(3), tokens(20, dim=DIM)
    route = layer.routed(x).route
    best = (layer.query(x) @ layer.signatures.T).topk(3)
    assert torch.equal(best.indices, route.index)
    torch.testing.assert_close(best.values, route.score)
    assert list(layer.signatures.shape) == [KEYS * KEYS, DIM]


def test_values_that_were_not_read_are_not_touched():
    layer = _memory(3)
    output, route = layer.routed(tokens(4, dim=DIM))
    output.sum().backward()
    touched = (grad(layer.values) != 0).any(dim=-1).nonzero().flatten()
    assert torch.equal(touched, route.index.unique())


def test_initial_scales_are_those_that_were_published():
    torch.manual_seed(0)
    memory = trix.ProductKeyFFN(64)
    assert memory.halves.std().item() == pytest.approx(1 / math.sqrt(32), rel=0.1)
    assert memory.values.std().item() == pytest.approx(0.02, rel=0.05)
    wide = trix.WideDenseFFN(64)
    assert wide.up.weight.std().item() == pytest.approx(1 / 8, rel=0.05)
    assert wide.up.out_features == 256
    assert trix.TriXFFN(64, 16).up.shape[1] == 16  # all tiles together as a dense layer
