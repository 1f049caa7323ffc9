"""What a layer costs: multiplications, the bytes that training keeps, and how cost grows."""

import math
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from trix.memory.attention import AttentionState, CausalAttention
from trix.memory.slots import MemoryState, RoutedMemory

DIM, HEADS = 256, 4
PIECE = 4096  # tokens that a routed memory reads at once where it is only brought to a state
Layer = RoutedMemory | CausalAttention
State = MemoryState | AttentionState


def exponent(cost: dict[int, float]) -> float:
    """Return b of the law cost = a·nᵇ that fits the logarithms of costs by n best."""
    if len(cost) < 2 or min(*cost, *cost.values()) <= 0:
        raise ValueError(f"expected two or more positive sizes and costs, got {cost}")
    sizes, costs = [math.log(n) for n in cost], [math.log(value) for value in cost.values()]
    return statistics.linear_regression(sizes, costs).slope


def make_layer(mixer: str, dim: int = DIM, heads: int = HEADS, **options: Any) -> Layer:
    """Return a fresh layer, "attention" or "routed-memory"."""
    kinds = {"attention": CausalAttention, "routed-memory": RoutedMemory}
    return kinds[mixer](dim, heads, **options)


def train_step(layer: nn.Module, x: Tensor) -> None:
    """Run a layer that returns output and state forward and backward, down to its tokens."""
    layer(x)[0].square().mean().backward()
    layer.zero_grad(set_to_none=True)
    x.grad = None


def multiply_adds(mixer: str, n: int, dim: int = DIM, heads: int = HEADS, **options: Any) -> int:
    """Count, without computing, a forward pass's multiply-adds; what a mask hides costs nothing."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        make_layer(mixer, dim, heads, **options)(torch.empty(1, n, dim))
    total = counter.get_total_flops()
    if mixer == "attention":
        scores = counter.get_flop_counts()["Global"][torch.ops.aten.bmm]
        total -= scores * (n - 1) // (2 * n)
    return total // 2


def kept_bytes(module: nn.Module, call: Callable[[], Any]) -> int:
    """Return the bytes of all tensors that autograd saves in a call, parameters left out."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = call()
    for parameter in module.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    del result  # it held all that was saved until now, so that no memory was given out twice
    return sum(kept.values())


@torch.no_grad()
def state_after(layer: Layer, n: int) -> State:
    """Return a layer's state after `n` random tokens; a cache is filled with random numbers."""
    if isinstance(layer, CausalAttention):
        shape = (1, layer.heads, n, layer.dim // layer.heads)
        cache = {"keys": torch.randn(shape), "values": torch.randn(shape)}
        return layer.initial_state(1)._replace(**cache)
    state = layer.initial_state(1)
    for start in range(0, n, PIECE):
        _, state = layer(torch.randn(1, min(PIECE, n - start), layer.dim), state)
    return state


def repeated(call: Callable[[], Any], times: int) -> Callable[[], None]:
    """Return a call that makes another one so many times, without gradient."""

    @torch.no_grad()
    def calls() -> None:
        for _ in range(times):
            call()

    return calls


def decoder(layer: Layer, state: State, steps: int = 1) -> Callable[[], None]:
    """Return a call that reads `steps` tokens, each right after the past that the state holds."""
    x = torch.randn(1, 1, layer.dim)
    return repeated(lambda: layer(x, state), steps)


def reader(state: AttentionState, steps: int = 1) -> Callable[[], None]:
    """Return a call that reads a cache by one query, `steps` times: no cache does without."""
    query = torch.randn_like(state.keys[:, :, :1])
    read = F.scaled_dot_product_attention
    return repeated(lambda: read(query, state.keys, state.values), steps)
