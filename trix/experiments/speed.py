"""How long a model takes for each character that it writes, one after the other, on one thread."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trix.counts.ngram import CountTables
from trix.experiments.arm import AFTER, Arm, Counted, Outcome, TrainedLM
from trix.experiments.memory import Gain
from trix.lab.corpus import Corpus
from trix.models.charlm import Block, CharLM, LMConfig
from trix.tiles.codebook import CodebookFFN, CodebookTable
from trix.tiles.lookup import SparseLookupFFN
from trix.tiles.packed_lookup import PackedLookup

CHARACTERS, ROUNDS = 128, 5
QUICK_CHARACTERS, QUICK_ROUNDS = 8, 2
PROTOCOLS = ("nano", "probe")
COMPILED = {"lookup": PackedLookup, "codebook": CodebookTable}
"""Feed-forwards that have a form for inference alone."""

Write = Callable[[int], object]
"""Writes so many characters."""


@dataclass(frozen=True)
class Speed:
    """What a fresh model of an arm takes to write; training would change no step of that.

    Attributes:
        arm: what is built.
        compiled: whether its feed-forwards are turned into their form for inference.
    """

    arm: TrainedLM | Counted
    compiled: bool = False
    seeded: bool = False

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return what is built, by which `paired` finds it again, and how long it is timed."""
        characters, rounds = _sizes(budget)
        timed = {"compiled": self.compiled, "characters": characters, "rounds": rounds}
        return {"built": built(self.arm.config(corpus, budget)), "threads": 1, **timed}

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Build, write once to warm up, and then time a few rounds.

        `us_per_character` is the median over rounds, in microseconds, with `us_least` and `us_most`
        beside it. Choosing the character is part of it; so is starting again from the latest half
        of the text where a model runs out of learned positions. Of count tables there is `bytes`,
        what their arrays take.
        """
        began = time.perf_counter()
        characters, rounds = _sizes(budget)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            write, parameters, metrics = self._made(corpus)
            write(characters)
            spent = [_microseconds(write, characters) for _ in range(rounds)]
        finally:
            torch.set_num_threads(threads)
        metrics["us_per_character"] = statistics.median(spent)
        metrics |= {"us_least": min(spent), "us_most": max(spent)}
        return Outcome(time.perf_counter() - began, parameters, metrics, [], "cpu")

    def _made(self, corpus: Corpus) -> tuple[Write, int, dict[str, float]]:
        generator = torch.Generator().manual_seed(0)
        start = corpus.val[None, :1]
        if isinstance(self.arm, Counted):
            tables = CountTables(corpus.train, self.arm.order, corpus.vocab_size)
            size = {"bytes": float(sum(tables.memory()))}
            entries = sum(len(table.count) for table in tables.tables)
            smoothing = self.arm.smoothing
            return (
                lambda length: _read_on(tables, smoothing, start, length, generator),
                entries,
                size,
            )
        model = _fresh(self.arm, corpus)
        parameters = model.parameter_count()
        if self.compiled:
            for block in model.blocks:
                _compile(block)
        return lambda length: model.generate(start, length, generator=generator), parameters, {}


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
    """Return an arm for each different model of the `nano` and `probe` protocols, and each table.

    Where several arms have the same model, it goes by the name of the first.
    """
    arms: dict[str, Arm] = {}
    known: list[tuple[Any, ...]] = []
    for experiment, members in experiments.items():
        for name, member in members.items():
            arm = member.models[member.name] if isinstance(member, Gain) else member
            if not isinstance(arm, TrainedLM | Counted) or _unfit(arm):
                continue
            key = _key(arm)
            if key in known:
                continue
            known.append(key)
            arms[f"{experiment}-{name}"] = Speed(arm)
            if isinstance(arm, TrainedLM) and arm.changes.get("ffn") in COMPILED:
                arms[f"{experiment}-{name}-compiled"] = Speed(arm, compiled=True)
    return arms


def _unfit(arm: TrainedLM | Counted) -> bool:
    if isinstance(arm, Counted):
        return arm.smoothing != "witten-bell"  # the other kind reads the same tables
    return arm.protocol not in PROTOCOLS or arm.after == "shuffle"


def _key(arm: TrainedLM | Counted) -> tuple[Any, ...]:
    if isinstance(arm, Counted):
        return arm.order, arm.smoothing
    return arm.changes, arm.after  # the protocols have one model


def _sizes(budget: str) -> tuple[int, int]:
    return (QUICK_CHARACTERS, QUICK_ROUNDS) if budget == "quick" else (CHARACTERS, ROUNDS)


def _microseconds(write: Write, characters: int) -> float:
    began = time.perf_counter()
    write(characters)
    return 1e6 * (time.perf_counter() - began) / characters


def _fresh(arm: TrainedLM, corpus: Corpus) -> CharLM:
    torch.manual_seed(0)
    model = CharLM(LMConfig(**arm.config(corpus, "full")["model"])).eval()
    if arm.after:
        AFTER[arm.after](model, 0)
    return model


def _compile(block: torch.nn.Module) -> None:
    if not isinstance(block, Block):
        raise TypeError(f"expected a block, got {type(block).__name__}")
    if isinstance(block.ffn, SparseLookupFFN):
        block.ffn = PackedLookup(block.ffn)
    elif isinstance(block.ffn, CodebookFFN):
        block.ffn = CodebookTable(block.ffn)


@torch.no_grad()
def _read_on(
    tables: CountTables, smoothing: str, start: Tensor, length: int, generator: torch.Generator
) -> Tensor:
    """Continue `start` `[1, time]` from tables, one character at a time."""
    text, reach = start, max(1, tables.order - 1)
    for _ in range(length):
        shares = tables.probabilities(text[:, -reach:], smoothing=smoothing)[:, -1]
        text = torch.cat([text, torch.multinomial(shares, 1, generator=generator)], dim=1)
    return text
