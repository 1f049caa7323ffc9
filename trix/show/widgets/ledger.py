"""`Ledger`: every claim with its verdict, to be filtered, sorted and opened."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import traitlets

from trix.ledger.claims import Compared, Settled, lines
from trix.ledger.rule import VERDICTS, Rule
from trix.show.figures.findings import signed
from trix.show.figures.scoreboard import MARKS, PARTS
from trix.show.widgets import base

ORDERS = {"id": "as in the ledger", "verdict": "verdict", "size": "size of the gain"}
"""By what the rows can be sorted, and how the page calls it."""

# from a chapter: on a page that was built, and in a notebook
PLACES = {
    "page": {"chapter": "{}.html", "records": "../_static/records/{}"},
    "notebook": {"chapter": "{}.ipynb", "records": "../book/claims/records/{}"},
}

# what is sent as it is, of a claim and of what was settled
CLAIM = ("id", "statement", "seed", "source", "protocol", "control", "chapter")
SETTLED = ("verdict", "ours", "reason", "command", "records")


class Ledger(base.Widget):
    """Claims as rows that open.

    A gain's *size* is its mean over the baseline in margins of the claim's own rule: gains of
    different claims are in different units, and this is what they have in common.

    Args:
        rows: claims that were settled, as `settle_all` returns them; at least one.

    Attributes:
        verdicts: those that are shown, all where empty.
        part, query: the letter of the claims that are shown, "" for all; words they must hold.
        order, opened: a name in `ORDERS`; ids of the rows that are open.
        parts, marks: pairs of letter and name, in the ledger's order; of verdict and its drawing.
        orders: pairs of a name in `ORDERS` and what the page calls it.
        places: where chapters and records lie, see `PLACES`.
    """

    _esm = base.script("ledger")
    _css = base.style("ledger")

    verdicts = traitlets.List(traitlets.Enum(VERDICTS)).tag(sync=True)
    part, query = base.synced(traitlets.Unicode, 2)
    order = traitlets.Enum(tuple(ORDERS), "id").tag(sync=True)
    opened = traitlets.List(traitlets.Unicode()).tag(sync=True)
    # parts, orders and marks as pairs: a notebook's file would sort the names of a mapping
    rows, parts, orders, marks = base.synced(traitlets.List, 4)
    places = traitlets.Dict().tag(sync=True)

    def __init__(self, rows: Sequence[Settled], *, alt: str) -> None:
        ids = [row.claim.id for row in rows]
        if not ids or len(set(ids)) < len(ids):
            raise ValueError(f"rows: expected different claims, at least one, received {ids}")
        letters = dict.fromkeys(name[0] for name in ids)
        super().__init__(
            rows=[_row(row) for row in rows],
            parts=[[letter, PARTS.get(letter, letter)] for letter in letters],
            orders=[list(pair) for pair in ORDERS.items()],
            marks=[[name, MARKS[name]._asdict()] for name in VERDICTS],
            places=PLACES,
            alt=alt,
        )

    @traitlets.validate("part")
    def _check_part(self, proposal: Any) -> str:
        letters, value = [letter for letter, _ in self.parts], proposal["value"]
        if value not in ("", *letters):
            raise ValueError(f"part: expected '' or one of {letters}, received {value!r}")
        return value


def _row(row: Settled) -> dict[str, Any]:
    claim, gain, margin = row.claim, row.compared[0].gain, row.claim.rule.margin
    return {
        **{name: getattr(claim, name) for name in CLAIM},
        **{name: getattr(row, name) for name in SETTLED},
        "arm": claim.rule.claimed,
        "gains": [_gain(claim.rule, one) for one in row.compared],
        "size": gain.mean / margin if gain and not math.isclose(margin, 0) else None,
    }


def _gain(rule: Rule, one: Compared) -> dict[str, Any]:
    """A gain in words, its mean and interval, and the lines that it must not be beyond."""
    found = one.gain
    said = "too few runs on record"
    if found is not None:
        mean, low, high = (signed(value, "+,.3f") for value in found[:3])
        said = f"{mean} ({low} … {high})"
    return {
        "role": one.role,
        "arm": str(one.arm),
        "said": said,
        "interval": None if found is None else [found.low, found.mean, found.high],
        "lines": lines(rule, one.role),
    }
