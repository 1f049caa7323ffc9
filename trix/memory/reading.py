"""A routed memory at work on a text: where tokens write, where they read, and what comes back."""

from typing import NamedTuple

import torch
from torch import Tensor

from trix.memory.slots import RoutedMemory
from trix.memory.streaming import check_tokens


class MemoryReading(NamedTuple):
    """The addresses of tokens, and how much of each earlier token a later one reads.

    Attributes:
        write: how much of each slot a token writes, `[batch, heads, time, slots]`.
        read: how much of each slot it reads, the same shape.
        back: how much of what token s wrote comes back at token t, `[batch, heads, t, s]`; zero
            where s comes after t.
    """

    write: Tensor
    read: Tensor
    back: Tensor


def memory_reading(layer: RoutedMemory, x: Tensor) -> MemoryReading:
    r"""Read a text with a memory and say what of each token came back at each other.

    A slot holds a sum over tokens, each faded by all that came after it, so what is read is

    .. math:: y_t = \sum_{s \le t} b_{ts}\, v_s, \qquad
        b_{ts} = \sum_m r_{tm} \Big(\prod_{u=s+1}^{t} a_u\Big) w_{sm}

    These are the weights of linear attention (Katharopoulos et al. 2020). With other parts, as
    delta writes, what comes back is another sum, and a weight may be negative. They are found as
    the layer itself would: every token writes a value of its own, a one in its own place, and what
    is read then says how much of whom came back.

    Args:
        layer: the memory; its slots begin empty.
        x: its tokens, `[batch, time >= 1, dim]`, as its `forward` takes them.

    Raises:
        TypeError: `layer` is no `RoutedMemory`, or `x` is not floating.
        ValueError: `x` is not `[batch, time >= 1, dim]`.
    """
    if not isinstance(layer, RoutedMemory):
        raise TypeError(f"layer must be a RoutedMemory, got {type(layer).__name__}")
    check_tokens(x, layer.dim)
    seen = x
    if layer.convolution is not None:
        seen, _ = layer.convolution(x, layer.convolution.initial_state(len(x)))
    write, read = layer.addresses(seen)
    *lead, time, slots = write.shape
    own = torch.eye(time, dtype=write.dtype, device=write.device).expand(*lead, time, time)
    keys = 0 if layer.keys is None else layer.width
    back, _ = layer.remember(seen, own.new_zeros(*lead, slots, keys + time), own)
    return MemoryReading(write, read, back)
