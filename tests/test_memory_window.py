"""Sliding-window attention beside its loop, and beside attention over everything."""

import math

import pytest
import torch

import trix


def _layer(window=5, heads=3, width=None):
    torch.manual_seed(2)
    layer = trix.WindowAttention(12, heads, window, width).double()
    with torch.no_grad():
        layer.slope.add_(0.3 * torch.randn(heads))
    return layer


def _loop(layer, x):
    out = torch.zeros_like(x)
    for b, text in enumerate(x):
        projected = (text @ layer.qkv.T).view(len(text), 3, layer.heads, layer.width)
        for t in range(len(text)):
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


@pytest.mark.parametrize("window", [1, 2, 5, 13, 40])
@pytest.mark.parametrize("time", [1, 4, 13])
def test_it_equals_the_loop(time, window):
    layer, x = _layer(window), torch.randn(2, time, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(x)[0], _loop(layer, x), rtol=0, atol=1e-12)


def test_a_wide_window_without_slopes_is_attention():
    layer, whole = _layer(13), trix.CausalAttention(12, 3).double()
    with torch.no_grad():
        layer.slope.zero_()
        whole.qkv.weight.copy_(layer.qkv)
        whole.out.weight.copy_(layer.out.weight)
    x = torch.randn(2, 13, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(x)[0], whole(x)[0], rtol=0, atol=1e-12)


def test_nothing_older_than_the_window_counts():
    layer, x = _layer(5), torch.randn(1, 13, 12, dtype=torch.float64)
    other = x.clone()
    other[:, 3] += 1
    moved = (layer(other)[0] - layer(x)[0]).abs().amax(-1)[0] > 0
    assert moved.tolist() == [3 <= t < 8 for t in range(13)]


def test_there_are_no_positions():
    layer, x = _layer(4), torch.randn(1, 9, 12, dtype=torch.float64)
    later, _ = layer(torch.cat([torch.randn(1, 100, 12, dtype=torch.float64), x], dim=1))
    torch.testing.assert_close(later[:, 103:], layer(x)[0][:, 3:], rtol=0, atol=1e-12)


def test_bad_arguments_are_named():
    for arguments, message in (
        ((12, 5), "multiple of heads, got dim=12, heads=5"),
        ((12, 3, 0), "window must be at least 1, got 0"),
        ((12, 3, 4, -1), "width must be at least 1, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            trix.WindowAttention(*arguments)
