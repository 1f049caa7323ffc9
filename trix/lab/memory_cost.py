"""What reading the past costs as it grows: products counted, seconds and bytes measured."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from trix.lab.arms import Outcome
from trix.lab.corpus import Corpus
from trix.lab.routing_cost import exponent
from trix.memory.attention import AttentionState, CausalAttention
from trix.memory.slots import MemoryState, RoutedMemory

LENGTHS, QUICK_LENGTHS = (256, 1024, 4096, 16384, 65536), (256, 1024, 2048)
DIM, HEADS = 256, 4
LONG = 1024
"""Below it, what a call costs in itself hides what its tokens cost."""
LONGEST_TRAINED = {"attention": 16384, "routed-memory": 65536}
"""At 65,536 tokens a training step of attention takes about a minute."""
PIECE = 4096
"""Tokens that a routed memory reads at once where it is only brought to a state."""


@dataclass(frozen=True)
class MemoryCost:
    """One layer, one text at a time, ever longer; the seed draws its weights and its tokens.

    Attributes:
        mixer: "routed-memory" or "attention".
        options: keywords of the layer beside its size, as `slots`.
    """

    mixer: str
    options: dict[str, Any] = field(default_factory=dict)
    seeded: bool = True

    def __post_init__(self) -> None:
        """Check the name."""
        if self.mixer not in LONGEST_TRAINED:
            raise ValueError(f"mixer must be one of {sorted(LONGEST_TRAINED)}, got {self.mixer!r}")

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return the mixer, its size, and up to which lengths what is measured."""
        lengths = QUICK_LENGTHS if budget == "quick" else LENGTHS
        trained = [n for n in lengths if n <= LONGEST_TRAINED[self.mixer]]
        return {
            "mixer": self.mixer,
            "dim": DIM,
            "heads": HEADS,
            **self.options,
            "lengths": lengths,
            "trained": trained,
        }

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Count, time and weigh every length; the text plays no part.

        For each length there are `multiply_adds_…` and `forward_seconds_…` without gradients;
        `train_seconds_…`, of forward and backward, and `kept_bytes_…`, see `kept_bytes`, up to the
        longest that is trained; `decode_seconds_…` of one more token and `state_bytes_…`. With
        attention, `read_seconds_…` is the least that a cache could cost: see `reader`. Over all
        lengths stands `cost_exponent`, the slope of the logarithm of multiply-adds against that of
        the length, and from `LONG` on `time_exponent`, the same for the seconds of training.
        """
        began = time.perf_counter()
        config = self.config(corpus, budget)
        torch.manual_seed(seed)
        layer, rounds = make_layer(self.mixer, **self.options), 2 if budget == "quick" else 51
        x = torch.randn(1, max(config["lengths"]), DIM)
        metrics: dict[str, float] = {}
        for n in config["lengths"]:
            metrics[f"multiply_adds_{n}"] = multiply_adds(self.mixer, n, **self.options)
            text = x[:, :n].clone()
            with torch.no_grad():
                metrics[f"forward_seconds_{n}"] = _seconds(lambda: layer(text), n, rounds)  # noqa: B023
            if n in config["trained"]:
                text.requires_grad_()
                metrics[f"kept_bytes_{n}"] = kept_bytes(layer, lambda: layer(text))  # noqa: B023
                metrics[f"train_seconds_{n}"] = _seconds(
                    lambda: train_step(layer, text),  # noqa: B023
                    n,
                    rounds,
                )
            state = state_after(layer, n)
            metrics[f"state_bytes_{n}"] = sum(part.nbytes for part in state)
            metrics[f"decode_seconds_{n}"] = _seconds(decoder(layer, state), 1, rounds)
            if isinstance(state, AttentionState):
                metrics[f"read_seconds_{n}"] = _seconds(reader(state), 1, rounds)
        metrics["cost_exponent"] = exponent(
            {n: metrics[f"multiply_adds_{n}"] for n in config["lengths"]}
        )
        metrics["time_exponent"] = exponent(
            {n: metrics[f"train_seconds_{n}"] for n in config["trained"] if n >= LONG}
        )
        size = sum(p.numel() for p in layer.parameters())
        return Outcome(time.perf_counter() - began, size, metrics, [], "cpu")


def make_layer(
    mixer: str, dim: int = DIM, heads: int = HEADS, **options: Any
) -> RoutedMemory | CausalAttention:
    """Return a fresh layer by its name in `LONGEST_TRAINED`."""
    kinds = {"attention": CausalAttention, "routed-memory": RoutedMemory}
    return kinds[mixer](dim, heads, **options)


def train_step(layer: nn.Module, x: Tensor) -> None:
    """Run a layer that returns output and state forward and backward, down to its tokens."""
    layer(x)[0].square().mean().backward()
    layer.zero_grad(set_to_none=True)
    x.grad = None


def multiply_adds(mixer: str, n: int, dim: int = DIM, heads: int = HEADS, **options: Any) -> int:
    """Return the multiply-adds in the matrix products of a forward pass over `n` tokens.

    Nothing is computed to count them. Attention is not charged for what its mask hides.
    """
    with (
        torch.device("meta"),
        torch.no_grad(),
        FlopCounterMode(display=False) as counter,
    ):
        make_layer(mixer, dim, heads, **options)(torch.empty(1, n, dim))
    total = counter.get_total_flops()
    if mixer == "attention":
        scores = counter.get_flop_counts()["Global"][torch.ops.aten.bmm]
        total -= scores * (n - 1) // (2 * n)
    return total // 2


def kept_bytes(module: nn.Module, call: Callable[[], Any]) -> int:
    """Return the bytes that a call of a module keeps for its backward pass, parameters left out.

    They are counted, not watched: every tensor that autograd saves, shared memory once.
    """
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
def state_after(layer: RoutedMemory | CausalAttention, n: int) -> MemoryState | AttentionState:
    """Return a layer's state after `n` tokens.

    A routed memory reads random ones. A cache is filled with random keys and values: how long it
    takes to read does not depend on what they are.
    """
    if isinstance(layer, CausalAttention):
        shape = (1, layer.heads, n, layer.dim // layer.heads)
        cache = {"keys": torch.randn(shape), "values": torch.randn(shape)}
        return layer.initial_state(1)._replace(**cache)
    state = layer.initial_state(1)
    for start in range(0, n, PIECE):
        _, state = layer(torch.randn(1, min(PIECE, n - start), layer.dim), state)
    return state


def decoder(
    layer: RoutedMemory | CausalAttention, state: MemoryState | AttentionState, steps: int = 1
) -> Callable[[], Any]:
    """Return a call that reads `steps` tokens, each right after the past that the state holds."""
    x = torch.randn(1, 1, layer.dim)

    @torch.no_grad()
    def call() -> None:
        for _ in range(steps):
            layer(x, state)

    return call


def reader(state: AttentionState, steps: int = 1) -> Callable[[], Any]:
    """Return a call that reads a cache by one query, `steps` times, and does nothing else.

    `CausalAttention` copies its cache at every token, to leave the earlier state as it was. No
    cache, however kept, does without this read.
    """
    query = torch.randn_like(state.keys[:, :, :1])

    @torch.no_grad()
    def call() -> None:
        for _ in range(steps):
            F.scaled_dot_product_attention(query, state.keys, state.values)

    return call


def _seconds(call: Callable[[], Any], tokens: int, rounds: int) -> float:
    # no trial call first: the longest would take as long again. The median forgives a slow start
    spent = []
    for _ in range(max(1, min(rounds, LENGTHS[-1] // tokens))):
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)
