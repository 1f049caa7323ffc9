"""Arms about look-it-up models: how they are trained, and everything that is measured on them."""

import dataclasses
import math
import resource
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trix.experiments.arm import Arm, Run, shortened, threads, trained
from trix.lab.corpus import Corpus
from trix.lab.evaluate import evaluate, evaluate_dynamic, model_log_probs
from trix.lab.optimize import TrainConfig
from trix.lab.recipes import BLOCK, PRESETS, preset, protocol
from trix.lab.train import train
from trix.models.charlm import CharLM
from trix.models.generate import characters
from trix.models.lookup import BlockDraw, LookupConfig, LookupLM, Memories, count
from trix.models.storage import pack

_TIMED = 200  # characters that are generated to time one


@dataclass(frozen=True)
class LookupTraining:
    """A preset of a look-it-up model, but for `changes` of its `LookupConfig` and `TrainConfig`."""

    preset: str
    changes: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    without: str | None = None  # a table that is taken away before training, as "order 3"
    block: int = BLOCK
    shared: str = ""

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        model = dataclasses.asdict(self._model(corpus))
        for newer in ("words", "echoes"):  # as records say it that are older
            if not model[newer]:
                del model[newer]
        training = dataclasses.asdict(self.train_config(budget))
        train = {k: v for k, v in training.items() if k != "muon" or v is not None}
        return {"model": model, "train": train, "without": self.without, "block": self.block}

    def build(self, corpus: Corpus, seed: int) -> LookupLM:
        """Return the model as training finds it, with everything counted, on the CPU."""
        memories = count(config := self._model(corpus), corpus.train, corpus.alphabet)
        torch.manual_seed(seed)
        return LookupLM(config, *memories)

    def make(self, run: Run, folder: Path) -> None:
        """Count, then train, going on from what `folder` holds; `seconds_counting` is noted."""
        began = time.perf_counter()
        config, corpus = self._model(run.corpus), run.corpus
        memories = count(config, corpus.train, corpus.alphabet)
        run.metrics["seconds_counting"] = time.perf_counter() - began
        torch.manual_seed(run.seed)
        model = LookupLM(config, *memories.to("cuda" if torch.cuda.is_available() else "cpu"))
        if self.without is not None:
            model.drop(self.without)
        draw = BlockDraw(corpus.train, config.folds)
        run.train(model, draw, self.train_config(run.budget), folder)

    def _model(self, corpus: Corpus) -> LookupConfig:
        config = replace(preset(self.preset).model, **self.changes)
        network = config.network and replace(config.network, vocab_size=corpus.vocab_size)
        return replace(config, vocab_size=corpus.vocab_size, network=network)

    def train_config(self, budget: str) -> TrainConfig:
        return shortened(replace(preset(self.preset).train, **self.training), budget)


