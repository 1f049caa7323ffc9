"""How fast routed memory is beside attention: training a model, a layer, decoding a token."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm

from trix.checks import instance
from trix.lab.bench.timing import row, side_by_side
from trix.lab.cost import DIM, decoder, kept_bytes, make_layer, reader, state_after, train_step
from trix.lab.recipes import protocol, routed_memory
from trix.lab.train import train
from trix.memory.attention import AttentionState
from trix.models.charlm import CharLM

LENGTHS = (256, 1024, 4096, 16384)
PASTS = (1024, 16384, 65536)
STEPS = 8  # and tokens in a row: what a case finds cold is cold for one of them alone
LAYER, TOKEN = "layer, there and back", "token decoded"
COPIED, READ = "cache, copied", "cache, only read"


def memory(quick: bool = False) -> list[dict[str, Any]]:
    """Time training steps, layers and decoding of routed memory, beside attention.

    Float32, on torch's threads. A training step is the trainer's own, of the models of
    `memory-seed` and `memory-nano`. A layer goes forward and backward over one text. A token is
    decoded after a past of known length: beside `CausalAttention`, which copies its cache at every
    token, and beside nothing but the read of the cache, which no way of keeping it can undercut.
    `size` counts tokens, `bytes` are those kept for the backward pass or from token to token.
    """
    torch.manual_seed(0)
    return [*_models(quick), *_layers(quick), *_decoding(quick)]


def _models(quick: bool) -> list[dict[str, Any]]:
    rows = []
    for name in tqdm(("seed", "nano"), desc="training steps", unit="protocol"):
        settings = protocol(name)
        steps, batch = (1, 1) if quick else (STEPS, settings.train.batch)
        config = replace(settings.train, steps=steps, batch=batch)
        models = {"attention": CharLM(settings.with_model())} | {
            f"{slots} slots": CharLM(settings.with_model(**routed_memory(name, slots)))
            for slots in (64, 16)
        }
        text = torch.randint(settings.model.vocab_size, (10 * config.context,))
        cases = {
            case: lambda m=m, c=config, t=text: train(m, t, c, progress=False)
            for case, m in models.items()
        }
        seconds = side_by_side(cases, rounds=1 if quick else 9)
        window = text[: config.context].expand(batch, -1)
        found = {
            case: (seconds[case] / steps, kept_bytes(m, lambda m=m, w=window: m(w)))
            for case, m in models.items()
        }
        size = batch * config.context
        rows += [
            _row(f"{name} step, {case}", size, found[case], "attention", found["attention"])
            for case in list(models)[1:]
        ]
    return rows


def _layers(quick: bool) -> list[dict[str, Any]]:
    layers = {mixer: make_layer(mixer) for mixer in ("routed-memory", "attention")}
    rows = []
    for n in tqdm((16, 40) if quick else LENGTHS, desc="layers", unit="length"):
        x = torch.randn(1, n, DIM, requires_grad=True)
        cases = {k: lambda m=m, x=x: train_step(m, x) for k, m in layers.items()}
        seconds = side_by_side(cases, rounds=1 if quick else max(3, min(31, LENGTHS[-1] // n)))
        kept = {k: kept_bytes(m, lambda m=m, x=x: m(x)) for k, m in layers.items()}
        mine, theirs = ((seconds[k], kept[k]) for k in layers)
        rows.append(_row(LAYER, n, mine, "attention", theirs))
    return rows


def _decoding(quick: bool) -> list[dict[str, Any]]:
    routed, attention = (make_layer(mixer).eval() for mixer in ("routed-memory", "attention"))
    pasts = (16, 40) if quick else PASTS
    cases: dict[tuple[str, int], Callable[[], Any]] = {}
    size: dict[tuple[str, int], int] = {}
    for n in pasts:
        slots = state_after(routed, n)
        cache = instance("cache", state_after(attention, n), AttentionState)
        cases["routed", n] = decoder(routed, slots, STEPS)
        cases[COPIED, n] = decoder(attention, cache, STEPS)
        cases[READ, n] = reader(cache, STEPS)
        size["routed", n] = sum(part.nbytes for part in slots)
        size[COPIED, n] = size[READ, n] = sum(part.nbytes for part in cache)
    # all lengths take turns, too: whether decoding stays as fast is a ratio as well
    named = {f"{what} {n}": call for (what, n), call in cases.items()}
    seconds = side_by_side(named, rounds=1 if quick else 15)
    found = {(what, n): (seconds[f"{what} {n}"] / STEPS, size[what, n]) for what, n in cases}
    return [
        _row(TOKEN, n, found["routed", n], against, found[against, n])
        for n in pasts
        for against in (COPIED, READ)
    ]


def _row(
    what: str, tokens: int, mine: tuple[float, int], against: str, theirs: tuple[float, int]
) -> dict[str, Any]:
    kept = {"bytes": mine[1], "against_bytes": theirs[1]}
    return row(what, tokens, mine[0], against, theirs[0]) | kept
