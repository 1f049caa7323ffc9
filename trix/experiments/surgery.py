"""Arms about surgery: signatures that are put into a trained model, and compiled dispatch."""

import copy
import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trix.experiments.arm import Outcome, TrainedLM, trained
from trix.lab.corpus import Corpus
from trix.lab.evaluate import blocks, evaluate, model_log_probs
from trix.lab.recipes import protocol
from trix.lab.train import train
from trix.models.charlm import CharLM
from trix.surgery import Claims, Dispatch, compile_dispatch, signature_from_examples
from trix.tiles.lookup import SparseLookupFFN

VOWELS = "aeiouAEIOU"
PATIENT = TrainedLM("probe", {"ffn": "lookup", "ffn_options": {"tiles_per_cluster": None}})
"""The model that is operated on: 64 tiles, searched flat, one read by each token."""
EXAMPLES = 512
AGAIN: dict[str, Any] = {"steps": 200, "lr": 3e-4, "schedule": "constant", "warmup": 0}
"""How a model goes on training after an operation."""


def lookups(model: CharLM) -> list[SparseLookupFFN]:
    """Return a model's sparse lookups.

    Raises:
        TypeError: another layer of it routes.
    """
    found = model.routed_layers()
    for layer in found:
        if not isinstance(layer, SparseLookupFFN):
            raise TypeError(f"expected SparseLookupFFN, got {type(layer).__name__}")
    return found  # pyright: ignore[reportReturnType]


