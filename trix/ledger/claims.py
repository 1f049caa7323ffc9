"""The claim ledger: what was claimed, what we measured, what could explain it, the verdict."""

import dataclasses
import math
import os
import statistics
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scipy import stats

from trix.experiments.table import EXPERIMENTS
from trix.ledger.records import Record, read_all_records
from trix.ledger.rule import DEVIATION, Interval, Rule, gain, measured, rule_from_dict, verdict

MOST_SEEDS = 100  # as many runs of an arm as anybody is asked for


@dataclass(frozen=True)
class Claim:
    """One row of the ledger, before anything is measured."""

    id: str  # as A1
    statement: str  # one sentence
    seed: str  # the source's figure, as the source gives it
    source: str
    protocol: str
    control: str  # the control that decides it, in words
    chapter: str  # file name, without its suffix
    rule: Rule


_FIELDS = {f.name for f in dataclasses.fields(Claim)}


class Compared(NamedTuple):
    """What the claimed arm gains over another; None where too few runs are on record."""

    role: str
    arm: str | float
    gain: Interval | None

    def __str__(self) -> str:
        over = f"gain over {self.role} {self.arm}"
        if self.gain is None:
            return f"{over}: too few runs on record"
        return f"{over}: {self.gain.mean:+.3f} ({self.gain.low:+.3f} … {self.gain.high:+.3f})"


class Settled(NamedTuple):
    """A claim with what the records say of it."""

    claim: Claim
    ours: str  # the claimed arm's figure, in words
    against: str  # the gains over baseline and controls, in words
    verdict: str  # one of `VERDICTS`
    records: list[str]  # the files that it rests on
    compared: tuple[Compared, ...]  # the gains, the baseline's first
    reason: str  # why it is open; "" where it is not
    command: str  # what repeats it or, where it is open, what would settle it

    def row(self) -> dict[str, Any]:
        """Return the row that `trix claims --json` prints."""
        return {
            "id": self.claim.id,
            "statement": self.claim.statement,
            "seed": self.claim.seed,
            "ours": self.ours,
            "control": self.claim.control + (f" [{self.against}]" if self.against else ""),
            "verdict": self.verdict,
            "records": self.records,
        }


def find_ledger() -> Path:
    """Return the folder that holds `claims.toml`: `$TRIX_CLAIMS`, or the repository's own.

    Raises:
        FileNotFoundError: there is none; the message says where it was looked for.
    """
    if given := os.environ.get("TRIX_CLAIMS"):
        if (Path(given) / "claims.toml").is_file():
            return Path(given)
        raise FileNotFoundError(
            f"$TRIX_CLAIMS must be a folder that holds claims.toml, got {given!r}"
        )
    here = Path.cwd()
    for root in (here, *here.parents, Path(__file__).parents[2]):
        if (root / "book" / "claims" / "claims.toml").is_file():
            return root / "book" / "claims"
    raise FileNotFoundError(
        f"no book/claims/claims.toml in {here} or a folder above it: the ledger is part of the "
        "repository, not of the installed package; run trix in the repository, or set "
        "$TRIX_CLAIMS to the folder that holds claims.toml"
    )


def load_claims(folder: Path) -> list[Claim]:
    """Return the claims of a ledger, in its order.

    Raises:
        ValueError: the file is not TOML, a claim lacks a field or has an unknown one, an id
            occurs twice, or a rule is wrong; the message names the claim.
    """
    path = folder / "claims.toml"
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))["claim"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"corrupt ledger {path.name}: {error}") from error
    except KeyError as error:
        raise ValueError(f"corrupt ledger {path.name}: expected [[claim]] tables, none") from error
    if not isinstance(rows, list):
        raise ValueError(f"corrupt ledger {path.name}: expected [[claim]] tables, got [claim]")
    claims: list[Claim] = []
    for number, row in enumerate(rows, start=1):
        name = row.get("id", f"number {number}")
        try:
            claims.append(_claim(row))
        except ValueError as error:
            raise ValueError(f"{path.name}, claim {name}: {error}") from error
        if name in {c.id for c in claims[:-1]}:
            raise ValueError(f"{path.name}: claim {name} occurs twice")
    return claims


def _claim(row: dict[str, Any]) -> Claim:
    if set(row) != _FIELDS:
        raise ValueError(f"expected {sorted(_FIELDS)}, got {sorted(row)}")
    for key, value in row.items():
        kind, word = (dict, "table") if key == "rule" else (str, "string")
        if not isinstance(value, kind):
            raise ValueError(f"{key} must be a {word}, got {value!r}")
    return Claim(**{**row, "rule": rule_from_dict(row["rule"])})


def find_claim(claims: list[Claim], name: str) -> Claim:
    """Return the claim with this id, in any case; `ValueError` where there is none."""
    if found := [claim for claim in claims if claim.id.lower() == name.lower()]:
        return found[0]
    raise ValueError(f"claim must be one of {', '.join(c.id for c in claims)}, got {name!r}")


