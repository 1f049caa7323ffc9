"""What is trained and how: budgets of notebooks, protocols, presets, and where it was done."""

import ast
import builtins
import platform
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any, TypeVar

import numpy as np
import torch

from trix import checks
from trix.lab.optimize import TrainConfig
from trix.models.charlm import LMConfig
from trix.models.lookup import LookupConfig

Value = TypeVar("Value")
BUDGETS = ("quick", "full")
PARAMETERS = ("budget", "seed", "text")


def check_parameters(budget: str, seed: int) -> None:
    """Check a notebook's parameters before it computes anything.

    The budget is "quick" for reading along, "full" for the record; `TypeError` or `ValueError` for
    another one, for what is no seed, and for a parameter of papermill's that no chapter has.

    >>> check_parameters("quick", seed=0)
    """
    checks.one_of("budget", budget, BUDGETS)
    checks.seed(seed)
    # papermill puts any name into a cell of its own, behind the one that it was to replace
    shell = getattr(builtins, "get_ipython", lambda: None)()
    cells = [c for c in (shell.user_ns["In"] if shell else []) if c.startswith("# Parameters\n")]
    nodes = [node for cell in cells for node in ast.parse(cell).body]
    names = {ast.unparse(node.targets[0]) for node in nodes if isinstance(node, ast.Assign)}
    if unknown := names - set(PARAMETERS):
        raise ValueError(f"parameters must be among {PARAMETERS}, got {sorted(unknown)}")


def choose(budget: str, *, quick: Value, full: Value) -> Value:
    """Return the value that belongs to a budget, "quick" or "full"; `ValueError` for another one.

    >>> choose("quick", quick=100, full=2000)
    100
    """
    checks.one_of("budget", budget, BUDGETS)
    return quick if budget == "quick" else full


@dataclass(frozen=True)
class Protocol:
    """A model size, a training recipe and the block length of its evaluation."""

    model: LMConfig
    train: TrainConfig
    block: int

    def with_model(self, **changes: Any) -> LMConfig:
        """Return the protocol's model with some settings changed (mixer, ffn, vocab_size, …)."""
        return replace(self.model, **changes)


_NANO = Protocol(LMConfig(positions=64, mixer_options={"heads": 4}), TrainConfig(), block=64)

PROTOCOLS: dict[str, Protocol] = {
    # the source notes' benchmark; they do not state initial scales, clipping and decay of matrices
    # alone, which are our choice: PyTorch's own scales come out near the notes' figure
    "seed": Protocol(
        LMConfig(
            positions=512,
            mixer_options={"heads": 4, "bias": True, "dropout": 0.1},
            ffn_options={"bias": True},
            dropout=0.1,
            bias=True,
            tied=False,
            init="torch",
        ),
        TrainConfig(1000, 32, 64, 3e-4, "constant", warmup=0, beta2=0.999, weight_decay=0.01),
        block=64,
    ),
    "nano": _NANO,  # nanoGPT's setting for a CPU
    # the same, shorter: for ablations with many arms
    "probe": replace(_NANO, train=replace(_NANO.train, steps=600)),
    # the network of a look-it-up model by itself, judged in the same blocks as the whole
    "lookup-network": Protocol(LMConfig(positions=0), TrainConfig(), block=256),
    # nanoGPT's setting for a GPU: 10.6 million parameters
    "nano-gpu": Protocol(
        LMConfig(
            dim=384,
            layers=6,
            positions=256,
            mixer_options={"heads": 6, "dropout": 0.2},
            dropout=0.2,
        ),
        TrainConfig(steps=5000, batch=64, context=256),
        block=256,
    ),
}


def protocol(name: str) -> Protocol:
    """Return a protocol by name; `ValueError` where there is no such one.

    >>> protocol("nano").with_model(ffn="trix").ffn
    'trix'
    """
    return PROTOCOLS[checks.one_of("protocol", name, PROTOCOLS)]


BLOCK = 256  # characters of a block in which the presets' models are evaluated


@dataclass(frozen=True)
class Preset:
    """A model, its training and what it is, in one line."""

    model: LookupConfig
    train: TrainConfig
    about: str


def _network(dim: int, layers: int, heads: int, tiles: int, **options: float) -> LMConfig:
    # a sixteenth of the tiles is read; no positions, for the memory knows the order by itself
    read = {"tiles": tiles, "tiles_per_cluster": None, "cells": 8, "top_k": tiles // 16}
    more: dict[str, Any] = {"dim": dim, "layers": layers, "positions": 0, **options}
    more |= {"mixer": "routed-memory", "mixer_options": {"heads": heads, "slots": 16}}
    return LMConfig(ffn="lookup", ffn_options=read, **more)


PRESETS: dict[str, Preset] = {
    "tables": Preset(
        LookupConfig(hidden=128, words=True, echoes=True),
        TrainConfig(500, 8, 256, 3e-3, "linear", warmup=20, weight_decay=0.01, muon=0.02),
        "tables and a gate, no network: half a minute on two cores",
    ),
    "small": Preset(
        LookupConfig(network=_network(128, 4, 4, 480, dropout=0.1), words=True, echoes=True),
        TrainConfig(470, 8, 256, lr=2e-3, warmup=50, schedule="linear", muon=0.02),
        "0.9 million parameters and the tables: two minutes on two cores",
    ),
    "base": Preset(
        LookupConfig(network=_network(384, 6, 6, 1472, dropout=0.4), words=True, echoes=True),
        TrainConfig(300, 64, 256, lr=1e-3, warmup=50, schedule="linear", muon=0.02),
        "as many parameters as nanoGPT's 10.6 million, and the tables: for a GPU",
    ),
}


def preset(name: str) -> Preset:
    """Return a preset by name; `ValueError` where there is no such one.

    >>> preset("tables").about
    'tables and a gate, no network: half a minute on two cores'
    """
    return PRESETS[checks.one_of("preset", name, PRESETS)]


def routed_memory(name: str, slots: int) -> dict[str, Any]:
    """Return the changes that make routed memory mix, with no more parameters than attention.

    For the protocols "seed" and "nano", with 64 or 16 slots per head: hidden units are given up.
    """
    hidden = {("seed", 64): 509, ("seed", 16): 384, ("nano", 64): 451, ("nano", 16): 499}
    ffn = {"hidden": hidden[name, slots]} | ({"bias": True} if name == "seed" else {})
    mixer = {"mixer": "routed-memory", "mixer_options": {"slots": slots}}
    return mixer | {"positions": 0, "ffn_options": ffn}


def environment(device: str = "cpu") -> dict[str, Any]:
    """Return versions, device ("cpu" or "cuda") and threads of this process, for a record."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    versions |= {"numpy": np.__version__, "trix": metadata.version("trix-routing")}
    cpu = f"cpu ({platform.machine()})"
    name = torch.cuda.get_device_name() if device == "cuda" else cpu
    return {"versions": versions, "device": name, "threads": torch.get_num_threads()}
