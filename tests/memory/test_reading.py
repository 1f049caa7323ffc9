"""What comes back of each token, against a loop over slots and against the memory itself."""

import pytest
import torch
from torch.nn import functional as F

from tests.memory.mixers import DIM, MEMORIES, close, made, text
from trix.memory.slots import memory_reading

PLAIN = ("memory", "memory, two slots", "bare memory", "decay alone", "gate alone")


def _loop(layer, write, read, seen):
    # the definition: one pair of tokens at a time
    back = torch.zeros(*write.shape[:-1], write.shape[2], dtype=write.dtype)
    kept = torch.ones_like(back[..., 0])
    if layer.decay is not None:
        kept = layer.decay(seen).squeeze(-1).exp()
    for b, h, t in torch.cartesian_prod(*(torch.arange(n) for n in write.shape[:-1])).tolist():
        for s in range(t + 1):
            left = kept[b, h, s + 1 : t + 1].prod()
            back[b, h, t, s] = (read[b, h, t] * left * write[b, h, s]).sum()
    return back


@pytest.mark.parametrize("time", [1, 9, 65])  # below and above the chunk of the scan
@pytest.mark.parametrize("name", MEMORIES)
@torch.no_grad()
def test_the_map_times_the_values_is_what_is_read(name, time):
    layer, x = made(name, 0.3), text(time)
    write, read, back = memory_reading(layer, x)
    seen = x if layer.convolution is None else layer.convolution(x)[0]
    torch.testing.assert_close((write, read), layer.addresses(seen), atol=0, rtol=0)
    if name in PLAIN and time < 10:
        torch.testing.assert_close(back, _loop(layer, write, read, seen))
    value = layer._heads(seen @ layer.value.T)
    found, _ = layer.remember(seen, layer.initial_state(2).slots)
    close(back @ value, found, 1e-10)
    # and so the layer's output can be had from the map
    found = F.rms_norm(back @ value, (layer.width,), eps=1e-6).transpose(1, 2).flatten(2)
    gate = 1 if layer.gate is None else layer.gate(seen)
    torch.testing.assert_close(layer.out(found * layer.norm * gate), layer(x)[0])


@pytest.mark.parametrize(
    ("name", "x", "error", "match"),
    [
        ("attention", text(5), TypeError, "layer must be a RoutedMemory, got a CausalAttention"),
        ("memory", torch.zeros(2, 5, DIM).long(), TypeError, "x must be floating"),
        ("memory", text(5)[:, :0], ValueError, "x must have shape"),
        ("memory", text(5)[0], ValueError, "x must have shape"),
        ("memory", text(5)[..., :7], ValueError, "x must have shape"),
    ],
)
def test_bad_arguments_are_named(name, x, error, match):
    with pytest.raises(error, match=match):
        memory_reading(made(name), x)
