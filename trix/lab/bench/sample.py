"""How fast a look-it-up model writes, beside attention that recomputes or caches its context."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from trix.checks import instance
from trix.lab.bench.timing import one_thread, side_by_side
from trix.lab.corpus import load_corpus
from trix.lab.cost import reader, repeated
from trix.lab.fit import TrainRequest
from trix.lab.recipes import protocol
from trix.memory.attention import AttentionState
from trix.models.charlm import CharLM, LMState
from trix.models.generate import characters
from trix.models.lookup import LookupLM, count

WINDOWS, PASTS = (64, 1024), (64, 16384)
STEPS = 8  # characters in a row
LENGTH, PARTS = 20_000, 10  # of one text, to see whether the time stays
QUICK = 20_000  # characters of the corpus that a quick run counts
RECOMPUTED, COPIED, READ = "window, recomputed", "cache, copied", "cache, only read"
PART = "part of a long text"


@one_thread()
@torch.no_grad()
def sample(quick: bool = False) -> list[dict[str, Any]]:
    """Time one character of a text, on one thread, in microseconds.

    An untrained model of the preset `small`, with the tables of the corpus, writes through
    `Sampler`. Beside it stands the attention model of the protocol `nano`, of about as many
    parameters: as nanoGPT samples, which computes its whole window again; with a cache, which is
    copied at every token; and doing nothing but to read that cache, which no way of keeping it can
    undercut. The last rows are the tenths of one long text against the first; `context` is where
    each begins. NumPy's threads are set from outside, by `OMP_NUM_THREADS=1`.
    """
    windows, pasts, length = ((16, 24), (16, 40), 40) if quick else (WINDOWS, PASTS, LENGTH)
    torch.manual_seed(0)
    longest = max(*windows, *pasts)
    ours, text = _ours(QUICK if quick else None)
    text = text[None, -longest:]
    theirs = _attention(ours.config.vocab_size, longest + STEPS)
    cases: dict[str, Any] = {"ours": repeated(characters(ours, text[:, :64]).__next__, STEPS)}
    for n in windows:
        cases[f"{RECOMPUTED} {n}"] = repeated(_recomputed(theirs, text[:, -n:]).__next__, STEPS)
    for n in pasts:
        filled = theirs.routed(text[:, -n:]).state
        cases[f"{COPIED} {n}"] = _cached(theirs, filled)
        cases[f"{READ} {n}"] = _readers(filled)
    seconds = side_by_side(cases, rounds=1 if quick else 15)
    micro = {name: 1e6 * value / STEPS for name, value in seconds.items()}
    rows = [
        _row("character", n, micro["ours"], against, micro[f"{against} {n}"])
        for against, sizes in ((RECOMPUTED, windows), (COPIED, pasts), (READ, pasts))
        for n in sizes
    ]
    return rows + _long(ours, text[:, :64], length)


def _ours(counted: int | None) -> tuple[LookupLM, Tensor]:
    # the model, and the text that it has counted
    corpus = load_corpus()
    text = corpus.train[:counted]
    config = replace(TrainRequest("small", corpus).model(), folds=0)
    return LookupLM(config, *count(config, text, corpus.alphabet)).eval(), text


def _attention(vocab_size: int, positions: int) -> CharLM:
    model = protocol("nano").with_model(vocab_size=vocab_size, positions=positions)
    return CharLM(model).eval()


def _recomputed(model: CharLM, window: Tensor) -> Iterator[Tensor]:
    # as nanoGPT samples: all of the latest characters, again for each
    size = window.shape[1]
    while True:
        share = torch.softmax(model(window)[:, -1], dim=-1)
        window = torch.cat([window, torch.multinomial(share, 1)], dim=1)[:, -size:]
        yield window[:, -1:]


def _cached(model: CharLM, state: LMState) -> Callable[[], None]:
    # some characters after one past; the past itself is left as it was
    def call() -> None:
        after, token = state, torch.zeros(1, 1, dtype=torch.int64)
        for _ in range(STEPS):
            routed = model.routed(token, after)
            after = routed.state
            token = torch.multinomial(torch.softmax(routed.logits[:, -1], dim=-1), 1)

    return call


def _readers(state: LMState) -> Callable[[], None]:
    reads = [reader(instance("cache", cache, AttentionState)) for cache in state.mixers]
    return repeated(lambda: [read() for read in reads], STEPS)


def _long(model: LookupLM, prompt: Tensor, length: int) -> list[dict[str, Any]]:
    more, size, spent = characters(model, prompt), length // PARTS, []
    for _ in tqdm(range(PARTS), desc="a long text", unit="part"):
        began = time.perf_counter()
        for _ in range(size):
            next(more)
        spent.append(1e6 * (time.perf_counter() - began) / size)
    first = "the first part", spent[0]
    return [_row(PART, i * size, micro, *first) for i, micro in enumerate(spent)]


def _row(what: str, context: int, mine: float, against: str, theirs: float) -> dict[str, Any]:
    found = {"what": what, "context": context, "microseconds": mine}
    return found | {"against": against, "against_microseconds": theirs, "ratio": theirs / mine}
