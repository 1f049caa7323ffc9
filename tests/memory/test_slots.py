"""Routed memory beside its loop over tokens and slots, and what each of its parts does."""

import pytest
import torch

import trix
from tests.memory.mixers import DIM, MEMORIES, WITH, close, convolved, made, moved, text
from trix.memory.parts import Decay, ShortConvolution, Strength


def _memory(parts=WITH, top_k=None, slots=6):
    torch.manual_seed(0)
    return moved(trix.RoutedMemory(DIM, 3, slots, top_k, parts))


def _rows(table, head, layer):
    return table()[head * layer.slots : (head + 1) * layer.slots]


def _share(layer, way, head, score):
    scale = (-layer.log_temperature[way, head]).exp().squeeze()
    share = (score * scale / layer.width**0.5).softmax(0)
    if layer.top_k is not None:
        order = share.argsort(descending=True, stable=True)
        share[order[layer.top_k :]] = 0.0
    return share


def _turned(slots):
    # each pair of slots by its own angle
    half = len(slots) // 2
    turned = slots.clone()
    for pair in range(half):
        angle = torch.tensor(10_000.0 ** (-pair / half), dtype=slots.dtype)
        one, two = slots[pair], slots[half + pair]
        turned[pair] = one * angle.cos() - two * angle.sin()
        turned[half + pair] = one * angle.sin() + two * angle.cos()
    return turned


def _loop(layer, x):
    # one token of one text at a time, slot by slot
    outputs, width = torch.zeros_like(x), layer.width
    all_seen = x if layer.convolution is None else convolved(layer.convolution, x)
    for b in range(len(x)):
        slots = torch.zeros(layer.heads, layer.slots, width, dtype=x.dtype)
        keys = torch.zeros_like(slots)
        for t, seen in enumerate(all_seen[b]):
            heads = []
            for h in range(layer.heads):
                own = slice(h * width, (h + 1) * width)
                query, value = layer.query[own] @ seen, layer.value[own] @ seen
                write = _share(layer, 0, h, _rows(layer.write_rows, h, layer) @ query)
                if layer.decay is not None:
                    gate = layer.decay.weight[h] @ seen + layer.decay.bias[h]
                    slots[h], keys[h] = slots[h] * gate.sigmoid(), keys[h] * gate.sigmoid()
                if layer.rotation is not None:
                    slots[h] = _turned(slots[h])
                if layer.keys is None:
                    score = _rows(layer.read_rows, h, layer) @ query
                else:
                    keys[h] = keys[h] + write[:, None] * (layer.keys.weight[own] @ seen)
                    score = keys[h] @ query
                if layer.strength is not None:
                    strength = layer.strength.weight[h] @ seen + layer.strength.bias[h]
                    value = strength.sigmoid() * (value - write @ slots[h])
                slots[h] = slots[h] + write[:, None] * value
                y = _share(layer, 1, h, score) @ slots[h]
                heads.append(y / (y.square().mean() + 1e-6).sqrt())
            mixed = torch.cat(heads) * layer.norm
            if layer.gate is not None:
                opened = layer.gate.weight @ seen
                mixed = mixed * opened * opened.sigmoid()
            outputs[b, t] = layer.out.weight @ mixed
    return outputs


@pytest.mark.parametrize("name", MEMORIES)
@torch.no_grad()
def test_it_equals_the_loop_over_tokens_and_slots(name):
    layer, x = made(name), text(7)
    close(layer(x)[0], _loop(layer, x), 1e-10)


def test_parts_are_initialized_as_they_say():
    torch.manual_seed(0)
    kernel = ShortConvolution(200).kernel
    assert kernel.mean(dim=0).tolist() == pytest.approx([0, 0, 0, 1], abs=0.03)
    assert Decay(DIM, 3).bias.tolist() == [1, 3, 5]
    assert Strength(DIM, 3).bias.tolist() == [0, 0, 0]


@pytest.mark.parametrize("more", [(), ("rotation",), ("delta",), ("content",)])
def test_all_slots_chosen_is_the_soft_form(more):
    x, parts = text(), (*WITH, *more)
    assert torch.equal(_memory(parts, top_k=6)(x)[0], _memory(parts)(x)[0])


def test_slots_that_are_not_written_stay_bit_for_bit():
    layer, x = _memory(("gate",), top_k=1), text(1)
    _, state = layer(text(9))
    _, after = layer(x, state)
    write, _ = layer.addresses(x)
    alone = (write[:, :, 0] == 0).unsqueeze(-1).expand_as(state.slots)
    assert torch.equal(after.slots[alone], state.slots[alone])
    assert not torch.equal(after.slots, state.slots)
