"""Small models and texts for the tests of this room."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from trix.counts.context import ContextMemory
from trix.counts.words import WordMemory, letters_of
from trix.models.charlm import LMConfig
from trix.models.lookup import LookupConfig, LookupLM

VOCAB, ORDER, FOLDS = 11, 4, 3
ALPHABET = "\n ,ABEabden"
NETWORK = LMConfig(
    vocab_size=VOCAB,
    dim=12,
    layers=2,
    positions=0,
    mixer="routed-memory",
    mixer_options={"heads": 3, "slots": 5},
    ffn="lookup",
    ffn_options={"tiles": 7, "tiles_per_cluster": None, "cells": 6, "top_k": 2},
)


def network(mixer: dict[str, Any] | None = None, ffn: dict[str, Any] | None = None, **changes):
    """Return `NETWORK` with other options."""
    return replace(
        NETWORK,
        mixer_options=NETWORK.mixer_options | (mixer or {}),
        ffn_options=NETWORK.ffn_options | (ffn or {}),
        **changes,
    )


def chain(length, vocab_size=VOCAB, seed=0):
    """Return a text of a chain of the second order, so that addresses say something."""
    draw = random.Random(seed)
    follow = {}
    text = [0, 1]
    while len(text) < length:
        likely = follow.setdefault(tuple(text[-2:]), draw.choices(range(vocab_size), k=2))
        text.append(draw.choice(likely) if draw.random() < 0.8 else draw.randrange(vocab_size))
    return text


def phrases(length, seed=0):
    """Return a walk with a few repeated phrases, so that long addresses are found as well."""
    draw = np.random.default_rng(seed)
    known = np.random.default_rng(99).integers(0, VOCAB, (6, 9))
    text = []
    while len(text) < length:
        text += known[draw.integers(6)].tolist() + draw.integers(0, VOCAB, 2).tolist()
    return torch.tensor(text[:length])


def first_edition(tensors):
    """Return tensors under the names that the first edition gave them, and as it kept them."""
    old = {}
    for name, tensor in tensors.items():
        new = name.replace(".decay.", ".fading.").replace("log_temperature", "log_sharpness")
        old[new] = -tensor if new.endswith("log_sharpness") else tensor
    assert len(old.keys() - tensors.keys()) == 2 * 3  # in each of two blocks
    return old


@torch.no_grad()
def stirred(model, by=0.3):
    """Change a model as training does: no scale so small that an error could hide in it."""
    for parameter in model.parameters():
        parameter.add_(by * torch.randn_like(parameter))
    return model.eval()


def lookup_model(text=None, dtype=torch.float32, seed=5, **changes) -> LookupLM:
    """Return a model of a text, its parameters drawn."""
    settings = {"vocab_size": VOCAB, "order": ORDER, "folds": FOLDS, "hidden": 13, **changes}
    config = LookupConfig(**settings)
    text = phrases(500) if text is None else torch.as_tensor(text)
    memory = ContextMemory(text, config.order, VOCAB, config.folds, dtype)
    words = None
    if config.words:
        words = WordMemory(text, letters_of(ALPHABET), config.folds, dtype)
    torch.manual_seed(seed)
    return stirred(LookupLM(config, memory, words).to(dtype))
