"""Arms about tiles: who chooses the address, what lies there, and what is lost on the way."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trix.checks import instance
from trix.experiments.arm import Arm, Run, Training, quality, trained
from trix.lab.corpus import Corpus
from trix.lab.metrics import explained_variance, information
from trix.lab.recipes import protocol
from trix.lab.train import TrainResult
from trix.models.charlm import CharLM
from trix.tiles.funnel import FunnelFFN
from trix.tiles.spline import KnotSpline
from trix.tiles.table import Quantizer, compile_table
from trix.tiles.two_level import FixedRoutingFFN


def regrow(run: Run, reading: str) -> dict[str, float]:
    """Give a trained model fresh tiles behind the signatures it learned, now fixed; train again."""
    donor: Training = run.recipe
    changes = {"ffn": "fixed-routing", "ffn_options": {"reading": reading}}
    start = partial(_transplant, run.model)
    run.make(Training(donor.protocol, changes, donor.training, start=start))
    return {}


def _transplant(donor: CharLM, model: CharLM) -> None:
    kept = {k: v for k, v in donor.state_dict().items() if ".ffn." not in k}
    model.load_state_dict(kept, strict=False)
    for old, new in zip(donor.routed_layers(), model.routed_layers(), strict=True):
        instance("layer", new, FixedRoutingFFN).set_signatures(old.signatures.detach())


def _transplanted(routing: str, reading: str) -> Arm:
    # each training has half the protocol's steps
    ffn = {"trix": "hierarchical-trix", "kan": "hybrid-kan"}[routing]
    donor = Training("probe", {"ffn": ffn}, {"steps": 300}, shared=f"transplant-{routing}")
    settings = {"routing": routing, "reading": reading}
    return Arm(donor, (partial(regrow, reading=reading), quality), settings)


CELLS = (2, 16, 128)  # of a spline, where tiles and cells share the same bytes
GRID_PARAMETERS = 2**17  # of a layer, however many tiles and cells it has


def best_cells(run: Run, recipes: dict[int, Training]) -> dict[str, float]:
    """Train one model for each number of cells; return the logarithm of the best one's."""
    runs = {cells: run.beside(recipe, f"cells-{cells}") for cells, recipe in recipes.items()}
    losses = {cells: one.score().nats for cells, one in runs.items()}
    best = min(losses, key=lambda cells: losses[cells])
    results = {cells: one.result for cells, one in runs.items() if one.result is not None}
    run.model, run.parameters = runs[best].model, runs[best].parameters
    run.result = TrainResult(results[best].curve, sum(r.seconds for r in results.values()))
    found = {"best_cells": math.log2(best), "val_nats": losses[best]}
    return found | {f"val_nats_{cells}": nats for cells, nats in losses.items()}


def _grid(tiles: int, chance: bool = False) -> Arm:
    # the more cells a spline has, the fewer splines a tile can afford
    dim = protocol("probe").model.dim
    splines = {c: max(1, round(GRID_PARAMETERS / (tiles * (2 * dim + c + 1)))) for c in CELLS}
    width, ffn, options = "bottleneck", "hybrid-kan", {}
    if chance:
        width, ffn, options = "width", "fixed-routing", {"reading": "kan", "routing": "uniform"}
    recipes = {}
    for cells, count in splines.items():
        sizes = {"tiles": tiles, "cells": cells, width: count, **options}
        recipes[cells] = Training("probe", {"ffn": ffn, "ffn_options": sizes}, {"steps": 300})

    def settings(corpus: Corpus, budget: str) -> dict[str, Any]:
        made = {str(cells): recipe.config(corpus, budget) for cells, recipe in recipes.items()}
        counts = {str(cells): count for cells, count in splines.items()}
        return {"tiles": tiles, "chance": chance, "splines": counts, "arms": made}

    return Arm(None, (partial(best_cells, recipes=recipes),), settings)


STAGES = ("input", "routed", "quantized", "shuffled-labels")


