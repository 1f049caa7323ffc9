"""Arms about look-it-up models: how they are trained, and everything that is measured on them."""

import dataclasses
import math
import resource
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trix.experiments.arm import QUICK_STEPS, Arm, Outcome, TrainedLM
from trix.lab.corpus import Corpus
from trix.lab.evaluate import evaluate, evaluate_dynamic, model_log_probs
from trix.lab.optimize import TrainConfig
from trix.lab.recipes import BLOCK, PRESETS, preset, protocol
from trix.lab.train import TrainResult, train
from trix.models.charlm import CharLM
from trix.models.generate import characters
from trix.models.lookup import BlockDraw, LookupConfig, LookupLM, Memories, count
from trix.models.storage import pack

_TIMED = 200
"""Characters that are generated to time one."""


@dataclass(frozen=True)
class LookupArm:
    """A look-it-up model: tables, a gate, and a network where the preset has one.

    Attributes:
        preset: what is trained, a name in `PRESETS`.
        changes: to the model's `LookupConfig`.
        training: what differs in the training, see `TrainConfig`.
        without: a table that is taken away before training, as "order 3"; None leaves all.
        closely: whether the loss is measured as well with each table gone, and with tables that go
            on counting the text that they have read.
        block: characters of a block of the evaluation.
        seeded: whether the run depends on a seed.
    """

    preset: str
    changes: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    without: str | None = None
    closely: bool = False
    block: int = BLOCK
    seeded: bool = True

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return the settings of model and training."""
        model = dataclasses.asdict(self._model(corpus))
        for newer in ("words", "echoes"):  # as records say it that are older
            if not model[newer]:
                del model[newer]
        training = dataclasses.asdict(self.training_config(budget))
        return {
            "model": model,
            "train": {k: v for k, v in training.items() if k != "muon" or v is not None},
            "without": self.without,
            "closely": self.closely,
            "block": self.block,
        }

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Count and train; evaluate on the whole validation text, in blocks and by order."""
        baseline = attention_step()
        model, result, counting = self.fit(corpus, seed, budget, work)
        device = next(model.parameters()).device
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        text = corpus.val.to(device)
        score = evaluate(model_log_probs(model), text, self.block)
        train_config = self.training_config(budget)
        metrics = {
            "val_nats": score.nats,
            "val_perplexity": score.perplexity,
            "seconds_counting": counting,
            "seconds_in_all": counting + result.seconds,
            "seconds_attention_step": baseline,
            "tokens": float(train_config.steps * train_config.batch * train_config.context),
            "peak_megabytes": peak,
            **weights(model, text),
        }
        if self.closely:
            metrics |= forbidden_losses(model, text)
        model = model.cpu()
        Memories(model.memory, model.words).to("cpu")
        metrics |= sizes(model)
        metrics["us_per_character"] = microseconds(model, corpus.val)
        if self.closely:
            metrics["val_nats_dynamic"] = evaluate_dynamic(model, corpus.val, self.block).nats
        curve = [[step, loss] for step, loss in result.curve]
        return Outcome(result.seconds, model.parameter_count(), metrics, curve, device.type)

    def fit(
        self, corpus: Corpus, seed: int, budget: str, folder: Path
    ) -> tuple[LookupLM, TrainResult, float]:
        """Return the trained model, what its training left, and the seconds of counting."""
        began = time.perf_counter()
        config = self._model(corpus)
        memories = count(config, corpus.train, corpus.alphabet)
        counting = time.perf_counter() - began
        torch.manual_seed(seed)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = LookupLM(config, *memories.to(device))
        if self.without is not None:
            model.drop(self.without)
        draw = BlockDraw(corpus.train, config.folds)
        result = train(model.to(device), draw, self.training_config(budget), seed, folder)
        return model, result, counting

    def _model(self, corpus: Corpus) -> LookupConfig:
        config = replace(preset(self.preset).model, **self.changes)
        network = config.network
        if network is not None:
            network = replace(network, vocab_size=corpus.vocab_size)
        return replace(config, vocab_size=corpus.vocab_size, network=network)

    def training_config(self, budget: str) -> TrainConfig:
        """Return the settings of the training."""
        config = replace(preset(self.preset).train, **self.training)
        return (
            replace(config, steps=min(QUICK_STEPS, config.steps)) if budget == "quick" else config
        )


