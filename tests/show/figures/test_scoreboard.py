"""The pictures of the scoreboard say what the ledger and the records say."""

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from tests.show.widgets.test_ledger import claim, planted
from trix.ledger.claims import settle
from trix.ledger.rule import VERDICTS
from trix.show.figures.pareto import (
    FAMILIES,
    FAMILY_MARKS,
    HIGHEST,
    Built,
    family_legend,
    front,
    pareto,
)
from trix.show.figures.plot import figure_html
from trix.show.figures.scoreboard import MARKS, PARTS, verdict_board


def drawn(ax) -> list[Any]:
    """The marks of an axes as `(x, y, marker, filled)`."""
    return [
        (*place, line.get_marker(), line.get_markerfacecolor() != "none")
        for line in ax.lines
        if line.get_marker() != "None"
        for place in line.get_xydata().tolist()
    ]


def test_every_claim_has_the_mark_of_its_verdict_beside_its_name():
    rows = [
        settle(claim("A1"), planted()),
        settle(claim("A2"), planted(old=1.8)),
        settle(claim("M1"), planted(simple=1.9)),
        settle(claim("M2"), []),
        settle(claim("M3", exceed=0.05), planted()),
    ]
    assert {row.verdict for row in rows} == set(VERDICTS)
    fig = verdict_board(rows)
    (ax,) = fig.axes
    names = {text.get_text(): text.get_position() for text in ax.texts}
    marks = {(x, round(y)): (marker, filled) for x, y, marker, filled in drawn(ax)}
    assert len(marks) == len(rows)
    for row in rows:
        x, y = names[row.claim.id]
        mark = MARKS[row.verdict]
        assert marks[x, round(y - 0.4)] == (mark.marker, mark.filled)
    assert names[PARTS["A"]][1] == round(names["A2"][1] - 0.4)
    told = [text.get_text() for text in fig.legends[0].get_texts()]
    assert told == [f"{name} (1)" for name in VERDICTS]
    figure_html(fig, alt="Verdicts.")
    plt.close(fig)


POINTS = [
    Built("counts/witten-bell-1", "counted", "", 3.3, 1e3, 10.0),
    Built("counts/witten-bell-2", "counted", "", 2.5, 1e4, 20.0),
    Built("trial/small", "a hard address", "probe", 2.4, 1e5, math.nan),
    Built("trial/small", "a hard address", "probe", 2.4, 5e4, math.nan, "packed"),
    Built("trial/large", "a soft address", "nano", 1.7, 1e6, 400.0),
    Built("trial/worse", "everything at once", "nano", 1.9, 2e6, 300.0),
    Built("trial/near", "a soft address", "nano", 1.71, 9e5, 390.0),  # its name wants the same room
    Built("trial/bad", "everything at once", "nano", 3.0, 3e6, 500.0),
]


@pytest.mark.parametrize("cost", ["size", "microseconds"])
def test_everything_below_the_top_is_drawn_and_the_front_is_joined_and_named(cost):
    fig, ax = plt.subplots(figsize=(6, 4))
    pareto(ax, POINTS, cost, named=["trial/worse"])
    unit = 1e3 if cost == "size" else 1
    seen = [p for p in POINTS if not math.isnan(getattr(p, cost)) and p.nats <= HIGHEST]
    assert sorted(drawn(ax)) == sorted(
        (getattr(p, cost) / unit, p.nats, FAMILY_MARKS[p.family].marker, not p.form) for p in seen
    )
    best = front(POINTS, cost)
    joined = ax.lines[0].get_xydata()
    assert np.allclose(joined, [(getattr(p, cost) / unit, p.nats) for p in best])
    names = [text.get_text() for text in ax.texts]
    assert sorted(names) == sorted({p.label for p in seen if p in best or p.name == "trial/worse"})
    # names lie inside, and hide neither marks nor one another
    fig.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    inside = ax.get_window_extent()
    for i, box in enumerate(boxes):
        assert inside.x0 <= box.x0 < box.x1 <= inside.x1
        assert not any(box.overlaps(other) for other in boxes[:i])
        for x, y, *_ in drawn(ax):
            assert not box.contains(*ax.transData.transform((x, y)))
    plt.close(fig)


def test_families_are_told_apart_without_colour_and_no_points_draw_nothing():
    fig, ax = plt.subplots()
    pareto(ax, POINTS[2:4], "microseconds")
    assert (len(ax.lines), len(ax.texts)) == (0, 0)
    family_legend(fig)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == list(FAMILIES)
    assert len({mark.marker for mark in FAMILY_MARKS.values()}) == len(FAMILIES)
    plt.close(fig)
