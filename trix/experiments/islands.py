"""Arms about islands: what the notes measured of signatures, and its nulls."""

import dataclasses
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.losses import diversity, sparsity
from trix.address.route import Route
from trix.address.signatures import SignatureRows
from trix.address.sources import Source, TileParts
from trix.address.ternary import ternary_fraction
from trix.experiments.arm import Arm, Outcome, TrainedLM, trained, trained_with_result
from trix.experiments.surgery import PATIENT, Compiled, Surgery, lookups
from trix.lab.corpus import Corpus
from trix.lab.evaluate import evaluate, model_log_probs
from trix.lab.optimize import ROUTING_LOSSES, learning_rate
from trix.lab.recipes import protocol
from trix.models.charlm import Block, CharLM
from trix.tiles.tiled import TiledFFN

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


BINS = 10
JUDGED = 200
"""Blocks from the start of the validation text on which the gate is compared with the best tile."""


class SigmoidGate(nn.Module):
    """The logistic function of the score, as `ScoreGate` begins, but never learned."""

    def __init__(self, dim: int) -> None:
        """See the class."""
        super().__init__()
        self.scale = dim**-0.5

    def forward(self, score: Tensor) -> Tensor:
        """Map raw scores `[...]` to gates `[...]`."""
        return (score * self.scale).sigmoid()


class NoGate(nn.Module):
    """One, whatever the score: the chosen tile speaks at full volume."""

    def forward(self, score: Tensor) -> Tensor:
        """Map raw scores `[...]` to ones; a NaN stays one."""
        return 1 + 0 * score.detach()


