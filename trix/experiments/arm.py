"""Arms of experiments: a recipe that makes something, and measures of what it made."""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from trix.address.sources import Shuffled
from trix.checks import one_of
from trix.files import locked
from trix.lab.corpus import Corpus
from trix.lab.evaluate import Evaluation, LogProbs, evaluate, model_log_probs
from trix.lab.metrics import mutual_information, normalized_entropy, usage
from trix.lab.optimize import TrainConfig
from trix.lab.recipes import protocol
from trix.lab.train import LM, Draw, TrainResult, train
from trix.models.charlm import CharLM, LMConfig
from trix.models.packing import load_packed, save_packed, ternary_names
from trix.tiles.tiled import TiledFFN
from trix.tiles.two_level import AdaptiveKANFFN

QUICK_STEPS = 60  # the most optimizer steps of a training at the quick budget


@dataclass(frozen=True)
class Outcome:
    """What one run of an arm measured, and on which device."""

    seconds: float
    parameters: int
    metrics: dict[str, float]
    curve: list[list[float]]
    device: str


@dataclass
class Run:
    """A run under way: what recipes fill in, and what measures see and may change."""

    corpus: Corpus
    seed: int
    budget: str  # "quick" or "full"
    work: Path  # a folder for checkpoints, beside those of the experiment's other runs
    recipe: Any = None
    model: Any = None  # a language model, count tables, or nothing
    result: TrainResult | None = None  # None where nothing was trained
    parameters: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    def make(self, recipe: "Recipe", name: str = "") -> "Run":
        """Make what a recipe says, going on from what its folder holds; return this run."""
        self.recipe = recipe
        if not recipe.shared:
            recipe.make(self, self.work / name)
            return self
        # made once for all arms that share it, in a folder beside theirs, and moved to the CPU
        name = f"{recipe.shared}-{self.seed}-{self.corpus.sha256[:8]}-{self.budget}"
        with locked(folder := self.work.parent / name):
            recipe.make(self, folder)
        self.model.cpu()
        return self

    def beside(self, recipe: "Recipe", name: str = "") -> "Run":
        """Return a run that makes something else of the same text and seed; see `make`."""
        return Run(self.corpus, self.seed, self.budget, self.work).make(recipe, name)

    def train(self, model: LM, data: Tensor | Draw, config: TrainConfig, folder: Path) -> None:
        """Train a fresh model, which becomes the run's own; see `trix.lab.train`."""
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.result = train(self.model, data, config, self.seed, folder, progress=False)
        self.parameters = model.parameter_count()

    @property
    def device(self) -> str:
        """Where the model is, "cpu" or "cuda"."""
        if not isinstance(self.model, torch.nn.Module):
            return "cpu"
        return next(self.model.parameters()).device.type

    def score(self, log_probs: LogProbs | None = None) -> Evaluation:
        """Return the loss on the whole validation text, in blocks of the recipe's length."""
        text = self.corpus.val.to(self.device)
        return evaluate(log_probs or model_log_probs(self.model), text, self.recipe.block)


class Recipe(Protocol):
    """How something is made."""

    @property
    def shared(self) -> str:
        """Name of the folder that arms with the same recipe share; "" where none do."""
        ...

    @property
    def block(self) -> int:
        """Characters of a block of the evaluation."""
        ...

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return all that decides what is made, besides text and seed."""
        ...

    def make(self, run: Run, folder: Path) -> None:
        """Fill in a run's model, result and parameters; keep in `folder` what resuming needs."""


Measure = Callable[[Run], dict[str, float]]
Settings = Callable[[Corpus, str], Mapping[str, Any]]  # returns settings, given text and budget


@dataclass(frozen=True)
class Arm:
    """One way of doing what an experiment compares: a recipe, and measures of what it makes."""

    recipe: Recipe | None  # None where the measures need nothing or make it themselves
    measures: tuple[Measure, ...]
    settings: Mapping[str, Any] | Settings = field(default_factory=dict)  # what else decides a run
    against: Recipe | None = None  # what the measures compare with, made from the same seed
    seeded: bool = True
    timed: bool = False  # beside such a run no other takes place

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return all that decides a run besides text and seed."""
        own = self.settings(corpus, budget) if callable(self.settings) else self.settings
        made = self.recipe.config(corpus, budget) if self.recipe else {}
        if self.against is not None:
            made = {"with": made, "without": self.against.config(corpus, budget)}
        return {**own, **made}

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Run once; keep what is needed to resume in `work`."""
        began = time.perf_counter()
        run = Run(corpus, seed, budget, work)
        if self.recipe is not None:
            run.make(self.recipe)
        for measure in self.measures:
            run.metrics |= measure(run)
        result = run.result or TrainResult([], time.perf_counter() - began)
        curve = [list(point) for point in result.curve]
        return Outcome(result.seconds, run.parameters, run.metrics, curve, run.device)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute on so many threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def shortened(config: TrainConfig, budget: str) -> TrainConfig:
    """Return the training, or `QUICK_STEPS` steps of it where the budget is "quick"."""
    steps = min(QUICK_STEPS, config.steps) if budget == "quick" else config.steps
    return replace(config, steps=steps)


