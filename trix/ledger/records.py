"""Records: one line of JSON a run, one file an experiment, written here and nowhere else."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from trix.files import locked, write_text


@dataclass(frozen=True)
class Record:
    """One run of one arm of one experiment."""

    experiment: str  # and the name of its file
    arm: str
    seed: int | None  # decides initial weights, windows and dropout; None where nothing is random
    config: dict[str, Any]  # everything else that decided the run
    corpus: dict[str, Any]  # name, source and SHA-256 of the text
    versions: dict[str, str]  # of Python and the packages that matter
    device: str
    threads: int
    seconds: float  # of the run, evaluation not included
    parameters: int  # entries, for a table
    metrics: dict[str, float]
    curve: list[list[float]]  # training loss every few steps, `[step, nats]`


_TYPES: dict[str, Any] = {name: get_origin(t) or t for name, t in get_type_hints(Record).items()}
_TYPES |= {"seed": int | None, "seconds": int | float}  # as JSON may give them


def add_record(folder: Path, record: Record) -> None:
    """Add one line to the experiment's file; a reader never sees half of it."""
    path = folder / f"{record.experiment}.jsonl"
    for name, value in record.metrics.items():
        if not math.isfinite(value):
            raise ValueError(f"{record.arm} with seed {record.seed}: metric {name} is {value}")
    with locked(folder):
        for unfinished in folder.glob(f".{path.name}.*"):
            unfinished.unlink()  # a writer that was killed left it
        earlier = read_records(path)
        if any((r.arm, r.seed) == (record.arm, record.seed) for r in earlier):
            raise ValueError(f"{path.name} already holds {record.arm} with seed {record.seed}")
        lines = [json.dumps(asdict(r), allow_nan=False) for r in [*earlier, record]]
        write_text(path, "\n".join(lines) + "\n")


def read_records(path: Path) -> list[Record]:
    """Return the records of one file; none where there is no file.

    Raises:
        ValueError: a line is not a record of this experiment, or is there twice; the message names
            file, line and fault.
    """
    if not path.exists():
        return []
    records: dict[tuple[str, int | None], Record] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        where = f"{path.name}, line {number}"
        record = _parse(line, where)
        if record.experiment != path.stem:
            raise ValueError(f"corrupt record in {where}: experiment is {record.experiment!r}")
        if (run := (record.arm, record.seed)) in records:
            raise ValueError(f"corrupt record in {where}: {run[0]} with seed {run[1]} again")
        records[run] = record
    return list(records.values())


def read_all_records(folder: Path) -> list[Record]:
    """Return the records of every experiment in `folder`, by file name."""
    return [r for path in sorted(folder.glob("*.jsonl")) for r in read_records(path)]


def find_record(records: list[Record], *run: str | int | None) -> Record | None:
    """Return the record of one run, given by experiment, arm and seed, or None."""
    return next((r for r in records if (r.experiment, r.arm, r.seed) == run), None)


def _parse(line: bytes, where: str) -> Record:
    try:
        values = json.loads(line.decode("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"corrupt record in {where}: {error}") from error
    if not isinstance(values, dict) or set(values) != set(_TYPES):
        received = sorted(values) if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"corrupt record in {where}: expected {sorted(_TYPES)}, got {received}")
    for name, kind in _TYPES.items():
        if not isinstance(values[name], kind) or isinstance(values[name], bool):
            raise ValueError(f"corrupt record in {where}: {name} is {values[name]!r}")
    for name, value in values["metrics"].items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and math.isfinite(value)):
            raise ValueError(f"corrupt record in {where}: metric {name} is {value!r}")
    return Record(**values)
