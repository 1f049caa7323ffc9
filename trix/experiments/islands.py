"""Arms about islands: what the notes measured of signatures, and its nulls; and about gates."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
from trix.checks import instance
from trix.experiments.arm import Arm, Run, Training
from trix.experiments.surgery import PATIENT, lookups
from trix.lab.optimize import ROUTING_LOSSES, learning_rate
from trix.models.charlm import Block, CharLM
from trix.tiles.tiled import TiledFFN

NEAR = 0.1


def island_statistics(rows: SignatureRows) -> dict[str, float]:
    """Return what the notes measured of signatures, before the cut to ternary and after it.

    Before it, in units of their own scale, what lies within `NEAR` of −1, 0 or 1 counts as ternary.
    `hoyer` and `diversity` are one minus the losses on sparsity and on diversity (the mean squared
    cosine between rows), `diversity_linear` one minus the cosine's mean size.
    """
    with torch.no_grad():
        latent, cut = rows.latent(), rows()
    unit, other = F.normalize(cut, dim=-1), ~torch.eye(len(cut), dtype=torch.bool)
    return {
        "ternary_fraction": ternary_fraction(latent, NEAR),
        "sparsity_before": float((latent.abs() <= NEAR).double().mean()),
        "hoyer": 1 - float(sparsity(latent)),
        "diversity_before": 1 - float(diversity(latent)),
        "ternary_fraction_after": ternary_fraction(cut),
        "sparsity": float((cut == 0).double().mean()),
        "diversity": 1 - float(diversity(cut)),
        "diversity_linear": 1 - float((unit @ unit.T)[other].abs().double().mean()),
    }


@dataclass(frozen=True)
class Fresh(Training):
    """The model of a training as training finds it: nothing is trained."""

    redrawn: bool = False  # whether its weights are others, drawn the same way

    def make(self, run: Run, folder: Path) -> None:
        run.model = self.build(run.corpus, run.seed + 1000 * self.redrawn)
        run.parameters = run.model.parameter_count()


def islands(run: Run) -> dict[str, float]:
    """Return the loss, of a model that was trained, and the mean statistics of its signatures."""
    run.model.cpu()
    found = {"val_nats": run.score().nats} if run.result else {}
    layers = [island_statistics(layer.keys) for layer in lookups(run.model)]
    return found | {key: math.fsum(one[key] for one in layers) / len(layers) for key in layers[0]}


def losses_alone(run: Run) -> dict[str, float]:
    """Train a model's signatures on the recipe's island losses, without any text."""
    config, layers = run.recipe.train_config(run.budget), lookups(run.model)
    rows, betas = [layer.keys.raw for layer in layers], (0.9, config.beta2)
    optimizer = torch.optim.AdamW(rows, config.lr, betas, weight_decay=config.weight_decay)
    route: Any = None  # these losses do not look at routes
    for step in range(config.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        optimizer.zero_grad()
        total = torch.zeros(())
        for (name, weight), layer in itertools.product(config.loss_weights.items(), layers):
            total = total + weight * ROUTING_LOSSES[name](layer, route)
        total.backward()
        optimizer.step()
    return {}


def _islands(losses: dict[str, float] | None = None, data: str = "text") -> Arm:
    # data "none": the losses alone train the signatures; "start": they are as training finds them;
    # "random": others drawn the same way
    training = {"loss_weights": losses} if losses else {}
    parts = (PATIENT.protocol, PATIENT.changes, training)
    recipe = Training(*parts) if data == "text" else Fresh(*parts, redrawn=data == "random")
    measures = (losses_alone, islands) if data == "none" else (islands,)
    return Arm(recipe, measures, {"data": data, "near": NEAR})


BINS = 10
JUDGED = 200  # blocks of the validation text on which the gate is compared with the best tile


class SigmoidGate(nn.Module):
    """The logistic function of the score, as `ScoreGate` begins, but never learned."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = dim**-0.5

    def forward(self, score: Tensor) -> Tensor:
        return (score * self.scale).sigmoid()


class NoGate(nn.Module):
    """One, whatever the score, but NaN stays NaN: the chosen tile speaks at full volume."""

    def forward(self, score: Tensor) -> Tensor:
        return 1 + 0 * score.detach()


GATES: dict[str, Callable[[int], nn.Module] | None] = {
    "spline": None,  # as the layer has it
    "sigmoid": SigmoidGate,
    "none": lambda dim: NoGate(),
}


