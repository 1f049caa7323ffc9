"""Arms about memories: how many slots are read, and what is left when the past is taken away."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trix.experiments.arm import Arm, Run, Training, loss, trained
from trix.lab.evaluate import LogProbs
from trix.lab.recipes import routed_memory
from trix.memory.controls import StaticMemory
from trix.models.charlm import CharLM, LMState

LOOKED = 200  # blocks from the start of the validation text on which slots are counted


def static_memory(run: Run, past: bool) -> dict[str, float]:
    """Judge a model of `StaticMemory`, with its past or without, and count the slots it reads."""
    score = run.score(None if past else _alone(run.model))
    found = {"val_nats": score.nats, "val_perplexity": score.perplexity}
    return found | slots_used(run.model, run.corpus.val, run.recipe.block)


def _static(learned: bool = True, past: bool = True) -> Arm:
    changes = {"mixer": "static-memory", "mixer_options": {"heads": 4, "bias": True}}
    start = None if learned else _freeze
    recipe = Training("seed", changes, start=start, shared=f"static-{learned}")
    settings = {"learned": learned, "past": past, "looked": LOOKED}
    return Arm(recipe, (partial(static_memory, past=past),), settings)


def _freeze(model: CharLM) -> None:
    for memory in _memories(model):
        memory.rows.raw.requires_grad_(False)


def _memories(model: CharLM) -> list[StaticMemory]:
    return [module for module in model.modules() if isinstance(module, StaticMemory)]


def _alone(model: CharLM) -> LogProbs:
    # each character is a text of its own, at the position where it stood
    def log_probs(tokens: Tensor) -> Tensor:
        nothing: tuple[Any, ...] = (None,) * len(model.blocks)
        states = (LMState(t, nothing) for t in range(tokens.shape[1]))
        logits = [model.routed(tokens[:, s.seen, None], s).logits for s in states]
        return torch.log_softmax(torch.cat(logits, dim=1).float(), dim=-1)

    return log_probs


@torch.no_grad()
def slots_used(model: CharLM, text: Tensor, block: int) -> dict[str, float]:
    """Return how many of a head's slots any token reads: mean and least of heads and layers."""
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


def gain(run: Run, without: Training) -> dict[str, float]:
    """Return what the loss falls by with a change of the model, and both models' metrics."""
    found, other = loss(run), run.beside(without)
    nats = other.score().nats
    found = {"val_gain": nats - found["val_nats"], **found}
    return {**found, "val_nats_without": nats, "parameters_without": float(other.parameters)}


def _gain(name: str, without: str) -> Arm:
    return Arm(_PARTS[name], (partial(gain, without=_PARTS[without]),), against=_PARTS[without])


def _part(mixer: str, hidden: int, positions: int = 64, **options: Any) -> dict[str, Any]:
    # as many hidden units as leave no model more parameters than that with attention
    mixing = {"mixer": mixer, "mixer_options": options}
    return {**mixing, "positions": positions, "ffn_options": {"hidden": hidden}}


_CHANGES: dict[str, dict[str, Any]] = {
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
# arms that compare with the same model share it
_PARTS = {
    name: Training("probe", changes, shared=f"part-{name}") for name, changes in _CHANGES.items()
}


def _routed(protocol: str, slots: int) -> Arm:
    return trained(protocol, routed_memory(protocol, slots))


MEMORY: dict[str, dict[str, Arm]] = {
    "memory-seed": {
        "static": _static(),
        "static-no-past": _static(past=False),
        "random-signatures": _static(learned=False),
        "routed": _routed("seed", 64),
        # fewer parameters than attention by far, so that a step takes no longer either
        "routed-16": _routed("seed", 16),
    },
    "memory-nano": {
        "routed": _routed("nano", 64),
        "attention-convolution": trained("nano", {"mixer": "convolved-attention"}),
        "routed-16": _routed("nano", 16),
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
