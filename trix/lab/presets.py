"""What `trix train` can train: look-it-up language models, from half a minute to a GPU's work."""

from dataclasses import dataclass

from trix.lab.charlm import LMConfig
from trix.lab.lookup_config import LookupConfig
from trix.lab.optimize import TrainConfig

BLOCK = 256
"""Characters of a block in which these models are evaluated."""


@dataclass(frozen=True)
class Preset:
    """A model and its training.

    Attributes:
        model: see `LookupConfig`.
        train: see `TrainConfig`.
        about: what it is, in one line.
    """

    model: LookupConfig
    train: TrainConfig
    about: str


def _network(dim: int, layers: int, heads: int, tiles: int, **options: float) -> LMConfig:
    # a sixteenth of the tiles is read; no positions, for the memory knows the order by itself
    return LMConfig(
        dim=dim,
        layers=layers,
        positions=0,
        mixer="routed-memory",
        mixer_options={"heads": heads, "slots": 16},
        ffn="lookup",
        ffn_options={
            "tiles": tiles,
            "tiles_per_cluster": None,
            "cells": 8,
            "top_k": tiles // 16,
        },
        **options,  # pyright: ignore[reportArgumentType]
    )


PRESETS: dict[str, Preset] = {
    "tables": Preset(
        LookupConfig(hidden=128, words=True, echoes=True),
        TrainConfig(
            steps=500,
            batch=8,
            context=256,
            lr=3e-3,
            warmup=20,
            schedule="linear",
            weight_decay=0.01,
            muon=0.02,
        ),
        "tables and a gate, no network: half a minute on two cores",
    ),
    "small": Preset(
        LookupConfig(network=_network(128, 4, 4, 480, dropout=0.1), words=True, echoes=True),
        TrainConfig(
            steps=470, batch=8, context=256, lr=2e-3, warmup=50, schedule="linear", muon=0.02
        ),
        "0.9 million numbers and the tables: two minutes on two cores",
    ),
    "base": Preset(
        LookupConfig(network=_network(384, 6, 6, 1472, dropout=0.4), words=True, echoes=True),
        TrainConfig(
            steps=300, batch=64, context=256, lr=1e-3, warmup=50, schedule="linear", muon=0.02
        ),
        "as many numbers as nanoGPT's 10.6 million, and the tables: for a GPU",
    ),
}


def preset(name: str) -> Preset:
    """Return a preset by name.

    Raises:
        ValueError: there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {sorted(PRESETS)}, got {name!r}")
    return PRESETS[name]
