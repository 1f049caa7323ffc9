"""How fast routed memory is beside attention: training a model, a layer, decoding a token."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from trix.lab.bench import side_by_side
from trix.lab.cost import (
    DIM,
    HEADS,
    decoder,
    kept_bytes,
    make_layer,
    reader,
    state_after,
    train_step,
)
from trix.lab.recipes import protocol, routed_memory
from trix.lab.train import train
from trix.memory.attention import AttentionState
from trix.models.charlm import CharLM

if TYPE_CHECKING:
    import matplotlib.figure

LENGTHS = (256, 1024, 4096, 16384)
PASTS = (1024, 16384, 65536)
STEPS = 8
"""Steps and tokens in a row: what a case finds cold is cold for one of them alone."""
LAYER, TOKEN = "layer, there and back", "token decoded"
COPIED, READ = "cache, copied", "cache, only read"


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Time training steps, layers and decoding, turn by turn.

    Float32, on as many threads as torch is set to. A training step is the trainer's own, of the
    models of `memory-seed` and `memory-nano`, which have no more parameters than the same with
    attention. A layer goes forward and backward over one text, at a width of 256 with four heads.
    A token is decoded after a past of known length, by the same layer: beside `CausalAttention`,
    which copies its cache at every token, and beside nothing but the read of the cache, without
    projections, which no way of keeping it can undercut.

    Args:
        quick: small sizes and few rounds, to see that it works.

    Returns:
        Rows, one a case. In each stand `what`, `tokens` (of a step, of a text, of the past),
        `seconds`, `against`, `against_seconds`, `ratio`, how often the seconds go into those of
        attention, and for both `bytes` and `against_bytes`: kept for the backward pass in training,
        and from token to token in decoding.
    """
    torch.manual_seed(0)
    return [*_models(quick), *_layers(quick), *_decoding(quick)]


def _models(quick: bool) -> list[dict[str, Any]]:
    rows = []
    for name in tqdm(("seed", "nano"), desc="training steps", unit="protocol"):
        settings = protocol(name)
        changes: dict[str, dict[str, Any]] = {"attention": {}}
        for slots in (64, 16):
            changes[f"{slots} slots"] = routed_memory(name, slots)
        steps, batch = (1, 1) if quick else (STEPS, settings.train.batch)
        config = replace(settings.train, steps=steps, batch=batch)
        models = {k: CharLM(settings.with_model(**v)) for k, v in changes.items()}
        text = torch.randint(settings.model.vocab_size, (10 * config.context,))
        seconds = side_by_side(
            {
                k: lambda m=m: train(m, text, config, progress=False)  # noqa: B023
                for k, m in models.items()
            },
            rounds=1 if quick else 9,
        )
        window = text[: config.context].expand(batch, -1)
        kept = {k: kept_bytes(m, lambda m=m: m(window)) for k, m in models.items()}  # noqa: B023
        for case in list(changes)[1:]:
            rows.append(
                _row(
                    f"{name} step, {case}",
                    batch * config.context,
                    (seconds[case] / steps, kept[case]),
                    "attention",
                    (seconds["attention"] / steps, kept["attention"]),
                )
            )
    return rows


def _layers(quick: bool) -> list[dict[str, Any]]:
    routed, attention = (make_layer(mixer) for mixer in ("routed-memory", "attention"))
    rows = []
    for n in tqdm((16, 40) if quick else LENGTHS, desc="layers", unit="length"):
        x = torch.randn(1, n, DIM, requires_grad=True)
        seconds = side_by_side(
            {
                "routed": lambda: train_step(routed, x),  # noqa: B023
                "attention": lambda: train_step(attention, x),  # noqa: B023
            },
            rounds=1 if quick else max(3, min(31, LENGTHS[-1] // n)),
        )
        mine, theirs = (kept_bytes(m, lambda m=m: m(x)) for m in (routed, attention))  # noqa: B023
        rows.append(
            _row(LAYER, n, (seconds["routed"], mine), "attention", (seconds["attention"], theirs))
        )
    return rows


def _decoding(quick: bool) -> list[dict[str, Any]]:
    routed, attention = (make_layer(mixer).eval() for mixer in ("routed-memory", "attention"))
    pasts = (16, 40) if quick else PASTS
    cases, size = {}, {}
    for n in pasts:
        slots, cache = state_after(routed, n), state_after(attention, n)
        if not isinstance(cache, AttentionState):
            raise TypeError(f"expected a cache, got {type(cache).__name__}")
        cases["routed", n] = decoder(routed, slots, STEPS)
        cases[COPIED, n] = decoder(attention, cache, STEPS)
        cases[READ, n] = reader(cache, STEPS)
        size["routed", n] = sum(part.nbytes for part in slots)
        size[COPIED, n] = size[READ, n] = sum(part.nbytes for part in cache)
    # all lengths take turns, too: whether decoding stays as fast is a ratio as well
    seconds = side_by_side(
        {f"{what} {n}": call for (what, n), call in cases.items()}, rounds=1 if quick else 15
    )
    both = {(what, n): (seconds[f"{what} {n}"] / STEPS, size[what, n]) for what, n in cases}
    return [
        _row(TOKEN, n, both["routed", n], against, both[against, n])
        for n in pasts
        for against in (COPIED, READ)
    ]


def _row(
    what: str, tokens: int, mine: tuple[float, int], against: str, theirs: tuple[float, int]
) -> dict[str, Any]:
    return {
        "what": what,
        "tokens": tokens,
        "seconds": mine[0],
        "against": against,
        "against_seconds": theirs[0],
        "ratio": theirs[0] / mine[0],
        "bytes": mine[1],
        "against_bytes": theirs[1],
    }


def plot(rows: list[dict[str, Any]]) -> matplotlib.figure.Figure:
    """Draw what `run` returned about layers and decoding, against length, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    seconds, decoded, kept = figure.subplots(1, 3)
    layers = [row for row in rows if row["what"] == LAYER]
    tokens = {
        a: [r for r in rows if (r["what"], r["against"]) == (TOKEN, a)] for a in (COPIED, READ)
    }
    _line(seconds, layers, "seconds", "routed memory")
    _line(seconds, layers, "against_seconds", "attention")
    _line(decoded, tokens[COPIED], "seconds", "routed memory")
    for against, chosen in tokens.items():
        _line(decoded, chosen, "against_seconds", against)
    _line(kept, tokens[COPIED], "bytes", "routed memory")
    _line(kept, tokens[COPIED], "against_bytes", "attention")
    for axes, title, unit, along in (
        (seconds, "A layer, forward and backward", "seconds", "tokens"),
        (decoded, "A token decoded", "seconds", "tokens before it"),
        (kept, "What is kept to decode", "bytes", "tokens before"),
    ):
        axes.set(title=title, xlabel=along, ylabel=unit, yscale="log")
        axes.set_xscale("log", base=2)
        axes.legend()
    figure.suptitle(f"One layer of {DIM} features and {HEADS} heads, one text at a time")
    return figure


def _line(axes: Any, rows: list[dict[str, Any]], column: str, label: str) -> None:
    axes.plot([r["tokens"] for r in rows], [r[column] for r in rows], marker="o", label=label)
