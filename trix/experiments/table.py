"""The table of experiments: what can be run, arm by arm."""

from typing import Any

from trix.experiments.arm import Arm, Counted, TrainedLM
from trix.experiments.cost import RoutingCost
from trix.experiments.islands import SURGERY
from trix.experiments.lookup import LOOKUP
from trix.experiments.memory import MEMORY
from trix.experiments.recall import RECALL
from trix.experiments.speed import speed_arms
from trix.experiments.tiles import TILES

# As many parameters as a tiled layer of 16 tiles; and as many multiplications a token: bottleneck
# 8 · 128, mix 32 · 8, writing 32 · 128 and 16 scores 16 · 128, over the 2 · 128 of a hidden unit.
_DENSE = {"ffn": "dense", "ffn_options": {"hidden": 354}}
_NARROW = {"ffn": "dense", "ffn_options": {"hidden": 29}}


def _tiled(**options: Any) -> dict[str, Any]:
    return {"ffn": "tiled", "ffn_options": {"tiles": 16, **options}}


# The best of seven ways to train a linear router, by a run of each on `Corpus.design`: a softmax of
# plain scores (temperature 1, in units of √dim), balanced without a loss.
_ROUTER = _tiled(source="learned-router", temperature=128**-0.5, balance=0.001)


def _sources(name: str, sources: tuple[str, ...]) -> dict[str, Arm]:
    arms: dict[str, Arm] = {s: TrainedLM(name, _tiled(source=s)) for s in sources}
    arms["learned-router"] = TrainedLM(name, _ROUTER)
    return arms | {"dense": TrainedLM(name, _DENSE), "narrow-dense": TrainedLM(name, _NARROW)}


_CONTROLS = ("frozen-random", "token-hash", "uniform")


EXPERIMENTS: dict[str, dict[str, Arm]] = {
    "attention-seed": {"attention": TrainedLM("seed")},
    "attention-nano": {"attention": TrainedLM("nano")},
    "sources": {
        **_sources("probe", ("weights", "bottleneck", "spline", "decoupled", "data", *_CONTROLS)),
        "weights-shuffled": TrainedLM("probe", _tiled(source="weights"), after="shuffle"),
    },
    "sources-nano": _sources("nano", ("decoupled", "data", *_CONTROLS)),
    "soft-top-k": {
        **{f"k{k}": TrainedLM("probe", _tiled(top_k=k)) for k in (2, 4, 8)},
        "random-k4": TrainedLM("probe", _tiled(source="uniform", top_k=4)),
    },
    "annealing": {
        "soft": TrainedLM("probe", _tiled(top_k=16)),
        "soft-to-hard": TrainedLM(
            "probe", _tiled(top_k=16), {"anneal": (1.0, 0.02)}, after="harden"
        ),
        "straight-through": TrainedLM(
            "probe", _tiled(top_k=16, blend="straight-through"), after="harden"
        ),
    },
    **TILES,
    **SURGERY,
    **MEMORY,
    **RECALL,
    **LOOKUP,
    "routing-cost": {name: RoutingCost(name) for name in ("flat", "hierarchical", "fractal")},
    "counts": {
        f"{smoothing}-{order}": Counted(order, smoothing)
        for smoothing in ("witten-bell", "add-one")
        for order in range(1, 9)
    },
}
EXPERIMENTS["speed"] = speed_arms(EXPERIMENTS)
