"""How a run goes down: its settings, its learning rate and its optimizers."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trix.address.losses import annealed, diversity, load_balance, sparsity, ternary_pull
from trix.address.route import Route
from trix.checks import fraction, magnitude, one_of, positive

SCHEDULES = ("constant", "cosine", "linear")
TURNED = {"blocks", "gate"}  # modules whose matrices Muon may have
MUON_LEAST = 32  # a matrix with fewer rows or columns is not worth Muon's products

ROUTING_LOSSES: dict[str, Callable[[Any, Route], Tensor]] = {
    "load-balance": lambda layer, route: load_balance(route, layer.tiles),
    "diversity": lambda layer, route: diversity(layer.signatures),
    "ternary-pull": lambda layer, route: ternary_pull(layer.latent),
    "sparsity": lambda layer, route: sparsity(layer.latent),
}


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run, besides the model, the data and the seed.

    >>> TrainConfig(steps=600, muon=0.02, loss_weights={"load-balance": 0.01}).batch
    12

    Attributes:
        steps, batch, context: of the optimizer; sequences per step; characters per sequence.
        lr, beta2: AdamW's peak learning rate and second-moment decay.
        schedule: "constant", "cosine" down to a tenth of the peak, or "linear" down to zero.
        warmup: steps of linear warm-up.
        weight_decay: on matrices; vectors have none, and Muon's matrices have half of it.
        clip: largest norm of the gradient; 0 for no clipping.
        loss_weights: weight of each routing loss, by its name in `ROUTING_LOSSES`.
        anneal: the blend's temperatures at the first and last step, see `annealed`; None: learned.
        muon: peak learning rate of Muon (Jordan et al. 2024) for the matrices of a network's
            blocks and of a gate; None leaves them to AdamW.
    """

    steps: int = 2000
    batch: int = 12
    context: int = 64
    lr: float = 1e-3
    schedule: str = "cosine"
    warmup: int = 100
    beta2: float = 0.99
    weight_decay: float = 0.1
    clip: float = 1.0
    loss_weights: dict[str, float] = field(default_factory=dict)
    anneal: tuple[float, float] | None = None
    muon: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "context"):
            positive(name, getattr(self, name))
        for name in ("lr", "warmup", "weight_decay", "clip"):
            magnitude(name, getattr(self, name), zero=True)
        fraction("beta2", self.beta2)
        one_of("schedule", self.schedule, SCHEDULES)
        if unknown := set(self.loss_weights) - set(ROUTING_LOSSES):
            raise ValueError(
                f"unknown routing losses {sorted(unknown)}; known are {sorted(ROUTING_LOSSES)}"
            )
        if self.anneal is not None:
            annealed(*self.anneal, progress=0.0)
        if self.muon is not None:
            magnitude("muon", self.muon)


def learning_rate(config: TrainConfig, step: int, peak: float | None = None) -> float:
    """Return the learning rate at `step`, counted from 0; `peak` is `config.lr` if not given."""
    peak = config.lr if peak is None else peak
    if step < config.warmup:
        return peak * (step + 1) / (config.warmup + 1)
    if config.schedule == "constant":
        return peak
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    if config.schedule == "linear":
        return peak * (1 - done)
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def make_optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Return AdamW with weight decay on matrices only, and Muon where the config asks for it."""
    turned = {
        name: p
        for name, p in model.named_parameters()
        if config.muon
        and TURNED & set(name.split("."))
        and p.ndim == 2
        and min(p.shape) >= MUON_LEAST
    }
    others = [p for name, p in model.named_parameters() if name not in turned]
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups, betas = [g for g in groups if g["params"]], (0.9, config.beta2)
    adam = torch.optim.AdamW(groups, lr=config.lr, betas=betas, fused=True)
    found: list[torch.optim.Optimizer] = [adam]
    if config.muon:
        if not turned:
            raise ValueError(
                f"muon needs a matrix of blocks or a gate with at least {MUON_LEAST} rows and "
                f"columns, got none in a {type(model).__name__}"
            )
        decay = config.weight_decay / 2  # decay goes with the rate, and Muon's is the larger
        found.append(torch.optim.Muon(turned.values(), lr=config.muon, weight_decay=decay))
    for optimizer in found:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return found
