"""What chapters say of records, beside hand-made ones."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest

from trix.ledger.records import Record
from trix.ledger.rule import interval
from trix.show.figures.findings import Findings, said, signed
from trix.show.figures.style import PALETTE


def _record(arm, seed, **metrics):
    experiment, name = arm.split("/")
    return Record(experiment, name, seed, {}, {}, {}, "cpu", 1, 1.0, 1, metrics, [])


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


def test_numbers_and_differences_are_said_with_a_true_minus():
    numbers = {0.1234: "+0.123", -0.1234: "−0.123", -0.0004: "0.000", 0.0004: "0.000"}
    assert [signed(value) for value in numbers] == list(numbers.values())
    assert [signed(value, "+.0f") for value in (-12.6, -0.4)] == ["−13", "0"]
    values = [0.01, 0.02, 0.04]
    mean, low, high, _ = interval([100 * v for v in values])
    assert said(values, "+.1f", 100) == f"+{mean:.1f} (−{-low:.1f} … +{high:.1f})"
    assert said([1.0]) == "(too few runs on record)"


def test_each_row_has_a_mark_a_value_and_a_bar_at_the_mean(findings):
    fig, ax = plt.subplots()
    findings.dots(ax, {"A": ("e/a", 0, "o"), "none": ("e/c", 2, "s"), "B": ("e/b", 1, "D")}, unit=2)
    drawn = [
        (*np.asarray(line.get_xydata()).T.tolist(), line.get_marker(), line.get_color())
        for line in ax.lines
    ]
    assert drawn == [
        ([5.0, 4.2, 18.0], [0, 0, 0], "D", PALETTE[1]),
        ([pytest.approx(27.2 / 3)], [0], "|", PALETTE[1]),
        ([], [], "s", PALETTE[2]),
        ([4.0, 4.4], [2, 2], "o", PALETTE[0]),
        ([pytest.approx(4.2)], [2], "|", PALETTE[0]),
    ]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["B", "none", "A"]
    assert ax.lines[0].get_alpha() == 0.9
    plt.close(fig)
