"""The experiments about memories that stand in for attention."""

from typing import Any

from trix.lab.arms import Arm, TrainedLM
from trix.lab.memory_arms import Gain, Static
from trix.lab.memory_cost import MemoryCost


def _routed(protocol: str, slots: int, **ffn: Any) -> TrainedLM:
    # hidden units are given up until the model has no more numbers than that with attention
    options = {"mixer": "routed-memory", "mixer_options": {"slots": slots}, "positions": 0}
    return TrainedLM(protocol, {**options, "ffn_options": ffn})


def _part(mixer: str, hidden: int, positions: int = 64, **options: Any) -> TrainedLM:
    # as many hidden units as leave no model more numbers than that with attention
    changes = {"mixer": mixer, "mixer_options": options, "positions": positions}
    return TrainedLM("probe", {**changes, "ffn_options": {"hidden": hidden}})


_PARTS: dict[str, TrainedLM] = {
    # the notes' memory, and with one thing more
    "notes": _part("static-memory", 576, slots=64),
    "position": _part("convolved-static", 574, slots=64),
    "soft": _part("static-memory", 576, slots=64, top_k=64),
    "dynamic": _part("routed-memory", 509, slots=64, top_k=1, parts=["fading"]),
    # the memory with all of it, and with one thing less; order is known without positions
    "all": _part("routed-memory", 451, 0, slots=64),
    "no-position": _part("routed-memory", 453, 0, slots=64, parts=["fading", "gate"]),
    "no-soft": _part("routed-memory", 451, 0, slots=64, top_k=1),
    "no-dynamic": _part("convolved-static", 582, 0, slots=64, top_k=64),
    "no-fading": _part("routed-memory", 453, 0, slots=64, parts=["convolution", "gate"]),
    "no-gate": _part("routed-memory", 515, 0, slots=64, parts=["convolution", "fading"]),
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
        "routed": _routed("seed", 64, hidden=509, bias=True),
        # fewer numbers than attention by far, so that a step takes no longer either
        "routed-16": _routed("seed", 16, hidden=384, bias=True),
    },
    "memory-nano": {
        "routed": _routed("nano", 64, hidden=451),
        "attention-convolution": TrainedLM("nano", {"mixer": "convolved-attention"}),
        "routed-16": _routed("nano", 16, hidden=499),
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
        "all-but-fading": _gain("all", "no-fading"),
        "all-but-gate": _gain("all", "no-gate"),
    },
}
