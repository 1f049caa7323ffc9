"""What a sweep found: a row for each combination of settings, and a line for each run."""

import csv
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trix.experiments.grid import Point, text_of
from trix.files import atomic_path
from trix.ledger.records import Record
from trix.ledger.run import Planned, planned

NAME = "sweep"  # the records' experiment, and so the name of their file
METRIC = "val_nats"
MEASURED = ("seeds", METRIC, "spread", "runs", "parameters", "seconds")


def sweep_runs(points: Sequence[Point], seeds: int) -> list[Planned]:
    """Return the runs of a sweep, for `run_missing`."""
    return planned(NAME, {point.name: point.arm for point in points}, seeds)


def summarize(points: Sequence[Point], records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return a row for each point that has records: its settings, and what `MEASURED` names.

    `val_nats` and `seconds` are means over all `runs`, `spread` the deviation (None for one seed).
    """
    rows = []
    for point in points:
        mine = [record for record in records if record.arm == point.name]
        if not mine:
            continue
        runs = [record.metrics[METRIC] for record in mine]
        spread = statistics.stdev(runs) if len(runs) > 1 else None
        seconds = statistics.fmean(record.seconds for record in mine)
        measured = (len(runs), statistics.fmean(runs), spread, runs, mine[0].parameters, seconds)
        rows.append({**point.values, **dict(zip(MEASURED, measured, strict=True))})
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
