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
    """A `CharLM` trained on texts of a task, never twice the same; the corpus plays no part.

    It has two layers and no learned positions, unless `model` says otherwise. Texts of training
    have from `shortest` to `lengths[0]` tokens; all of `lengths` are judged.
    """

    task: Task
    lengths: tuple[int, ...]
    shortest: int
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    shared: str = ""
    block: int = 0

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        settings = dataclasses.asdict(self._train(budget))
        return {
            "task": dataclasses.asdict(self.task),
            "lengths": self.lengths,
            "shortest": self.shortest,
            "model": dataclasses.asdict(self._model()),
            "train": {k: v for k, v in settings.items() if v is not None},
            "judged": JUDGED,
        }

    def make(self, run: Run, folder: Path) -> None:
        torch.manual_seed(run.seed)
        draw = Varied(self.task, self.shortest)
        run.train(CharLM(self._model()), draw, self._train(run.budget), folder)

    def _model(self) -> LMConfig:
        return LMConfig(vocab_size=self.task.vocab, **{"layers": 2, "positions": 0, **self.model})

    def _train(self, budget: str) -> TrainConfig:
        return shortened(TrainConfig(context=self.lengths[0], **self.training), budget)


def judge_recall(run: Run) -> dict[str, float]:
    """Judge a model on texts of its task that it was not trained on.

    The metrics are, by length, `accuracy_`, the share of questions that are answered right, and
    `state_bytes_`, what the model keeps from token to token at the end of one text.
    """
    found: dict[str, float] = {}
    for length in run.recipe.lengths:
        right = accuracy(run.model, run.recipe.task, length, JUDGED, _JUDGE_SEED + run.seed)
        found[f"accuracy_{length}"] = right
        found[f"state_bytes_{length}"] = float(state_bytes(run.model, length))
    return found


@torch.no_grad()
def accuracy(model: CharLM, task: Task, length: int, texts: int, seed: int) -> float:
    """Return the share of questions whose likeliest answer is the right one."""
    device = next(model.parameters()).device
    tokens, targets = task(texts, length, torch.Generator().manual_seed(seed))
    training = model.training
    model.eval()
    # a few thousand tokens at a time: the memory it takes does not grow with the texts
    parts = tokens.to(device).split(max(1, 2**13 // length))
    said = torch.cat([model(part).argmax(dim=-1).cpu() for part in parts])
    model.train(training)
    asked = targets != NOTHING
    return float((said == targets)[asked].double().mean())


@torch.no_grad()
def state_bytes(model: CharLM, length: int) -> int:
    """Return the bytes of what a model keeps after one text, a number taking four."""
    tokens = torch.zeros(1, length, dtype=torch.int64, device=next(model.parameters()).device)
    mixers = model.routed(tokens).state.mixers
    return 4 * sum(part.numel() for part in tree_leaves(mixers) if isinstance(part, Tensor))


# What knows the order is the short convolution, which attention has as well; the window knows
# distances. One arm of attention has learned positions besides, of which those past the training
# length are never trained. As in zoology, and in Mamba's induction heads, models are two mixers
# without feed-forwards.
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
        **{
            f"copying-{name}": _copying(name)
            for name in (*_THREE, "routed-adding", "attention-positions")
        },
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
