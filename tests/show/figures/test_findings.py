"""What chapters say of records, beside hand-made ones."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest

from trix.ledger.records import Record
from trix.ledger.rule import interval
from trix.show.figures.findings import Findings, dots, said, signed
from trix.show.figures.style import PALETTE


def _record(arm, seed, **metrics):
    experiment, name = arm.split("/")
    return Record(
        experiment=experiment,
        arm=name,
        seed=seed,
        config={},
        corpus={},
        versions={},
        device="cpu",
        seconds=1.0,
        parameters=1,
        metrics=metrics,
        curve=[],
        threads=1,
    )


@pytest.fixture
def findings():
    return Findings(
        [
            _record("e/a", 0, val_nats=2.0, share=0.25),
            _record("e/a", 1, val_nats=2.2, share=0.5),
            _record("e/b", 1, val_nats=2.5),
            _record("e/b", 0, val_nats=2.1),
            _record("e/b", 2, val_nats=9.0),
            _record("f/a", 0, val_nats=7.0),
        ]
    )


def test_figures_are_found_by_arm_and_paired_by_seed(findings):
    assert findings.by_seed("e/a") == {0: 2.0, 1: 2.2}
    assert findings.by_seed("e/b", "share") == {}
    assert findings.mean("e/a", "share") == pytest.approx(0.375)
    assert math.isnan(findings.mean("e/c"))
    assert findings.gains("e/a", "e/b") == pytest.approx([0.1, 0.3])
    assert findings.gains("e/a", "e/b", "share", "val_nats") == pytest.approx([1.85, 2.0])


def test_numbers_have_a_true_minus_and_zero_has_no_sign():
    assert [signed(v) for v in (0.1234, -0.1234, -0.0004, 0.0004)] == [
        "+0.123",
        "−0.123",
        "0.000",
        "0.000",
    ]
    assert signed(-12.6, "+.0f") == "−13"
    assert signed(-0.4, "+.0f") == "0"


def test_a_difference_is_said_with_its_interval():
    values = [0.01, 0.02, 0.04]
    mean, low, high, _ = interval([100 * v for v in values])
    assert said(values, "+.1f", 100) == f"+{mean:.1f} (−{-low:.1f} … +{high:.1f})"
    assert said([1.0]) == "(too few runs on record)"


def test_each_row_has_a_mark_a_value_and_a_bar_at_the_mean(findings):
    fig, ax = plt.subplots()
    findings.dots(ax, {"A": ("e/a", 0, "o"), "none": ("e/c", 2, "s"), "B": ("e/b", 1, "D")}, unit=2)
    drawn = [
        (
            np.asarray(line.get_xdata()),
            np.asarray(line.get_ydata()),
            line.get_marker(),
            line.get_color(),
        )
        for line in ax.lines
    ]
    assert [(list(x), list(y), m, c) for x, y, m, c in drawn] == [
        ([5.0, 4.2, 18.0], [0, 0, 0], "D", PALETTE[1]),
        ([pytest.approx(27.2 / 3)], [0], "|", PALETTE[1]),
        ([], [], "s", PALETTE[2]),
        ([4.0, 4.4], [2, 2], "o", PALETTE[0]),
        ([pytest.approx(4.2)], [2], "|", PALETTE[0]),
    ]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["B", "none", "A"]
    plt.close(fig)


def test_rows_of_plain_values_are_drawn_the_same_way():
    fig, ax = plt.subplots()
    dots(ax, {"one": ([1.0, 3.0], 4, "^")})
    assert list(np.asarray(ax.lines[1].get_xdata())) == [2.0]
    assert ax.lines[0].get_alpha() == 0.9
    plt.close(fig)
