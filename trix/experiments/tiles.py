"""Arms about tiles that need more than one training: transplants, sweeps, stages, exact tables."""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from trix.experiments.arm import Arm, Outcome, TrainedLM, trained
from trix.lab.corpus import Corpus
from trix.lab.metrics import explained_variance, information
from trix.lab.recipes import protocol
from trix.models.charlm import CharLM
from trix.tiles.funnel import FunnelFFN
from trix.tiles.spline import KnotSpline
from trix.tiles.table import Quantizer, compile_table
from trix.tiles.two_level import FixedRoutingFFN

DESIGNS = {"trix": "hierarchical-trix", "kan": "hybrid-kan"}


@dataclass(frozen=True)
class Transplant:
    """One design's learned routing with fresh tiles of one design, trained as long again.

    A model of the design `routing` is trained. Then its feed-forwards are replaced by fresh tiles
    of the design `reading` behind the signatures that it learned, now fixed; everything else goes
    on from where it was. Each training has half the protocol's steps.

    Attributes:
        routing: "trix" or "kan".
        reading: "trix" or "kan".
    """

    routing: str
    reading: str
    seeded: bool = True

    def __post_init__(self) -> None:
        """Check both names."""
        for name in ("routing", "reading"):
            if getattr(self, name) not in DESIGNS:
                raise ValueError(
                    f"{name} must be one of {sorted(DESIGNS)}, got {getattr(self, name)!r}"
                )

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return both designs and the settings of the first training."""
        first = self._first().config(corpus, budget)
        return {"routing": self.routing, "reading": self.reading, **first}

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Train the donor, or find it trained; transplant; train again; evaluate."""
        first = self._first()
        shared = work.parent / f"transplant-{self.routing}-{seed}-{corpus.sha256[:8]}-{budget}"
        donor = trained(first, corpus, seed, budget, shared)
        second = TrainedLM(
            first.protocol,
            {"ffn": "fixed-routing", "ffn_options": {"reading": self.reading}},
            first.training,
            start=lambda model: _transplant(donor, model),
        )
        return second.run(corpus, seed, budget, work)

    def _first(self) -> TrainedLM:
        return TrainedLM("probe", {"ffn": DESIGNS[self.routing]}, {"steps": 300})


def _transplant(donor: CharLM, model: CharLM) -> None:
    kept = {k: v for k, v in donor.state_dict().items() if ".ffn." not in k}
    model.load_state_dict(kept, strict=False)
    for old, new in zip(donor.routed_layers(), model.routed_layers(), strict=True):
        if not isinstance(new, FixedRoutingFFN):
            raise TypeError(f"expected fixed routing, got {type(new).__name__}")
        new.set_signatures(old.signatures.detach())


@dataclass(frozen=True)
class BestCells:
    """How many cells serve best at a number of tiles, when tiles and cells share the same bytes.

    Every number of cells is a training of its own; the more cells a spline has, the fewer splines
    a tile can afford.

    Attributes:
        tiles: how many.
        cells: what is tried.
        chance: whether chance routes.
        numbers: parameters of a layer.
    """

    tiles: int
    chance: bool = False
    cells: tuple[int, ...] = (2, 16, 128)
    numbers: int = 2**17
    training: dict[str, Any] = field(default_factory=lambda: {"steps": 300})
    seeded: bool = True

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return tiles, cells, the splines a tile has with each, and the training."""
        arms = {c: self._arm(c).config(corpus, budget) for c in self.cells}
        return {
            "tiles": self.tiles,
            "chance": self.chance,
            "splines": {str(c): self._splines(c) for c in self.cells},
            "arms": {str(c): arm for c, arm in arms.items()},
        }

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Train one model for each number of cells; the metric is the best one's logarithm."""
        outcomes = {
            c: self._arm(c).run(corpus, seed, budget, work / f"cells-{c}") for c in self.cells
        }
        losses = {c: outcome.metrics["val_nats"] for c, outcome in outcomes.items()}
        best = min(losses, key=lambda c: losses[c])
        return Outcome(
            seconds=sum(outcome.seconds for outcome in outcomes.values()),
            parameters=outcomes[best].parameters,
            metrics={"best_cells": math.log2(best), "val_nats": losses[best]}
            | {f"val_nats_{c}": loss for c, loss in losses.items()},
            curve=outcomes[best].curve,
            device=outcomes[best].device,
        )

    def _splines(self, cells: int) -> int:
        dim = protocol("probe").model.dim
        return max(1, round(self.numbers / (self.tiles * (2 * dim + cells + 1))))

    def _arm(self, cells: int) -> TrainedLM:
        options: dict[str, Any] = {"tiles": self.tiles, "cells": cells}
        ffn = "fixed-routing" if self.chance else "hybrid-kan"
        options["width" if self.chance else "bottleneck"] = self._splines(cells)
        if self.chance:
            options |= {"reading": "kan", "routing": "uniform"}
        return TrainedLM("probe", {"ffn": ffn, "ffn_options": options}, self.training)


STAGES = ("input", "routed", "quantized", "shuffled-labels")


