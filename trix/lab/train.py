"""The trainer: one loop for every model, whose runs can be interrupted, killed and gone on with."""

import dataclasses
import hashlib
import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from trix import checks
from trix.address.losses import annealed
from trix.lab.optimize import ROUTING_LOSSES, TrainConfig, learning_rate, make_optimizers
from trix.models import storage
from trix.models.charlm import CharLM
from trix.models.lookup import LookupLM

LM = CharLM | LookupLM

Draw = Callable[[int, int, torch.Generator], tuple[Tensor, ...]]
"""Maps the number of sequences, their length and a generator to tokens and targets (-100 is none).

What follows them is for the model, see `BlockDraw`. Its `repr` tells a run from another one.
"""


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

    On CUDA the forward pass is in bfloat16. With a `folder` the run is saved there every
    `save_every` steps, and goes on from what is saved: on one machine, a run that was killed and
    started again ends in the same bits as one that was not. Ctrl-C waits for the step that is
    under way, which is saved as well; a second one does not wait.

    >>> from trix.lab import LMConfig
    >>> model = CharLM(LMConfig(vocab_size=4, dim=8, layers=1, mixer="none"))
    >>> text, config = torch.arange(4).repeat(50), TrainConfig(steps=40, context=16, lr=0.1)
    >>> result = train(model, text, config, progress=False)
    >>> [step for step, loss in result.curve]
    [20, 40]

    The model is on the device where it is to run; a text is int64 `[length]`, longer than the
    context, a function see `Draw`; the seed decides windows and dropout; `progress` shows a bar
    with the loss, characters per second and the threads in use.

    Raises:
        ValueError: the text is too short or holds unknown characters, the seed is none, the model
            lacks what the config asks for, or the checkpoint is corrupt or of another run.
        FloatingPointError: the loss is no longer finite; the last checkpoint is kept.
    """
    checks.seed(seed)
    checks.positive("save_every", save_every)
    draw = _windows(data, config.context, model) if isinstance(data, Tensor) else data
    layers = model.routed_layers()
    if config.loss_weights and not layers:
        raise ValueError(
            f"routing losses {sorted(config.loss_weights)} need a feed-forward that routes, "
            f"got ffn={model.config.ffn!r}"
        )
    if config.anneal and not (layers and all(hasattr(x, "set_temperature") for x in layers)):
        raise ValueError(
            f"anneal needs a feed-forward with a temperature, got ffn={model.config.ffn!r}"
        )
    identity, sampler = _identity(model, data, config, seed), torch.Generator().manual_seed(seed)
    run = _Run(model, make_optimizers(model, config), sampler, identity)
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        if folder is not None:
            run.resume(folder)
        model.train()
        began = time.perf_counter() - run.seconds
        threads = torch.get_num_threads()
        bar = tqdm(
            range(run.step, config.steps),
            desc=f"{threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else device.type,
            initial=run.step,
            total=config.steps,
            disable=not progress,
            unit="step",
            mininterval=0.5,
            smoothing=0.05,  # the last ten seconds or so, for other work comes and goes
        )
        with interrupt_later() as interrupted:
            for _ in bar:
                loss = _step(run, draw, config)
                run.step += 1
                last = run.step == config.steps
                if run.step % 20 == 0 or last:
                    value = float(loss)
                    if not math.isfinite(value):
                        raise FloatingPointError(f"loss is {value} at step {run.step}")
                    run.curve.append((run.step, value))
                    speed = (bar.format_dict["rate"] or 0) * config.batch * config.context
                    bar.set_postfix_str(f"loss {value:.3f}, {speed:,.0f} tokens/s", refresh=False)
                stop = interrupted()
                run.seconds = time.perf_counter() - began
                if folder is not None and (run.step % save_every == 0 or last or stop):
                    run.save(folder)
                if stop:
                    bar.close()
                    break
        run.seconds = time.perf_counter() - began
    model.eval()
    return TrainResult(run.curve, run.seconds)


@contextmanager
def interrupt_later() -> Iterator[Callable[[], bool]]:
    """Hold a first Ctrl-C back until the block ends, and yield whether it was pressed.

    Nothing is held back outside the main thread, nor where somebody else handles this signal.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    pressed: list[int] = []

    def note(number: int, _: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def _windows(data: Tensor, context: int, model: LM) -> Draw:
    if data.ndim != 1 or len(data) <= context:
        raise ValueError(
            f"data must be [length > {context}] for that context, got {list(data.shape)}"
        )
    checks.indices("data", data, model.config.vocab_size, ValueError)
    data = data.to(next(model.parameters()).device)

    def draw(batch: int, length: int, sampler: torch.Generator) -> tuple[Tensor, Tensor]:
        first = torch.randint(len(data) - length, (batch,), generator=sampler)
        offsets = torch.arange(length + 1, device=data.device)
        tokens = data[first.to(data.device)[:, None] + offsets]
        return tokens[:, :-1], tokens[:, 1:]

    return draw


def _step(run: "_Run", draw: Draw, config: TrainConfig) -> Tensor:
    model, device = run.model, next(run.model.parameters()).device
    tokens, targets, *rest = (t.to(device) for t in draw(config.batch, config.context, run.sampler))
    if config.anneal is not None:
        temperature = annealed(*config.anneal, run.step / max(1, config.steps - 1))
        for layer in model.routed_layers():
            layer.set_temperature(temperature)  # pyright: ignore[reportAttributeAccessIssue]
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        routed = model.routed(tokens, None, *rest)
        loss = F.cross_entropy(routed.logits.flatten(0, 1), targets.flatten())
    total = loss
    for name, weight in config.loss_weights.items():
        for layer, route in zip(model.routed_layers(), routed.routes, strict=True):
            extra = ROUTING_LOSSES[name](layer, route)
            if not extra.requires_grad:
                raise ValueError(
                    f"{name} must move something, got a {type(layer).__name__} of fixed rows"
                )
            total = total + weight * extra
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, run.step, group["initial_lr"])
        optimizer.zero_grad(set_to_none=True)
    total.backward()
    if config.clip:
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    for optimizer in run.optimizers:
        optimizer.step()
    for layer, route in zip(model.routed_layers(), routed.routes, strict=True):
        layer.update(route)
    return loss.detach()


