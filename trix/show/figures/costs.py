"""The picture of what memories cost, against the length of the text."""

from typing import Any

from matplotlib.figure import Figure

from trix.lab.bench.memory import COPIED, LAYER, READ, TOKEN
from trix.lab.cost import DIM, HEADS


def memory_costs(rows: list[dict[str, Any]]) -> Figure:
    """Draw the rows of the bench `memory` on layers and decoding; both axes are logarithmic."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    seconds, decoded, kept = figure.subplots(1, 3)
    layers = [row for row in rows if row["what"] == LAYER]
    tokens = {
        a: [r for r in rows if (r["what"], r["against"]) == (TOKEN, a)] for a in (COPIED, READ)
    }
    for axes, of, column, label in (
        (seconds, layers, "seconds", "routed memory"),
        (seconds, layers, "against_seconds", "attention"),
        (decoded, tokens[COPIED], "seconds", "routed memory"),
        *((decoded, of, "against_seconds", against) for against, of in tokens.items()),
        (kept, tokens[COPIED], "bytes", "routed memory"),
        (kept, tokens[COPIED], "against_bytes", "attention"),
    ):
        axes.plot([r["size"] for r in of], [r[column] for r in of], marker="o", label=label)
    for axes, title, unit, along in (
        (seconds, "A layer, forward and backward", "seconds", "tokens"),
        (decoded, "A token decoded", "seconds", "tokens before it"),
        (kept, "What is kept to decode", "bytes", "tokens before"),
    ):
        axes.set(title=title, xlabel=along, ylabel=unit, yscale="log")
        axes.set_xscale("log", base=2)
        axes.legend()
    figure.suptitle(f"One layer of {DIM} features and {HEADS} heads, one text at a time")
    return figure
