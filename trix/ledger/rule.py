"""Verdicts: the rule that turns records into one of five words, written before the runs.

A rule compares arms run by run. For each seed it takes the *gain*: how much better the claimed arm
did than another, in the metric's own units. The gains of at least five seeds give a mean and a
95 % confidence interval (Student's t, paired). A *margin*, declared beforehand, says how large a
gain has to be to count.

1. Against the **baseline**: a claim of kind `better` needs a gain above the margin, one of kind
   `no-worse` a loss no larger than it, one of kind `equal` neither gain nor loss beyond it. If the
   whole interval lies on the wrong side: **refuted**. If it straddles the line: **open**.
2. Against each **control**, a simpler thing that could explain the effect: the claimed arm must be
   better by the margin. If it is not, for the whole interval: **explained away**; if the interval
   straddles the margin: **open**.
3. What is left **holds**; it is **exceeded** if the whole interval of step 1 lies beyond `exceed`.
"""

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from scipy import stats

from trix.checks import one_of
from trix.ledger.records import Record

VERDICTS = ("holds", "exceeded", "explained away", "refuted", "open")
MINIMUM_SEEDS = 5
DEVIATION = "deviation of "
_ARM = r"[^/]+/[^/]+"


@dataclass(frozen=True)
class Rule:
    """How one claim is settled; an arm is `experiment/arm`, or a number in its place.

    `metric` is a name in the records' metrics, or "deviation of" one: each run's distance from the
    mean of its arm, for claims about spread. `margin` and `exceed` are in its units.
    """

    metric: str
    direction: str
    kind: str
    claimed: str
    baseline: str | float
    controls: tuple[str | float, ...]
    margin: float
    exceed: float | None = None

    def __post_init__(self) -> None:
        one_of("direction", self.direction, ("lower", "higher"))
        one_of("kind", self.kind, ("better", "no-worse", "equal"))
        if not isinstance(self.metric, str):
            raise ValueError(f"metric must be a name, got {self.metric!r}")
        if not _is_number(self.margin) or self.margin < 0:
            raise ValueError(f"margin must be a number of at least 0, got {self.margin!r}")
        if self.exceed is not None and not _is_number(self.exceed):
            raise ValueError(f"exceed must be a number, got {self.exceed!r}")
        if not isinstance(self.claimed, str):
            raise ValueError(f"claimed must be an arm, got {self.claimed!r}")
        for arm in (self.claimed, self.baseline, *self.controls):
            if not _is_number(arm) and not (isinstance(arm, str) and re.fullmatch(_ARM, arm)):
                raise ValueError(f"an arm must be written experiment/arm, got {arm!r}")

    def experiments(self) -> list[str]:
        """Return the names of the experiments whose records the rule reads."""
        arms = [a for a in (self.claimed, self.baseline, *self.controls) if isinstance(a, str)]
        return list(dict.fromkeys(a.split("/")[0] for a in arms))


class Interval(NamedTuple):
    """A mean with its 95 % confidence interval over `seeds` paired runs."""

    mean: float
    low: float
    high: float
    seeds: int


def rule_from_dict(values: dict[str, Any]) -> Rule:
    """Build a `Rule` from a table of the ledger."""
    required = {f.name for f in dataclasses.fields(Rule)} - {"exceed"}
    if not required <= set(values) <= required | {"exceed"}:
        raise ValueError(f"a rule must have {sorted(required)}, got {sorted(values)}")
    if not isinstance(values["controls"], list):
        raise ValueError(f"controls must be a list, got {values['controls']!r}")
    return Rule(**{**values, "controls": tuple(values["controls"])})


def interval(values: Sequence[float]) -> Interval:
    """Return mean and 95 % confidence interval (Student's t) of at least two values."""
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval needs at least 2 values, got {n}")
    mean = math.fsum(values) / n
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = float(stats.t.ppf(0.975, n - 1)) * spread / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def gain(rule: Rule, records: Sequence[Record], other: str | float) -> Interval | None:
    """Return by how much the claimed arm beats `other`, paired over seeds.

    An arm without seeds (a table, a number) stands beside every seed of the other. Fewer than five
    pairs give None; measurements of different texts are refused.
    """
    arms = (rule.claimed, other)
    texts = {r.corpus.get("sha256") for r in records if f"{r.experiment}/{r.arm}" in arms}
    if len(texts) > 1:
        raise ValueError(f"{rule.claimed} and {other} were measured on different texts: {texts}")
    ours, theirs = _by_seed(rule, records, rule.claimed), _by_seed(rule, records, other)
    if not ours or not theirs:
        return None
    if None in ours and None in theirs:
        pairs = [(ours[None], theirs[None])] * MINIMUM_SEEDS  # nothing random on either side
    elif None in ours:
        pairs = [(ours[None], b) for b in theirs.values()]
    elif None in theirs:
        pairs = [(a, theirs[None]) for a in ours.values()]
    else:
        pairs = [(a, theirs[seed]) for seed, a in ours.items() if seed in theirs]
    if len(pairs) < MINIMUM_SEEDS:
        return None
    sign = 1 if rule.direction == "higher" else -1
    return interval([sign * (a - b) for a, b in pairs])


def verdict(rule: Rule, records: Sequence[Record]) -> str:
    """Return one of `VERDICTS`, by the steps that this module's text states."""
    against_baseline = gain(rule, records, rule.baseline)
    if against_baseline is None:
        return "open"
    stands = _stands(rule, against_baseline)
    if stands is not True:
        return "open" if stands is None else "refuted"
    against_controls = [gain(rule, records, control) for control in rule.controls]
    if any(g is not None and g.high <= rule.margin for g in against_controls):
        return "explained away"
    if any(g is None or g.low <= rule.margin for g in against_controls):
        return "open"
    exceeded = rule.exceed is not None and against_baseline.low >= rule.exceed
    return "exceeded" if exceeded else "holds"


def _is_number(value: object) -> bool:
    number = isinstance(value, int | float) and math.isfinite(value)
    return number and not isinstance(value, bool)


def _stands(rule: Rule, found: Interval) -> bool | None:
    # True or False where the whole interval says so, None where it straddles a line
    margin = rule.margin
    if rule.kind == "better":
        return True if found.low > margin else False if found.high <= margin else None
    if rule.kind == "no-worse":
        return True if found.low >= -margin else False if found.high < -margin else None
    if -margin <= found.low and found.high <= margin:
        return True
    return False if found.high < -margin or found.low > margin else None


def measured(records: Sequence[Record], arm: str, metric: str) -> dict[int | None, float]:
    """Return an arm's metric by seed."""
    mine = [r for r in records if f"{r.experiment}/{r.arm}" == arm and metric in r.metrics]
    return {r.seed: r.metrics[metric] for r in mine}


def _by_seed(rule: Rule, records: Sequence[Record], arm: str | float) -> dict[int | None, float]:
    if not isinstance(arm, str):
        return {None: float(arm)}
    metric = rule.metric.removeprefix(DEVIATION)
    found = measured(records, arm, metric)
    if metric == rule.metric or not found:
        return found
    mean = math.fsum(found.values()) / len(found)
    return {seed: abs(value - mean) for seed, value in found.items()}
