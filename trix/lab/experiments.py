"""Experiments: what can be run for a claim, arm by arm and seed by seed."""

import dataclasses
import json
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from trix.lab.charlm import CharLM, LMConfig
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
from trix.lab.train import TrainConfig, train
from trix.memory.context import CountTables

QUICK_STEPS = 60


@dataclass(frozen=True)
class Outcome:
    """What one run of an arm measured, and on which device."""

    seconds: float
    parameters: int
    metrics: dict[str, float]
    curve: list[list[float]]
    device: str


class Arm(Protocol):
    """One way of doing the thing that an experiment compares."""

    @property
    def seeded(self) -> bool:
        """Whether the run depends on a seed."""
        ...

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return all that decides a run besides text and seed."""
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

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return the protocol's name, and the settings of model, training and evaluation."""
        return {
            "protocol": self.protocol,
            "model": dataclasses.asdict(self._model(corpus)),
            "train": dataclasses.asdict(self._train(budget)),
            "block": protocol(self.protocol).block,
        }

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Train, resuming from `work`, and evaluate on the whole validation text in blocks."""
        torch.manual_seed(seed)
        model = CharLM(self._model(corpus))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model.to(device)
        result = train(model, corpus.train, self._train(budget), seed, folder=work)
        block = protocol(self.protocol).block
        score = evaluate(model_log_probs(model), corpus.val.to(device), block)
        return Outcome(
            seconds=result.seconds,
            parameters=model.parameter_count(),
            metrics={"val_nats": score.nats, "val_perplexity": score.perplexity},
            curve=[[step, loss] for step, loss in result.curve],
            device=device,
        )

    def _model(self, corpus: Corpus) -> LMConfig:
        return protocol(self.protocol).with_model(vocab_size=corpus.vocab_size, **self.changes)

    def _train(self, budget: str) -> TrainConfig:
        config = protocol(self.protocol).train
        return (
            replace(config, steps=min(QUICK_STEPS, config.steps)) if budget == "quick" else config
        )


@dataclass(frozen=True)
class Counted:
    """Count tables of one order and smoothing: nothing is trained, nothing is random."""

    order: int
    smoothing: str
    seeded: bool = False

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return order and smoothing."""
        return {"order": self.order, "smoothing": self.smoothing}

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
            seconds=seconds,
            parameters=sum(len(t.count) for t in tables.tables),
            metrics=metrics,
            curve=[],
            device="cpu",
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
                _run_arm(name, arm_name, arm, corpus, seed, budget, records, work)
            elif earlier.config != (expected := _plain(arm.config(corpus, budget))):
                raise ValueError(
                    f"{path}: {arm_name} with seed {seed} was run with {earlier.config}, "
                    f"expected {expected}; remove that record to measure again"
                )
    return read_records(path)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(values))  # as a record gives it back: tuples become lists


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
            config=_plain(arm.config(corpus, budget)),
            corpus=corpus.provenance(),
            **environment(outcome.device),
            **{k: v for k, v in dataclasses.asdict(outcome).items() if k != "device"},
        )
        add_record(records, record)
        shutil.rmtree(folder, ignore_errors=True)