def bottleneck(run: Run, stage: str, tokens: int) -> dict[str, float]:
    """Return what is known of the next character after a stage of a trained funnel, in nats.

    The mean over layers, and each layer's own. "routed" is the tile, "quantized" the tile with the
    cell; for "input", which is not discrete, it is a lower bound, see `linear_information`.
    """
    block, train = run.recipe.block, run.corpus.train
    count = min(tokens, len(train) - 1) // block * block
    text, after = train[:count].view(-1, block), train[1 : count + 1]
    with torch.no_grad():
        seen = [
            torch.cat([route.token for route in routes if route.token is not None])
            for routes in zip(*(run.model.routed(t).routes for t in text.split(64)), strict=True)
        ]
    values, extra = [], {"states": [], "explained_within": [], "explained_globally": []}
    for layer, tokens_seen in zip(run.model.routed_layers(), seen, strict=True):
        layer, flat = instance("layer", layer, FunnelFFN), tokens_seen.flatten(0, 1)
        stages = [layer.stages(part) for part in flat.split(4096)]
        tile = torch.cat([s.route.index[:, 0] for s in stages])
        entry = torch.cat([s.entry[:, 0] for s in stages])
        if stage == "input":
            values.append(linear_information(flat, after))
        else:
            state = tile if stage == "routed" else tile * layer.levels**2 + entry
            found = information(state, after)
            values.append(found.shuffled if stage == "shuffled-labels" else found.corrected)
            extra["states"].append(float(found.states))
        flat, tile = flat[:20_000], tile[:20_000]
        for name, group in (("within", tile), ("globally", torch.zeros_like(tile))):
            extra[f"explained_{name}"].append(explained_variance(flat, group, 2))
    metrics = {"mutual_information": sum(values) / len(values)}
    metrics |= {f"mutual_information_{i}": value for i, value in enumerate(values)}
    return metrics | {name: sum(v) / len(v) for name, v in extra.items() if v}


def _stage(stage: str) -> Arm:
    settings = {"stage": stage, "tokens": 262_144}
    funnel = Training("probe", {"ffn": "funnel"}, shared="bottleneck")
    return Arm(funnel, (partial(bottleneck, **settings),), settings)


