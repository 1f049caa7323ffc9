"""Verification: stored quick runs are run again, and have to come out as they did.

On the same machine a run with the same seed ends in the same bits. On another one sums are added up
in another order, and training carries the difference on, but it should not come further than
another seed would: a metric may differ from the record of its own seed by half the width of a 95 %
prediction interval of the other seeds,

    t(0.975, m − 1) · s · √(1 + 1/m),

with s the standard deviation of the m other seeds. The run's own record is left out of s, so that
a wrong record does not widen the interval that it is judged by. `FLOOR` times the value is added
for what is the same for every seed, or has none.
"""

import random
import statistics
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy import stats

from trix.checks import positive
from trix.experiments.table import EXPERIMENTS
from trix.lab.corpus import Corpus
from trix.ledger.records import Record, find_record
from trix.ledger.run import Planned, planned, recorded, run_missing

CORPUS = "plays"  # the text of the stored runs: it is read from an installed package

VERIFIED: dict[str, tuple[str, ...]] = {
    "attention-nano": ("attention",),
    "memory-nano": ("routed-16",),
    "sources": ("weights",),
    "sparse-lookup": ("sparse-lookup",),
    "counts": ("witten-bell-5", "add-one-3"),
}
"""The arms whose quick runs are stored, by experiment: one of every kind, and cheap."""

SEEDS, FLOOR = 5, 1e-5


class Check(NamedTuple):
    """One metric of one run: what is stored, where it may lie, and what came out, or None."""

    experiment: str
    arm: str
    seed: int | None
    metric: str
    stored: float | None
    low: float | None
    high: float | None
    received: float | None
    verdict: str  # "same", "within" or "off", as is a metric that only one of the two has


def store(
    corpus: Corpus, folder: Path, work: Path, seeds: int = SEEDS, **runner: Any
) -> list[Record]:
    """Run what is missing of the verified arms at the quick budget, see `run_missing`."""
    return run_missing(_wanted(seeds), corpus, folder, work, "quick", **runner).records


def stored_runs(corpus: Corpus, folder: Path, seeds: int = SEEDS) -> list[Record]:
    """Return the stored records of the verified arms, which have to be complete."""
    wanted = _wanted(seeds)
    found = recorded(wanted, corpus, folder, "quick")
    if missing := [run for run, record in zip(wanted, found, strict=True) if record is None]:
        raise ValueError(
            f"{folder} lacks {len(missing)} runs, the first is {missing[0].experiment}/"
            f"{missing[0]}; to store them: trix claims verify --store"
        )
    return [record for record in found if record is not None]


def choose(records: list[Record], count: int, seed: int) -> list[Record]:
    """Return `count` of the records by chance; no arm twice before every arm was taken once."""
    positive("count", count)
    taken: Counter[tuple[str, str]] = Counter()
    turns = []
    for record in random.Random(seed).sample(records, len(records)):
        turns.append((taken[record.experiment, record.arm], record))
        taken[record.experiment, record.arm] += 1
    turns.sort(key=lambda turn: turn[0])  # stable: ties stay shuffled
    return [record for _, record in turns[:count]]


def verify(
    corpus: Corpus, chosen: Sequence[Record], stored: Sequence[Record], **runner: Any
) -> list[Check]:
    """Run the chosen records' runs again and compare every metric that is not a time."""
    keys = [(r.experiment, r.arm, r.seed) for r in chosen]
    wanted = [Planned(name, arm, EXPERIMENTS[name][arm], seed) for name, arm, seed in keys]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        again, _ = run_missing(wanted, corpus, place / "records", place / "work", "quick", **runner)
    checks = []
    for record, key in zip(chosen, keys, strict=True):
        now = find_record(again, *key)
        checks += compare(record, _values(now) if now else {}, stored)  # one that diverged has none
    return checks


def compare(record: Record, received: dict[str, float], stored: Sequence[Record]) -> list[Check]:
    """Return a check for each metric of a record or a run, times left out."""
    key = (record.experiment, record.arm)
    others = [_values(r) for r in stored if (r.experiment, r.arm) == key and r.seed != record.seed]
    expected, checks = _values(record), []
    for name in dict.fromkeys([*expected, *received]):
        if _is_time(name):
            continue
        before, now = expected.get(name), received.get(name)
        low, high, verdict = None, None, "off"
        if before is not None:
            half = tolerance(before, [values[name] for values in others if name in values])
            low, high = before - half, before + half
            if now is not None and low <= now <= high:
                verdict = "same" if now == before else "within"
        checks.append(Check(*key, record.seed, name, before, low, high, now, verdict))
    return checks


def tolerance(value: float, others: list[float]) -> float:
    """Return by how much a metric may differ from its stored value."""
    count, floor = len(others), FLOOR * abs(value)
    if count < 2:
        return floor
    quantile = float(stats.t.ppf(0.975, count - 1))
    return quantile * statistics.stdev(others) * (1 + 1 / count) ** 0.5 + floor


def _wanted(seeds: int) -> list[Planned]:
    runs = []
    for experiment, names in VERIFIED.items():
        arms = EXPERIMENTS.get(experiment, {})
        if unknown := set(names) - set(arms):
            raise ValueError(f"{experiment} has no arms {sorted(unknown)} any more")
        runs += planned(experiment, {name: arms[name] for name in names}, seeds)
    return runs


def _values(record: Record) -> dict[str, float]:
    return {"parameters": float(record.parameters), **record.metrics}


def _is_time(metric: str) -> bool:
    # decode_seconds_256, time_exponent: of a machine, not of a run
    return any(word in metric.split("_") for word in ("seconds", "microseconds", "time"))
