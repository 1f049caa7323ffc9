"""Experiments: what can be run for a claim, arm by arm and seed by seed."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from trix.lab.arms import Arm as Arm
from trix.lab.arms import Counted, TrainedLM
from trix.lab.arms import Outcome as Outcome
from trix.lab.corpus import Corpus
from trix.lab.files import locked
from trix.lab.lookup_experiments import LOOKUP
from trix.lab.memory_experiments import MEMORY
from trix.lab.recall_experiments import RECALL
from trix.lab.records import (
    Record,
    add_record,
    environment,
    find_record,
    read_records,
)
from trix.lab.routing_cost import RoutingCost
from trix.lab.speed import speed_arms
from trix.lab.surgery_experiments import SURGERY
from trix.lab.tile_experiments import TILES

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


def run_experiment(
    name: str, corpus: Corpus, records: Path, work: Path, seeds: int = 5, budget: str = "full"
) -> list[Record]:
    """Run what is missing of an experiment and return all its records.

    A run that has a record is not repeated; one that was interrupted goes on from its checkpoint.

    Args:
        name: a name in `EXPERIMENTS`.
        corpus: the text.
        records: folder of the record files.
        work: folder for checkpoints; a run's own is removed when its record is written.
        seeds: runs of each trained arm, with seeds 0, 1, ….
        budget: "full", or "quick" for a run of a few steps that only shows that it works.

    Raises:
        ValueError: unknown name or budget, no seeds, or records of another text or configuration.
        BlockingIOError: another process is at the same run.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"experiment must be one of {sorted(EXPERIMENTS)}, got {name!r}")
    if budget not in ("quick", "full"):
        raise ValueError(f"budget must be quick or full, got {budget!r}")
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    path = records / f"{name}.jsonl"
    for record in read_records(path):
        if record.corpus.get("sha256") != corpus.sha256:
            raise ValueError(
                f"{path} was measured on {record.corpus.get('name')} "
                f"(SHA-256 {record.corpus.get('sha256')}), got {corpus.name} ({corpus.sha256}): "
                "runs on different texts are not mixed"
            )
    for arm_name, arm in EXPERIMENTS[name].items():
        for seed in range(seeds) if arm.seeded else [None]:
            earlier = find_record(read_records(path), name, arm_name, seed)
            if earlier is None:
                run_arm(name, arm_name, arm, corpus, seed, budget, records, work)
            elif earlier.config != (expected := plain(arm.config(corpus, budget))):
                raise ValueError(
                    f"{path}: {arm_name} with seed {seed} was run with {earlier.config}, "
                    f"expected {expected}; remove that record to measure again"
                )
    return read_records(path)


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration as a record gives it back: tuples become lists."""
    return json.loads(json.dumps(values))


def run_arm(
    name: str,
    arm_name: str,
    arm: Arm,
    corpus: Corpus,
    seed: int | None,
    budget: str,
    records: Path,
    work: Path,
) -> None:
    """Run one arm with one seed and write its record; see `run_experiment`."""
    folder = work / f"{name}-{arm_name}-seed{seed}-{corpus.sha256[:8]}-{budget}"
    with locked(folder, wait=False):
        outcome = arm.run(corpus, seed or 0, budget, folder)
        record = Record(
            experiment=name,
            arm=arm_name,
            seed=seed,
            config=plain(arm.config(corpus, budget)),
            corpus=corpus.provenance(),
            **environment(outcome.device),
            **{k: v for k, v in dataclasses.asdict(outcome).items() if k != "device"},
        )
        add_record(records, record)
        shutil.rmtree(folder, ignore_errors=True)
