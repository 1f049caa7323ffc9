"""How fast a look-it-up model writes, beside attention that recomputes or caches its context."""

import itertools
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from trix.lab.bench.timing import one_thread, side_by_side
from trix.lab.corpus import load_corpus
from trix.lab.cost import reader
from trix.lab.recipes import preset, protocol
from trix.memory.attention import AttentionState
from trix.models.charlm import CharLM, LMState
from trix.models.generate import characters
from trix.models.lookup import LookupLM, count

WINDOWS, PASTS = (64, 1024), (64, 16384)
STEPS, ROUNDS, LENGTH, PARTS = 8, 15, 20_000, 10
"""Characters in a row, turns, and those that are written to see whether the time stays."""
QUICK = 20_000
"""Characters of the corpus that a quick run counts."""
RECOMPUTED, COPIED, READ = "window, recomputed", "cache, copied", "cache, only read"
PART = "part of a long text"


@one_thread()
@torch.no_grad()
def sample(quick: bool = False) -> list[dict[str, Any]]:
    """Time one character of a text, on one thread.

    A look-it-up model of the preset `small`, with the tables of the corpus, writes through
    `Sampler`. Beside it stands the attention model of the protocol `nano`, which has about as many
    parameters, positions left out; of those it has as many as it needs. It is timed

    - as nanoGPT samples, which computes its whole window for every character;
    - with a cache, which `CausalAttention` copies at every token;
    - doing nothing but to read that cache, in every layer, without a product with a weight or a
      character drawn, which no way of keeping it can undercut.

    Weights are not trained. NumPy's threads are set from outside, by `OMP_NUM_THREADS=1`.

    Returns:
        Rows with `what`, `context` in characters, `microseconds` a character of ours, `against`,
        `against_microseconds` and `ratio`. The last rows are the tenths of one long text: `context`
        is where each begins, and it stands against the first.
    """
    windows, pasts, length = ((16, 24), (16, 40), 40) if quick else (WINDOWS, PASTS, LENGTH)
    torch.manual_seed(0)
    longest = max(*windows, *pasts)
    ours, text = _ours(QUICK if quick else None)
    text = text[None, -longest:]
    theirs = _attention(ours.config.vocab_size, longest + STEPS)
    cases: dict[str, Any] = {"ours": _writer(characters(ours, text[:, :64]))}
    for n in windows:
        cases[f"{RECOMPUTED} {n}"] = _writer(_recomputed(theirs, text[:, -n:]))
    for n in pasts:
        filled = theirs.routed(text[:, -n:]).state
        cases[f"{COPIED} {n}"] = _cached(theirs, filled)
        cases[f"{READ} {n}"] = _readers(filled)
    seconds = side_by_side(cases, rounds=1 if quick else ROUNDS)
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
    small = preset("small").model
    if small.network is None:
        raise TypeError("expected a preset with a network, got one without")
    size = corpus.vocab_size
    network = replace(small.network, vocab_size=size)
    config = replace(small, vocab_size=size, network=network, folds=0)
    return LookupLM(config, *count(config, text, corpus.alphabet)).eval(), text


def _attention(vocab_size: int, positions: int) -> CharLM:
    config = replace(protocol("nano").model, vocab_size=vocab_size, positions=positions)
    return CharLM(config).eval()


def _writer(more: Any) -> Any:
    return lambda: list(itertools.islice(more, STEPS))


def _recomputed(model: CharLM, window: Tensor) -> Any:
    # as nanoGPT samples: all of the latest characters, again for each
    size = window.shape[1]
    while True:
        share = torch.softmax(model(window)[:, -1], dim=-1)
        window = torch.cat([window, torch.multinomial(share, 1)], dim=1)[:, -size:]
        yield window[:, -1:]


def _cached(model: CharLM, state: LMState) -> Any:
    # some characters after one past; the past itself is left as it was
    def call() -> None:
        after, token = state, torch.zeros(1, 1, dtype=torch.int64)
        for _ in range(STEPS):
            routed = model.routed(token, after)
            after = routed.state
            token = torch.multinomial(torch.softmax(routed.logits[:, -1], dim=-1), 1)

    return call


def _readers(state: LMState) -> Any:
    calls = []
    for cache in state.mixers:
        if not isinstance(cache, AttentionState):
            raise TypeError(f"expected a cache, got {type(cache).__name__}")
        calls.append(reader(cache, 1))

    def call() -> None:
        for _ in range(STEPS):
            for read in calls:
                read()

    return call


def _long(model: LookupLM, prompt: Tensor, length: int) -> list[dict[str, Any]]:
    more, size, spent = characters(model, prompt), length // PARTS, []
    for _ in tqdm(range(PARTS), desc="a long text", unit="part"):
        began = time.perf_counter()
        for _ in range(size):
            next(more)
        spent.append(1e6 * (time.perf_counter() - began) / size)
    return [
        _row(PART, i * size, micro, "the first part", spent[0]) for i, micro in enumerate(spent)
    ]


def _row(what: str, context: int, mine: float, against: str, theirs: float) -> dict[str, Any]:
    return {
        "what": what,
        "context": context,
        "microseconds": mine,
        "against": against,
        "against_microseconds": theirs,
        "ratio": theirs / mine,
    }