@dataclass(frozen=True)
class Gated:
    """A model of tiles with one of three gates.

    Attributes:
        gate: "spline", "sigmoid" or "none".
    """

    gate: str
    seeded: bool = True

    def __post_init__(self) -> None:
        """Check the gate."""
        if self.gate not in ("spline", "sigmoid", "none"):
            raise ValueError(f"gate must be spline, sigmoid or none, got {self.gate!r}")

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return the gate, and the settings of model and training."""
        return {"gate": self.gate, "judged": JUDGED} | self._arm().config(corpus, budget)

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Train; evaluate; compare the last layer's gate with which tile would have been best."""
        arm = self._arm()
        model, result = trained_with_result(arm, corpus, seed, budget, work / "model")
        block = protocol(arm.protocol).block
        metrics = {"val_nats": evaluate(model_log_probs(model), corpus.val, block).nats}
        tail = [loss for _, loss in result.curve[len(result.curve) // 2 :]]
        if len(tail) > 1:  # how much the training loss jumps from one reading to the next
            jumps = torch.tensor(tail).diff().abs().mean()
            metrics["curve_roughness"] = float(jumps)
        metrics |= reliability(model, corpus.val, block)
        curve = [[step, loss] for step, loss in result.curve]
        return Outcome(result.seconds, model.parameter_count(), metrics, curve, "cpu")

    def _arm(self) -> TrainedLM:
        return TrainedLM(
            "probe", {"ffn": "tiled", "ffn_options": {"tiles": 16}}, start=self._set_gates
        )

    def _set_gates(self, model: CharLM) -> None:
        for layer in model.routed_layers():
            if not isinstance(layer, TiledFFN):
                raise TypeError(f"expected TiledFFN, got {type(layer).__name__}")
            if self.gate == "sigmoid":
                layer.gate = SigmoidGate(layer.dim)  # pyright: ignore[reportAttributeAccessIssue]
            elif self.gate == "none":
                layer.gate = NoGate()  # pyright: ignore[reportAttributeAccessIssue]


class _Forced(Source):
    # every token reads one given tile, at the score that it has there
    def __init__(self, source: Source, tile: int) -> None:
        super().__init__()
        self.source, self.tile = source, tile

    def rows(self, parts: TileParts) -> Tensor:
        return self.source.rows(parts)

    def route(
        self,
        x: Tensor,
        rows: Tensor,
        top_k: int = 1,
        temperature: float | Tensor = 1.0,
        bias: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Route:
        score = (x @ rows[self.tile].to(x.dtype)).unsqueeze(-1)
        index = torch.full(score.shape, self.tile)
        return Route(index, torch.ones_like(score), score, index.unsqueeze(-1), x.detach())


@torch.no_grad()
def reliability(model: CharLM, text: Tensor, block: int) -> dict[str, float]:
    """Compare the last layer's gates with how often the chosen tile is the best one.

    Nothing mixes tokens after the last layer, so that every other tile can be tried for each token
    by itself. The best tile is the one with which the next character costs least. Tokens are
    sorted by their gate into `BINS` groups of one size.

    Args:
        model: its last feed-forward is a `TiledFFN` that reads one tile.
        text: int64 `[length]`.
        block: characters that are read together.

    Returns:
        `best_share`, how often the chosen tile is the best; `gate_0` … and `best_share_0` …, mean
        gate and that share in every group; `gate_rise`, the share in the loudest third of the
        groups less that in the quietest; `regret`, the nats that the best tile would save.
    """
    count = min(JUDGED * block, (len(text) - 1) // block * block)
    rows, after = text[:count].view(-1, block), text[1 : count + 1]
    last = model.blocks[-1]
    if not isinstance(last, Block) or not isinstance(last.ffn, TiledFFN) or last.ffn_norm is None:
        raise TypeError("expected a last feed-forward of tiles")
    layer, held = last.ffn, []
    hook = last.ffn_norm.register_forward_pre_hook(lambda _, args: held.append(args[0]))
    route = model.routed(rows).routes[-1]
    hook.remove()
    x, source, losses = held[0], layer.source, []
    for tile in range(layer.tiles):
        layer.source = _Forced(source, tile)
        logits = model.head(model.norm(x + layer(last.ffn_norm(x))))
        losses.append(F.cross_entropy(logits.flatten(0, 1), after, reduction="none"))
    layer.source = source
    loss = torch.stack(losses)
    chosen = route.index[..., 0].flatten()
    best = (loss.argmin(dim=0) == chosen).double()
    gate = layer.gate(route.score[..., 0]).flatten().double()
    order = gate.argsort(stable=True).tensor_split(BINS)
    found = {"best_share": float(best.mean())}
    for number, group in enumerate(order):
        found[f"gate_{number}"] = float(gate[group].mean())
        found[f"best_share_{number}"] = float(best[group].mean())
    third = BINS // 3
    loud, quiet = torch.cat(order[-third:]), torch.cat(order[:third])
    found["gate_rise"] = float(best[loud].mean() - best[quiet].mean())
    saved = loss.gather(0, chosen.unsqueeze(0)).squeeze(0) - loss.amin(dim=0)
    return found | {"regret": float(saved.double().mean())}


# The notes do not give theirs. With these the losses alone, without any text, leave signatures
# about as sparse as the notes found them; pull and sparsity work against each other, and a little
# more of either wins.
PULL = {"ternary-pull": 0.13}
SPARSE = {"sparsity": 0.3}
DIVERSE = {"diversity": 0.3}
ALL = PULL | SPARSE | DIVERSE

SURGERY: dict[str, dict[str, Arm]] = {
    "surgery": {kind: Surgery(kind) for kind in ("designed", "random", "untouched")},
    "dispatch": {
        "designed": Compiled(designed=True),
        "plain": Compiled(designed=False),
        "plain-trained-on": Compiled(designed=False, trained_on=True),
    },
    "islands": {
        "on": Islands(ALL),
        "off": Islands(),
        "pull": Islands(PULL),
        "sparsity": Islands(SPARSE),
        "diversity": Islands(DIVERSE),
        "no-pull": Islands(SPARSE | DIVERSE),
        "no-sparsity": Islands(PULL | DIVERSE),
        "no-diversity": Islands(PULL | SPARSE),
        "no-data": Islands(ALL, data="none"),
        "start": Islands(data="start"),
        "random": Islands(data="random"),
    },
    "calibration": {gate: Gated(gate) for gate in ("spline", "none", "sigmoid")},
}
