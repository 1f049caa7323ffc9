"""What routing costs as tiles grow: comparisons counted, seconds measured, recall beside them."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from trix.address.tree import TreeRouter
from trix.experiments.arm import Outcome
from trix.lab.bench import side_by_side
from trix.lab.corpus import Corpus
from trix.lab.cost import (
    DIM,
    HEADS,
    decoder,
    exponent,
    kept_bytes,
    make_layer,
    multiply_adds,
    reader,
    state_after,
    train_step,
)
from trix.lab.tasks import overlapping_clusters, recall
from trix.memory.attention import AttentionState

TILES, QUICK_TILES = (64, 256, 1024, 4096, 16384), (16, 64, 256)
TOKENS, QUICK_TOKENS = 4096, 256


@dataclass(frozen=True)
class RoutingCost:
    """One way of routing, among more and more tiles; the seed draws the overlapping clusters.

    Attributes:
        router: "flat", "hierarchical" (two levels) or "fractal" (three).
        beam: nodes kept at each level.
    """

    router: str
    beam: int = 4
    seeded: bool = True

    def __post_init__(self) -> None:
        """Check the name."""
        if self.router not in ("flat", "hierarchical", "fractal"):
            raise ValueError(f"router must be flat, hierarchical or fractal, got {self.router!r}")

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return the router, the beam and the sizes."""
        return {"router": self.router, "beam": self.beam, **_sizes(budget)}

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Count, time and check every size; the text plays no part.

        The metrics are, for each number of tiles, `comparisons_…` and `seconds_…` and `recall_…`,
        and over all of them `cost_exponent` and `time_exponent`: the slopes of the logarithms
        of comparisons and seconds against that of the tiles.
        """
        began = time.perf_counter()
        sizes = _sizes(budget)
        metrics: dict[str, float] = {}
        for tiles in sizes["tiles"]:
            data = overlapping_clusters(tiles, sizes["dim"], sizes["tokens"], seed)
            router = self._router(tiles, sizes["dim"])
            router.rebuild(data.signatures)
            with torch.no_grad():
                seconds = side_by_side(
                    {self.router: lambda: router(data.tokens, data.signatures)}  # noqa: B023
                )
            metrics[f"comparisons_{tiles}"] = router.comparisons
            metrics[f"seconds_{tiles}"] = seconds[self.router]
            metrics[f"recall_{tiles}"] = recall(router, data.tokens, data.signatures)
        for name, measured in (("cost_exponent", "comparisons"), ("time_exponent", "seconds")):
            metrics[name] = exponent(
                {tiles: metrics[f"{measured}_{tiles}"] for tiles in sizes["tiles"]}
            )
        return Outcome(time.perf_counter() - began, 0, metrics, [], "cpu")

    def _router(self, tiles: int, dim: int) -> TreeRouter:
        if self.router == "flat":
            return TreeRouter(tiles, dim, (tiles,), self.beam)
        if self.router == "hierarchical":
            return TreeRouter.hierarchical(tiles, dim, beam=self.beam)
        return TreeRouter.fractal(tiles, dim, beam=self.beam)


def _sizes(budget: str) -> dict[str, Any]:
    if budget == "quick":
        return {"tiles": QUICK_TILES, "dim": DIM, "tokens": QUICK_TOKENS}
    return {"tiles": TILES, "dim": DIM, "tokens": TOKENS}


LENGTHS, QUICK_LENGTHS = (256, 1024, 4096, 16384, 65536), (256, 1024, 2048)
LONG = 1024
"""Below it, what a call costs in itself hides what its tokens cost."""
LONGEST_TRAINED = {"attention": 16384, "routed-memory": 65536}
"""At 65,536 tokens a training step of attention takes about a minute."""


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


def _seconds(call: Callable[[], Any], tokens: int, rounds: int) -> float:
    # no trial call first: the longest would take as long again. The median forgives a slow start
    spent = []
    for _ in range(max(1, min(rounds, LENGTHS[-1] // tokens))):
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)
