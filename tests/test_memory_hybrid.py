"""Hybrid heads: the sum of their parts, as large as layers of one kind."""

import pytest
import torch

import trix


def _numbers(state):
    return state.numel() if isinstance(state, torch.Tensor) else sum(_numbers(p) for p in state)


def test_it_is_a_memory_and_a_window_behind_one_convolution():
    torch.manual_seed(0)
    layer = trix.HybridMixer(12, 3, routed=1, slots=5, window=4).double()
    memory, window = layer.inner.memory, layer.inner.window
    x, seen = torch.randn(2, 9, 12, dtype=torch.float64), torch.zeros(2, 9, 12).double()
    kernel = layer.convolution.kernel
    for t in range(9):
        for back in range(min(t + 1, kernel.shape[1])):
            seen[:, t] += kernel[:, -1 - back] * x[:, t - back]
    expected = memory(seen)[0] + window(seen)[0]
    torch.testing.assert_close(layer(x)[0], expected, rtol=0, atol=1e-12)
    assert memory.convolution is None
    assert (memory.heads, memory.width, window.heads, window.width) == (1, 4, 2, 4)
    assert memory.slots == 5


def test_as_many_parameters_as_attention_and_as_large_a_state_as_a_memory():
    hybrid, memory = trix.HybridMixer(128, 4), trix.RoutedMemory(128, 4)
    counts = [sum(p.numel() for p in m.parameters()) for m in (hybrid, trix.CausalAttention(128))]
    signatures = 2 * 2 * 64 * 32
    few = 128 * 4 + 2 * 128 + 2 + 4 + 64 + 2  # kernel, decay, inverse_temperature, norm, slopes
    assert counts[0] == counts[1] + signatures + few
    sizes = [_numbers(m.initial_state(1)) for m in (hybrid, memory)]
    assert sizes[0] == sizes[1] - 2 * 2 * 32 + 31  # less a token's keys and values, and marks


def test_its_matrices_begin_as_wide_in_a_model_as_alone():
    torch.manual_seed(0)
    model = trix.lab.CharLM(trix.lab.LMConfig(mixer="hybrid"))
    inner = model.blocks[0].get_submodule("mixer.inner")
    window, memory = inner.get_submodule("window"), inner.get_submodule("memory")
    for weight in (window.qkv, memory.query, memory.value):
        assert isinstance(weight, torch.Tensor)
        assert float(weight.detach().std()) == pytest.approx(128**-0.5, rel=0.05)


def test_bad_arguments_are_named():
    for arguments, message in (
        ((12, 5), "multiple of heads, got dim=12, heads=5"),
        ((12, 3, 3), "routed must be less than the 3 heads, got 3"),
        ((12, 3, 0), "routed must be at least 1, got 0"),
        ((12, 3, 1, 5, 0), "window must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            trix.HybridMixer(*arguments)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="as wide, got 12, 8"):
        trix.memory.controls.HybridHeads(trix.RoutedMemory(12, 3), trix.WindowAttention(8, 2))
