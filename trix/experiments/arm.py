"""The arms of experiments: one way each of doing what an experiment compares."""

import dataclasses
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from trix.address.sources import Shuffled
from trix.counts.ngram import CountTables
from trix.files import locked
from trix.lab.corpus import Corpus
from trix.lab.evaluate import evaluate, model_log_probs, table_log_probs
from trix.lab.metrics import mutual_information, normalized_entropy, usage
from trix.lab.optimize import TrainConfig
from trix.lab.recipes import protocol
from trix.lab.train import TrainResult, train
from trix.models.charlm import CharLM, LMConfig
from trix.models.packing import load_packed, save_packed, ternary_names
from trix.tiles.tiled import TiledFFN
from trix.tiles.two_level import AdaptiveKANFFN

QUICK_STEPS = 60


@dataclass(frozen=True)
class Outcome:
    """What one run of an arm measured, and on which device."""

    seconds: float
    parameters: int
    metrics: dict[str, float]
    curve: list[list[float]]
    device: str


class Arm(Protocol):
    """One way of doing the thing that an experiment compares."""

    @property
    def seeded(self) -> bool:
        """Whether the run depends on a seed."""
        ...

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return all that decides a run besides text and seed."""
        ...

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Run once; keep what is needed to resume in `work`."""
        ...