@dataclass
class _Run:
    # all that a checkpoint holds
    model: LM
    optimizers: list[torch.optim.Optimizer]
    sampler: torch.Generator
    identity: dict[str, Any]
    step: int = 0
    curve: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    def save(self, folder: Path) -> None:
        # a step after a finite loss can still break the weights: never over a checkpoint that works
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            raise FloatingPointError(f"a weight is no longer finite at step {self.step}")
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= storage.optimizer_tensors(self.optimizers)
        tensors |= {"rng.sampler": self.sampler.get_state(), "rng.torch": torch.get_rng_state()}
        if torch.cuda.is_available():
            tensors["rng.cuda"] = torch.cuda.get_rng_state()
        values = {"run": self.identity, "step": self.step}
        values |= {"curve": self.curve, "seconds": self.seconds}
        storage.save_checkpoint(folder, tensors, values)

    def resume(self, folder: Path) -> None:
        if (saved := storage.load_checkpoint(folder)) is None:
            return
        tensors, values = saved
        if values.get("run") != self.identity:
            raise ValueError(
                f"{folder} holds another run, {_difference(self.identity, values.get('run', {}))}; "
                "choose another folder or remove this one"
            )
        self.model.load_state_dict(saved.part("model"))
        storage.load_optimizer_tensors(self.optimizers, saved)
        self.sampler.set_state(tensors["rng.sampler"])
        torch.set_rng_state(tensors["rng.torch"])
        if "rng.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["rng.cuda"])
        self.step, self.seconds = values["step"], values["seconds"]
        self.curve = [tuple(point) for point in values["curve"]]


def _identity(model: LM, data: Tensor | Draw, config: TrainConfig, seed: int) -> dict[str, Any]:
    text = data.cpu().numpy().tobytes() if isinstance(data, Tensor) else repr(data).encode()
    settings = {"model": dataclasses.asdict(model.config), "train": dataclasses.asdict(config)}
    values = {**settings, "seed": seed, "data": hashlib.sha256(text).hexdigest()}
    return json.loads(json.dumps(values))  # as a checkpoint gives it back: tuples become lists


def _difference(expected: dict[str, Any], received: dict[str, Any]) -> str:
    def flat(values: dict[str, Any]) -> dict[str, Any]:
        parts = {k: v if isinstance(v, dict) else {"": v} for k, v in values.items()}
        return {f"{k}.{n}".rstrip("."): v for k, part in parts.items() for n, v in part.items()}

    wanted, given = flat(expected), flat(received)
    pairs = {k: (wanted.get(k, "nothing"), given.get(k, "nothing")) for k in {**wanted, **given}}
    told = (f"{k}: {a!r}, got {b!r}" for k, (a, b) in pairs.items() if a != b)
    return f"expected {'; '.join(told)}"
