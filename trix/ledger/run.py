"""The runner: experiments become records here, run by run, several at a time."""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from trix.checks import one_of, positive
from trix.experiments.arm import Arm, threads
from trix.experiments.table import EXPERIMENTS
from trix.files import locked
from trix.lab.corpus import Corpus
from trix.lab.recipes import BUDGETS, environment
from trix.ledger.records import Record, add_record, find_record, read_records

BACKENDS = ("loky", "dask")
MOST_JOBS = 8  # where nobody asks: each run holds a model, a text and an optimizer


class Finished(NamedTuple):
    """The records of the runs that were wanted, and a line for each that diverged: where it did."""

    records: list[Record]
    diverged: list[str]


class Planned(NamedTuple):
    """One run that an experiment asks for; the seed is None where nothing is random."""

    experiment: str
    name: str
    arm: Arm
    seed: int | None

    def __str__(self) -> str:
        return f"{self.name} with seed {self.seed}"


def planned(experiment: str, arms: Mapping[str, Arm], seeds: int) -> list[Planned]:
    """Return the runs of an experiment: an arm with seeds 0, 1, …, one that needs none once."""
    positive("seeds", seeds)
    return [
        Planned(experiment, name, arm, seed)
        for name, arm in arms.items()
        for seed in (range(seeds) if arm.seeded else (None,))
    ]


def run_experiment(
    name: str,
    corpus: Corpus,
    records: Path,
    work: Path,
    seeds: int = 5,
    budget: str = "full",
    jobs: int | None = None,
    backend: str = "loky",
) -> Finished:
    """Run what is missing of an experiment and return its records.

    A run that was killed goes on from its checkpoint. One that diverges keeps no other from
    running, and is tried again the next time. Several processes may work at the same runs: what
    another one is at is left to it. On a terminal a bar shows how many runs have a record.

    Args:
        name: of the experiment, in `EXPERIMENTS`.
        corpus: the text.
        records: folder of the record files.
        work: folder for checkpoints; a run's own is removed when its record is written. All
            workers must see both folders.
        seeds: runs of each trained arm, with seeds 0, 1, ….
        budget: "full", or "quick" for runs of a few steps that only show that they work.
        jobs: runs at a time, one a core if not given, at most `MOST_JOBS`. Each has its share of
            the cores as threads. Runs that measure time take place alone.
        backend: "loky", processes on this machine; or "dask", the workers of the cluster at
            `$DASK_SCHEDULER_ADDRESS`, or as many on this machine where that is not set.

    Raises:
        ValueError: unknown name, budget or backend, no seeds or jobs, or records that are corrupt,
            or of another text or configuration.
        ModuleNotFoundError: dask is not installed.
        BlockingIOError: all else is done, but another process is still at some run.
        ChildProcessError: the system killed a worker, most likely for want of memory.
    """
    arms = EXPERIMENTS[one_of("experiment", name, EXPERIMENTS)]
    return run_missing(planned(name, arms, seeds), corpus, records, work, budget, jobs, backend)


def run_missing(
    wanted: Sequence[Planned],
    corpus: Corpus,
    records: Path,
    work: Path,
    budget: str = "full",
    jobs: int | None = None,
    backend: str = "loky",
) -> Finished:
    """Run what has no record yet, as `run_experiment` does, and return all that is wanted."""
    one_of("budget", budget, BUDGETS)
    one_of("backend", backend, BACKENDS)
    jobs = min(MOST_JOBS, joblib.cpu_count()) if jobs is None else positive("jobs", jobs)
    found = recorded(wanted, corpus, records, budget)
    missing = [run for run, record in zip(wanted, found, strict=True) if record is None]
    left: list[tuple[str, str]] = []
    done = len(wanted) - len(missing)
    with tqdm(initial=done, total=len(wanted), unit="run", disable=None) as bar:
        for run, why in _results(missing, (corpus, records, work, budget), jobs, backend):
            bar.update(why == "")
            left += [(run, why)] if why else []
    if busy := [run for run, why in left if why == _BUSY]:
        raise BlockingIOError(
            f"{len(busy)} of the runs are in use by another process, the first is {busy[0]}; "
            "everything else is done"
        )
    found = recorded(wanted, corpus, records, budget)
    diverged = sorted(f"{run}: {why}" for run, why in left)
    return Finished([record for record in found if record is not None], diverged)