def set_gates(model: CharLM, gate: str) -> None:
    """Give a model's tiled layers one of `GATES`."""
    layers = [instance("layer", layer, TiledFFN) for layer in model.routed_layers()]
    if (make := GATES[gate]) is not None:
        for layer in layers:
            layer.gate = make(layer.dim)  # pyright: ignore[reportAttributeAccessIssue]


def calibration(run: Run) -> dict[str, float]:
    """Return the loss, how much its curve jumps between readings, and what `reliability` finds."""
    run.model.cpu()
    found, curve = {"val_nats": run.score().nats}, run.result.curve if run.result else []
    if len(tail := [loss for _, loss in curve[len(curve) // 2 :]]) > 1:
        found["curve_roughness"] = float(torch.tensor(tail).diff().abs().mean())
    return found | reliability(run.model, run.corpus.val, run.recipe.block)


def _gated(gate: str) -> Arm:
    changes = {"ffn": "tiled", "ffn_options": {"tiles": 16}}
    recipe = Training("probe", changes, start=partial(set_gates, gate=gate))
    return Arm(recipe, (calibration,), {"gate": gate, "judged": JUDGED})


class _Forced(Source):
    # every token reads one given tile, at the score that it has there
    def __init__(self, source: Source, tile: int) -> None:
        super().__init__()
        self.source, self.tile = source, tile

    def rows(self, parts: TileParts) -> Tensor:
        return self.source.rows(parts)

    def route(self, x: Tensor, rows: Tensor, *rest: Any, **options: Any) -> Route:
        score = (x @ rows[self.tile].to(x.dtype)).unsqueeze(-1)
        index = torch.full(score.shape, self.tile)
        return Route(index, torch.ones_like(score), score, index.unsqueeze(-1), x.detach())


@torch.no_grad()
def reliability(model: CharLM, text: Tensor, block: int) -> dict[str, float]:
    """Compare the last layer's gates with how often the chosen tile is the best one.

    The best tile is the one with which the next character costs least: `best_share` is how often
    it is the chosen one, `regret` the nats that it would save. Tokens are sorted by their gate into
    `BINS` groups of one size, with mean gate `gate_0` … and share `best_share_0` …; `gate_rise` is
    the share in the loudest third of them less that in the quietest.
    """
    # nothing mixes tokens after the last layer: every tile can be tried for each token by itself
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
    loss, chosen = torch.stack(losses), route.index[..., 0].flatten()
    best = (loss.argmin(dim=0) == chosen).double()
    gate = layer.gate(route.score[..., 0]).flatten().double()
    order = gate.argsort(stable=True).tensor_split(BINS)
    found = {"best_share": float(best.mean())}
    for number, group in enumerate(order):
        found[f"gate_{number}"] = float(gate[group].mean())
        found[f"best_share_{number}"] = float(best[group].mean())
    loud, quiet = torch.cat(order[-(BINS // 3) :]), torch.cat(order[: BINS // 3])
    found["gate_rise"] = float(best[loud].mean() - best[quiet].mean())
    saved = loss.gather(0, chosen.unsqueeze(0)).squeeze(0) - loss.amin(dim=0)
    return found | {"regret": float(saved.double().mean())}


# The notes do not give theirs. With these the losses alone, without any text, leave signatures
# about as sparse as the notes found them; pull and sparsity work against each other, and a little
# more of either wins.
PULL, SPARSE, DIVERSE = {"ternary-pull": 0.13}, {"sparsity": 0.3}, {"diversity": 0.3}
ALL = PULL | SPARSE | DIVERSE

ISLANDS: dict[str, dict[str, Arm]] = {
    "islands": {
        "on": _islands(ALL),
        "off": _islands(),
        "pull": _islands(PULL),
        "sparsity": _islands(SPARSE),
        "diversity": _islands(DIVERSE),
        "no-pull": _islands(SPARSE | DIVERSE),
        "no-sparsity": _islands(PULL | DIVERSE),
        "no-diversity": _islands(PULL | SPARSE),
        "no-data": _islands(ALL, data="none"),
        "start": _islands(data="start"),
        "random": _islands(data="random"),
    },
    "calibration": {gate: _gated(gate) for gate in ("spline", "none", "sigmoid")},
}
