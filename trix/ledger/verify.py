"""Verification: stored quick runs are run again, and have to come out as they did.

The stored records are runs of a few steps on `plays`, which needs no network. They settle no claim:
they say what this code did, so that a change of code, of a package or of the machine shows.

How near is near enough? Where the machine is the same, a run with the same seed ends in the same
bits. On another one sums are added up in another order, and training carries the difference on: by
less than a millionth of a loss where we let the same CPU do without vector instructions, by more
where a GPU computes in bfloat16. It should not come further than another seed would, so the spread
between seeds is the measure: a metric may differ from the record of its own seed by half the width
of a 95 % prediction interval of the other seeds,

    t(0.975, m − 1) · s · √(1 + 1/m),

with s the standard deviation of the m other seeds. The run's own record is left out of s, so that
a wrong record does not widen the interval that it is judged by. `FLOOR` times the value is added
for what is the same for every seed, or has none.
"""

import contextlib
import io
import random
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from scipy import stats
from tqdm import tqdm

from trix.experiments.table import EXPERIMENTS
from trix.lab.corpus import Corpus
from trix.ledger.records import Record, find_record, read_all_records
from trix.ledger.run import plain, run_arm

CORPUS = "plays"
"""The text of the stored runs: it is read from an installed package."""

VERIFIED: dict[str, tuple[str, ...]] = {
    "attention-nano": ("attention",),
    "memory-nano": ("routed-16",),
    "sources": ("weights",),
    "sparse-lookup": ("sparse-lookup",),
    "counts": ("witten-bell-5", "add-one-3"),
}
"""The arms whose quick runs are stored, by experiment: one of every kind, and cheap."""

SEEDS = 5
FLOOR = 1e-5
CONFIDENCE = 0.95


class Check(NamedTuple):
    """One metric of one run: what is stored, where it may lie, and what came out.

    `verdict` is "same", "within" or "off". A metric that only one of the two has is off; the value
    that is not there is None, and so are the bounds of one that is not stored.
    """

    experiment: str
    arm: str
    seed: int | None
    metric: str
    stored: float | None
    low: float | None
    high: float | None
    received: float | None
    verdict: str


def store(corpus: Corpus, folder: Path, work: Path, seeds: int = SEEDS) -> list[Record]:
    """Run what is missing of the verified arms at the quick budget; return all their records.

    Args:
        corpus: the text.
        folder: of the record files.
        work: folder for checkpoints; a run's own is removed when its record is written.
        seeds: runs of each trained arm.

    Raises:
        ValueError: a record that is there is of another text or configuration.
    """
    missing = _missing(read_all_records(folder), seeds)
    for experiment, arm, seed in (bar := tqdm(missing, unit="run")):
        bar.set_postfix_str(f"{experiment}/{arm}, seed {seed}")
        with _quiet():
            run_arm(
                experiment, arm, EXPERIMENTS[experiment][arm], corpus, seed, "quick", folder, work
            )
    return stored_runs(corpus, folder, seeds)


def stored_runs(corpus: Corpus, folder: Path, seeds: int = SEEDS) -> list[Record]:
    """Return the stored records of the verified arms, which have to be complete.

    Raises:
        ValueError: one is missing, or is of another text or configuration than would be run now.
    """
    records = read_all_records(folder)
    if missing := _missing(records, seeds):
        experiment, arm, seed = missing[0]
        raise ValueError(
            f"{folder} lacks {len(missing)} runs, the first is {experiment}/{arm} with seed {seed};"
            " to store them: trix claims verify --store"
        )
    wanted = {(experiment, arm) for experiment, arm, _ in _runs(seeds)}
    records = [r for r in records if (r.experiment, r.arm) in wanted]
    for record in records:
        where = f"{folder / record.experiment}.jsonl: {record.arm} with seed {record.seed}"
        if record.corpus.get("sha256") != corpus.sha256:
            raise ValueError(
                f"{where} was run on {record.corpus.get('source')} "
                f"(SHA-256 {record.corpus.get('sha256')}), got {corpus.source} ({corpus.sha256})"
            )
        now = plain(EXPERIMENTS[record.experiment][record.arm].config(corpus, "quick"))
        if record.config != now:
            raise ValueError(
                f"{where} was run with {record.config}, and would now be with {now}; where that is "
                "meant, remove the record and store it again: trix claims verify --store"
            )
    return records


