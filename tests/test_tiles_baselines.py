import math

import pytest
import torch
from torch.nn import functional as F

import trix
from tests import reference

DIM, TILES, KEYS = 14, 5, 7


def _mixture(top_k, dtype=torch.float64):
    torch.manual_seed(3)
    layer = trix.tiles.ffn.MixtureFFN(DIM, TILES, hidden=6, top_k=top_k).to(dtype)
    with torch.no_grad():  # scores and units of the size of one
        layer.matrix.mul_(4)
        layer.up.mul_(20)
    return layer


def _memory(top_k):
    torch.manual_seed(3)
    return trix.ProductKeyFFN(DIM, KEYS, top_k).double()


def _tokens(*shape, seed=1):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, DIM, dtype=torch.float64, generator=draw)


def _agree(layer, x, output, slow):
    torch.testing.assert_close(output, slow, rtol=0, atol=1e-12)
    weight, moved = _tokens(*x.shape[:-1], seed=2), [x, *layer.parameters()]
    ours = torch.autograd.grad((output * weight).sum(), moved)
    theirs = torch.autograd.grad((slow * weight).sum(), moved)
    for a, b in zip(ours, theirs, strict=True):
        assert a.abs().sum() > 0
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@pytest.mark.parametrize("top_k", [1, 2, TILES])
@pytest.mark.parametrize("size", [5, 40])
def test_a_mixture_equals_the_loop(top_k, size):
    layer, x, out = _mixture(top_k), _tokens(size).requires_grad_(), []
    output, route = layer.routed(x)
    for n, token in enumerate(x):
        chosen = reference.best_tiles(token.detach(), layer.matrix.detach(), top_k)
        assert route.index[n].tolist() == chosen
        loud = (layer.matrix @ token).exp()
        total = loud.sum() if top_k == 1 else loud[chosen].sum()
        said = [F.gelu(layer.up[t] @ token) @ layer.down[t] for t in chosen]
        out.append(sum(loud[t] / total * s for t, s in zip(chosen, said, strict=True)))
        torch.testing.assert_close(route.weight[n], loud[chosen] / total)
    _agree(layer, x, output, torch.stack(out))


def test_a_mixture_of_all_experts_is_the_full_softmax():
    layer, x = _mixture(TILES), _tokens(9)
    share = torch.softmax(x @ layer.matrix.T, dim=-1)
    hidden = F.gelu(torch.einsum("nd,thd->nth", x, layer.up))
    dense = torch.einsum("nt,nth,thd->nd", share, hidden, layer.down)
    torch.testing.assert_close(layer(x), dense, rtol=0, atol=1e-12)


def test_the_balance_loss_reaches_the_router_of_a_mixture():
    torch.manual_seed(0)
    layer = _mixture(2, torch.float32)
    x = torch.randn(400, DIM) + torch.randn(DIM)
    optimizer = torch.optim.SGD([layer.matrix], 0.3)

    def evenness():
        return trix.lab.normalized_entropy(trix.lab.usage(layer.routed(x).route, TILES))

    before = evenness()
    for _ in range(200):
        optimizer.zero_grad()
        trix.load_balance(layer.routed(x).route, TILES).backward()
        optimizer.step()
    assert before < 0.9
    assert evenness() > 0.95


def _memory_loop(layer, x):
    """Score every pair of keys, `[tokens, dim]` and the chosen values."""
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
        loud = (scores[best] - scores[best].max().detach()).exp()
        out.append(sum(a / loud.sum() * layer.values[p] for a, p in zip(loud, best, strict=True)))
        chosen.append(best)
    return torch.stack(out), chosen


@pytest.mark.parametrize("top_k", [1, 3, KEYS])
def test_product_keys_equal_the_search_of_all_pairs(top_k):
    layer, x = _memory(top_k), _tokens(13).requires_grad_()
    output, route = layer.routed(x)
    slow, chosen = _memory_loop(layer, x)
    assert route.index.tolist() == chosen
    if top_k > 1:
        _agree(layer, x, output, slow)
    else:
        torch.testing.assert_close(output, slow, rtol=0, atol=1e-12)


def test_product_keys_are_full_keys_for_the_query():
    layer, x = _memory(3), _tokens(20)
    route = layer.routed(x).route
    scores = layer.query(x) @ layer.signatures.T
    best = scores.topk(3)
    assert torch.equal(best.indices, route.index)
    torch.testing.assert_close(best.values, route.score)
    assert list(layer.signatures.shape) == [KEYS * KEYS, DIM]


def test_values_that_were_not_read_are_not_touched():
    layer, x = _memory(3), _tokens(4)
    output, route = layer.routed(x)
    output.sum().backward()
    assert layer.values.grad is not None
    touched = (layer.values.grad != 0).any(dim=-1).nonzero().flatten()
    assert torch.equal(touched, route.index.unique())


def test_scales_at_the_beginning_are_those_that_were_published():
    torch.manual_seed(0)
    layer = trix.tiles.ffn.MixtureFFN(64, 16)
    assert layer.up.shape[1] == 16  # four times as wide as it is long, in sixteen parts
    for part, scale in ((layer.up, 0.02), (layer.down, 0.007)):
        assert part.std().item() == pytest.approx(scale, rel=0.05)
    memory = trix.ProductKeyFFN(64)
    assert memory.halves.std().item() == pytest.approx(1 / math.sqrt(32), rel=0.1)
