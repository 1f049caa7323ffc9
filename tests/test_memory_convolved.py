"""Attention behind a short convolution: the same in parts, and it begins as the memory does."""

import pytest
import torch

import trix
from trix.lab.recipes import protocol


def _layer():
    torch.manual_seed(0)
    return trix.ConvolvedAttention(12, heads=3).double()


def test_it_is_attention_over_what_the_convolution_saw():
    layer, x = _layer(), torch.randn(2, 9, 12, dtype=torch.float64)
    kernel = layer.convolution.kernel
    seen = torch.zeros_like(x)
    for t in range(9):
        for back in range(min(t + 1, kernel.shape[1])):
            seen[:, t] += kernel[:, -1 - back] * x[:, t - back]
    torch.testing.assert_close(layer(x)[0], layer.inner(seen)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("cuts", [1, 4, [5, 1, 3]])
def test_parts_equal_the_whole(cuts):
    layer, x = _layer(), torch.randn(2, 9, 12, dtype=torch.float64)
    state, outputs = layer.initial_state(2), []
    for part in x.split(cuts, dim=1):
        y, state = layer(part, state)
        outputs.append(y)
    whole, end = layer(x)
    torch.testing.assert_close(torch.cat(outputs, 1), whole, rtol=0, atol=1e-12)
    torch.testing.assert_close(state.past, end.past, rtol=0, atol=1e-12)
    torch.testing.assert_close(state.inner, end.inner, rtol=0, atol=1e-12)


def test_in_a_model_it_begins_as_wide_as_a_memory():
    torch.manual_seed(0)
    models = {
        mixer: trix.lab.CharLM(protocol("nano").with_model(mixer=mixer, mixer_options=options))
        for mixer, options in (("convolved-attention", {}), ("routed-memory", {"slots": 8}))
    }
    wide, memory = (models[m].blocks[0].mixer for m in ("convolved-attention", "routed-memory"))
    assert isinstance(wide, trix.ConvolvedAttention)
    assert isinstance(memory, trix.RoutedMemory)
    for weight in (wide.inner.qkv.weight, memory.query, memory.value):
        assert float(weight.detach().std()) == pytest.approx(128**-0.5, rel=0.05)
    assert float(wide.inner.out.weight.detach().std()) == pytest.approx(0.02 / 8**0.5, rel=0.05)


def test_bad_shapes_are_named():
    for shape in ((9, 12), (2, 9, 11)):
        with pytest.raises(ValueError, match=r"\[batch, time >= 1, 12\], got|\[\.\.\., 12\], got"):
            _layer()(torch.zeros(shape, dtype=torch.float64))


def test_a_width_of_one_sees_no_other_token():
    torch.manual_seed(0)
    layer = trix.ConvolvedAttention(12, heads=3, width=1).double()
    x = torch.randn(2, 9, 12, dtype=torch.float64)
    scaled = x * layer.convolution.kernel[:, 0]
    torch.testing.assert_close(layer(x)[0], layer.inner(scaled)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("cuts", [1, [5, 1, 3]])
def test_a_static_memory_behind_it_sees_four_tokens_and_no_more(cuts):
    torch.manual_seed(0)
    layer = trix.memory.controls.ConvolvedStatic(12, heads=3, slots=7, top_k=7).double()
    x = torch.randn(2, 9, 12, dtype=torch.float64)
    whole, _ = layer(x)
    changed = x.clone()
    changed[:, 3] += 1
    moved = (layer(changed)[0] - whole).abs().amax(dim=(0, 2)) > 0
    assert moved.tolist() == [False] * 3 + [True] * 4 + [False] * 2
    state, outputs = layer.initial_state(2), []
    for part in x.split(cuts, dim=1):
        y, state = layer(part, state)
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, 1), whole, rtol=0, atol=1e-12)
