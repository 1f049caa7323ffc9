"""Mixers of every kind, small and away from their initialization, and texts for them."""

from typing import Any

import torch
from torch import Tensor

import trix

DIM = 12
WITH = trix.memory.slots.PARTS
MIXERS = {
    "attention": lambda: trix.CausalAttention(DIM, 3, bias=True),
    "convolved attention": lambda: trix.ConvolvedAttention(DIM, 3),
    "static": lambda: trix.StaticMemory(DIM, 3, slots=5, top_k=2),
    "convolved static": lambda: trix.memory.controls.ConvolvedStatic(DIM, 3, slots=5, top_k=2),
    "window": lambda: trix.WindowAttention(DIM, 3, window=5),
    "window of one": lambda: trix.WindowAttention(DIM, 3, window=1),
    "narrow window": lambda: trix.WindowAttention(DIM, 5, window=4, width=3),
    "memory": lambda: trix.RoutedMemory(DIM, 3, 6),
    "memory, best slot": lambda: trix.RoutedMemory(DIM, 3, 6, top_k=1),
    "memory, two slots": lambda: trix.RoutedMemory(DIM, 3, 6, top_k=2),
    "memory, all slots": lambda: trix.RoutedMemory(DIM, 3, 6, top_k=6),
    "bare memory": lambda: trix.RoutedMemory(DIM, 3, 6, parts=()),
    "decay alone": lambda: trix.RoutedMemory(DIM, 3, 5, 4, ("decay",)),
    "gate alone": lambda: trix.RoutedMemory(DIM, 3, 5, 1, ("gate",)),
    "narrow memory": lambda: trix.RoutedMemory(DIM, 5, 6, width=3),
    "turning": lambda: trix.RoutedMemory(DIM, 3, 6, 2, (*WITH, "rotation")),
    "turning alone": lambda: trix.RoutedMemory(DIM, 3, 6, 2, ("rotation",)),
    "delta": lambda: trix.RoutedMemory(DIM, 3, 5, 2, (*WITH, "delta")),
    "delta alone": lambda: trix.RoutedMemory(DIM, 3, 5, None, ("delta",)),
    "turning delta": lambda: trix.RoutedMemory(DIM, 3, 6, None, (*WITH, "rotation", "delta")),
    "content": lambda: trix.RoutedMemory(DIM, 3, 5, None, (*WITH, "content")),
    "content, best slot": lambda: trix.RoutedMemory(DIM, 3, 5, 1, (*WITH, "content")),
    "content alone": lambda: trix.RoutedMemory(DIM, 3, 5, 2, ("content",)),
    "hybrid": lambda: trix.HybridMixer(DIM, 3, routed=2, slots=6, window=5),
    "hybrid with all": lambda: trix.HybridMixer(
        DIM, 4, 1, slots=6, window=3, top_k=2, parts=("decay", "rotation", "delta")
    ),
}
MEMORIES = [n for n, make in MIXERS.items() if isinstance(make(), trix.RoutedMemory)]


def moved(layer, by=0.1, dtype=torch.float64) -> Any:
    """Move parameters away from their initialization, where much is zero or even."""
    layer = layer.to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += by * torch.randn_like(parameter)
    return layer


def made(name, by=0.1, dtype=torch.float64) -> Any:
    torch.manual_seed(0)
    return moved(MIXERS[name](), by, dtype)


def text(time=37, batch=2, dtype=torch.float64):
    draw = torch.Generator().manual_seed(1)
    return torch.randn(batch, time, DIM, dtype=dtype, generator=draw)


def tensors(state):
    """Return all tensors of a state, however deep they lie."""
    return [state] if isinstance(state, Tensor) else [t for part in state for t in tensors(part)]


def in_parts(layer, x, cuts):
    state, outputs = layer.initial_state(len(x)), []
    for part in x.split(cuts, dim=1):
        y, state = layer(part, state)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state


def convolved(convolution, x):
    """Return what a short convolution sees, sum by sum."""
    kernel, seen = convolution.kernel, torch.zeros_like(x)
    for t in range(x.shape[1]):
        for back in range(min(t + 1, kernel.shape[1])):
            seen[:, t] += kernel[:, -1 - back] * x[:, t - back]
    return seen


def close(a, b, atol=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)
