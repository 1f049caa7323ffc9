"""How long a model takes for each character that it writes, one after the other, on one thread."""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from trix.checks import instance
from trix.counts.ngram import CountTables
from trix.experiments.arm import AFTER, Arm, Recipe, Run, Training, threads
from trix.experiments.counts import Counting
from trix.experiments.lookup import LookupTraining
from trix.lab.corpus import Corpus
from trix.models.charlm import Block, CharLM
from trix.models.generate import generate
from trix.tiles.codebook import CodebookFFN, CodebookTable
from trix.tiles.lookup import SparseLookupFFN
from trix.tiles.packed_lookup import PackedLookup

CHARACTERS, ROUNDS = 128, 5
QUICK_CHARACTERS, QUICK_ROUNDS = 8, 2
PROTOCOLS = ("nano", "probe")
COMPILED = {"lookup": PackedLookup, "codebook": CodebookTable}
"""Feed-forwards that have a form for inference alone."""

Writer = Training | LookupTraining | Counting
Write = Callable[..., object]  # writes so many characters, called as `write(length=8)`


def speed(run: Run, recipe: Writer, compiled: bool) -> dict[str, float]:
    """Time how long something takes to write, on one thread, after it has written once.

    `us_per_character` is the median over rounds, in microseconds. Choosing the character is part of
    it; so is starting again from the latest half of the text where a model runs out of learned
    positions. A model is fresh: training would change no step.
    """
    characters, rounds = _sizes(run.budget)
    found: dict[str, float] = {}
    write: Write
    with threads(1):
        generator, start = torch.Generator().manual_seed(0), run.corpus.val[None, :1]
        if isinstance(recipe, Counting):
            recipe.make(run, run.work)
            run.result = None
            found["bytes"] = float(sum(run.model.memory()))
            write = partial(_read_on, run.model, recipe.smoothing, start, generator)
        else:
            model = recipe.build(run.corpus, seed=0).eval()
            run.parameters = model.parameter_count()
            if isinstance(model, CharLM) and isinstance(recipe, Training):
                if recipe.after:
                    AFTER[recipe.after](model, 0)
                for block in model.blocks if compiled else ():
                    _compile(block)
            write = partial(generate, model, start, generator=generator)
        write(length=characters)
        spent = [_microseconds(write, characters) for _ in range(rounds)]
    found["us_per_character"] = statistics.median(spent)
    return found | {"us_least": min(spent), "us_most": max(spent)}


def _speed_arm(recipe: Writer, compiled: bool = False) -> Arm:
    def settings(corpus: Corpus, budget: str) -> dict[str, Any]:
        characters, rounds = _sizes(budget)
        timed = {"compiled": compiled, "characters": characters, "rounds": rounds}
        return {"built": built(recipe.config(corpus, "full")), "threads": 1, **timed}

    measure = partial(speed, recipe=recipe, compiled=compiled)
    return Arm(None, (measure,), settings, seeded=False, timed=True)


def built(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the part of a record's configuration that decides its speed; None if none does.

    Two arms with the same have the same speed, whatever they were trained for.
    """
    config = config.get("with", config)  # of a gain, the model with it
    if "order" in config:
        return {"order": config["order"], "smoothing": config["smoothing"]}
    if "model" not in config or "routing" in config:  # a transplant is not the model it began as
        return None
    return {"model": config["model"], "after": config.get("after", "")}


def speed_arms(experiments: Mapping[str, Mapping[str, Arm]]) -> dict[str, Arm]:
    """Return an arm for each different model of `nano`, `probe` and the presets, and each table.

    Where several arms have the same model, it goes by the name of the first.
    """
    arms: dict[str, Arm] = {}
    known: list[Any] = []
    for experiment, members in experiments.items():
        for name, arm in members.items():
            recipe, key = arm.recipe, _key(arm.recipe)
            # what is special about an arm with settings is not in its recipe
            special = arm.settings and not isinstance(recipe, LookupTraining)
            if not isinstance(recipe, Writer) or special or key is None or key in known:
                continue
            known.append(key)
            arms[f"{experiment}-{name}"] = _speed_arm(recipe)
            if isinstance(recipe, Training) and recipe.changes.get("ffn") in COMPILED:
                arms[f"{experiment}-{name}-compiled"] = _speed_arm(recipe, compiled=True)
    return arms


def _key(recipe: Recipe | None) -> Any:
    # what decides the speed; None for what is not timed
    if isinstance(recipe, Counting):  # another smoothing reads the same tables
        return recipe.order if recipe.smoothing == "witten-bell" else None
    if isinstance(recipe, LookupTraining):
        return (recipe.preset, recipe.changes) if recipe.without is None else None
    if isinstance(recipe, Training) and recipe.protocol in PROTOCOLS and recipe.after != "shuffle":
        return recipe.changes, recipe.after  # the protocols have one model
    return None


def _sizes(budget: str) -> tuple[int, int]:
    return (QUICK_CHARACTERS, QUICK_ROUNDS) if budget == "quick" else (CHARACTERS, ROUNDS)


def _microseconds(write: Write, characters: int) -> float:
    began = time.perf_counter()
    write(length=characters)
    return 1e6 * (time.perf_counter() - began) / characters


def _compile(block: torch.nn.Module) -> None:
    block = instance("block", block, Block)
    if isinstance(block.ffn, SparseLookupFFN):
        block.ffn = PackedLookup(block.ffn)
    elif isinstance(block.ffn, CodebookFFN):
        block.ffn = CodebookTable(block.ffn)


@torch.no_grad()
def _read_on(
    tables: CountTables, smoothing: str, start: Tensor, generator: torch.Generator, length: int
) -> Tensor:
    """Continue `start` `[1, time]` from tables, one character at a time."""
    text, reach = start, max(1, tables.order - 1)
    for _ in range(length):
        shares = tables.probabilities(text[:, -reach:], smoothing=smoothing)[:, -1]
        text = torch.cat([text, torch.multinomial(shares, 1, generator=generator)], dim=1)
    return text