@torch.no_grad()
def weights(model: LookupLM, text: Tensor, looked: int = 40) -> dict[str, float]:
    """Return the mean weight of each place of a gate: `weight_<order>`, `weight_<name>`.

    Args:
        model: in evaluation mode.
        text: int64 `[length]`, at least a block.
        looked: blocks from the start that are averaged over.
    """
    rows = text[: min(looked, len(text) // BLOCK) * BLOCK].view(-1, BLOCK)
    route = model.routed(rows).gate
    names = model.config.places
    total = route.weight.new_zeros(len(names)).index_add(
        0, route.index.flatten(), route.weight.flatten()
    )
    shares = (total / rows.numel()).tolist()
    return {f"weight_{short(name)}": share for name, share in zip(names, shares, strict=True)}


def forbidden_losses(model: LookupLM, text: Tensor) -> dict[str, float]:
    """Return the loss when one table is gone, or the gate may not ask the network.

    `val_nats_without_<order>`, `val_nats_without_<address>` and `val_nats_without_network`. Nothing
    is trained again.
    """
    found = {}
    for name in model.config.tables:
        model.drop(name)
        found[short(name)] = evaluate(model_log_probs(model), text, BLOCK).nats
        model.restore(name)
    if model.network is not None:
        place = len(model.config.tables)
        model.gate.forbid(place)
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
    in_all = sum(by_table.values())
    each = {f"bytes_order_{name}": size for name, size in by_table.items()}
    return {"bytes": own + in_all, "bytes_tables": in_all, **each}


def microseconds(model: nn.Module, text: Tensor) -> float:
    """Return the median microseconds that one more character takes, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        more = characters(model, text[None, :64], generator=torch.Generator().manual_seed(0))
        spent = []
        for _ in range(_TIMED):
            began = time.perf_counter()
            next(more)
            spent.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return sorted(spent)[len(spent) // 2] * 1e6


def attention_step() -> float:
    """Return the seconds of one training step of `nano`'s attention model, on this machine, now."""
    nano = protocol("nano")
    model = CharLM(nano.model)
    text = torch.randint(nano.model.vocab_size, (4096,), generator=torch.Generator().manual_seed(0))
    steps = 8
    best = math.inf
    for _ in range(2):
        began = time.perf_counter()
        train(model, text, replace(nano.train, steps=steps), progress=False)
        best = min(best, (time.perf_counter() - began) / steps)
    return best


_TABLES = PRESETS["tables"].model.tables
_SILENT: dict[str, Any] = {"echoes": False}
_ORDERS: dict[str, Any] = {"words": False, "echoes": False}
_ADAMW: dict[str, Any] = {"muon": None}
# so that six arms times five seeds are quick
_HALF = {"steps": PRESETS["small"].train.steps // 2}
# as `small` was trained when it knew n-grams alone
_BEFORE: dict[str, Any] = {"batch": 16, "context": 128} | _ADAMW


def _network(**changes: Any) -> dict[str, Any]:
    network = PRESETS["small"].model.network
    return {} if network is None else {"network": replace(network, **changes)}


def _alone() -> TrainedLM:
    # the network of `small` by itself, trained as it is there, judged in the same blocks
    small = PRESETS["small"]
    network = vars(small.model.network) if small.model.network else {}
    changes = {k: v for k, v in network.items() if k != "vocab_size"}
    return TrainedLM("lookup-network", changes, {**vars(small.train), **_HALF})


LOOKUP: dict[str, dict[str, Arm]] = {
    "lookup-tables": {
        "routed": LookupArm("tables", closely=True),
        "fixed-gate": LookupArm("tables", changes={"gate": "fixed"}),
        "nothing-left-out": LookupArm("tables", changes={"folds": 0}),
        "no-echoes": LookupArm("tables", changes=_SILENT),
        "orders-alone": LookupArm("tables", changes=_ORDERS),
        "adamw": LookupArm("tables", training=_ADAMW),
        **{f"without-{short(name)}": LookupArm("tables", without=name) for name in _TABLES},
    },
    # tables and a gate by themselves, in blocks as short as the attention model's
    "lookup-model": {
        "lookup": LookupArm("tables", block=64),
        "adamw": LookupArm("tables", training=_ADAMW, block=64),
    },
    "lookup-small": {
        "three-minutes": LookupArm("small", closely=True),
        "no-echoes": LookupArm("small", _SILENT),
    },
    # what is left when a part is missing, after half as many steps
    "lookup-parts": {
        "all": LookupArm("small", training=_HALF),
        "adamw": LookupArm("small", training=_HALF | _ADAMW),
        "fixed-gate": LookupArm("small", {"gate": "fixed"}, _HALF),
        "nothing-left-out": LookupArm("small", {"folds": 0}, _HALF),
        "no-routed-memory": LookupArm("small", _network(mixer="none", mixer_options={}), _HALF),
        "no-tables": _alone(),
    },
    # n-grams alone: more passes over the same text with more dropout, and more numbers, on a GPU
    "lookup-long": {
        "ten-minutes": LookupArm(
            "small", _network(dropout=0.2) | _ORDERS, _BEFORE | {"steps": 2200}
        )
    },
    "lookup-base": {"base": LookupArm("base", _ORDERS, _ADAMW)},
}