@dataclass(frozen=True)
class Stage:
    """What is known of the next character after a stage of a trained funnel, in nats.

    Attributes:
        stage: one of `STAGES`. "routed" is the tile, "quantized" the tile with the cell; for
            "input", which is not discrete, it is what a linear reader of the layer's input finds,
            see `linear_information`: a lower bound.
        tokens: how many of the training text's characters are looked at.
    """

    stage: str
    tokens: int = 262_144
    seeded: bool = True

    def __post_init__(self) -> None:
        """Check the name."""
        if self.stage not in STAGES:
            raise ValueError(f"stage must be one of {sorted(STAGES)}, got {self.stage!r}")

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return the stage and the settings of the funnel's training."""
        return {"stage": self.stage, "tokens": self.tokens, **FUNNEL.config(corpus, budget)}

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Train the funnel, or find it trained; measure the stage in every layer; take the mean."""
        began = time.perf_counter()
        shared = work.parent / f"bottleneck-{seed}-{corpus.sha256[:8]}-{budget}"
        model = trained(FUNNEL, corpus, seed, budget, shared).eval()
        block = protocol(FUNNEL.protocol).block
        count = min(self.tokens, (len(corpus.train) - 1)) // block * block
        text, after = corpus.train[:count].view(-1, block), corpus.train[1 : count + 1]
        values, extra = [], {"states": [], "explained_within": [], "explained_globally": []}
        with torch.no_grad():
            tokens = [
                torch.cat([route.token for route in routes if route.token is not None])
                for routes in zip(*(model.routed(t).routes for t in text.split(64)), strict=True)
            ]
        for layer, seen in zip(model.routed_layers(), tokens, strict=True):
            if not isinstance(layer, FunnelFFN):
                raise TypeError(f"expected a funnel, got {type(layer).__name__}")
            flat = seen.flatten(0, 1)
            stages = [layer.stages(part) for part in flat.split(4096)]
            tile = torch.cat([s.route.index[:, 0] for s in stages])
            entry = torch.cat([s.entry[:, 0] for s in stages])
            if self.stage == "input":
                values.append(linear_information(flat, after))
            else:
                state = tile if self.stage == "routed" else tile * layer.levels**2 + entry
                found = information(state, after)
                shuffled = self.stage == "shuffled-labels"
                values.append(found.shuffled if shuffled else found.corrected)
                extra["states"].append(float(found.states))
            some = slice(0, 20_000)
            extra["explained_within"].append(explained_variance(flat[some], tile[some], 2))
            one = torch.zeros_like(tile[some])
            extra["explained_globally"].append(explained_variance(flat[some], one, 2))
        metrics = {"mutual_information": sum(values) / len(values)}
        metrics |= {f"mutual_information_{i}": value for i, value in enumerate(values)}
        metrics |= {name: sum(v) / len(v) for name, v in extra.items() if v}
        return Outcome(time.perf_counter() - began, model.parameter_count(), metrics, [], "cpu")


FUNNEL = TrainedLM("probe", {"ffn": "funnel"})


def linear_information(tokens: torch.Tensor, label: torch.Tensor, steps: int = 40) -> float:
    """Return a lower bound on what tokens tell of labels: entropy less a linear reader's loss.

    The reader is fitted to the first half and judged on the second: on what it was fitted to, it
    would seem to find about parameters / 2n nats in tokens that tell nothing. A faint prior on
    its weights keeps it finite where a few tokens can be told apart for sure.

    Args:
        tokens: `[n, dim]`.
        label: int64 `[n]`.
        steps: of L-BFGS.
    """
    kinds, half = int(label.max()) + 1, len(label) // 2
    reader = torch.nn.Linear(tokens.shape[1], kinds)
    torch.nn.init.zeros_(reader.weight)
    search = torch.optim.LBFGS(reader.parameters(), max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        value = torch.nn.functional.cross_entropy(reader(tokens[:half]), label[:half])
        value = value + 1e-3 * reader.weight.square().sum() / half
        value.backward()
        return value

    with torch.enable_grad():
        search.step(loss)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        found = torch.nn.functional.cross_entropy(reader(tokens[half:]), label[half:])
    share = torch.bincount(label[half:], minlength=kinds).double() / (len(label) - half)
    return -float(torch.special.xlogy(share, share).sum()) - float(found)


@dataclass(frozen=True)
class TableBits:
    """How many outputs of a compiled table differ from the spline's in any bit.

    Attributes:
        quantized: whether the spline reads the rounded input, as the table does.
    """

    quantized: bool = True
    seeded: bool = True

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return what is compared."""
        return {"quantized": self.quantized, "levels": [256, 16], "inputs": 100_000}

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Compare random splines of one and two inputs with their tables, on random numbers."""
        began = time.perf_counter()
        draw = torch.Generator().manual_seed(seed)
        wrong = 0
        for dims, levels in ((1, 256), (2, 16)):
            spline = KnotSpline(3, 8, dims)
            with torch.no_grad():
                spline.knots.copy_(torch.randn(spline.knots.shape, generator=draw))
                quantizer = Quantizer(levels)
                table = compile_table(spline, quantizer)
                x = 2.4 * torch.rand(100_000, dims, generator=draw) - 1.2
                x = x.squeeze(-1) if dims == 1 else x
                which = torch.randint(3, (100_000,), generator=draw)
                read = table(x, which)
                computed = spline(quantizer.quantize(x) if self.quantized else x, which)
            wrong += int((read.view(torch.int32) != computed.view(torch.int32)).sum())
        metrics = {"mismatched_bits": float(wrong)}
        return Outcome(time.perf_counter() - began, 0, metrics, [], "cpu")


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
