"""Attention over everything and over a window beside its loops, and beside one another."""

import math

import pytest
import torch

import trix
from tests import reference
from tests.memory.mixers import DIM, close, made, moved, text


def test_attention_equals_the_loop_head_by_head():
    layer, x = made("attention"), text(7)
    y, _ = layer(x)
    for b in range(2):
        parts = layer.qkv(x[b]).detach().split(DIM, dim=-1)
        heads = [
            reference.causal_attention(*(part[:, h : h + 4] for part in parts)) for h in (0, 4, 8)
        ]
        close(y[b], layer.out(torch.cat(heads, -1)))
    assert layer(x[:0])[0].shape == (0, 7, DIM)


def test_dropout_is_for_training_alone():
    layer, x = trix.CausalAttention(DIM, 3, dropout=0.5).double(), text(7)
    assert not torch.allclose(layer(x)[0], layer(x)[0])
    layer.eval()
    assert torch.equal(layer(x)[0], layer(x)[0])


def _loop(layer, x):
    out = torch.zeros_like(x)
    for b, row in enumerate(x):
        projected = (row @ layer.qkv.T).view(len(row), 3, layer.heads, layer.width)
        for t in range(len(row)):
            heads = []
            for h in range(layer.heads):
                seen = range(max(0, t - layer.window + 1), t + 1)
                query, keys = projected[t, 0, h] / math.sqrt(layer.width), projected[:, 1, h]
                scores = [query @ keys[i] - layer.slope[h] * (t - i) for i in seen]
                shares = zip(torch.stack(scores).softmax(0), seen, strict=True)
                heads.append(sum(share * projected[i, 2, h] for share, i in shares))
            out[b, t] = layer.out(torch.cat(heads))
    return out


@pytest.mark.parametrize(
    ("window", "time"), [(1, 1), (1, 4), (2, 13), (5, 1), (5, 4), (5, 13), (13, 13), (40, 13)]
)
def test_a_window_equals_the_loop(time, window):
    torch.manual_seed(2)
    layer, x = moved(trix.WindowAttention(DIM, 3, window)), text(time)
    close(layer(x)[0], _loop(layer, x))


def test_slopes_start_as_alibi_s():
    slope = trix.WindowAttention(DIM, 4, 5).slope
    assert slope.tolist() == [2**-2, 2**-4, 2**-6, 2**-8]
