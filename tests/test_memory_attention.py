import pytest
import torch

import trix
from tests import reference


def _layer():
    torch.manual_seed(4)
    return trix.CausalAttention(6, heads=3, bias=True).double().eval()


def test_equals_the_loop_head_by_head():
    layer = _layer()
    x = torch.randn(2, 7, 6, dtype=torch.float64)
    y, _ = layer(x)
    for b in range(2):
        q, k, v = (layer.qkv(x[b]).detach()).split(6, dim=-1)
        heads = [
            reference.causal_attention(*(m[:, h : h + 2] for m in (q, k, v))) for h in (0, 2, 4)
        ]
        torch.testing.assert_close(y[b], layer.out(torch.cat(heads, -1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 5, 13])
def test_chunks_equal_one_pass_in_outputs_states_and_gradients(chunk):
    layer = _layer()
    x = torch.randn(2, 13, 6, dtype=torch.float64, requires_grad=True)
    whole, end = layer(x)
    upstream = torch.randn_like(whole)
    expected = torch.autograd.grad(whole, [x, *layer.parameters()], upstream)
    state, parts = layer.initial_state(2), []
    for part in x.split(chunk, dim=1):
        y, state = layer(part, state)
        parts.append(y)
    pieces = torch.cat(parts, dim=1)
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-10)
    torch.testing.assert_close(state.keys, end.keys, rtol=0, atol=1e-10)
    torch.testing.assert_close(state.values, end.values, rtol=0, atol=1e-10)
    got = torch.autograd.grad(pieces, [x, *layer.parameters()], upstream)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_the_future_changes_nothing_and_neither_do_other_rows():
    layer = _layer()
    x = torch.randn(2, 9, 6, dtype=torch.float64)
    y, _ = layer(x)
    changed = x.clone()
    changed[0, 5:] = 100.0
    z, _ = layer(changed)
    torch.testing.assert_close(z[0, :5], y[0, :5], rtol=0, atol=1e-12)
    torch.testing.assert_close(z[1], y[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(x[:, :5])[0], y[:, :5], rtol=0, atol=1e-12)


def test_a_state_is_not_changed_by_going_on_from_it():
    layer = _layer()
    x = torch.randn(1, 4, 6, dtype=torch.float64)
    _, state = layer(x)
    kept = state.keys.clone()
    layer(x, state)
    assert torch.equal(state.keys, kept)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="dim=6, heads=4"):
        trix.CausalAttention(6, heads=4)
    with pytest.raises(ValueError, match=r"6\], got \[1, 2, 5\]"):
        _layer()(torch.randn(1, 2, 5))
    with pytest.raises(ValueError, match=r"\[batch, time >= 1, 6\], got \[2, 6\]"):
        _layer()(torch.randn(2, 6))
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), got 3"):
        trix.CausalAttention(6, heads=3, dropout=3.0)


def test_no_rows_at_all_are_fine():
    y, state = _layer()(torch.zeros(0, 4, 6, dtype=torch.float64))
    assert y.shape == (0, 4, 6)
    assert state.keys.shape == (0, 3, 4, 2)
