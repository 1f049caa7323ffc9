"""What a chapter says of records: figures by seed, paired gains in words, a dot a seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from trix.ledger.records import Record
from trix.ledger.rule import interval
from trix.show.figures.style import PALETTE


@dataclass(frozen=True)
class Findings:
    """Records, asked by arm; an arm is written `experiment/arm`."""

    records: Sequence[Record]

    def by_seed(self, arm: str, metric: str = "val_nats") -> dict[int | None, float]:
        """Return one recorded figure of an arm, by seed; empty where none is on record."""
        return {
            r.seed: r.metrics[metric]
            for r in self.records
            if f"{r.experiment}/{r.arm}" == arm and metric in r.metrics
        }

    def mean(self, arm: str, metric: str = "val_nats") -> float:
        """Return a figure's mean over the seeds; NaN where none is on record."""
        return float(np.mean(list(self.by_seed(arm, metric).values()) or [np.nan]))

    def gains(self, a: str, b: str, metric: str = "val_nats", other: str = "") -> list[float]:
        """Return by how much `metric` of arm `a` lies below that of `b`, or its `other` figure."""
        ours, theirs = self.by_seed(a, metric), self.by_seed(b, other or metric)
        return [theirs[seed] - ours[seed] for seed in ours if seed in theirs]

    def dots(
        self,
        ax: Axes,
        arms: Mapping[str, tuple[str, int, str]],
        metric: str = "val_nats",
        unit: float = 1.0,
    ) -> None:
        """Draw a row for each arm; `arms` has, by name, the arm, its colour's number, its mark."""
        rows = {
            name: ([unit * v for v in self.by_seed(arm, metric).values()], paint, mark)
            for name, (arm, paint, mark) in arms.items()
        }
        dots(ax, rows)


def dots(ax: Axes, rows: Mapping[str, tuple[Sequence[float], int, str]]) -> None:
    """Draw values, a colour of `PALETTE` and a mark in a row a name, with a bar for the mean."""
    for y, (values, paint, mark) in enumerate(list(rows.values())[::-1]):
        colour = PALETTE[paint]
        ax.plot(values, [y] * len(values), mark, color=colour, alpha=0.9, markersize=4)
        if values:
            ax.plot(np.mean(values), y, "|", color=colour, markersize=16, markeredgewidth=2.5)
    ax.set_yticks(range(len(rows)), list(rows)[::-1], fontsize=9)
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.grid(axis="x")
    ax.locator_params(axis="x", nbins=7)


def signed(value: float, form: str = "+.3f") -> str:
    """Return a number with its sign, a true minus, and no sign where it rounds to zero."""
    text = f"{value:{form}}"
    return text.lstrip("+-") if not text.strip("+-0.,") else text.replace("-", "−")


def said(values: Sequence[float], form: str = "+.3f", unit: float = 1.0) -> str:
    """Return the mean of differences times `unit` with its 95 % interval, in words for prose."""
    if len(values) < 2:
        return "(too few runs on record)"
    mean, low, high, _ = interval([unit * v for v in values])
    return f"{signed(mean, form)} ({signed(low, form)} … {signed(high, form)})"
