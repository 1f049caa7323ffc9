"""The experiments about memories that stand in for attention."""

from typing import Any

from trix.lab.arms import Arm, TrainedLM
from trix.lab.memory_arms import Static


def _routed(slots: int, hidden: int, **changes: Any) -> TrainedLM:
    # hidden units are given up until the model has no more numbers than that with attention
    options = {"mixer": "routed-memory", "mixer_options": {"slots": slots}, "positions": 0}
    return TrainedLM("nano", {**options, "ffn_options": {"hidden": hidden}, **changes})


def _seed(slots: int, hidden: int) -> TrainedLM:
    options = {"mixer": "routed-memory", "mixer_options": {"slots": slots}, "positions": 0}
    return TrainedLM("seed", {**options, "ffn_options": {"hidden": hidden, "bias": True}})


def _convolved(**changes: Any) -> TrainedLM:
    return TrainedLM("nano", {"mixer": "convolved-attention", **changes})


MEMORY: dict[str, dict[str, Arm]] = {
    "memory-seed": {
        "static": Static(),
        "static-no-past": Static(past=False),
        "random-signatures": Static(learned=False),
        "routed": _seed(64, 509),
        "routed-16": _seed(16, 557),
    },
    "memory-nano": {
        "routed": _routed(64, 451),
        "attention-convolution": _convolved(),
        "routed-16": _routed(16, 499),
        "routed-16-wide": _routed(16, 499, ffn="wide-dense"),
        "attention-convolution-wide": _convolved(ffn="wide-dense"),
    },
}