def choose(records: list[Record], count: int, seed: int) -> list[Record]:
    """Return `count` of the records by chance; no arm twice before every arm was taken once.

    Args:
        records: stored runs.
        count: how many to take; all where there are fewer.
        seed: decides which.

    Raises:
        ValueError: a count less than 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    shuffled = random.Random(seed).sample(records, len(records))
    taken: Counter[tuple[str, str]] = Counter()
    turns = []
    for record in shuffled:
        turns.append(taken[record.experiment, record.arm])
        taken[record.experiment, record.arm] += 1
    order = sorted(range(len(shuffled)), key=turns.__getitem__)  # stable: ties stay shuffled
    return [shuffled[i] for i in order[:count]]


def verify(corpus: Corpus, chosen: list[Record], stored: list[Record]) -> list[Check]:
    """Run the chosen records' runs again and compare every metric that is not a time.

    Args:
        corpus: the text.
        chosen: the runs to repeat.
        stored: the records of all seeds of their arms, for the spread.
    """
    checks = []
    for record in (bar := tqdm(chosen, unit="run")):
        bar.set_postfix_str(f"{record.experiment}/{record.arm}, seed {record.seed}")
        arm = EXPERIMENTS[record.experiment][record.arm]
        with tempfile.TemporaryDirectory() as work, _quiet():
            outcome = arm.run(corpus, record.seed or 0, "quick", Path(work))
        received = {"parameters": float(outcome.parameters), **outcome.metrics}
        checks += compare(record, received, stored)
    return checks


def compare(record: Record, received: dict[str, float], stored: list[Record]) -> list[Check]:
    """Return a check for each metric of a record or a run, times left out.

    Args:
        record: the run as it is stored.
        received: the metrics, and the number of parameters, of the same run now.
        stored: the records of all seeds of the arm, for the spread.
    """
    key = (record.experiment, record.arm)
    others = [_values(r) for r in stored if (r.experiment, r.arm) == key and r.seed != record.seed]
    expected = _values(record)
    checks = []
    for name in dict.fromkeys([*expected, *received]):
        if _is_time(name):
            continue
        before, now = expected.get(name), received.get(name)
        low = high = None
        verdict = "off"
        if before is not None:
            half = tolerance(before, [values[name] for values in others if name in values])
            low, high = before - half, before + half
            if now is not None and low <= now <= high:
                verdict = "same" if now == before else "within"
        checks.append(Check(*key, record.seed, name, before, low, high, now, verdict))
    return checks


def tolerance(value: float, others: list[float]) -> float:
    """Return by how much a metric may differ from its stored value.

    Args:
        value: as it is stored.
        others: the same metric with other seeds; fewer than two have no spread.
    """
    floor = FLOOR * abs(value)
    count = len(others)
    if count < 2:
        return floor
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
    return quantile * statistics.stdev(others) * (1 + 1 / count) ** 0.5 + floor


def _runs(seeds: int) -> list[tuple[str, str, int | None]]:
    for experiment, arms in VERIFIED.items():
        if unknown := set(arms) - set(EXPERIMENTS.get(experiment, {})):
            raise ValueError(f"{experiment} has no arms {sorted(unknown)} any more")
    return [
        (experiment, arm, seed)
        for experiment, arms in VERIFIED.items()
        for arm in arms
        for seed in (range(seeds) if EXPERIMENTS[experiment][arm].seeded else (None,))
    ]


def _missing(records: list[Record], seeds: int) -> list[tuple[str, str, int | None]]:
    return [run for run in _runs(seeds) if find_record(records, *run) is None]


def _values(record: Record) -> dict[str, float]:
    return {"parameters": float(record.parameters), **record.metrics}


def _is_time(metric: str) -> bool:
    # decode_seconds_256, time_exponent: of a machine, not of a run
    return any(word in metric.split("_") for word in ("seconds", "microseconds", "time"))


def _quiet() -> contextlib.redirect_stderr[io.StringIO]:
    # each training shows a bar of its own, which would write over the one of all runs
    return contextlib.redirect_stderr(io.StringIO())
