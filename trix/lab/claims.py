"""The claim ledger: what was claimed, what we measured, what could explain it, the verdict."""

import math
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from trix.lab.experiments import EXPERIMENTS
from trix.lab.records import Record, read_all_records
from trix.lab.verdict import DEVIATION, Rule, gain, rule_from_dict, verdict

_FIELDS = ("id", "statement", "seed", "source", "protocol", "control", "rule")


@dataclass(frozen=True)
class Claim:
    """One row of the ledger, before anything is measured.

    Attributes:
        id: short name, as A1.
        statement: the claim in one sentence.
        seed: the source's figure, as the source gives it.
        source: where that figure stands.
        protocol: under which protocol it is tested.
        control: the control that decides it, in words.
        rule: how records become a verdict.
    """

    id: str
    statement: str
    seed: str
    source: str
    protocol: str
    control: str
    rule: Rule


class Settled(NamedTuple):
    """A claim with what the records say of it."""

    claim: Claim
    ours: str
    against: str
    verdict: str
    records: list[str]

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
        if set(row) != set(_FIELDS):
            raise ValueError(
                f"{path.name}, claim {name}: expected {sorted(_FIELDS)}, got {sorted(row)}"
            )
        for key in _FIELDS:
            kind = dict if key == "rule" else str
            if not isinstance(row[key], kind):
                raise ValueError(
                    f"{path.name}, claim {name}: {key} must be a "
                    f"{'table' if kind is dict else 'string'}, got {row[key]!r}"
                )
        if name in {c.id for c in claims}:
            raise ValueError(f"{path.name}: claim {name} occurs twice")
        try:
            claims.append(Claim(**{**row, "rule": rule_from_dict(row["rule"])}))
        except ValueError as error:
            raise ValueError(f"{path.name}, claim {name}: {error}") from error
    return claims


def find_claim(claims: list[Claim], name: str) -> Claim:
    """Return the claim with this id, in any case.

    Raises:
        ValueError: there is none.
    """
    for claim in claims:
        if claim.id.lower() == name.lower():
            return claim
    raise ValueError(f"claim must be one of {', '.join(c.id for c in claims)}, got {name!r}")


def settle(claim: Claim, records: list[Record]) -> Settled:
    """Return what the records say of a claim."""
    rule = claim.rule
    used = [r for r in records if r.experiment in rule.experiments()]
    differences = []
    for name, other in (("baseline", rule.baseline), *(("control", c) for c in rule.controls)):
        found = gain(rule, used, other)
        if found is not None:
            spread = f"{found.mean:+.3f} ({found.low:+.3f} … {found.high:+.3f})"
            differences.append(f"gain over {name} {other}: {spread}")
    return Settled(
        claim,
        ours=summary(used, rule.claimed, rule.metric),
        against="; ".join(differences),
        verdict=verdict(rule, used),
        records=sorted({f"{r.experiment}.jsonl" for r in used}),
    )


def settle_all(folder: Path) -> list[Settled]:
    """Return every claim of a ledger with what its records say."""
    records = read_all_records(folder / "records")
    return [settle(claim, records) for claim in load_claims(folder)]


def summary(records: list[Record], arm: str, metric: str) -> str:
    """Return "mean ± standard deviation (n seeds)" of an arm's metric; "" without records."""
    experiment, name = arm.split("/")
    metric = metric.removeprefix(DEVIATION)  # the ± then says how far runs lie apart
    values = [
        r.metrics[metric]
        for r in records
        if (r.experiment, r.arm) == (experiment, name) and metric in r.metrics
    ]
    if not values:
        return ""
    mean = math.fsum(values) / len(values)
    also = f", perplexity {math.exp(mean):.2f}" if metric == "val_nats" else ""
    if len(values) == 1:
        return f"{metric} {mean:.3f}{also}"
    spread = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    return f"{metric} {mean:.3f} ± {spread:.3f} ({len(values)} seeds){also}"


def runnable(claim: Claim) -> list[str]:
    """Return the experiments that a claim needs.

    Raises:
        ValueError: some of them do not exist yet; the message names them.
    """
    needed = claim.rule.experiments()
    if missing := [name for name in needed if name not in EXPERIMENTS]:
        raise ValueError(
            f"claim {claim.id} needs experiments that are not written yet: {', '.join(missing)}"
        )
    return needed


def ledger_table(rows: list[Settled]) -> str:
    """Return the scoreboard as a Markdown table."""
    lines = [
        "| claim | verdict | statement | the source's figure | ours | the control |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = row.row()
        columns = ("statement", "seed", "ours", "control")
        escaped = " | ".join((cells[key] or "–").replace("|", "\\|") for key in columns)
        lines.append(f"| {cells['id']} | **{row.verdict}** | {escaped} |")
    return "\n".join(lines)
