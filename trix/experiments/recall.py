"""Arms about recall: a model is trained on a task's texts and asked for the answers in others."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from trix.experiments.arm import Arm, Run, shortened
from trix.lab.corpus import Corpus
from trix.lab.optimize import TrainConfig
from trix.lab.tasks import NOTHING, Task, Varied
from trix.models.charlm import CharLM, LMConfig

JUDGED = 1000  # texts that a trained model is judged on, at each length
_JUDGE_SEED = 2**40  # far from the seeds of training


@dataclass(frozen=True)
class TaskTraining:
    """A `CharLM` trained on texts of a task, never twice the same; the corpus plays no part."""

    task: Task
    lengths: tuple[int, ...]  # of the texts that are judged; the first is the longest of training
    shortest: int  # text of training
    model: dict[str, Any] = field(default_factory=dict)  # two layers, no positions, if it is silent
    training: dict[str, Any] = field(default_factory=dict)
    shared: str = ""
    block: int = 0

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        settings = dataclasses.asdict(self._train(budget))
        train = {k: v for k, v in settings.items() if v is not None}
        texts = {"task": dataclasses.asdict(self.task), "lengths": self.lengths}
        made = {"model": dataclasses.asdict(self._model()), "train": train, "judged": JUDGED}
        return {**texts, "shortest": self.shortest, **made}

    def make(self, run: Run, folder: Path) -> None:
        torch.manual_seed(run.seed)
        draw = Varied(self.task, self.shortest)
        run.train(CharLM(self._model()), draw, self._train(run.budget), folder)

    def _model(self) -> LMConfig:
        return LMConfig(vocab_size=self.task.vocab, **{"layers": 2, "positions": 0, **self.model})

    def _train(self, budget: str) -> TrainConfig:
        return shortened(TrainConfig(context=self.lengths[0], **self.training), budget)


def judge_recall(run: Run) -> dict[str, float]:
    """Return `accuracy` and `state_bytes` by length, on texts that the model did not train on."""
    found: dict[str, float] = {}
    for length in run.recipe.lengths:
        right = accuracy(run.model, run.recipe.task, length, JUDGED, _JUDGE_SEED + run.seed)
        kept = float(state_bytes(run.model, length))
        found |= {f"accuracy_{length}": right, f"state_bytes_{length}": kept}
    return found


@torch.no_grad()
def accuracy(model: CharLM, task: Task, length: int, texts: int, seed: int) -> float:
    """Return the share of questions whose likeliest answer is the right one."""
    device, training = next(model.parameters()).device, model.training
    tokens, targets = task(texts, length, torch.Generator().manual_seed(seed))
    model.eval()
    # a few thousand tokens at a time: the memory it takes does not grow with the texts
    parts = tokens.to(device).split(max(1, 2**13 // length))
    said = torch.cat([model(part).argmax(dim=-1).cpu() for part in parts])
    model.train(training)
    return float((said == targets)[targets != NOTHING].double().mean())


@torch.no_grad()
def state_bytes(model: CharLM, length: int) -> int:
    """Return the bytes of what a model keeps after one text, a number taking four."""
    tokens = torch.zeros(1, length, dtype=torch.int64, device=next(model.parameters()).device)
    mixers = model.routed(tokens).state.mixers
    return 4 * sum(part.numel() for part in tree_leaves(mixers) if isinstance(part, Tensor))


# The short convolution, which attention has as well, knows the order; the window knows distances.
# Learned positions past the training length are never trained. As in zoology, and in Mamba's
# induction heads, models are two mixers without feed-forwards.
MIXERS: dict[str, dict[str, Any]] = {
    "attention": {"mixer": "convolved-attention"},
    "attention-positions": {"mixer": "convolved-attention", "positions": 256},
    "window": {"mixer": "window-attention", "mixer_options": {"window": 32}},
    "routed": {"mixer": "routed-memory", "mixer_options": {"slots": 64}},
    "routed-16": {"mixer": "routed-memory", "mixer_options": {"slots": 16}},
    "routed-4": {"mixer": "routed-memory", "mixer_options": {"slots": 4}},
    # its tokens add to what their address holds; where the others have it, the delta rule replaces
    "routed-adding": {"mixer": "routed-memory", "mixer_options": {"slots": 64}},
}


def _model(name: str, dim: int, heads: int, *parts: str) -> dict[str, Any]:
    options = {**MIXERS[name].get("mixer_options", {}), "heads": heads}
    if MIXERS[name]["mixer"] == "routed-memory":
        options["parts"] = tuple(p for p in parts if (name, p) != ("routed-adding", "delta"))
    return {"layers": 2, "ffn": "none", "dim": dim, **MIXERS[name], "mixer_options": options}


def _training(steps: int, batch: int, lr: float = 1e-2) -> dict[str, Any]:
    # decay would pull addresses back to softness
    return {"steps": steps, "batch": batch, "lr": lr, "weight_decay": 0.0}


def _mqar(name: str) -> TaskTraining:
    model = _model(name, 128, 4, "convolution", "gate", "delta")  # nothing need be forgotten here
    return TaskTraining(Task("mqar", 256, {"pairs": 4}), (64,), 16, model, _training(1000, 16))


def _large(name: str, length: int, pairs: int) -> TaskTraining:
    model = _model(name, 128, 4, "convolution", "gate", "delta")
    task = Task("mqar", 8192, {"pairs": pairs})
    return TaskTraining(task, (length,), 4 * pairs, model, _training(20_000, 64, lr=3e-3))


def _induction(name: str) -> TaskTraining:
    model = _model(name, 64, 2, "convolution", "decay", "gate")
    return TaskTraining(Task("induction", 16), (64, 256), 8, model, _training(300, 32))


def _copying(name: str) -> TaskTraining:
    model = _model(name, 64, 2, "convolution", "decay", "gate", "delta")
    task = Task("selective-copying", 16, {"kept": 4})
    return TaskTraining(task, (64, 256), 8, model, _training(1200, 32))


_THREE = ("attention", "window", "routed")
_RECIPES = {
    "recall": {
        # learned positions are of use only where lengths differ
        **{f"mqar-{name}": _mqar(name) for name in MIXERS if name != "attention-positions"},
        **{f"induction-{name}": _induction(name) for name in _THREE},
        **{f"copying-{n}": _copying(n) for n in (*_THREE, "routed-adding", "attention-positions")},
    },
    "recall-large": {
        f"mqar-{length}-{name}": _large(name, length, pairs)
        for length, pairs in ((64, 4), (128, 8), (256, 16))
        for name in ("attention", "routed")
    },
}

RECALL: dict[str, dict[str, Arm]] = {
    experiment: {name: Arm(recipe, (judge_recall,)) for name, recipe in recipes.items()}
    for experiment, recipes in _RECIPES.items()
}
