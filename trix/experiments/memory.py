"""Arms about memories: how many slots are read, and what is left when the past is taken away."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trix.experiments.arm import Arm, Outcome, TrainedLM, trained_with_result
from trix.experiments.cost import MemoryCost
from trix.lab.corpus import Corpus
from trix.lab.evaluate import LogProbs, evaluate, model_log_probs
from trix.lab.recipes import protocol, routed_memory
from trix.memory.controls import StaticMemory
from trix.models.charlm import CharLM, LMState

LOOKED = 200
"""Blocks from the start of the validation text on which slots are counted."""


@dataclass(frozen=True)
class Static:
    """A model whose mixers are `StaticMemory`.

    Attributes:
        learned: whether signatures learn, or stay as they were drawn.
        past: whether the model is judged with the characters before each; without, it is asked
            about every character by itself, at its place in the block.
        options: keywords of the memory.
    """

    learned: bool = True
    past: bool = True
    options: dict[str, Any] = field(default_factory=lambda: {"heads": 4, "bias": True})
    seeded: bool = True

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return what is judged how, and the settings of model and training."""
        own = {"learned": self.learned, "past": self.past, "looked": LOOKED}
        return own | self._arm().config(corpus, budget)

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Train, or find it trained; evaluate on the whole validation text; count slots."""
        arm = self._arm()
        name = f"static-{self.learned}-{seed}-{corpus.sha256[:8]}-{budget}"
        model, result = trained_with_result(arm, corpus, seed, budget, work.parent / name)
        model.eval()
        block = protocol(arm.protocol).block
        log_probs = model_log_probs(model) if self.past else _alone(model)
        score = evaluate(log_probs, corpus.val, block)
        metrics = {"val_nats": score.nats, "val_perplexity": score.perplexity}
        metrics |= slots_used(model, corpus.val, block)
        curve = [[step, loss] for step, loss in result.curve]
        return Outcome(result.seconds, model.parameter_count(), metrics, curve, "cpu")

    def _arm(self) -> TrainedLM:
        changes = {"mixer": "static-memory", "mixer_options": self.options}
        return TrainedLM("seed", changes, start=None if self.learned else _freeze)


@dataclass(frozen=True)
class Gain:
    """What a change of the model is worth: two models, trained alike from the same seed.

    Attributes:
        name: of the model with it, in `models`.
        without: of the one without.
        models: how each is trained. Arms that name the same model share it.
    """

    name: str
    without: str
    models: dict[str, TrainedLM]
    seeded: bool = True

    def __post_init__(self) -> None:
        """Check the names."""
        for name in (self.name, self.without):
            if name not in self.models:
                raise ValueError(f"a model must be one of {sorted(self.models)}, got {name!r}")

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return the settings of both models and their training."""
        return {
            "with": self.models[self.name].config(corpus, budget),
            "without": self.models[self.without].config(corpus, budget),
        }

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Train both, or find them trained; evaluate them on the whole validation text.

        `val_gain` is what the loss falls by. The other metrics are the model's with the change, and
        with `_without` those of the other.
        """
        found = {}
        for name in (self.name, self.without):
            arm = self.models[name]
            folder = work.parent / f"part-{name}-{seed}-{corpus.sha256[:8]}-{budget}"
            model, result = trained_with_result(arm, corpus, seed, budget, folder)
            block = protocol(arm.protocol).block
            score = evaluate(model_log_probs(model.eval()), corpus.val, block)
            found[name] = model.parameter_count(), result, score
        parameters, result, score = found[self.name]
        fewer, _, other = found[self.without]
        metrics = {
            "val_gain": other.nats - score.nats,
            "val_nats": score.nats,
            "val_perplexity": score.perplexity,
            "val_nats_without": other.nats,
            "parameters_without": float(fewer),
        }
        curve = [[step, loss] for step, loss in result.curve]
        return Outcome(result.seconds, parameters, metrics, curve, "cpu")


def _freeze(model: CharLM) -> None:
    for memory in _memories(model):
        memory.rows.raw.requires_grad_(False)


def _memories(model: CharLM) -> list[StaticMemory]:
    return [module for module in model.modules() if isinstance(module, StaticMemory)]


def _alone(model: CharLM) -> LogProbs:
    # each character is a text of its own, at the position where it stood
    def log_probs(tokens: Tensor) -> Tensor:
        nothing: tuple[Any, ...] = (None,) * len(model.blocks)
        logits = [
            model.routed(tokens[:, t : t + 1], LMState(t, nothing)).logits
            for t in range(tokens.shape[1])
        ]
        return torch.log_softmax(torch.cat(logits, dim=1).float(), dim=-1)

    return log_probs


@torch.no_grad()
def slots_used(model: CharLM, text: Tensor, block: int) -> dict[str, float]:
    """Return how many of a head's slots any token reads: the mean over heads and layers, the least.

    Args:
        model: with `StaticMemory` for its mixers.
        text: int64 `[length]`, at least a block.
        block: characters that are read together.
    """
    rows = text[: min(LOOKED, len(text) // block) * block].view(-1, block)
    seen: list[Tensor] = []

    def look(memory: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        if isinstance(memory, StaticMemory):
            seen.append(memory.addresses(arguments[0]))

    hooks = [memory.register_forward_pre_hook(look) for memory in _memories(model)]
    model(rows)
    for hook in hooks:
        hook.remove()
    used = torch.stack([(share > 0).any(dim=2).any(dim=0).sum(dim=-1) for share in seen]).double()
    return {"slots_used": float(used.mean()), "slots_used_least": float(used.min())}


def _routed(protocol: str, slots: int) -> TrainedLM:
    return TrainedLM(protocol, routed_memory(protocol, slots))


def _part(mixer: str, hidden: int, positions: int = 64, **options: Any) -> TrainedLM:
    # as many hidden units as leave no model more numbers than that with attention
    changes = {"mixer": mixer, "mixer_options": options, "positions": positions}
    return TrainedLM("probe", {**changes, "ffn_options": {"hidden": hidden}})


_PARTS: dict[str, TrainedLM] = {
    # the notes' memory, and with one thing more
    "notes": _part("static-memory", 576, slots=64),
    "position": _part("convolved-static", 574, slots=64),
    "soft": _part("static-memory", 576, slots=64, top_k=64),
    "dynamic": _part("routed-memory", 509, slots=64, top_k=1, parts=["decay"]),
    # the memory with all of it, and with one thing less; order is known without positions
    "all": _part("routed-memory", 451, 0, slots=64),
    "no-position": _part("routed-memory", 453, 0, slots=64, parts=["decay", "gate"]),
    "no-soft": _part("routed-memory", 451, 0, slots=64, top_k=1),
    "no-dynamic": _part("convolved-static", 582, 0, slots=64, top_k=64),
    "no-decay": _part("routed-memory", 453, 0, slots=64, parts=["convolution", "gate"]),
    "no-gate": _part("routed-memory", 515, 0, slots=64, parts=["convolution", "decay"]),
    "hybrid": _part("hybrid", 484, 0, slots=64, window=32),  # all heads' states of one size
    # attention that begins as wide as the memory, without the convolution and with it
    "attention": _part("convolved-attention", 511, width=1),
    "attention-with-convolution": _part("convolved-attention", 510),
}


def _gain(name: str, without: str) -> Gain:
    return Gain(name, without, _PARTS)


MEMORY: dict[str, dict[str, Arm]] = {
    "memory-seed": {
        "static": Static(),
        "static-no-past": Static(past=False),
        "random-signatures": Static(learned=False),
        "routed": _routed("seed", 64),
        # fewer numbers than attention by far, so that a step takes no longer either
        "routed-16": _routed("seed", 16),
    },
    "memory-nano": {
        "routed": _routed("nano", 64),
        "attention-convolution": TrainedLM("nano", {"mixer": "convolved-attention"}),
        "routed-16": _routed("nano", 16),
    },
    "memory-cost": {
        "routed": MemoryCost("routed-memory", {"slots": 64}),
        "attention": MemoryCost("attention"),
        "routed-16": MemoryCost("routed-memory", {"slots": 16}),
        "routed-256": MemoryCost("routed-memory", {"slots": 256}),
    },
    "memory-parts": {
        # alone, each added to the notes' memory; all of them at once
        "position": _gain("position", "notes"),
        "soft": _gain("soft", "notes"),
        "dynamic": _gain("dynamic", "notes"),
        "all": _gain("all", "notes"),
        # the same convolution added to attention
        "attention-convolution": _gain("attention-with-convolution", "attention"),
        # half of the heads look at the latest tokens instead
        "hybrid": _gain("hybrid", "all"),
        # each taken away from the whole
        "all-but-position": _gain("all", "no-position"),
        "all-but-soft": _gain("all", "no-soft"),
        "all-but-dynamic": _gain("all", "no-dynamic"),
        "all-but-decay": _gain("all", "no-decay"),
        "all-but-gate": _gain("all", "no-gate"),
    },
}