def settle(claim: Claim, records: list[Record]) -> Settled:
    """Return what the records say of a claim."""
    rule = claim.rule
    used = [r for r in records if r.experiment in rule.experiments()]
    others = (("baseline", rule.baseline), *(("control", arm) for arm in rule.controls))
    compared = tuple(Compared(role, arm, gain(rule, used, arm)) for role, arm in others)
    word = verdict(rule, used)
    reason, seeds = _why_open(rule, used, compared) if word == "open" else ("", 0)
    return Settled(
        claim,
        ours=summary(used, rule.claimed, rule.metric),
        against="; ".join(str(one) for one in compared if one.gain is not None),
        verdict=word,
        records=sorted({f"{r.experiment}.jsonl" for r in used}),
        compared=compared,
        reason=reason,
        command=f"trix claims run {claim.id}" + (f" --seeds {seeds}" if seeds else ""),
    )


def _why_open(rule: Rule, used: list[Record], compared: tuple[Compared, ...]) -> tuple[str, int]:
    # the reason, and how many seeds might settle it; 0 for as many as usual
    if missing := [name for name in rule.experiments() if name not in EXPERIMENTS]:
        return f"not written yet: {', '.join(missing)}", 0
    if too_few := [str(one.arm) for one in compared if one.gain is None]:
        return f"too few runs on record of {rule.claimed} beside {', '.join(too_few)}", 0
    baseline, *controls = compared
    undecided = [baseline]
    if verdict(dataclasses.replace(rule, controls=()), used) != "open":
        undecided = [one for one in controls if one.gain and one.gain.low <= rule.margin]
    names = " and over ".join(f"{one.role} {one.arm}" for one in undecided)
    reason = f"the gain over {names} may lie on either side of the margin"
    needed = max(_seeds_needed(rule, one) for one in undecided)
    if needed > MOST_SEEDS:
        reason += f", and {MOST_SEEDS} seeds would hardly tell"
    return reason, min(needed, MOST_SEEDS)


def lines(rule: Rule, role: str) -> list[float]:
    """Return where a gain must not lie on the wrong side, over the baseline or over a control."""
    if role == "control" or rule.kind == "better":
        return [rule.margin]
    return [-rule.margin] if rule.kind == "no-worse" else [-rule.margin, rule.margin]


def _seeds_needed(rule: Rule, one: Compared) -> int:
    # how many seeds take the interval off the line, if mean and spread stay as they are
    if one.gain is None:
        return MOST_SEEDS + 1
    mean, _, high, now = one.gain
    distance = min(abs(mean - line) for line in lines(rule, one.role))
    spread, later = (high - mean) / _half_width(now), range(now + 1, MOST_SEEDS + 1)
    return next((n for n in later if spread * _half_width(n) < distance), MOST_SEEDS + 1)


def _half_width(seeds: int) -> float:
    # of an interval over so many runs, in units of their standard deviation
    return float(stats.t.ppf(0.975, seeds - 1)) / math.sqrt(seeds)


def settle_all(folder: Path) -> list[Settled]:
    """Return every claim of a ledger with what its records say."""
    records = read_all_records(folder / "records")
    return [settle(claim, records) for claim in load_claims(folder)]


def summary(records: list[Record], arm: str, metric: str) -> str:
    """Return "mean ± standard deviation (n seeds)" of an arm's metric; "" without records."""
    metric = metric.removeprefix(DEVIATION)  # the ± then says how far runs lie apart
    values = list(measured(records, arm, metric).values())
    if not values:
        return ""
    mean, count = math.fsum(values) / len(values), len(values)
    also = f", perplexity {math.exp(mean):.2f}" if metric == "val_nats" else ""
    spread = f" ± {statistics.stdev(values):.3f} ({count} seeds)" if count > 1 else ""
    return f"{metric} {mean:.3f}{spread}{also}"


def runnable(claim: Claim) -> list[str]:
    """Return the experiments that a claim needs; those that do not exist yet are refused."""
    needed = claim.rule.experiments()
    if missing := [name for name in needed if name not in EXPERIMENTS]:
        raise ValueError(
            f"claim {claim.id} needs experiments that are not written yet: {', '.join(missing)}"
        )
    return needed


def ledger_table(rows: list[Settled]) -> str:
    """Return the scoreboard as a Markdown table."""
    head = "| claim | verdict | statement | the source's figure | ours | the control |"
    table, columns = [head, "|" + " --- |" * 6], ("statement", "seed", "ours", "control")
    for cells in (row.row() for row in rows):
        escaped = " | ".join((cells[key] or "–").replace("|", "\\|") for key in columns)
        table.append(f"| {cells['id']} | **{cells['verdict']}** | {escaped} |")
    return "\n".join(table)
