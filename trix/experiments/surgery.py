"""Arms about surgery: signatures that are put into a trained model, and compiled dispatch."""

import copy
import dataclasses
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trix.checks import instance
from trix.experiments.arm import Arm, Run, Training
from trix.lab.corpus import Corpus
from trix.lab.evaluate import blocks
from trix.lab.recipes import protocol
from trix.lab.train import train
from trix.models.charlm import CharLM
from trix.surgery import Claims, Dispatch, compile_dispatch, signature_from_examples
from trix.tiles.lookup import SparseLookupFFN

VOWELS = "aeiouAEIOU"
PATIENT = Training(
    "probe", {"ffn": "lookup", "ffn_options": {"tiles_per_cluster": None}}, shared="patient"
)  # what is operated on: 64 tiles, searched flat, one read by each token
EXAMPLES = 512
# how a model goes on training after an operation
AGAIN: dict[str, Any] = {"steps": 200, "lr": 3e-4, "schedule": "constant", "warmup": 0}


def lookups(model: CharLM) -> list[SparseLookupFFN]:
    """Return a model's sparse lookups; `TypeError` where another layer of it routes."""
    return [instance("layer", layer, SparseLookupFFN) for layer in model.routed_layers()]


@torch.no_grad()
def seen(model: CharLM, text: Tensor, block: int) -> tuple[Tensor, list[Tensor]]:
    """Return a text's whole blocks, `[n]`, and what each routed layer sees of them, `[n, dim]`."""
    rows = text[: len(text) // block * block].view(-1, block)
    parts = [
        [r.token.flatten(0, 1) for r in model.routed(part).routes if r.token is not None]
        for part in rows.split(64)
    ]
    return rows.flatten(), [torch.cat(layer) for layer in zip(*parts, strict=True)]


def operate(run: Run, kind: str) -> dict[str, float]:
    """Put signatures of the vowels in tiles of a trained model: what they get, and what it costs.

    Each goes into a random tile of one layer, the layers taking turns: the "designed" are cut
    differences of means of examples, the "random" the same numbers in random places, "untouched"
    the tile's own. The first then stays, frozen, and the model trains on.
    """
    model, corpus, block = run.model, run.corpus, run.recipe.block
    wanted = torch.tensor([c in VOWELS for c in corpus.alphabet])
    text, tokens = seen(model, corpus.train[:100_000], block)
    val_text, val_tokens = seen(model, corpus.val, block)
    generator = torch.Generator().manual_seed(run.seed)
    plain = _losses(model, corpus.val, block, wanted)
    rows, after = [], {}
    for number in range(_signatures(run.budget)):
        place = number % len(tokens)
        tile, row = _signature(
            lookups(model)[place], tokens[place], wanted[text], generator, kind == "random"
        )
        patient = copy.deepcopy(model)
        layer, price = lookups(patient)[place], plain
        if kind != "untouched":
            layer.insert_signature(tile, row, tag="vowels")
            price = _losses(patient, corpus.val, block, wanted)
        share = _shares(layer, val_tokens[place], tile, wanted[val_text])
        rows.append([*share, *price])
        if number == 0:
            go_on(patient, run)
            val_again, tokens_again = seen(patient, corpus.val, block)
            share = _shares(layer, tokens_again[place], tile, wanted[val_again])
            on, off = _losses(patient, corpus.val, block, wanted)
            after = {"claim_rate": share[0], "val_nats_on": on, "val_nats_off": off}
    table = torch.tensor(rows, dtype=torch.float64)
    rate = table[:, 0]
    spread = {"std": rate.std(), "min": rate.min(), "max": rate.max()}
    names = ("claim_rate", "claim_rate_others", "val_nats_on", "val_nats_off")
    return {
        **dict(zip(names, table.mean(dim=0).tolist(), strict=True)),
        **{f"claim_rate_{name}": float(value) for name, value in spread.items()},
        **{f"{name}_trained_on": value for name, value in after.items()},
    }


def _signatures(budget: str) -> int:
    return 2 if budget == "quick" else 30


def _signature(
    layer: SparseLookupFFN, tokens: Tensor, wanted: Tensor, generator: torch.Generator, mixed: bool
) -> tuple[int, Tensor]:
    # every kind draws the same numbers, so that the same tiles are operated on
    tile = int(torch.randint(layer.tiles, (1,), generator=generator))
    pick = torch.randint(len(tokens), (EXAMPLES,), generator=generator)
    order = torch.randperm(layer.dim, generator=generator)
    some, is_wanted = tokens[pick], wanted[pick]
    row = signature_from_examples(some[is_wanted], some[~is_wanted])
    return tile, row[order] if mixed else row


def _shares(layer: SparseLookupFFN, tokens: Tensor, tile: int, wanted: Tensor) -> list[float]:
    # how many tokens of the class, and of all others, the tile gets
    got = layer.route(tokens).index[:, 0] == tile
    return [float(got[mask].double().mean()) for mask in (wanted, ~wanted)]


@torch.no_grad()
def _losses(model: CharLM, text: Tensor, block: int, wanted: Tensor) -> tuple[float, float]:
    # the mean loss after characters of the class, and after all others
    total, count = torch.zeros(2, 2, dtype=torch.float64)
    for inputs, targets in blocks(text, block, 64):
        loss = F.cross_entropy(model(inputs).transpose(1, 2), targets, reduction="none").double()
        kind = (~wanted[inputs]).long().flatten()
        total.index_add_(0, kind, loss.flatten())
        count += torch.bincount(kind, minlength=2)
    on, off = (total / count).tolist()
    return on, off


COMMON = 20  # how many characters get a tile of their own before dispatch is compiled
THRESHOLD = 0.5  # share of a class that one tile must get for the class to be tabled
TRACKED = 400_000  # characters of the training text whose tiles are counted


def dispatch(run: Run, designed: bool, trained_on: bool) -> dict[str, float]:
    """Compile a table by the current character for the last layer of a trained model.

    It is checked on the validation text, and again after the model trained on. Where it is
    `designed`, each of the commonest characters first gets a tile by a frozen signature, and the
    model trains on for a while; `trained_on`, one without designs trains on as long, too.
    """
    model, corpus, block = run.model, run.corpus, run.recipe.block
    layer = lookups(model)[-1]
    if designed:
        text, tokens = seen(model, corpus.train[:100_000], block)
        common = text.bincount().argsort(descending=True, stable=True)[:COMMON]
        for tile, character in enumerate(common.tolist()):
            told, others = tokens[-1][text == character], tokens[-1][text != character]
            layer.insert_signature(tile, signature_from_examples(told, others, threshold=1.0))
    if designed or trained_on:
        go_on(model, run)
    claims = Claims(layer)
    text, tokens = seen(model, corpus.train[:TRACKED], block)
    claims.track_claims(layer.route(tokens[-1]), text, corpus.vocab_size)
    table = compile_dispatch(layer, claims, THRESHOLD)
    text, tokens = seen(model, corpus.val, block)
    found, nats = table.check(layer, tokens[-1], text), run.score().nats
    go_on(model, run, later=1)
    text, tokens = seen(model, corpus.val, block)
    later = table.check(layer, tokens[-1], text)
    before = {"hit_rate": found.hit_rate, "agreement": found.agreement}
    after = {"hit_rate_later": later.hit_rate, "agreement_later": later.agreement}
    sizes = {"tabled": float((table.tile >= 0).sum()), "val_nats": nats}
    return {**before, **sizes, **after, "noticed": float(_moved(table, layer))}


def _moved(table: Dispatch, layer: SparseLookupFFN) -> bool:
    try:
        table.verify(layer)
    except ValueError:
        return True
    return False


def go_on(model: CharLM, run: Run, later: int = 0) -> None:
    """Train a model on, as `AGAIN` says; `later` is added to the seed."""
    again = dict(AGAIN, steps=10) if run.budget == "quick" else AGAIN
    config = dataclasses.replace(protocol(PATIENT.protocol).train, **again)
    train(model, run.corpus.train, config, run.seed + later + 1000, progress=False)


def _operated(kind: str) -> Arm:
    def settings(corpus: Corpus, budget: str) -> dict[str, Any]:
        own = {"kind": kind, "characters": VOWELS, "signatures": _signatures(budget)}
        return {**own, "again": AGAIN, "examples": EXAMPLES}

    return Arm(PATIENT, (partial(operate, kind=kind),), settings)


def _dispatched(designed: bool, trained_on: bool = False) -> Arm:
    settings = {"designed": designed, "threshold": THRESHOLD, "tracked": TRACKED}
    settings |= {"common": COMMON, "again": AGAIN} | ({"trained_on": True} if trained_on else {})
    return Arm(PATIENT, (partial(dispatch, designed=designed, trained_on=trained_on),), settings)


SURGERY: dict[str, dict[str, Arm]] = {
    "surgery": {kind: _operated(kind) for kind in ("designed", "random", "untouched")},
    "dispatch": {
        "designed": _dispatched(designed=True),
        "plain": _dispatched(designed=False),
        "plain-trained-on": _dispatched(designed=False, trained_on=True),
    },
}
