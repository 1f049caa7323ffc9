"""What routing and memories cost as they grow: counted, measured, and recall beside it."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from trix.address.tree import TreeRouter
from trix.experiments.arm import Arm, Run
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
BEAM = 4  # nodes that a tree keeps at each level

ROUTERS: dict[str, Callable[[int, int], TreeRouter]] = {
    "flat": lambda tiles, dim: TreeRouter(tiles, dim, (tiles,), BEAM),
    "hierarchical": lambda tiles, dim: TreeRouter.hierarchical(tiles, dim, beam=BEAM),
    "fractal": lambda tiles, dim: TreeRouter.fractal(tiles, dim, beam=BEAM),
}  # a flat search, two levels, and three


def routing_cost(run: Run, router: str) -> dict[str, float]:
    """Route among more and more tiles: count, time and check every size; and the exponents."""
    sizes = _sizes(run.corpus, run.budget)
    found: dict[str, float] = {}
    for tiles in sizes["tiles"]:
        data = overlapping_clusters(tiles, sizes["dim"], sizes["tokens"], run.seed)
        tree = ROUTERS[router](tiles, sizes["dim"])
        tree.rebuild(data.signatures)
        call = torch.no_grad()(partial(tree, data.tokens, data.signatures))
        found[f"seconds_{tiles}"] = side_by_side({router: call})[router]
        found[f"comparisons_{tiles}"] = tree.comparisons
        found[f"recall_{tiles}"] = recall(tree, data.tokens, data.signatures)
    for name, measured in (("cost_exponent", "comparisons"), ("time_exponent", "seconds")):
        found[name] = exponent({tiles: found[f"{measured}_{tiles}"] for tiles in sizes["tiles"]})
    return found


def _sizes(corpus: Corpus, budget: str) -> dict[str, Any]:
    tiles, tokens = (QUICK_TILES, QUICK_TOKENS) if budget == "quick" else (TILES, TOKENS)
    return {"tiles": tiles, "dim": DIM, "tokens": tokens}


def _routing_cost_arm(router: str) -> Arm:
    def settings(corpus: Corpus, budget: str) -> dict[str, Any]:
        return {"router": router, "beam": BEAM, **_sizes(corpus, budget)}

    return Arm(None, (partial(routing_cost, router=router),), settings, timed=True)


LENGTHS, QUICK_LENGTHS = (256, 1024, 4096, 16384, 65536), (256, 1024, 2048)
LONG = 1024  # below it, what a call costs in itself hides what its tokens cost
LONGEST_TRAINED = {"attention": 16384, "routed-memory": 65536}  # attention's would take a minute


def memory_cost(run: Run, mixer: str, **options: Any) -> dict[str, float]:
    """Count, time and weigh one layer on ever longer texts, one at a time.

    `decode_seconds_…` are those of one more token, `read_seconds_…` the least that a cache could
    cost; `cost_exponent` is that of multiply-adds, `time_exponent` that of training from `LONG` on.
    """
    torch.manual_seed(run.seed)
    layer, rounds = make_layer(mixer, **options), 2 if run.budget == "quick" else 51
    run.parameters = sum(p.numel() for p in layer.parameters())
    lengths, trained = _lengths(mixer, run.budget)
    x = torch.randn(1, max(lengths), DIM)
    found: dict[str, float] = {}
    for n in lengths:
        found[f"multiply_adds_{n}"] = multiply_adds(mixer, n, **options)
        text = x[:, :n].clone()
        with torch.no_grad():
            found[f"forward_seconds_{n}"] = _seconds(partial(layer, text), n, rounds)
        if n in trained:
            text.requires_grad_()
            found[f"kept_bytes_{n}"] = kept_bytes(layer, partial(layer, text))
            found[f"train_seconds_{n}"] = _seconds(partial(train_step, layer, text), n, rounds)
        state = state_after(layer, n)
        found[f"state_bytes_{n}"] = sum(part.nbytes for part in state)
        found[f"decode_seconds_{n}"] = _seconds(decoder(layer, state), 1, rounds)
        if isinstance(state, AttentionState):
            found[f"read_seconds_{n}"] = _seconds(reader(state), 1, rounds)
    counts = {n: found[f"multiply_adds_{n}"] for n in lengths}
    seconds = {n: found[f"train_seconds_{n}"] for n in trained if n >= LONG}
    return found | {"cost_exponent": exponent(counts), "time_exponent": exponent(seconds)}


def _lengths(mixer: str, budget: str) -> tuple[tuple[int, ...], list[int]]:
    lengths = QUICK_LENGTHS if budget == "quick" else LENGTHS
    return lengths, [n for n in lengths if n <= LONGEST_TRAINED[mixer]]


def _memory_cost_arm(mixer: str, **options: Any) -> Arm:
    def settings(corpus: Corpus, budget: str) -> dict[str, Any]:
        sizes = dict(zip(("lengths", "trained"), _lengths(mixer, budget), strict=True))
        return {"mixer": mixer, "dim": DIM, "heads": HEADS, **options, **sizes}

    return Arm(None, (partial(memory_cost, mixer=mixer, **options),), settings, timed=True)


def _seconds(call: Callable[[], Any], tokens: int, rounds: int) -> float:
    # no trial call first: the longest would take as long again. The median forgives a slow start
    spent = []
    for _ in range(max(1, min(rounds, LENGTHS[-1] // tokens))):
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


COST: dict[str, dict[str, Arm]] = {
    "routing-cost": {router: _routing_cost_arm(router) for router in ROUTERS},
    "memory-cost": {
        "routed": _memory_cost_arm("routed-memory", slots=64),
        "attention": _memory_cost_arm("attention"),
        "routed-16": _memory_cost_arm("routed-memory", slots=16),
        "routed-256": _memory_cost_arm("routed-memory", slots=256),
    },
}