@dataclass(frozen=True)
class TrainedLM:
    """A `CharLM` trained by a protocol, with some settings changed.

    Attributes:
        protocol: name of the protocol.
        changes: what differs in the model, see `LMConfig`.
        training: what differs in the training, see `TrainConfig`.
        after: what is done to the trained model before it is judged: nothing; "shuffle", each
            layer's tiles swap their addresses; "harden", each token reads its best tile alone.
        start: what is done to the fresh model before training, or None.
        seeded: whether the run depends on a seed.
    """

    protocol: str
    changes: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    after: str = ""
    start: Callable[[CharLM], None] | None = None
    seeded: bool = True

    def __post_init__(self) -> None:
        """Check the name of what is done after training."""
        if self.after and self.after not in AFTER:
            raise ValueError(f"after must be empty or one of {sorted(AFTER)}, got {self.after!r}")

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return the protocol's name, and the settings of model, training and evaluation."""
        settings = dataclasses.asdict(self._train(budget))
        config = {
            "protocol": self.protocol,
            "model": dataclasses.asdict(self._model(corpus)),
            "train": {k: v for k, v in settings.items() if v is not None},
            "block": protocol(self.protocol).block,
        }
        return config | ({"after": self.after} if self.after else {})

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Train, resuming from `work`, and evaluate on the whole validation text in blocks.

        A model that routes is also asked how it uses its tiles (`route_metrics`). One that is
        changed after training is judged both ways: the metrics of before end in `_before`. One that
        blends tiles is also judged with each token's best tile alone: `val_nats_hard`.
        """
        model, result = self.fit(corpus, seed, budget, work)
        device = next(model.parameters()).device.type
        metrics = self._judge(model, corpus, device)
        if self.after:
            before = {f"{name}_before": value for name, value in metrics.items()}
            AFTER[self.after](model, seed)
            return self._outcome(model, result, before | self._judge(model, corpus, device))
        metrics |= self._packed(model, corpus, work)
        if any(layer.top_k > 1 for layer in model.routed_layers() if isinstance(layer, TiledFFN)):
            _harden(model, seed)
            metrics["val_nats_hard"] = self._judge(model, corpus, device)["val_nats"]
        return self._outcome(model, result, metrics)

    def fit(
        self, corpus: Corpus, seed: int, budget: str, folder: Path
    ) -> tuple[CharLM, TrainResult]:
        """Return the trained model and what its training left; go on from what `folder` holds."""
        torch.manual_seed(seed)
        model = CharLM(self._model(corpus))
        if self.start is not None:
            self.start(model)
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        return model, train(model, corpus.train, self._train(budget), seed, folder=folder)

    def _outcome(self, model: CharLM, result: TrainResult, metrics: dict[str, float]) -> Outcome:
        return Outcome(
            seconds=result.seconds,
            parameters=model.parameter_count(),
            metrics=metrics,
            curve=[[step, loss] for step, loss in result.curve],
            device=next(model.parameters()).device.type,
        )

    def _judge(self, model: CharLM, corpus: Corpus, device: str) -> dict[str, float]:
        block = protocol(self.protocol).block
        score = evaluate(model_log_probs(model), corpus.val.to(device), block)
        metrics = {"val_nats": score.nats, "val_perplexity": score.perplexity}
        return metrics | route_metrics(model, corpus.val.to(device), block)

    def _packed(self, model: CharLM, corpus: Corpus, work: Path) -> dict[str, float]:
        # what a model with ternary parts weighs on disk, and what it still knows when read back
        if not ternary_names(model):
            return {}
        with tempfile.TemporaryDirectory(dir=work) as folder:
            path = Path(folder) / "packed.safetensors"
            metrics = {f"bytes_{k}": float(v) for k, v in save_packed(model, path).items()}
            other = CharLM(self._model(corpus))
            load_packed(other, path)
        metrics["bytes_float32"] = 4.0 * model.parameter_count()
        metrics["val_nats_packed"] = self._judge(other, corpus, "cpu")["val_nats"]
        return metrics

    def _model(self, corpus: Corpus) -> LMConfig:
        return protocol(self.protocol).with_model(vocab_size=corpus.vocab_size, **self.changes)

    def _train(self, budget: str) -> TrainConfig:
        config = replace(protocol(self.protocol).train, **self.training)
        return (
            replace(config, steps=min(QUICK_STEPS, config.steps)) if budget == "quick" else config
        )


def trained(arm: TrainedLM, corpus: Corpus, seed: int, budget: str, folder: Path) -> CharLM:
    """Return the model that `arm` trains, on the CPU.

    Args:
        arm: protocol, model and training.
        corpus: the text.
        seed: of weights and windows.
        budget: "quick" or "full".
        folder: kept, so that arms that need the same model share it; one that holds it already
            spares the training.
    """
    return trained_with_result(arm, corpus, seed, budget, folder)[0]


def trained_with_result(
    arm: TrainedLM, corpus: Corpus, seed: int, budget: str, folder: Path
) -> tuple[CharLM, TrainResult]:
    """Return the model that `arm` trains, as `trained`, and what its training left."""
    with locked(folder):  # another process that needs the same model waits for it
        model, result = arm.fit(corpus, seed, budget, folder)
    return model.cpu(), result


ROUTE_BLOCKS = 200
"""Blocks from the start of the validation text that `route_metrics` looks at."""


@torch.no_grad()
def route_metrics(model: CharLM, text: Tensor, block: int) -> dict[str, float]:
    """Return how a model uses its tiles, averaged over its routed layers; empty if it has none.

    `route_entropy` is that of the reads' shares over its largest value, `route_active` the share of
    tiles that read anything, `route_information` the mutual information of best tile and current
    character in nats. Where cells are coarse or fine by the token, `address_bits` is the mean
    length of a cell's address.
    """
    layers = model.routed_layers()
    if not layers:
        return {}
    tokens = text[: min(ROUTE_BLOCKS, len(text) // block) * block].view(-1, block)
    rows, routes = [], model.routed(tokens).routes
    for layer, route in zip(layers, routes, strict=True):
        tiles = len(layer.signatures)
        shares = usage(route, tiles)
        active = float((shares > 0).double().mean())
        told = mutual_information(route, tokens, tiles)
        rows.append((normalized_entropy(shares), active, told))
    names = ("route_entropy", "route_active", "route_information")
    means = torch.tensor(rows, dtype=torch.float64).mean(dim=0).tolist()
    found = dict(zip(names, means, strict=True))
    bits = [
        layer.address_bits(route.token)
        for layer, route in zip(layers, routes, strict=True)
        if isinstance(layer, AdaptiveKANFFN) and route.token is not None
    ]
    return found | ({"address_bits": sum(bits) / len(bits)} if bits else {})


def _shuffle(model: CharLM, seed: int) -> None:
    # each tile gets the address of the next in a random circle: no tile keeps its own
    generator = torch.Generator().manual_seed(seed)
    for layer in _tiled(model):
        circle = torch.randperm(layer.tiles, generator=generator)
        order = torch.empty_like(circle)
        order[circle] = circle.roll(1)
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


@dataclass(frozen=True)
class Counted:
    """Count tables of one order and smoothing: nothing is trained, nothing is random."""

    order: int
    smoothing: str
    seeded: bool = False

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return order and smoothing."""
        return {"order": self.order, "smoothing": self.smoothing}

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Count the training text; evaluate in blocks of 64, of 256, and in one uncut pass."""
        began = time.perf_counter()
        tables = CountTables(corpus.train, self.order, corpus.vocab_size)
        seconds = time.perf_counter() - began
        log_probs = table_log_probs(tables, self.order, self.smoothing)
        metrics = {}
        for name, block in (("", 64), ("_block256", 256), ("_uncut", len(corpus.val))):
            score = evaluate(log_probs, corpus.val, block)
            metrics[f"val_nats{name}"] = score.nats
            metrics[f"val_perplexity{name}"] = score.perplexity
        return Outcome(
            seconds=seconds,
            parameters=sum(len(t.count) for t in tables.tables),
            metrics=metrics,
            curve=[],
            device="cpu",
        )