@torch.no_grad()
def seen(model: CharLM, text: Tensor, block: int) -> tuple[Tensor, list[Tensor]]:
    """Return the characters of a text's whole blocks, `[n]`, and what each layer sees of them.

    Args:
        model: with routed layers.
        text: int64 `[length]`, at least a block.
        block: characters that are read together.

    Returns:
        The characters and, for every routed layer, tokens `[n, dim]`.
    """
    rows = text[: len(text) // block * block].view(-1, block)
    parts = [
        [r.token.flatten(0, 1) for r in model.routed(part).routes if r.token is not None]
        for part in rows.split(64)
    ]
    return rows.flatten(), [torch.cat(layer) for layer in zip(*parts, strict=True)]


@dataclass(frozen=True)
class Surgery:
    """Signatures that are put in tiles of a trained model: what they claim, and what it costs.

    The class is that of the vowels. Every signature goes into a random tile of one layer, the
    layers taking turns, in the model as it was trained. The first of them then stays, frozen, and
    the model trains on for a while.

    Attributes:
        kind: "designed", the cut difference of means of examples drawn anew for each; "random", the
            same numbers in random places; "untouched", the tile's own signature.
        signatures: how many.
    """

    kind: str
    signatures: int = 30
    seeded: bool = True

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in ("designed", "random", "untouched"):
            raise ValueError(f"kind must be designed, random or untouched, got {self.kind!r}")

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return the kind, the class, both trainings and how many signatures."""
        own = {"kind": self.kind, "characters": VOWELS, "signatures": self._count(budget)}
        return own | {"again": AGAIN, "examples": EXAMPLES} | PATIENT.config(corpus, budget)

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Train the patient, or find it trained; operate; measure on the validation text."""
        began = time.perf_counter()
        shared = work.parent / f"patient-{seed}-{corpus.sha256[:8]}-{budget}"
        model = trained(PATIENT, corpus, seed, budget, shared).eval()
        block = protocol(PATIENT.protocol).block
        wanted = torch.tensor([c in VOWELS for c in corpus.alphabet])
        text, tokens = seen(model, corpus.train[:100_000], block)
        val_text, val_tokens = seen(model, corpus.val, block)
        generator = torch.Generator().manual_seed(seed)
        rows: list[list[float]] = []
        after: dict[str, float] = {}
        plain = _losses(model, corpus.val, block, wanted)
        for number in range(self._count(budget)):
            place = number % len(tokens)
            tile, row = self._signature(
                lookups(model)[place], tokens[place], wanted[text], generator
            )
            patient = copy.deepcopy(model)
            layer = lookups(patient)[place]
            price = plain
            if self.kind != "untouched":
                layer.insert_signature(tile, row, tag="vowels")
                price = _losses(patient, corpus.val, block, wanted)
            got = layer.route(val_tokens[place]).index[:, 0] == tile
            share = [float(got[m].double().mean()) for m in (wanted[val_text], ~wanted[val_text])]
            rows.append([*share, *price])
            if number == 0:
                after = self._train_on(patient, corpus, seed, budget, wanted, (place, tile))
        metrics = _spread(torch.tensor(rows, dtype=torch.float64)) | after
        return Outcome(time.perf_counter() - began, model.parameter_count(), metrics, [], "cpu")

    def _count(self, budget: str) -> int:
        return 2 if budget == "quick" else self.signatures

    def _signature(
        self, layer: SparseLookupFFN, tokens: Tensor, wanted: Tensor, generator: torch.Generator
    ) -> tuple[int, Tensor]:
        # every kind draws the same numbers, so that the same tiles are operated on
        tile = int(torch.randint(layer.tiles, (1,), generator=generator))
        pick = torch.randint(len(tokens), (EXAMPLES,), generator=generator)
        order = torch.randperm(layer.dim, generator=generator)
        some, is_wanted = tokens[pick], wanted[pick]
        row = signature_from_examples(some[is_wanted], some[~is_wanted])
        return tile, row[order] if self.kind == "random" else row

    def _train_on(
        self,
        model: CharLM,
        corpus: Corpus,
        seed: int,
        budget: str,
        wanted: Tensor,
        where: tuple[int, int],
    ) -> dict[str, float]:
        model = copy.deepcopy(model)
        _go_on(model, corpus, seed, budget)
        block = protocol(PATIENT.protocol).block
        place, tile = where
        text, tokens = seen(model, corpus.val, block)
        got = lookups(model)[place].route(tokens[place]).index[:, 0] == tile
        on, off = _losses(model, corpus.val, block, wanted)
        return {
            "claim_rate_trained_on": float(got[wanted[text]].double().mean()),
            "val_nats_on_trained_on": on,
            "val_nats_off_trained_on": off,
        }


@torch.no_grad()
def _losses(model: CharLM, text: Tensor, block: int, wanted: Tensor) -> tuple[float, float]:
    # the mean loss after characters of the class, and after all others
    total, count = torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for inputs, targets in blocks(text, block, 64):
        loss = F.cross_entropy(model(inputs).transpose(1, 2), targets, reduction="none").double()
        kind = (~wanted[inputs]).long().flatten()
        total.index_add_(0, kind, loss.flatten())
        count += torch.bincount(kind, minlength=2)
    on, off = (total / count).tolist()
    return on, off


def _spread(rows: Tensor) -> dict[str, float]:
    rate = rows[:, 0]
    mean, off_rate, on, off = (float(rows[:, i].mean()) for i in (0, 1, 2, 3))
    return {
        "claim_rate": mean,
        "claim_rate_std": float(rate.std()),
        "claim_rate_min": float(rate.min()),
        "claim_rate_max": float(rate.max()),
        "claim_rate_others": off_rate,
        "val_nats_on": on,
        "val_nats_off": off,
    }


COMMON = 20
"""How many characters get a tile of their own before dispatch is compiled."""


@dataclass(frozen=True)
class Compiled:
    """A dispatch table by the current character, for the last layer of a trained model.

    With `designed`, each of the commonest characters is first given a tile by a designed signature,
    frozen, and the model trains on for a while. The table is compiled from the claims on training
    text and checked on the validation text; then the model trains on once more, and is checked
    again, with the table of before.

    Attributes:
        designed: whether signatures are designed.
        trained_on: whether a model without designs trains on as long, too.
        threshold: claim rate from which a class is tabled.
        tracked: characters of the training text whose claims are tracked.
    """

    designed: bool
    trained_on: bool = False
    threshold: float = 0.5
    tracked: int = 400_000
    seeded: bool = True

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return all settings, those of both trainings included."""
        own = {"designed": self.designed, "threshold": self.threshold, "tracked": self.tracked}
        own |= {"trained_on": True} if self.trained_on else {}
        return own | {"common": COMMON, "again": AGAIN} | PATIENT.config(corpus, budget)

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Train the patient, or find it trained; operate; compile; measure."""
        began = time.perf_counter()
        shared = work.parent / f"patient-{seed}-{corpus.sha256[:8]}-{budget}"
        model = trained(PATIENT, corpus, seed, budget, shared).eval()
        block = protocol(PATIENT.protocol).block
        if self.designed:
            self._design(model, corpus.train[:100_000], block)
        if self.designed or self.trained_on:
            _go_on(model, corpus, seed, budget)
        layer = lookups(model)[-1]
        claims = Claims(layer)
        text, tokens = seen(model, corpus.train[: self.tracked], block)
        claims.track_claims(layer.route(tokens[-1]), text, corpus.vocab_size)
        table = compile_dispatch(layer, claims, self.threshold)
        text, tokens = seen(model, corpus.val, block)
        found = table.check(layer, tokens[-1], text)
        score = evaluate(model_log_probs(model), corpus.val, block)
        _go_on(model, corpus, seed + 1, budget)
        text, tokens = seen(model, corpus.val, block)
        later = table.check(layer, tokens[-1], text)
        metrics = {
            "hit_rate": found.hit_rate,
            "agreement": found.agreement,
            "tabled": float((table.tile >= 0).sum()),
            "val_nats": score.nats,
            "hit_rate_later": later.hit_rate,
            "agreement_later": later.agreement,
            "noticed": float(_moved(table, layer)),
        }
        return Outcome(time.perf_counter() - began, model.parameter_count(), metrics, [], "cpu")

    def _design(self, model: CharLM, text: Tensor, block: int) -> None:
        characters, tokens = seen(model, text, block)
        layer, told = lookups(model)[-1], tokens[-1]
        common = characters.bincount().argsort(descending=True, stable=True)[:COMMON]
        for tile, character in enumerate(common.tolist()):
            of_it = characters == character
            row = signature_from_examples(told[of_it], told[~of_it], threshold=1.0)
            layer.insert_signature(tile, row)


def _moved(table: Dispatch, layer: SparseLookupFFN) -> bool:
    try:
        table.verify(layer)
    except ValueError:
        return True
    return False


def _go_on(model: CharLM, corpus: Corpus, seed: int, budget: str) -> None:
    again = dict(AGAIN, steps=10) if budget == "quick" else AGAIN
    config = dataclasses.replace(protocol(PATIENT.protocol).train, **again)
    train(model, corpus.train, config, seed + 1000, progress=False)