@dataclass(frozen=True)
class Training:
    """A `CharLM` trained by a protocol, but for `changes` of its `LMConfig` and `TrainConfig`."""

    protocol: str
    changes: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    after: str = ""  # what `quality` does to the trained model before it judges it again
    start: Callable[[CharLM], object] | None = None  # called with the fresh model
    shared: str = ""

    def __post_init__(self) -> None:
        one_of("after", self.after, {"", *AFTER})

    @property
    def block(self) -> int:
        return protocol(self.protocol).block

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        settings = dataclasses.asdict(self.train_config(budget))
        train = {k: v for k, v in settings.items() if v is not None}
        model = dataclasses.asdict(self.model_config(corpus))
        config = {"protocol": self.protocol, "model": model, "train": train, "block": self.block}
        return config | ({"after": self.after} if self.after else {})

    def model_config(self, corpus: Corpus) -> LMConfig:
        return protocol(self.protocol).with_model(vocab_size=corpus.vocab_size, **self.changes)

    def train_config(self, budget: str) -> TrainConfig:
        return shortened(replace(protocol(self.protocol).train, **self.training), budget)

    def build(self, corpus: Corpus, seed: int) -> CharLM:
        """Return the model as training finds it, on the CPU."""
        torch.manual_seed(seed)
        model = CharLM(self.model_config(corpus))
        if self.start is not None:
            self.start(model)
        return model

    def make(self, run: Run, folder: Path) -> None:
        model, text = self.build(run.corpus, run.seed), run.corpus.train
        run.train(model, text, self.train_config(run.budget), folder)


def quality(run: Run) -> dict[str, float]:
    """Judge a trained `CharLM`: as it is, changed after training, packed and read back, hardened.

    Of one that is changed after training, the metrics of before end in `_before`. One that blends
    tiles is also judged with each token's best tile alone: `val_nats_hard`.
    """
    metrics = judge(run)
    if run.recipe.after:
        before = {f"{name}_before": value for name, value in metrics.items()}
        AFTER[run.recipe.after](run.model, run.seed)
        return before | judge(run)
    metrics |= _packed(run)
    if any(layer.top_k > 1 for layer in run.model.routed_layers() if isinstance(layer, TiledFFN)):
        _harden(run.model, run.seed)
        metrics["val_nats_hard"] = run.score().nats
    return metrics


def judge(run: Run) -> dict[str, float]:
    """Return loss, perplexity and, of a model that routes, how it uses its tiles."""
    return loss(run) | route_metrics(run.model, run.corpus.val.to(run.device), run.recipe.block)


def loss(run: Run) -> dict[str, float]:
    """Return loss and perplexity on the validation text."""
    score = run.score()
    return {"val_nats": score.nats, "val_perplexity": score.perplexity}


def _packed(run: Run) -> dict[str, float]:
    if not ternary_names(run.model):
        return {}
    with tempfile.TemporaryDirectory(dir=run.work) as folder:
        path = Path(folder) / "packed.safetensors"
        metrics = {f"bytes_{k}": float(v) for k, v in save_packed(run.model, path).items()}
        load_packed(other := CharLM(run.recipe.model_config(run.corpus)), path)
    nats = replace(run, model=other).score().nats
    return {**metrics, "bytes_float32": 4.0 * run.parameters, "val_nats_packed": nats}


ROUTE_BLOCKS = 200  # blocks from the start of the validation text that `route_metrics` looks at


@torch.no_grad()
def route_metrics(model: CharLM, text: Tensor, block: int) -> dict[str, float]:
    """Return how a model uses its tiles, averaged over its routed layers; empty if it has none.

    `route_entropy` is that of the reads' shares over its largest value, `route_active` the share of
    tiles read, `route_information` the mutual information of best tile and current character in
    nats, `address_bits` the mean length of a cell's address, where cells are coarse or fine.
    """
    layers = model.routed_layers()
    if not layers:
        return {}
    tokens = text[: min(ROUTE_BLOCKS, len(text) // block) * block].view(-1, block)
    rows, bits = [], []
    for layer, route in zip(layers, model.routed(tokens).routes, strict=True):
        tiles = len(layer.signatures)
        shares = usage(route, tiles)
        active, told = float((shares > 0).double().mean()), mutual_information(route, tokens, tiles)
        rows.append((normalized_entropy(shares), active, told))
        if isinstance(layer, AdaptiveKANFFN) and route.token is not None:
            bits.append(layer.address_bits(route.token))
    entropy, active, told = torch.tensor(rows, dtype=torch.float64).mean(dim=0).tolist()
    found = {"route_entropy": entropy, "route_active": active, "route_information": told}
    return found | ({"address_bits": sum(bits) / len(bits)} if bits else {})


def _shuffle(model: CharLM, seed: int) -> None:
    # each tile gets the address of the next in a random circle: no tile keeps its own
    generator = torch.Generator().manual_seed(seed)
    for layer in _tiled(model):
        circle = torch.randperm(layer.tiles, generator=generator)
        order = torch.empty_like(circle).scatter_(0, circle, circle.roll(1))
        layer.source = Shuffled(layer.source, order.to(layer.bias.device))


def _harden(model: CharLM, seed: int) -> None:
    for layer in _tiled(model):
        layer.top_k = 1


def _tiled(model: CharLM) -> list[TiledFFN]:
    layers = [layer for layer in model.routed_layers() if isinstance(layer, TiledFFN)]
    if not layers:
        raise ValueError(f"expected a model with tiled feed-forwards, got ffn={model.config.ffn!r}")
    return layers


AFTER: dict[str, Callable[[CharLM, int], None]] = {"shuffle": _shuffle, "harden": _harden}


def trained(protocol: str, *settings: Any, **more: Any) -> Arm:
    """Return the arm that trains a `CharLM` and judges it; see `Training` and `quality`."""
    return Arm(Training(protocol, *settings, **more), (quality,))
