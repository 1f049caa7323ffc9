"""Arms about islands: what the notes measured of signatures, and its nulls."""

import dataclasses
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trix.address.regularize import diversity, sparsity
from trix.address.rows import SignatureRows
from trix.address.ternary import ternary_fraction
from trix.lab.arms import Outcome, TrainedLM, trained
from trix.lab.charlm import CharLM
from trix.lab.corpus import Corpus
from trix.lab.evaluate import evaluate, model_log_probs
from trix.lab.optimize import ROUTING_LOSSES, learning_rate
from trix.lab.protocols import protocol
from trix.lab.surgery_arms import PATIENT, lookups

NEAR = 0.1
"""A number within this distance of −1, 0 or 1 counts as ternary before the cut."""


def island_statistics(rows: SignatureRows) -> dict[str, float]:
    """Return what the notes measured of signatures, before the cut to ternary and after it.

    Before it the rows are taken in units of their own scale, see `SignatureRows.latent`.
    `ternary_fraction` is the share of numbers within `NEAR` of −1, 0 or 1; `sparsity` the share of
    zeros, before the cut of numbers within `NEAR` of zero; `hoyer` one minus the sparsity loss, for
    which no tolerance is needed; `diversity` one minus the diversity loss, the mean squared cosine
    between rows, and `diversity_linear` one minus the cosine's mean size.

    Args:
        rows: at least two.
    """
    with torch.no_grad():
        latent, cut = rows.latent(), rows()
    return {
        "ternary_fraction": ternary_fraction(latent, NEAR),
        "sparsity_before": float((latent.abs() <= NEAR).double().mean()),
        "hoyer": 1 - float(sparsity(latent)),
        "diversity_before": 1 - float(diversity(latent)),
        "ternary_fraction_after": ternary_fraction(cut),
        "sparsity": float((cut == 0).double().mean()),
        "diversity": 1 - float(diversity(cut)),
        "diversity_linear": 1 - _cosine_size(cut),
    }


def _cosine_size(rows: Tensor) -> float:
    unit = F.normalize(rows.detach(), dim=-1)
    other = ~torch.eye(len(unit), dtype=torch.bool)
    return float((unit @ unit.T)[other].abs().double().mean())


def _mean_statistics(tables: list[SignatureRows]) -> dict[str, float]:
    found = [island_statistics(table) for table in tables]
    return {name: math.fsum(f[name] for f in found) / len(found) for name in found[0]}


@dataclass(frozen=True)
class Islands:
    """A model trained with some of the island losses: its loss, and its signatures' statistics.

    Attributes:
        losses: weight of each, by its name in `ROUTING_LOSSES`.
        data: "text"; "none", the losses alone train the signatures for as many steps; "start", the
            signatures as training finds them; "random", others drawn the same way.
    """

    losses: dict[str, float] = field(default_factory=dict)
    data: str = "text"
    seeded: bool = True

    def __post_init__(self) -> None:
        """Check the kind of data."""
        if self.data not in ("text", "none", "start", "random"):
            raise ValueError(f"data must be text, none, start or random, got {self.data!r}")

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return the data, the tolerance, and the settings of model and training."""
        return {"data": self.data, "near": NEAR} | self._arm().config(corpus, budget)

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Train as told and measure."""
        began = time.perf_counter()
        arm = self._arm()
        if self.data == "text":
            model = trained(arm, corpus, seed, budget, work / "model").eval()
            block = protocol(arm.protocol).block
            score = evaluate(model_log_probs(model), corpus.val, block)
            metrics = {"val_nats": score.nats}
        else:
            torch.manual_seed(seed if self.data != "random" else seed + 1000)
            changes = dict(vocab_size=corpus.vocab_size, **arm.changes)
            model = CharLM(protocol(arm.protocol).with_model(**changes))
            metrics = {}
            if self.data == "none":
                self._losses_alone(model, int(arm.config(corpus, budget)["train"]["steps"]))
        metrics |= _mean_statistics([layer.keys for layer in lookups(model)])
        return Outcome(time.perf_counter() - began, model.parameter_count(), metrics, [], "cpu")

    def _arm(self) -> TrainedLM:
        training = {"loss_weights": self.losses} if self.losses else {}
        return TrainedLM(PATIENT.protocol, PATIENT.changes, training)

    def _losses_alone(self, model: CharLM, steps: int) -> None:
        config = protocol(PATIENT.protocol).train
        rows = [layer.keys for layer in lookups(model)]
        optimizer = torch.optim.AdamW(
            [table.raw for table in rows],
            lr=config.lr,
            betas=(0.9, config.beta2),
            weight_decay=config.weight_decay,
        )
        route: Any = None  # these losses do not look at routes
        config = dataclasses.replace(config, steps=steps)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step)
            optimizer.zero_grad()
            total = torch.zeros(())
            for name, weight in self.losses.items():
                for layer in lookups(model):
                    total = total + weight * ROUTING_LOSSES[name](layer, route)
            total.backward()
            optimizer.step()