def training_cost(run: Run) -> dict[str, float]:
    """Return seconds, characters read and peak memory, with the yardstick of `attention_step`."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    config = run.recipe.train_config(run.budget)
    seconds = run.metrics["seconds_counting"] + (run.result.seconds if run.result else math.nan)
    found = {"seconds_in_all": seconds, "seconds_attention_step": attention_step()}
    tokens = float(config.steps * config.batch * config.context)
    return {**found, "tokens": tokens, "peak_megabytes": peak}


def predictions(run: Run, closely: bool) -> dict[str, float]:
    """Return the loss, the gate's weights, the bytes, and the time of a character, on the CPU.

    `closely`, also the loss with each table gone, and with tables that go on counting what is read.
    """
    model, text, score = run.model, run.corpus.val.to(run.device), run.score()
    found = {"val_nats": score.nats, "val_perplexity": score.perplexity, **weights(model, text)}
    if closely:
        found |= forbidden_losses(model, text)
    model.cpu()
    Memories(model.memory, model.words).to("cpu")
    found |= sizes(model)
    found["us_per_character"] = microseconds(model, run.corpus.val)
    if closely:
        found["val_nats_dynamic"] = evaluate_dynamic(model, run.corpus.val, run.recipe.block).nats
    return found


@torch.no_grad()
def weights(model: LookupLM, text: Tensor, looked: int = 40) -> dict[str, float]:
    """Return the mean weight of each place of a gate over a text's first blocks."""
    rows = text[: min(looked, len(text) // BLOCK) * BLOCK].view(-1, BLOCK)
    route, labels = model.routed(rows).gate, [f"weight_{short(p)}" for p in model.config.places]
    weight = route.weight.flatten()
    total = weight.new_zeros(len(labels)).index_add(0, route.index.flatten(), weight)
    return dict(zip(labels, (total / rows.numel()).tolist(), strict=True))


def forbidden_losses(model: LookupLM, text: Tensor) -> dict[str, float]:
    """Return the loss when one table is gone, or the network; nothing is trained again."""
    found = {}
    for name in model.config.tables:
        model.drop(name)
        found[short(name)] = evaluate(model_log_probs(model), text, BLOCK).nats
        model.restore(name)
    if model.network is not None:
        model.gate.forbid(place := len(model.config.tables))
        found["network"] = evaluate(model_log_probs(model), text, BLOCK).nats
        model.gate.allow(place)
    return {f"val_nats_without_{name}": nats for name, nats in found.items()}


def short(table: str) -> str:
    """Return a table's name in the names of metrics: an order's number, or the name itself."""
    return table.removeprefix("order ")


def sizes(model: LookupLM) -> dict[str, float]:
    """Return the bytes of a model on disk: `bytes` in all, of the tables, and of each table."""
    own = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    by_table = {short(name): 0.0 for name in model.config.tables}
    for name, tensor in pack(model).items():
        if (table := name.split(".")[1]) in by_table:
            by_table[table] += tensor.numel() * tensor.element_size()
    each = {f"bytes_order_{name}": size for name, size in by_table.items()}
    return {"bytes": own + sum(each.values()), "bytes_tables": sum(each.values()), **each}


def microseconds(model: nn.Module, text: Tensor) -> float:
    """Return the median microseconds that one more character takes, on one thread."""
    spent = []
    with threads(1):
        more = characters(model, text[None, :64], generator=torch.Generator().manual_seed(0))
        for _ in range(_TIMED):
            began = time.perf_counter()
            next(more)
            spent.append(time.perf_counter() - began)
    return sorted(spent)[len(spent) // 2] * 1e6


def attention_step() -> float:
    """Return the seconds of one training step of `nano`'s attention model, on this machine, now."""
    nano = protocol("nano")
    model, steps, best = CharLM(nano.model), 8, math.inf
    text = torch.randint(nano.model.vocab_size, (4096,), generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        began = time.perf_counter()
        train(model, text, replace(nano.train, steps=steps), progress=False)
        best = min(best, (time.perf_counter() - began) / steps)
    return best


_TABLES = PRESETS["tables"].model.tables
_SILENT: dict[str, Any] = {"echoes": False}
_ORDERS: dict[str, Any] = {"words": False, "echoes": False}
_ADAMW: dict[str, Any] = {"muon": None}
_HALF = {"steps": PRESETS["small"].train.steps // 2}  # so that 6 arms times 5 seeds are quick
_BEFORE = {"batch": 16, "context": 128, **_ADAMW}  # `small`, when it knew n-grams alone


def _network(**changes: Any) -> dict[str, Any]:
    network = PRESETS["small"].model.network
    return {} if network is None else {"network": replace(network, **changes)}


def _arm(preset: str, *settings: Any, closely: bool = False, **options: Any) -> Arm:
    recipe = LookupTraining(preset, *settings, **options)
    measures = (training_cost, partial(predictions, closely=closely))
    return Arm(recipe, measures, {"closely": closely}, timed=True)


def _alone() -> Arm:
    # the network of `small` by itself, trained as it is there, judged in the same blocks
    small = PRESETS["small"]
    network = vars(small.model.network) if small.model.network else {}
    changes = {k: v for k, v in network.items() if k != "vocab_size"}
    return trained("lookup-network", changes, {**vars(small.train), **_HALF})


LOOKUP: dict[str, dict[str, Arm]] = {
    "lookup-tables": {
        "routed": _arm("tables", closely=True),
        "fixed-gate": _arm("tables", changes={"gate": "fixed"}),
        "nothing-left-out": _arm("tables", changes={"folds": 0}),
        "no-echoes": _arm("tables", changes=_SILENT),
        "orders-alone": _arm("tables", changes=_ORDERS),
        "adamw": _arm("tables", training=_ADAMW),
        **{f"without-{short(name)}": _arm("tables", without=name) for name in _TABLES},
    },
    # tables and a gate by themselves, in blocks as short as the attention model's
    "lookup-model": {
        "lookup": _arm("tables", block=64),
        "adamw": _arm("tables", training=_ADAMW, block=64),
    },
    "lookup-small": {
        "three-minutes": _arm("small", closely=True),
        "no-echoes": _arm("small", _SILENT),
    },
    # what is left when a part is missing, after half as many steps
    "lookup-parts": {
        "all": _arm("small", training=_HALF),
        "adamw": _arm("small", training=_HALF | _ADAMW),
        "fixed-gate": _arm("small", {"gate": "fixed"}, _HALF),
        "nothing-left-out": _arm("small", {"folds": 0}, _HALF),
        "no-routed-memory": _arm("small", _network(mixer="none", mixer_options={}), _HALF),
        "no-tables": _alone(),
    },
    # n-grams alone: more passes over the same text with more dropout, and more parameters, on a GPU
    "lookup-long": {
        "ten-minutes": _arm("small", _network(dropout=0.2) | _ORDERS, _BEFORE | {"steps": 2200})
    },
    "lookup-base": {"base": _arm("base", _ORDERS, _ADAMW)},
}
