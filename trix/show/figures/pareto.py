"""What everything that was built costs, beside how well it predicts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from trix.experiments.speed import PROTOCOLS, built
from trix.ledger.records import Record
from trix.show.figures.scoreboard import Mark, draw_mark, legend
from trix.show.figures.style import INK, NAMED

FAMILIES: tuple[str, ...] = ("everything at once", "a soft address", "a hard address", "counted")
"""How things find what they read, from differentiable throughout to not at all."""

LABELS = {
    "attention-nano/attention": "attention",
    "hybrid/none": "attention alone",
    "hybrid/hierarchical-trix": "HierarchicalTriX",
    "hybrid/hybrid-kan": "HybridKAN",
    "memory-nano/routed": "memory, 64 slots",
    "memory-nano/routed-16": "memory, 16 slots",
    "memory-nano/attention-convolution": "attention, convolved",
    "sparse-lookup/sparse-lookup": "SparseLookup of the notes",
    "sparse-lookup/quality": "SparseLookup",
    "sparse-lookup/half": "SparseLookup, half",
    "sparse-lookup/dense-same-size": "small dense",
    "sources-nano/narrow-dense": "narrow dense",
    "sources-nano/token-hash": "token hash",
    "lookup-tables/routed": "tables and gate",
    "lookup-tables/fixed-gate": "tables, one blend",
    "lookup-tables/orders-alone": "n-grams and gate",
    "lookup-tables/no-echoes": "tables without echoes",
    "lookup-tables/adamw": "tables, by AdamW",
    "lookup-model/adamw": "tables, by AdamW, short blocks",
    "lookup-model/lookup": "tables and gate, short blocks",
    "lookup-small/three-minutes": "look it up, small",
    "lookup-small/no-echoes": "small, no echoes",
    "lookup-long/ten-minutes": "n-grams, longer",
    "lookup-base/base": "n-grams, base",
    "lookup-parts/all": "look it up, half as long",
    "lookup-parts/adamw": "half as long, by AdamW",
    "lookup-parts/fixed-gate": "half as long, one blend",
    "lookup-parts/no-routed-memory": "half as long, no memory",
}


@dataclass(frozen=True)
class Built:
    """Something that was built and measured; what is not on record is NaN."""

    name: str  # experiment/arm
    family: str
    protocol: str  # by which it was trained, "" where it was not
    nats: float  # mean validation loss over the seeds
    size: float  # bytes, see `everything_built`
    microseconds: float  # for each character it writes
    form: str = ""  # "packed" in a file of two-bit and sixteen-bit numbers, "compiled" to infer

    @property
    def label(self) -> str:
        """A name short enough for a figure."""
        label = LABELS.get(self.name, self.name.split("/")[1].replace("-", " "))
        if self.name.startswith("counts/"):
            label = f"order {self.name.rsplit('-', 1)[1]}"
        return f"{label}, {self.form}" if self.form else label


def everything_built(records: Sequence[Record]) -> list[Built]:
    """Return what was trained as `nano` or `probe`, counted, or measured with its bytes.

    A size is four bytes for each number, two bits for each that is only read through its ternary
    cut; tables and whatever has the metric `bytes` state theirs. A packed file is a thing of its
    own, with the loss it had when it was read back. Speed comes from the records of the experiment
    `speed` about the same model, else it is the metric `us_per_character`. Arms that share one
    training appear once; models damaged on purpose, or trained without a table, not at all.
    """
    timed = [r for r in records if r.experiment == "speed"]
    found: list[Built] = []
    seen: list[tuple[float, ...]] = []
    for name in dict.fromkeys((r.experiment, r.arm) for r in records):
        runs = [r for r in records if (r.experiment, r.arm) == name and "val_nats" in r.metrics]
        losses = tuple(r.metrics["val_nats"] for r in runs)
        # what knows less than nothing is no point of a figure
        known = losses and math.fsum(losses) / len(losses) <= math.log(65)
        if known and losses not in seen and _comparable(runs[0]):
            seen.append(losses)
            found += _forms("/".join(name), runs, timed)
    return found


def _comparable(record: Record) -> bool:
    config = record.config.get("with", record.config)
    if config.get("without"):
        return False
    if {"bytes", "us_per_character"} & record.metrics.keys():
        return True
    if "smoothing" in config:
        return config["smoothing"] == "witten-bell"
    sound = config.get("after") != "shuffle" and config.get("protocol") in PROTOCOLS
    return sound and built(record.config) is not None


def _forms(name: str, runs: list[Record], timed: list[Record]) -> list[Built]:
    first, size = runs[0], math.nan
    config = first.config.get("with", first.config)
    speeds = {False: math.nan, True: math.nan}
    if (key := built(first.config)) is not None:
        for record in timed:
            if record.config["built"] == key:
                speeds[record.config["compiled"]] = record.metrics["us_per_character"]
                size = record.metrics.get("bytes", size)
    if math.isnan(speeds[False]):
        speeds[False] = _mean(runs, "us_per_character")
    about = (name, _family(config), config.get("protocol", ""))
    plain = Built(*about, _mean(runs, "val_nats"), _size(runs, size), speeds[False])
    forms = [plain]
    if "bytes_file" in first.metrics:
        packed = {"nats": _mean(runs, "val_nats_packed"), "size": _mean(runs, "bytes_file")}
        forms.append(replace(plain, form="packed", microseconds=math.nan, **packed))
    if not math.isnan(speeds[True]):
        forms.append(replace(plain, form="compiled", size=math.nan, microseconds=speeds[True]))
    return forms


def _mean(runs: Iterable[Record], metric: str) -> float:
    values = [r.metrics[metric] for r in runs if metric in r.metrics]
    return math.fsum(values) / len(values) if values else math.nan


def _size(runs: list[Record], of_tables: float) -> float:
    metrics = runs[0].metrics
    if "bytes" in metrics:
        return _mean(runs, "bytes")
    if "order" in runs[0].config:
        return of_tables
    if "bytes_ternary" in metrics:  # the rest was written in sixteen bits: here it has all its own
        halved = metrics["bytes_scales"] + metrics["bytes_bfloat16"]
        return metrics["bytes_ternary"] + 2 * halved + metrics["bytes_other"]
    return 4.0 * runs[0].parameters


def _family(config: Mapping[str, Any]) -> str:
    model = config.get("model", {})
    model = model.get("network") or model  # of a look-it-up model
    if "mixer" not in model:
        return "counted"
    options, ffn = model.get("mixer_options", {}), model.get("ffn_options", {})
    if model["mixer"] in ("static-memory", "convolved-static"):
        return "a soft address" if options.get("top_k", 1) > 1 else "a hard address"
    if model["mixer"] in ("routed-memory", "hybrid"):
        return "a hard address" if options.get("top_k") == 1 else "a soft address"
    if model.get("ffn") in ("dense", "wide-dense", "none"):
        return "everything at once"
    reads_all = ffn.get("top_k", 1) == ffn.get("tiles") and not config.get("after")
    return "a soft address" if model.get("ffn") == "tiled" and reads_all else "a hard address"


TELLS = 0.001  # losses that lie closer, in nats, count as the same


def front(points: Sequence[Built], cost: str) -> list[Built]:
    """Return what nothing else beats in both cost and loss, the cheapest first.

    What costs more must be better by `TELLS`. `cost` is "size" or "microseconds"; what has none on
    record takes no part, nor do packed files: nobody has written the others in half the bytes.
    """
    known = [p for p in points if not math.isnan(getattr(p, cost)) and p.form != "packed"]
    best: list[Built] = []
    for point in sorted(known, key=lambda p: (getattr(p, cost), p.nats)):
        if not best or point.nats <= best[-1].nats - TELLS:
            best.append(point)
    return best


_PAINTED = zip(FAMILIES, ("violet", "orange", "teal", "crimson"), "so^D", strict=True)
FAMILY_MARKS = {family: Mark(NAMED[colour], marker) for family, colour, marker in _PAINTED}

HIGHEST = 2.6  # nats, the largest loss in `pareto`: the rest is worse than counting pairs


def pareto(ax: Axes, points: Sequence[Built], cost: str, named: Sequence[str] = ()) -> None:
    """Draw loss against a cost, join the front, and name it.

    What was trained as `probe` is drawn smaller; forms for inference are hollow. What has a loss
    above `HIGHEST` is left out. `named` are others to write beside their marks.
    """
    unit = 1e3 if cost == "size" else 1.0
    ax.set(xscale="log", ylabel="validation loss, nats")
    ax.set_xlabel("kB" if cost == "size" else "microseconds a character, one thread")
    ax.grid(alpha=0.15)
    known = [p for p in points if not math.isnan(getattr(p, cost))]
    best, seen = front(known, cost), [p for p in known if p.nats <= HIGHEST]
    if not seen:
        return  # nothing on record yet
    line = [(getattr(p, cost) / unit, p.nats) for p in best]
    ax.plot(*zip(*line, strict=True), color=INK, linewidth=1)

    def alike(p: Built) -> tuple[str, bool, bool]:
        return p.family, bool(p.form), p.protocol != "probe"

    for (family, inference, large), group in itertools.groupby(sorted(seen, key=alike), alike):
        xs, ys = zip(*((getattr(p, cost) / unit, p.nats) for p in group), strict=True)
        mark = FAMILY_MARKS[family]._replace(filled=not inference)
        draw_mark(ax, xs, ys, mark, 7 if large else 4, 1 if large else 0.55)
    low = min(p.nats for p in seen)
    ax.set_ylim(low - 0.06 * (HIGHEST - low), HIGHEST)
    left, right = (f(getattr(p, cost) / unit for p in seen) for f in (min, max))
    ax.set_xlim(left / 1.3, right * 1.3)
    written = [p for p in seen if p in best or p.name in named]
    ax.xaxis.set_major_locator(LogLocator(subs=(1,) if right / left > 100 else (1, 2, 5)))
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:,.10g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    places = [(getattr(p, cost) / unit, p.nats) for p in seen] + _along(line)
    _write_names(ax, {(getattr(p, cost) / unit, p.nats): p.label for p in written}, places)


def family_legend(fig: Figure) -> None:
    """Write below a figure which mark is which family."""
    legend(fig, FAMILY_MARKS)


Place = tuple[float, float]


def _along(line: Sequence[Place]) -> list[Place]:
    """Places along a line that is straight over the logarithm of x, for names to keep off."""
    steps = np.linspace(0, 1, 25)[1:-1]
    return [
        (float(a[0] ** (1 - step) * b[0] ** step), float(a[1] + step * (b[1] - a[1])))
        for a, b in itertools.pairwise(line)
        for step in steps
    ]


def _write_names(ax: Axes, names: Mapping[Place, str], marks: Sequence[Place]) -> None:
    """Write each name near its place, where it hides the fewest marks and other names."""
    figure = ax.get_figure(root=True)
    if figure is None:
        return
    figure.draw_without_rendering()
    inside = ax.get_window_extent()
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in ax.transData.transform(marks)]
    pixels = figure.dpi / 72
    for place, name in names.items():
        at = ax.transData.transform(place)
        text = ax.annotate(name, place, xytext=(0, 0), textcoords="offset points", fontsize=8,
                           va="center")  # fmt: skip
        size = text.get_window_extent()
        ways = []
        for distance in (8, 16, 26, 38):
            for angle in np.deg2rad(np.arange(0, 360, 30)):
                x, y = distance * np.cos(angle), distance * np.sin(angle)
                side, shift = ("left", 0) if x > 1 else ("right", 1) if x < -1 else ("center", 0.5)
                left = at[0] + x * pixels - shift * size.width
                low = at[1] + y * pixels - size.height / 2
                box = (left, low, left + size.width, low + size.height)
                out = (
                    left < inside.x0 or inside.x1 < box[2] or low < inside.y0 or inside.y1 < box[3]
                )
                lefts, lows, rights, highs = np.array(taken).T
                apart = (rights < left) | (lefts > box[2]) | (highs < low) | (lows > box[3])
                hidden = int((~apart).sum()) + 10 * out
                ways.append((hidden + distance / 60, side, (x, y), box))
        _, side, offset, box = min(ways, key=lambda way: way[0])
        text.set(ha=side, position=offset)
        taken.append(box)
        if math.hypot(*offset) > 10:
            end = ax.transData.inverted().transform(at + np.array(offset) * pixels)
            ax.plot([place[0], end[0]], [place[1], end[1]], color=INK, linewidth=0.5, alpha=0.6)
