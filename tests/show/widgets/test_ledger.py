"""What `Ledger` checks and sends; what the page makes of it is tested in a browser."""

import pytest

from trix.ledger.claims import Claim, settle
from trix.ledger.records import Record
from trix.ledger.rule import VERDICTS, Rule, gain
from trix.show.figures.scoreboard import PARTS
from trix.show.widgets.ledger import ORDERS, Ledger

SEEDS = (0.003, -0.002, 0.001, -0.004, 0.002)


def rule(**changes) -> Rule:
    settings = {
        "metric": "val_nats",
        "direction": "lower",
        "kind": "better",
        "claimed": "trial/new",
        "baseline": "trial/old",
        "controls": ("control/simple",),
        "margin": 0.01,
    }
    return Rule(**{**settings, **changes})


def claim(name="A1", **changes) -> Claim:
    return Claim(
        name, f"Statement of {name}.", "8.09 | 8.21", "a note", "probe", "something simple",
        "02-first", rule(**changes),
    )  # fmt: skip


def planted(simple=1.95, old=2.0) -> list[Record]:
    return [
        Record(experiment, arm, seed, {}, {}, {}, "", 1, 0.0, 1, {"val_nats": value}, [])
        for seed, e in enumerate(SEEDS)
        for experiment, arm, value in (
            ("trial", "new", 1.9 + e),
            ("trial", "old", old),
            ("control", "simple", simple),
        )
    ]


def test_a_row_says_what_was_settled():
    records, one = planted(), claim()
    (row,) = Ledger([settle(one, records)], alt="One claim.").rows
    found = gain(one.rule, records, "trial/old")
    assert found is not None
    baseline, control = row.pop("gains")
    assert row.pop("size") == pytest.approx(found.mean / 0.01)
    assert row == {
        "id": "A1",
        "verdict": "holds",
        "statement": "Statement of A1.",
        "seed": "8.09 | 8.21",
        "source": "a note",
        "protocol": "probe",
        "ours": "val_nats 1.900 ± 0.003 (5 seeds), perplexity 6.69",
        "arm": "trial/new",
        "control": "something simple",
        "reason": "",
        "command": "trix claims run A1",
        "chapter": "02-first",
        "records": ["control.jsonl", "trial.jsonl"],
    }
    assert baseline == {
        "role": "baseline",
        "arm": "trial/old",
        "said": "+0.100 (+0.096 … +0.104)",
        "interval": [found.low, found.mean, found.high],
        "lines": [0.01],
    }
    assert (control["role"], control["arm"]) == ("control", "control/simple")
    assert control["said"] == "+0.050 (+0.046 … +0.054)"


def test_gains_have_lines_a_true_minus_and_a_size_where_there_is_one():
    def row(records, **changes) -> dict:
        return Ledger([settle(claim(**changes), records)], alt="One claim.").rows[0]

    for kind, lines in (("better", [0.01]), ("no-worse", [-0.01]), ("equal", [-0.01, 0.01])):
        assert [one["lines"] for one in row(planted(), kind=kind)["gains"]] == [lines, [0.01]]
    few = row(planted(old=1.8)[:-3])
    assert [one["said"] for one in few["gains"]] == ["too few runs on record"] * 2
    assert [one["interval"] for one in few["gains"]] == [None, None]
    assert few["size"] is None
    lost = row(planted(old=1.8))
    assert lost["gains"][0]["said"] == "−0.100 (−0.104 … −0.096)"
    assert lost["size"] < 0
    assert row(planted(), margin=0.0)["size"] is None


def test_parts_marks_and_orders_are_sent_in_order():
    names = ("M2", "A1", "M1", "Z9")
    made = Ledger([settle(claim(name), []) for name in names], alt="Four claims.")
    assert made.parts == [["M", PARTS["M"]], ["A", PARTS["A"]], ["Z", "Z"]]
    assert [row["id"] for row in made.rows] == list(names)
    assert [name for name, _ in made.marks] == list(VERDICTS)
    shapes = {mark["marker"] + str(mark["filled"]) for _, mark in made.marks}
    assert len(shapes) == len(VERDICTS)  # told apart without colour
    assert [name for name, _ in made.orders] == list(ORDERS)