def linear_information(tokens: Tensor, label: Tensor, steps: int = 40) -> float:
    """Return a lower bound on what tokens tell of labels: entropy less a linear reader's loss.

    The reader is fitted to the first half and judged on the second, where it cannot seem to find
    anything in tokens that tell nothing. A faint prior keeps its weights finite.
    """
    kinds, half = int(label.max()) + 1, len(label) // 2
    reader = torch.nn.Linear(tokens.shape[1], kinds)
    torch.nn.init.zeros_(reader.weight)
    search = torch.optim.LBFGS(reader.parameters(), max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        value = F.cross_entropy(reader(tokens[:half]), label[:half])
        value = value + 1e-3 * reader.weight.square().sum() / half
        value.backward()
        return value

    with torch.enable_grad():
        search.step(loss)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        found = F.cross_entropy(reader(tokens[half:]), label[half:])
    share = torch.bincount(label[half:], minlength=kinds).double() / (len(label) - half)
    return -float(torch.special.xlogy(share, share).sum()) - float(found)


_INPUTS = 100_000


def table_bits(run: Run, quantized: bool) -> dict[str, float]:
    """Count outputs of compiled tables that differ in any bit from those of random splines."""
    draw, wrong = torch.Generator().manual_seed(run.seed), 0
    for dims, levels in ((1, 256), (2, 16)):
        spline, quantizer = KnotSpline(3, 8, dims), Quantizer(levels)
        with torch.no_grad():
            spline.knots.copy_(torch.randn(spline.knots.shape, generator=draw))
            table = compile_table(spline, quantizer)
            x = 2.4 * torch.rand(_INPUTS, dims, generator=draw) - 1.2
            x = x.squeeze(-1) if dims == 1 else x
            read = table(x, which := torch.randint(3, (_INPUTS,), generator=draw))
            computed = spline(quantizer.quantize(x) if quantized else x, which)
        wrong += int((read.view(torch.int32) != computed.view(torch.int32)).sum())
    return {"mismatched_bits": float(wrong)}


def _table(quantized: bool) -> Arm:
    settings = {"quantized": quantized, "levels": [256, 16], "inputs": _INPUTS}
    return Arm(None, (partial(table_bits, quantized=quantized),), settings)


def _lm(protocol: str, ffn: str, **options: Any) -> Arm:
    return trained(protocol, {"ffn": ffn, "ffn_options": options})


def _options(**options: Any) -> dict[str, Any]:
    return {"ffn": "tiled", "ffn_options": {"tiles": 16, **options}}


def _tiled(protocol: str, **options: Any) -> Arm:
    return trained(protocol, _options(**options))


def _sources(name: str, sources: tuple[str, ...]) -> dict[str, Arm]:
    return {
        **{source: _tiled(name, source=source) for source in sources},
        # the best of seven ways to train a linear router, by a run of each on `Corpus.design`: a
        # softmax of plain scores (temperature 1, in units of √dim), balanced without a loss
        "learned-router": _tiled(
            name, source="learned-router", temperature=128**-0.5, balance=0.001
        ),
        # as many parameters as a tiled layer of 16 tiles; and as many multiplications a token:
        # bottleneck 8 · 128, mix 32 · 8, writing 32 · 128 and 16 scores 16 · 128, over the 2 · 128
        # of a hidden unit
        "dense": _lm(name, "dense", hidden=354),
        "narrow-dense": _lm(name, "dense", hidden=29),
    }


def _lookup(protocol: str, tiles: int, ffn: str = "lookup") -> Arm:
    # a sixteenth of the tiles is read; with nine knots 480 tiles have 127,200 parameters to the
    # dense layer's 131,072, and 240 have 63,600, less than half
    return _lm(protocol, ffn, tiles=tiles, tiles_per_cluster=None, cells=8, top_k=tiles // 16)


_CONTROLS = ("frozen-random", "token-hash", "uniform")
_ENTRIES = 512  # two vectors an entry: as many parameters as the dense layer

SOURCES: dict[str, dict[str, Arm]] = {
    "attention-seed": {"attention": trained("seed")},
    "attention-nano": {"attention": trained("nano")},
    "sources": {
        **_sources("probe", ("weights", "bottleneck", "spline", "decoupled", "data", *_CONTROLS)),
        "weights-shuffled": trained("probe", _options(source="weights"), after="shuffle"),
    },
    "sources-nano": _sources("nano", ("decoupled", "data", *_CONTROLS)),
    "soft-top-k": {
        **{f"k{k}": _tiled("probe", top_k=k) for k in (2, 4, 8)},
        "random-k4": _tiled("probe", source="uniform", top_k=4),
    },
    "annealing": {
        "soft": _tiled("probe", top_k=16),
        "soft-to-hard": trained("probe", _options(top_k=16), {"anneal": (1.0, 0.02)}, "harden"),
        "straight-through": trained(
            "probe", _options(top_k=16, blend="straight-through"), after="harden"
        ),
    },
}

TILES: dict[str, dict[str, Arm]] = {
    "sparse-lookup": {
        "quality": _lookup("nano", 480),
        "half": _lookup("nano", 240),
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
        f"{routing}-routes-{reading}-tiles": _transplanted(routing, reading)
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
    "tables": {"table": _table(quantized=True), "unquantized": _table(quantized=False)},
    "funnel": {
        "two-dims": _lm("probe", "funnel"),
        "eight-dims": _lm("probe", "funnel", pairs=4),
        "two-dims-unrouted": _lm("probe", "funnel", tiles=1),
    },
    "bottleneck": {stage: _stage(stage) for stage in STAGES},
    "resolution": {
        "confidence": _lm("probe", "adaptive-kan"),
        "random": _lm("probe", "adaptive-kan", choose="chance"),
        # as many bits of address: the mean of those of four cells and of sixteen
        "fixed": _lm("probe", "hybrid-kan", cells=8),
    },
    "grid": {"few-tiles": _grid(8), "many-tiles": _grid(64), "few-random-tiles": _grid(8, True)},
    "lookup-layer": {
        "codebook": _lm("probe", "codebook", entries=_ENTRIES),
        "product": _lm("probe", "codebook", entries=_ENTRIES // 4, groups=4),
        "sparse-lookup": _lookup("probe", 480),
        # half the tiles, found through clusters: a quarter of them is compared
        "half-clusters": _lm(
            "probe", "lookup", tiles=240, tiles_per_cluster=15, cells=8, top_k=15, beam=4
        ),
        "random-keys": _lookup("probe", 480, "random-lookup"),
        "dense": trained("probe"),
        "wide-dense": _lm("probe", "wide-dense"),
        "none": _lm("probe", "none"),
    },
}
