"""Attention over everything and over a window beside its loops, and beside one another."""

import math

import pytest
import torch

import trix
from tests import reference
from tests.memory.mixers import DIM, close, made, text


def test_attention_equals_the_loop_head_by_head():
    layer, x = made("attention"), text(7)
    y, _ = layer(x)
    for b in range(2):
        parts = layer.qkv(x[b]).detach().split(DIM, dim=-1)
        heads = [
            reference.causal_attention(*(part[:, h : h + 4] for part in parts)) for h in (0, 4, 8)
        ]
        close(y[b], layer.out(torch.cat(heads, -1)))


def test_no_rows_at_all_are_fine():
    y, state = made("attention")(torch.zeros(0, 4, DIM, dtype=torch.float64))
    assert y.shape == (0, 4, DIM)
    assert state.keys.shape == (0, 3, 4, 4)


def test_dropout_is_for_training_alone():
    layer, x = trix.CausalAttention(DIM, 3, dropout=0.5).double(), text(7)
    assert not torch.allclose(layer(x)[0], layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


def _window(window=5):
    torch.manual_seed(2)
    layer = trix.WindowAttention(DIM, 3, window).double()
    with torch.no_grad():
        layer.slope.add_(0.3 * torch.randn(3))
    return layer


def _loop(layer, x):
    out = torch.zeros_like(x)
    for b, row in enumerate(x):
        projected = (row @ layer.qkv.T).view(len(row), 3, layer.heads, layer.width)
        for t in range(len(row)):
            heads = []
            for h in range(layer.heads):
                seen = range(max(0, t - layer.window + 1), t + 1)
                scores = torch.stack(
                    [
                        projected[t, 0, h] @ projected[i, 1, h] / math.sqrt(layer.width)
                        - layer.slope[h] * (t - i)
                        for i in seen
                    ]
                )
                shares = zip(scores.softmax(0), seen, strict=True)
                heads.append(sum(share * projected[i, 2, h] for share, i in shares))
            out[b, t] = layer.out(torch.cat(heads))
    return out


@pytest.mark.parametrize(
    ("window", "time"), [(1, 1), (1, 4), (2, 13), (5, 1), (5, 4), (5, 13), (13, 13), (40, 13)]
)
def test_a_window_equals_the_loop(time, window):
    layer, x = _window(window), text(time)
    close(layer(x)[0], _loop(layer, x))


def test_slopes_start_as_alibi_s():
    slope = trix.WindowAttention(DIM, 4, 5).slope
    assert slope.tolist() == [2**-2, 2**-4, 2**-6, 2**-8]
