"""Experiments: what can be run for a claim, arm by arm and seed by seed."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from trix.experiments.arm import Arm as Arm
from trix.experiments.arm import Outcome as Outcome
from trix.experiments.table import EXPERIMENTS
from trix.files import locked
from trix.lab.corpus import Corpus
from trix.lab.recipes import environment
from trix.ledger.records import (
    Record,
    add_record,
    find_record,
    read_records,
)


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
