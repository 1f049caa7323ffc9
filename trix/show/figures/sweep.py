"""What a sweep found, as a figure."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from trix.experiments.grid import text_of
from trix.ledger.sweep import MEASURED, METRIC


def plot(rows: list[dict[str, Any]]) -> Figure:
    """Draw what `summarize` returned: a dot for each seed, and a bar at their mean.

    One setting that varies goes along the axis, one that has numbers before one that has words;
    the values of the others are series, told apart by colour and shape.
    """
    settings = [key for key in rows[0] if key not in MEASURED]
    values = {key: list(dict.fromkeys(text_of(row[key]) for row in rows)) for key in settings}
    varied = [key for key in settings if len(values[key]) > 1] or settings[:1]
    along = max(varied, key=lambda key: (_numbers(rows, key), len(values[key])))
    series: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        others = [f"{key} {text_of(row[key])}" for key in varied if key != along]
        series.setdefault(", ".join(others), []).append(row)

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, (label, mine) in enumerate(series.items()):
        aside = (number - (len(series) - 1) / 2) * (0.4 / len(series))
        places = [values[along].index(text_of(row[along])) + aside for row in mine]
        colour, marker = f"C{number}", "os^Dv<>P"[number % 8]
        for place, row in zip(places, mine, strict=True):
            runs = row["runs"]
            axes.plot([place] * len(runs), runs, marker, color=colour, alpha=0.6, ms=5)
        means = [row[METRIC] for row in mine]
        axes.plot(places, means, "_", color=colour, ms=18, mew=2)
        if _numbers(rows, along):
            axes.plot(places, means, "-", color=colour, alpha=0.5)
        axes.plot([], [], marker, color=colour, label=label)
    fixed = ", ".join(f"{key} {values[key][0]}" for key in settings if key not in varied)
    axes.set(xlabel=along, ylabel="validation loss, nats", title=fixed)
    axes.set_xticks(range(len(values[along])), values[along])
    axes.set_xlim(-0.5, len(values[along]) - 0.5)
    if len(series) > 1:
        axes.legend()
    return figure


def _numbers(rows: list[dict[str, Any]], key: str) -> bool:
    given = [row[key] for row in rows]
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in given)
