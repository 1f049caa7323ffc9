"""The trainer: one loop, read from top to bottom."""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from trix.address.anneal import annealed
from trix.address.checks import positive
from trix.address.regularize import diversity, load_balance, sparsity, ternary_pull
from trix.address.route import Route
from trix.lab.charlm import CharLM
from trix.lab.checkpoint import (
    load_checkpoint,
    load_optimizer_tensors,
    optimizer_tensors,
    save_checkpoint,
)
from trix.lab.interrupt import interrupt_later
from trix.lab.lookup_lm import LookupLM

LM = CharLM | LookupLM

RoutingLoss = Callable[[Any, Route], Tensor]

Draw = Callable[[int, int, torch.Generator], tuple[Tensor, ...]]
"""Maps the number of sequences, their length and a generator to tokens and targets; -100 is none.

What follows them is for the model: `BlockDraw` says which block of the text each window is from.

Its `repr` says what it draws, so that a run does not go on with another one's checkpoint.
"""

SCHEDULES = ("constant", "cosine", "linear")

ROUTING_LOSSES: dict[str, RoutingLoss] = {
    "load-balance": lambda layer, route: load_balance(route, layer.tiles),
    "diversity": lambda layer, route: diversity(layer.signatures),
    "ternary-pull": lambda layer, route: ternary_pull(layer.latent),
    "sparsity": lambda layer, route: sparsity(layer.latent),
}


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run, besides the model, the data and the seed.

    Attributes:
        steps: optimizer steps.
        batch: sequences a step.
        context: characters a sequence.
        lr: peak learning rate of AdamW.
        schedule: "constant", "cosine" down to a tenth of the peak, or "linear" down to zero.
        warmup: steps of linear warm-up.
        beta2: AdamW's second-moment decay.
        weight_decay: on matrices; vectors have none.
        clip: largest norm of the gradient; 0 for no clipping.
        loss_weights: weight of each routing loss, by its name in `ROUTING_LOSSES`.
        anneal: temperatures of the layers' blend at the first and the last step, see `annealed`;
            None leaves the temperature to the gradient.
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

    def __post_init__(self) -> None:
        """Check every value."""
        for name in ("steps", "batch", "context"):
            positive(name, getattr(self, name))
        for name in ("lr", "warmup", "weight_decay", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and at least 0, got {getattr(self, name)}")
        if not 0 <= self.beta2 < 1:
            raise ValueError(f"beta2 must be in [0, 1), got {self.beta2}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {SCHEDULES}, got {self.schedule!r}")
        if unknown := set(self.loss_weights) - set(ROUTING_LOSSES):
            raise ValueError(
                f"unknown routing losses {sorted(unknown)}; known are {sorted(ROUTING_LOSSES)}"
            )
        if self.anneal is not None:
            annealed(*self.anneal, progress=0.0)


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves: the training loss every few steps as `(step, nats)`, and its seconds."""

    curve: list[tuple[int, float]]
    seconds: float


def train(
    model: LM,
    data: Tensor | Draw,
    config: TrainConfig,
    seed: int = 0,
    folder: Path | None = None,
    save_every: int = 100,
    progress: bool = True,
) -> TrainResult:
    """Train `model` in place on random windows of `data`, or on what `data` draws.

    The model's device decides where it runs; on CUDA the forward pass is in bfloat16. With a
    `folder` the run is saved there every `save_every` steps, and goes on from what is saved: a run
    that was killed and started again ends in the same bits as one that was not, on one machine.
    Ctrl-C waits for the step that is under way, which is saved as well; a second one does not wait.

    Args:
        model: changed in place.
        data: text as int64 `[length]`, longer than the context; or a function, see `Draw`.
        config: see `TrainConfig`.
        seed: decides windows and dropout.
        folder: where to keep the checkpoint.
        save_every: steps between checkpoints.
        progress: show a progress bar with loss and characters a second.

    Raises:
        ValueError: the text is too short or holds unknown characters, a routing loss is asked of a
            model that does not route, or the checkpoint is corrupt or of another run.
        FloatingPointError: the loss is no longer finite; the last checkpoint is kept.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    positive("save_every", save_every)
    draw = _windows(data, config.context, model) if isinstance(data, Tensor) else data
    if config.loss_weights and not model.routed_layers():
        raise ValueError(
            f"routing losses {sorted(config.loss_weights)} need a feed-forward that routes, "
            f"got ffn={model.config.ffn!r}"
        )
    if config.anneal is not None and not (
        model.routed_layers() and all(hasattr(x, "set_temperature") for x in model.routed_layers())
    ):
        raise ValueError(
            f"anneal needs a feed-forward with a temperature, got ffn={model.config.ffn!r}"
        )
    identity = _identity(model, data, config, seed)
    device = next(model.parameters()).device
    optimizer = make_optimizer(model, config)
    sampler = torch.Generator().manual_seed(seed)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        start, curve, spent = _resume(folder, model, optimizer, sampler, identity)
        model.train()
        began = time.perf_counter() - spent
        bar = tqdm(
            range(start, config.steps),
            initial=start,
            total=config.steps,
            disable=not progress,
            unit="step",
            mininterval=0.5,
        )
        with interrupt_later() as interrupted:
            for step in bar:
                loss = _step(model, draw, config, optimizer, sampler, step)
                done = step + 1
                if done % 20 == 0 or done == config.steps:
                    value = float(loss)
                    if not math.isfinite(value):
                        raise FloatingPointError(f"loss is {value} at step {done}")
                    curve.append((done, value))
                    speed = done * config.batch * config.context / (time.perf_counter() - began)
                    bar.set_postfix_str(f"loss {value:.3f}, {speed:,.0f} tokens/s", refresh=False)
                stop = interrupted()
                if folder is not None and (done % save_every == 0 or done == config.steps or stop):
                    _save(folder, model, optimizer, sampler, identity, done, curve, began)
                if stop:
                    bar.close()
                    break
        seconds = time.perf_counter() - began
    model.eval()
    return TrainResult(curve, seconds)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate at `step`, counted from 0."""
    if step < config.warmup:
        return config.lr * (step + 1) / (config.warmup + 1)
    if config.schedule == "constant":
        return config.lr
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    if config.schedule == "linear":
        return config.lr * (1 - done)
    return config.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices only."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=config.lr, betas=(0.9, config.beta2), fused=True
    )


def _windows(data: Tensor, context: int, model: LM) -> Draw:
    if data.ndim != 1 or len(data) <= context:
        raise ValueError(
            f"data must be [length > {context}] for that context, got {list(data.shape)}"
        )
    low, high = int(data.min()), int(data.max())
    if low < 0 or high >= model.config.vocab_size:
        raise ValueError(f"data must be in 0 … {model.config.vocab_size - 1}, got {low} … {high}")
    data = data.to(next(model.parameters()).device)

    def draw(batch: int, length: int, sampler: torch.Generator) -> tuple[Tensor, Tensor]:
        first = torch.randint(len(data) - length, (batch,), generator=sampler)
        offsets = torch.arange(length + 1, device=data.device)
        tokens = data[first.to(data.device)[:, None] + offsets]
        return tokens[:, :-1], tokens[:, 1:]

    return draw


def _step(
    model: LM,
    draw: Draw,
    config: TrainConfig,
    optimizer: torch.optim.Optimizer,
    sampler: torch.Generator,
    step: int,
) -> Tensor:
    device = next(model.parameters()).device
    tokens, targets, *rest = (t.to(device) for t in draw(config.batch, config.context, sampler))
    if config.anneal is not None:
        temperature = annealed(*config.anneal, step / max(1, config.steps - 1))
        for layer in model.routed_layers():
            layer.set_temperature(temperature)  # pyright: ignore[reportAttributeAccessIssue]
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        routed = model.routed(tokens, None, *rest)
        routes = routed.routes
        loss = F.cross_entropy(routed.logits.flatten(0, 1), targets.flatten())
    total = loss
    for name, weight in config.loss_weights.items():
        for layer, route in zip(model.routed_layers(), routes, strict=True):
            extra = ROUTING_LOSSES[name](layer, route)
            if not extra.requires_grad:
                raise ValueError(
                    f"{name} must move something, got a {type(layer).__name__} of fixed rows"
                )
            total = total + weight * extra
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step)
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    if config.clip:
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    optimizer.step()
    for layer, route in zip(model.routed_layers(), routes, strict=True):
        layer.update(route)
    return loss.detach()


def _identity(model: LM, data: Tensor | Draw, config: TrainConfig, seed: int) -> dict[str, Any]:
    text = data.cpu().numpy().tobytes() if isinstance(data, Tensor) else repr(data).encode()
    values = {
        "model": dataclasses.asdict(model.config),
        "train": dataclasses.asdict(config),
        "seed": seed,
        "data": hashlib.sha256(text).hexdigest(),
    }
    return json.loads(json.dumps(values))  # as a checkpoint gives it back: tuples become lists


def _difference(expected: dict[str, Any], received: dict[str, Any]) -> str:
    named: list[str] = []
    for key, wanted in expected.items():
        given = received.get(key)
        if isinstance(wanted, dict) and isinstance(given, dict):
            named += [
                f"{key}.{k}: {wanted.get(k)!r}, got {given.get(k)!r}"
                for k in {**wanted, **given}
                if wanted.get(k) != given.get(k)
            ]
        elif wanted != given:
            named.append(f"{key}: {wanted!r}, got {given!r}")
    return "expected " + "; ".join(named)


def _save(
    folder: Path,
    model: LM,
    optimizer: torch.optim.Optimizer,
    sampler: torch.Generator,
    identity: dict[str, Any],
    step: int,
    curve: list[tuple[int, float]],
    began: float,
) -> None:
    # a step after a finite loss can still break the weights: never over a checkpoint that works
    if not all(bool(p.isfinite().all()) for p in model.parameters()):
        raise FloatingPointError(f"a weight is no longer finite at step {step}")
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= optimizer_tensors(optimizer)
    tensors |= {"rng.sampler": sampler.get_state(), "rng.torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["rng.cuda"] = torch.cuda.get_rng_state()
    seconds = time.perf_counter() - began
    values = {"run": identity, "step": step, "curve": curve, "seconds": seconds}
    save_checkpoint(folder, tensors, values)


def _resume(
    folder: Path | None,
    model: LM,
    optimizer: torch.optim.Optimizer,
    sampler: torch.Generator,
    identity: dict[str, Any],
) -> tuple[int, list[tuple[int, float]], float]:
    saved = load_checkpoint(folder) if folder is not None else None
    if saved is None:
        return 0, [], 0.0
    tensors, values = saved
    if values.get("run") != identity:
        raise ValueError(
            f"{folder} holds another run, {_difference(identity, values.get('run', {}))}; "
            "choose another folder or remove this one"
        )
    model.load_state_dict(
        {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    )
    load_optimizer_tensors(optimizer, tensors)
    sampler.set_state(tensors["rng.sampler"])
    torch.set_rng_state(tensors["rng.torch"])
    if "rng.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng.cuda"])
    return values["step"], [tuple(point) for point in values["curve"]], values["seconds"]
