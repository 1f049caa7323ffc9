"""The experiments about tiles: splines, tables, funnels, and layers that read."""

from typing import Any

from trix.lab.arms import Arm, TrainedLM
from trix.lab.tile_arms import STAGES, BestCells, Stage, TableBits, Transplant


def _lm(protocol: str, ffn: str, **options: Any) -> TrainedLM:
    return TrainedLM(protocol, {"ffn": ffn, "ffn_options": options})


def _lookup(tiles: int) -> TrainedLM:
    # a sixteenth of the tiles is read; with nine knots 480 tiles weigh 127,200 numbers of the
    # dense layer's 131,072, and 240 weigh 63,600, less than half
    options = {"tiles": tiles, "tiles_per_cluster": None, "cells": 8, "top_k": tiles // 16}
    return _lm("nano", "lookup", **options)


_ENTRIES = 512  # two vectors an entry: as many numbers as the dense layer

TILES: dict[str, dict[str, Arm]] = {
    "sparse-lookup": {
        "quality": _lookup(480),
        "half": _lookup(240),
        "codebook": _lm("nano", "codebook", entries=_ENTRIES),
        # the notes' layer: 64 tiles, one read; and a dense layer of its size
        "sparse-lookup": _lm("nano", "lookup"),
        "dense-same-size": _lm("nano", "dense", hidden=68),
        "wide-dense": _lm("nano", "wide-dense"),
    },
    "hybrid": {
        "hierarchical-trix": _lm("nano", "hierarchical-trix"),
        "hybrid-kan": _lm("nano", "hybrid-kan"),
        "random-routes": _lm("nano", "fixed-routing", reading="kan", routing="uniform"),
        "none": _lm("nano", "none"),
    },
    "transplant": {
        f"{routing}-routes-{reading}-tiles": Transplant(routing, reading)
        for routing in ("trix", "kan")
        for reading in ("trix", "kan")
    },
    "fractal": {
        "fractal": _lm("probe", "fractal", branching=[8, 8, 4]),
        "two-levels-binning": _lm("probe", "binned", branching=[6, 10], cells=6),
        "random-cells": _lm("probe", "random-fractal", branching=[8, 8, 4]),
    },
    "cells": {
        "routed": _lm("probe", "hybrid-kan", spline="content-cells"),
        "floor": _lm("probe", "hybrid-kan", spline="floor-cells"),
        "random": _lm("probe", "hybrid-kan", spline="random-cells"),
    },
    "splines": {
        "ternary": _lm("probe", "hybrid-kan", spline="ternary-tile"),
        "ternary-cell": _lm("probe", "hybrid-kan", spline="ternary-cell"),
        "ternary-layer": _lm("probe", "hybrid-kan", spline="ternary-layer"),
        "float-same-cells": _lm("probe", "hybrid-kan", spline="cells"),
        # sixteen ternary cells take the bytes of one float line
        "float-same-bytes": _lm("probe", "hybrid-kan", spline="cells", cells=1),
        "constant": _lm("probe", "hybrid-kan", spline="constant"),
    },
    "tables": {"table": TableBits(), "unquantized": TableBits(quantized=False)},
    "funnel": {
        "two-dims": _lm("probe", "funnel"),
        "eight-dims": _lm("probe", "funnel", pairs=4),
        "two-dims-unrouted": _lm("probe", "funnel", tiles=1),
    },
    "bottleneck": {stage: Stage(stage) for stage in STAGES},
    "resolution": {
        "confidence": _lm("probe", "adaptive-kan"),
        "random": _lm("probe", "adaptive-kan", choose="chance"),
        # as many bits of address: the mean of those of four cells and of sixteen
        "fixed": _lm("probe", "hybrid-kan", cells=8),
    },
    "grid": {
        "few-tiles": BestCells(8),
        "many-tiles": BestCells(64),
        "few-random-tiles": BestCells(8, chance=True),
    },
    "lookup-layer": {
        "codebook": _lm("probe", "codebook", entries=_ENTRIES),
        "product": _lm("probe", "codebook", entries=_ENTRIES // 4, groups=4),
        "sparse-lookup": _lm(
            "probe", "lookup", tiles=480, tiles_per_cluster=None, cells=8, top_k=30
        ),
        # half the tiles, found through clusters: a quarter of them is compared
        "half-clusters": _lm(
            "probe", "lookup", tiles=240, tiles_per_cluster=15, cells=8, top_k=15, beam=4
        ),
        "random-keys": _lm(
            "probe", "random-lookup", tiles=480, tiles_per_cluster=None, cells=8, top_k=30
        ),
        "dense": TrainedLM("probe"),
        "wide-dense": _lm("probe", "wide-dense"),
        "none": _lm("probe", "none"),
    },
}
