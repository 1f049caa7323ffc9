"""Sweeps: a grid of settings, trained point by point and seed by seed, several at a time."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import joblib
import torch
from tqdm import tqdm

from trix.experiments.grid import Point, text_of
from trix.files import atomic_path
from trix.lab.corpus import Corpus
from trix.lab.recipes import BUDGETS
from trix.ledger.records import Record, find_record, read_records
from trix.ledger.run import plain, run_arm

if TYPE_CHECKING:
    import matplotlib.figure

NAME = "sweep"
"""The records' experiment, and so the name of their file."""

METRIC = "val_nats"
BACKENDS = ("loky", "dask")
_MEASURED = ("seeds", METRIC, "spread", "runs", "parameters", "seconds")


class Swept(NamedTuple):
    """The records of a sweep's runs, and for each run that diverged a line that says where."""

    records: list[Record]
    diverged: list[str]


def run_sweep(
    points: Sequence[Point],
    corpus: Corpus,
    out: Path,
    seeds: int = 3,
    budget: str = "full",
    jobs: int = 1,
    backend: str = "loky",
) -> Swept:
    """Train what is missing of a sweep, and return all its records.

    A run that has a record in `out` is not repeated; one that was killed goes on from its
    checkpoint. One that diverges keeps no other from running, and is tried again the next time.

    Args:
        points: see `grid`.
        corpus: the text.
        out: folder of the records and checkpoints. All workers must see it.
        seeds: runs of each point, with seeds 0, 1, ….
        budget: "full", or "quick" for a run of a few steps.
        jobs: runs at a time; each has its share of the CPU's cores as threads.
        backend: "loky", processes on this machine; or "dask", the workers of the cluster at
            `$DASK_SCHEDULER_ADDRESS`, or as many on this machine where that is not set.

    Raises:
        ValueError: unknown budget or backend, no seeds or jobs, or records of another text or
            configuration.
        ModuleNotFoundError: dask is not installed.
        BlockingIOError: another process is at the same run.
    """
    if budget not in BUDGETS:
        raise ValueError(f"budget must be one of {BUDGETS}, got {budget!r}")
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {BACKENDS}, got {backend!r}")
    for name, value in (("seeds", seeds), ("jobs", jobs)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    wanted = [(point, seed) for point in points for seed in range(seeds)]
    missing = [run for run in wanted if _stored(*run, corpus, out, budget) is None]
    # never more than torch was told to use, as by $OMP_NUM_THREADS
    threads = max(1, min(torch.get_num_threads(), joblib.cpu_count() // jobs))
    with _workers(backend, jobs) if missing else contextlib.nullcontext():
        runs = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(
            joblib.delayed(_train)(point, seed, corpus, out, budget, threads)
            for point, seed in missing
        )
        bar = tqdm(
            runs, initial=len(wanted) - len(missing), total=len(wanted), unit="run", desc=NAME
        )
        diverged = sorted(line for line in bar if line)
    found = [_stored(*run, corpus, out, budget) for run in wanted]
    return Swept([record for record in found if record is not None], diverged)


def summarize(points: Sequence[Point], records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return a row for each point that has records.

    In each stand the settings, how many `seeds` were run, the mean `val_nats` and its `spread`, the
    standard deviation (None for one seed), the `runs` of which they are, `parameters`, and the mean
    `seconds` of a training.
    """
    rows = []
    for point in points:
        mine = [record for record in records if record.arm == point.name]
        if not mine:
            continue
        runs = [record.metrics[METRIC] for record in mine]
        measured = (
            len(runs),
            statistics.fmean(runs),
            statistics.stdev(runs) if len(runs) > 1 else None,
            runs,
            mine[0].parameters,
            statistics.fmean(record.seconds for record in mine),
        )
        rows.append({**point.values, **dict(zip(_MEASURED, measured, strict=True))})
    return rows


def write_csv(points: Sequence[Point], records: Sequence[Record], path: Path) -> None:
    """Write a line for each run: settings, seed, parameters, seconds and every metric."""
    metrics = dict.fromkeys(name for record in records for name in record.metrics)
    columns = [*points[0].values, "seed", "parameters", "seconds", *metrics]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for point in points:
            settings = {key: text_of(value) for key, value in point.values.items()}
            for record in records:
                if record.arm == point.name:
                    cost = {"parameters": record.parameters, "seconds": record.seconds}
                    writer.writerow({**settings, "seed": record.seed, **cost, **record.metrics})


def plot(rows: list[dict[str, Any]]) -> matplotlib.figure.Figure:
    """Draw what `summarize` returned: a dot for each seed, and a bar at their mean.

    One setting that varies goes along the axis, one that has numbers before one that has words;
    the values of the others are series, told apart by colour and shape.
    """
    from matplotlib.figure import Figure

    settings = [key for key in rows[0] if key not in _MEASURED]
    values = {key: list(dict.fromkeys(text_of(row[key]) for row in rows)) for key in settings}
    varied = [key for key in settings if len(values[key]) > 1] or settings[:1]
    along = max(varied, key=lambda key: (_numbers(rows, key), len(values[key])))
    series: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        others = [f"{key} {text_of(row[key])}" for key in varied if key != along]
        series.setdefault(", ".join(others), []).append(row)

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    apart = 0.4 / len(series)
    for number, (label, mine) in enumerate(series.items()):
        aside = (number - (len(series) - 1) / 2) * apart
        places = [values[along].index(text_of(row[along])) + aside for row in mine]
        colour, marker = f"C{number}", "os^Dv<>P"[number % 8]
        for place, row in zip(places, mine, strict=True):
            axes.plot(
                [place] * len(row["runs"]), row["runs"], marker, color=colour, alpha=0.6, ms=5
            )
        means = [row[METRIC] for row in mine]
        axes.plot(places, means, "_", color=colour, ms=18, mew=2)
        if _numbers(rows, along):
            axes.plot(places, means, "-", color=colour, alpha=0.5)
        axes.plot([], [], marker, color=colour, label=label)
    fixed = ", ".join(f"{key} {values[key][0]}" for key in settings if key not in varied)
    axes.set(xlabel=along, ylabel="validation loss, nats", title=fixed)
    axes.set_xticks(range(len(values[along])), values[along])
    axes.set_xlim(-0.5, len(values[along]) - 0.5)
    if len(series) > 1:
        axes.legend()
    return figure


def _numbers(rows: list[dict[str, Any]], key: str) -> bool:
    given = [row[key] for row in rows]
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in given)


def _stored(point: Point, seed: int, corpus: Corpus, out: Path, budget: str) -> Record | None:
    path = out / f"{NAME}.jsonl"
    record = find_record(read_records(path), NAME, point.name, seed)
    if record is None:
        return None
    expected = plain(point.arm.config(corpus, budget))
    if record.corpus.get("sha256") != corpus.sha256 or record.config != expected:
        raise ValueError(
            f"{path}: {point.name} with seed {seed} was run on {record.corpus.get('name')} with "
            f"{record.config}, expected {corpus.name} with {expected}; choose another folder"
        )
    return record


def _train(
    point: Point, seed: int, corpus: Corpus, out: Path, budget: str, threads: int
) -> str | None:
    """Run one point in a worker; return where it diverged, if it did."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        # each training shows a bar of its own, which would write over the one of all runs
        with contextlib.redirect_stderr(io.StringIO()):
            run_arm(NAME, point.name, point.arm, corpus, seed, budget, out, out / "work")
    except FloatingPointError as error:
        return f"{point.name} with seed {seed}: {error}"
    finally:
        torch.set_num_threads(before)
    return None


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
            f'--backend dask needs {error.name}: pip install "trix-routing[cluster]"'
        ) from error
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    with (
        Client(address) if address else Client(n_workers=jobs, threads_per_worker=1),
        joblib.parallel_config(backend="dask"),
    ):
        yield
