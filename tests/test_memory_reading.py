"""What comes back of each token, against a loop over slots and against the memory itself."""

import pytest
import torch
from torch.nn import functional as F

from trix.memory.attention import CausalAttention
from trix.memory.recurrence import slot_scan
from trix.memory.slots import PARTS, RoutedMemory, memory_reading

DIM, HEADS, SLOTS, WIDTH = 12, 3, 5, 4
SHAPES = [(PARTS, None), (PARTS, 2), (("decay",), 1), (("convolution",), None), ((), 3)]


def _memory(parts=PARTS, top_k=None):
    torch.manual_seed(0)
    layer = RoutedMemory(DIM, HEADS, SLOTS, top_k, parts).double()
    with torch.no_grad():  # away from where it begins, where much is zero or even
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return layer


def _text(time, batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, time, DIM, dtype=torch.float64, generator=generator)


def _seen(layer, x):
    if layer.convolution is None:
        return x
    return layer.convolution(x, layer.convolution.initial_state(len(x)))[0]


def _kept(layer, x):
    # the share that a head's slots keep at each token, [batch, heads, time]
    if layer.decay is None:
        return torch.ones(len(x), HEADS, x.shape[1], dtype=x.dtype)
    return layer.decay(_seen(layer, x)).squeeze(-1).exp()


def _loop(write, read, kept):
    # the definition: one pair of tokens at a time
    back = torch.zeros(*write.shape[:-1], write.shape[2], dtype=write.dtype)
    for b in range(write.shape[0]):
        for h in range(HEADS):
            for t in range(write.shape[2]):
                for s in range(t + 1):
                    for m in range(SLOTS):
                        left = kept[b, h, s + 1 : t + 1].prod()
                        back[b, h, t, s] += read[b, h, t, m] * left * write[b, h, s, m]
    return back


@pytest.mark.parametrize(("parts", "top_k"), SHAPES)
@torch.no_grad()
def test_what_comes_back_is_the_loop_over_pairs_and_slots(parts, top_k):
    layer, x = _memory(parts, top_k), _text(13)
    write, read, back = memory_reading(layer, x)
    expected = layer.addresses(_seen(layer, x))
    torch.testing.assert_close((write, read), expected, atol=0, rtol=0)
    torch.testing.assert_close(back, _loop(write, read, _kept(layer, x)))


@pytest.mark.parametrize("time", [1, 7, 65, 131])  # below and above the chunk of the scan
@pytest.mark.parametrize("parts", [PARTS, ()])
@torch.no_grad()
def test_the_map_times_the_values_is_what_the_slots_answer(time, parts):
    layer, x = _memory(parts), _text(time)
    write, read, back = memory_reading(layer, x)
    seen = _seen(layer, x)
    value = (seen @ layer.value.T).unflatten(-1, (HEADS, WIDTH)).transpose(1, 2)
    decay = None if layer.decay is None else layer.decay(seen)
    state = torch.zeros(2, HEADS, SLOTS, WIDTH, dtype=x.dtype)
    torch.testing.assert_close(back @ value, slot_scan(read, write, value, state, decay)[0])
    # and so the layer's output can be had from the map
    answer = F.rms_norm(back @ value, (WIDTH,), eps=1e-6).transpose(1, 2).flatten(2) * layer.norm
    gate = 1 if layer.gate is None else layer.gate(seen)
    torch.testing.assert_close(layer.out(answer * gate), layer(x)[0])


@torch.no_grad()
def test_nothing_comes_back_of_the_future():
    layer, x = _memory(), _text(70)
    back = memory_reading(layer, x).back
    assert back.triu(1).count_nonzero() == 0
    assert (back.tril() > 0).sum() == back.shape[0] * HEADS * 70 * 71 // 2
    changed = x.clone()
    changed[:, 40:] += 1
    later = memory_reading(layer, changed).back
    torch.testing.assert_close(later[:, :, :40], back[:, :, :40], atol=0, rtol=0)
    assert not torch.equal(later[:, :, 40:], back[:, :, 40:])


@torch.no_grad()
def test_where_addresses_are_even_all_comes_back_alike():
    layer = _memory(parts=())
    layer.query.zero_()
    back = memory_reading(layer, _text(7)).back
    expected = torch.full((7, 7), 1 / SLOTS, dtype=torch.float64).tril()
    torch.testing.assert_close(back, expected.expand(2, HEADS, 7, 7))


def test_bad_arguments_are_named():
    layer = _memory()
    with pytest.raises(TypeError, match="RoutedMemory, got a CausalAttention"):
        memory_reading(CausalAttention(DIM, HEADS), _text(5))  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="floating"):
        memory_reading(layer, torch.zeros(2, 5, DIM, dtype=torch.long))
    for wrong in (_text(0), _text(5)[0], _text(5)[..., :7]):
        with pytest.raises(ValueError, match=r"x must|x:"):
            memory_reading(layer, wrong)


@pytest.mark.parametrize("more", ["delta", "rotation", "content"])
@torch.no_grad()
def test_with_other_parts_the_map_still_makes_the_answers(more):
    torch.manual_seed(0)
    layer = RoutedMemory(DIM, HEADS, 6, None, (*PARTS, more)).double()
    x = _text(13)
    seen = _seen(layer, x)
    _, _, back = memory_reading(layer, x)
    value = (seen @ layer.value.T).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    answer, _ = layer.remember(seen, layer.initial_state(len(x)).slots)
    torch.testing.assert_close(back @ value, answer, rtol=0, atol=1e-12)