def recorded(
    wanted: Sequence[Planned], corpus: Corpus, folder: Path, budget: str
) -> list[Record | None]:
    """Return the record of each run, None where it has none; those of another text are refused."""
    stored = {name: read_records(folder / f"{name}.jsonl") for name, *_ in wanted}
    for name, earlier in stored.items():
        for record in earlier:
            if record.corpus.get("sha256") != corpus.sha256:
                raise ValueError(
                    f"{folder / name}.jsonl was measured on {record.corpus.get('name')} "
                    f"(SHA-256 {record.corpus.get('sha256')}), got {corpus.name} "
                    f"({corpus.sha256}): runs on different texts are not mixed"
                )
    found = [find_record(stored[r.experiment], r.experiment, r.name, r.seed) for r in wanted]
    for run, record in zip(wanted, found, strict=True):
        if record and record.config != (now := plain(run.arm.config(corpus, budget))):
            raise ValueError(
                f"{folder / run.experiment}.jsonl: {run} was run with {record.config}, and would "
                f"now be with {now}; remove that record to measure again, or choose another folder"
            )
    return found


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration as a record gives it back: tuples become lists."""
    return json.loads(json.dumps(values))


_BUSY = "another process is at it"


def _results(
    missing: Sequence[Planned], place: tuple[Corpus, Path, Path, str], jobs: int, backend: str
) -> Iterator[tuple[str, str]]:
    # what `_run` returns, as the runs end; those that measure time come last, one by one
    beside = [run for run in missing if not run.arm.timed]
    # never more threads than torch was told to use, as by $OMP_NUM_THREADS
    share = max(1, min(torch.get_num_threads(), joblib.cpu_count() // jobs))
    try:
        with _workers(backend, jobs) if beside else contextlib.nullcontext():
            parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
            calls = (joblib.delayed(_run)(run, *place, share) for run in beside)
            yield from parallel(calls)  # pyright: ignore[reportReturnType]
    except TerminatedWorkerError as error:
        raise ChildProcessError(
            f"the system killed one of {jobs} workers, most likely for want of memory; the same "
            "command goes on from here, and fewer --jobs take less"
        ) from error
    for run in missing:
        if run.arm.timed:
            yield _run(run, *place, torch.get_num_threads())


def _run(
    run: Planned, corpus: Corpus, records: Path, work: Path, budget: str, count: int
) -> tuple[str, str]:
    """Run once, on `count` threads; return which run it was, and why it has no record, or ""."""
    folder = work / f"{run.experiment}-{run.name}-seed{run.seed}-{corpus.sha256[:8]}-{budget}"
    try:
        with locked(folder, wait=False), threads(count):
            # another process may have ended it since the records were looked through
            if recorded([run], corpus, records, budget) == [None]:
                outcome = run.arm.run(corpus, run.seed or 0, budget, folder)
                found = dataclasses.asdict(outcome) | environment(outcome.device)
                config, text = plain(run.arm.config(corpus, budget)), corpus.provenance()
                record = Record(run.experiment, run.name, run.seed, config, text, **found)
                add_record(records, record)
            shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return str(run), _BUSY
    except FloatingPointError as error:
        return str(run), str(error)
    return str(run), ""


@contextlib.contextmanager
def _workers(backend: str, jobs: int) -> Iterator[None]:
    if backend == "loky":
        with joblib.parallel_config(backend="loky"):
            yield
        return
    try:
        from dask.distributed import Client  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"--backend dask needs {error.name}; in a clone of the repository: "
            'pip install ".[cluster]"'
        ) from error
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    with (
        Client(address) if address else Client(n_workers=jobs, threads_per_worker=1),
        joblib.parallel_config(backend="dask"),
    ):
        yield
