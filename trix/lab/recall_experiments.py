"""The experiments about recall: what a memory of a given size can be asked for."""

from typing import Any

from trix.lab.arms import Arm
from trix.lab.recall import Task
from trix.lab.recall_arms import Recalled

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
}
ADDING = {"routed-adding": MIXERS["routed"]}
"""The memory whose tokens add to what their address holds; elsewhere the delta rule replaces it."""


def _model(mixer: dict[str, Any], dim: int, heads: int, parts: tuple[str, ...]) -> dict[str, Any]:
    options = {**mixer.get("mixer_options", {}), "heads": heads}
    if mixer["mixer"] == "routed-memory":
        options["parts"] = parts
    return {"layers": 2, "ffn": "none", "dim": dim, **mixer, "mixer_options": options}


def _training(steps: int, batch: int, lr: float = 1e-2) -> dict[str, Any]:
    # decay would pull addresses back to softness
    return {"steps": steps, "batch": batch, "lr": lr, "weight_decay": 0.0}


def _mqar(name: str) -> Recalled:
    # nothing need be forgotten here
    parts = ("convolution", "gate") if name in ADDING else ("convolution", "gate", "delta")
    model = _model({**MIXERS, **ADDING}[name], 128, 4, parts)
    return Recalled(Task("mqar", 256, {"pairs": 4}), (64,), 16, model, _training(1000, 16))


def _large(name: str, length: int, pairs: int) -> Recalled:
    model = _model(MIXERS[name], 128, 4, ("convolution", "gate", "delta"))
    task = Task("mqar", 8192, {"pairs": pairs})
    return Recalled(task, (length,), 4 * pairs, model, _training(20_000, 64, lr=3e-3))


def _induction(name: str) -> Recalled:
    model = _model(MIXERS[name], 64, 2, ("convolution", "fading", "gate"))
    return Recalled(Task("induction", 16), (64, 256), 8, model, _training(300, 32))


def _copying(name: str) -> Recalled:
    parts = ("convolution", "fading", "gate")
    parts = parts if name in ADDING else (*parts, "delta")
    model = _model({**MIXERS, **ADDING}[name], 64, 2, parts)
    task = Task("selective-copying", 16, {"kept": 4})
    return Recalled(task, (64, 256), 8, model, _training(1200, 32))


RECALL: dict[str, dict[str, Arm]] = {
    "recall": {
        **{
            f"mqar-{name}": _mqar(name)
            for name in (*MIXERS, *ADDING)
            if name != "attention-positions"  # of use only where lengths differ
        },
        **{f"induction-{name}": _induction(name) for name in ("attention", "window", "routed")},
        **{
            f"copying-{name}": _copying(name)
            for name in ("attention", "window", "routed", *ADDING, "attention-positions")
        },
    },
    "recall-large": {
        f"mqar-{length}-{name}": _large(name, length, pairs)
        for length, pairs in ((64, 4), (128, 8), (256, 16))
        for name in ("attention", "routed")
    },
}
