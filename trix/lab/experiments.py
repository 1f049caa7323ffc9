"""Experiments: what can be run for a claim, arm by arm and seed by seed."""

import dataclasses
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from trix.lab.charlm import CharLM
from trix.lab.corpus import Corpus
from trix.lab.evaluate import evaluate, model_log_probs, table_log_probs
from trix.lab.files import locked
from trix.lab.protocols import protocol
from trix.lab.records import (
    Record,
    add_record,
    environment,
    find_record,
    read_records,
)
from trix.lab.train import train
from trix.memory.context import CountTables

QUICK_STEPS = 60


@dataclass(frozen=True)
class Outcome:
    """What one run of an arm measured."""

    config: dict[str, Any]
    seconds: float
    parameters: int
    metrics: dict[str, float]
    curve: list[list[float]]


class Arm(Protocol):
    """One way of doing the thing that an experiment compares."""

    @property
    def seeded(self) -> bool:
        """Whether the run depends on a seed."""
        ...

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Run once; keep what is needed to resume in `work`."""
        ...


@dataclass(frozen=True)
class TrainedLM:
    """A `CharLM` trained by a protocol, with some of its model's settings changed."""

    protocol: str
    changes: dict[str, Any] = field(default_factory=dict)
    seeded: bool = True

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Train, resuming from `work`, and evaluate on the whole validation text in blocks."""
        rules = protocol(self.protocol)
        config = rules.train
        if budget == "quick":
            config = replace(config, steps=min(QUICK_STEPS, config.steps))
        torch.manual_seed(seed)
        model = CharLM(rules.with_model(vocab_size=corpus.vocab_size, **self.changes))
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        result = train(model, corpus.train, config, seed, folder=work)
        data = corpus.val.to(next(model.parameters()).device)
        score = evaluate(model_log_probs(model), data, rules.block)
        return Outcome(
            config={
                "protocol": self.protocol,
                "model": dataclasses.asdict(model.config),
                "train": dataclasses.asdict(config),
                "block": rules.block,
            },
            seconds=result.seconds,
            parameters=model.parameter_count(),
            metrics={"val_nats": score.nats, "val_perplexity": score.perplexity},
            curve=[[step, loss] for step, loss in result.curve],
        )


@dataclass(frozen=True)
class Counted:
    """Count tables of one order and smoothing: nothing is trained, nothing is random."""

    order: int
    smoothing: str
    seeded: bool = False

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Count the training text; evaluate in blocks of 64, of 256, and in one uncut pass."""
        began = time.perf_counter()
        tables = CountTables(corpus.train, self.order, corpus.vocab_size)
        seconds = time.perf_counter() - began
        log_probs = table_log_probs(tables, self.order, self.smoothing)
        metrics = {}
        for name, block in (("", 64), ("_block256", 256), ("_uncut", len(corpus.val))):
            score = evaluate(log_probs, corpus.val, block)
            metrics[f"val_nats{name}"] = score.nats
            metrics[f"val_perplexity{name}"] = score.perplexity
        return Outcome(
            config={"order": self.order, "smoothing": self.smoothing},
            seconds=seconds,
            parameters=sum(len(t.count) for t in tables.tables),
            metrics=metrics,
            curve=[],
        )


EXPERIMENTS: dict[str, dict[str, Arm]] = {
    "attention-seed": {"attention": TrainedLM("seed")},
    "attention-nano": {"attention": TrainedLM("nano")},
    "counts": {
        f"{smoothing}-{order}": Counted(order, smoothing)
        for smoothing in ("witten-bell", "add-one")
        for order in range(1, 9)
    },
}


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
        ValueError: unknown name or budget, no seeds, or records of another text.
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
            if find_record(read_records(path), name, arm_name, seed) is None:
                _run_arm(name, arm_name, arm, corpus, seed, budget, records, work)
    return read_records(path)


def _run_arm(
    name: str,
    arm_name: str,
    arm: Arm,
    corpus: Corpus,
    seed: int | None,
    budget: str,
    records: Path,
    work: Path,
) -> None:
    folder = work / f"{name}-{arm_name}-seed{seed}-{corpus.sha256[:8]}-{budget}"
    with locked(folder, wait=False):
        outcome = arm.run(corpus, seed or 0, budget, folder)
        record = Record(
            experiment=name,
            arm=arm_name,
            seed=seed,
            corpus=corpus.provenance(),
            **dataclasses.asdict(outcome),
            **environment(),
        )
        add_record(records, record)
        shutil.rmtree(folder, ignore_errors=True)
