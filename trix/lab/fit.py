"""What `trix train` does: count, plan, train, evaluate, save; interrupted anywhere, it goes on.

A folder holds `plan.json`, while training the checkpoint in `training/`, and in the end the model.
"""

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from trix import checks
from trix.files import locked, write_text
from trix.lab.corpus import Corpus
from trix.lab.evaluate import evaluate, model_log_probs
from trix.lab.recipes import BLOCK, environment, preset
from trix.lab.train import train
from trix.models.lookup import BlockDraw, LookupConfig, LookupLM, Memories, count
from trix.models.storage import INDEX, load_checkpoint, save_model

PLAN, TRAINING = "plan.json", "training"
_MEASURED = 3.0  # seconds, about, for which the speed of training is measured


@dataclass(frozen=True)
class TrainRequest:
    """What is to be trained: a preset on a text, for as many `steps` or for as many `minutes`.

    `order` is the longest n-gram of the memory. The preset's settings hold where it is None.
    """

    preset: str
    corpus: Corpus
    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    order: int | None = None

    def __post_init__(self) -> None:
        checks.seed(self.seed)

    def asked(self) -> dict[str, Any]:
        text = {key: self.corpus.provenance()[key] for key in ("name", "sha256")}
        return {**vars(self), "corpus": text}

    def model(self) -> LookupConfig:
        """Return the model's settings, with the text's alphabet."""
        config, vocab_size = preset(self.preset).model, self.corpus.vocab_size
        network = config.network and replace(config.network, vocab_size=vocab_size)
        order = config.order if self.order is None else self.order
        highest = order
        while highest > 1 and max(highest, vocab_size) * vocab_size ** (highest - 1) >= 2**63:
            highest -= 1
        if highest < order:
            raise ValueError(
                f"order must be at most {highest} for an alphabet of {vocab_size} characters, got "
                f"{order}"
            )
        return replace(config, order=order, vocab_size=vocab_size, network=network)


def fit(
    request: TrainRequest,
    out: Path,
    afresh: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train what is asked for and leave it in a folder; return what is known about it.

    Where the same was begun there, it goes on, and where it is finished, nothing is done, unless
    it is to begin `afresh`. What happens is told to `say`. Ctrl-C saves the step reached.
    """
    began = time.perf_counter()
    config, settings = request.model(), preset(request.preset).train
    # every block that is left out must hold a window and the character after it
    needed = max(max(config.folds, 1) * (settings.context + 2), config.order + 1)
    if len(request.corpus.train) < needed or len(request.corpus.val) < 2:
        raise ValueError(
            f"corpus {request.corpus.name!r}: expected at least {needed} characters to train on "
            f"and 2 to evaluate on, got {len(request.corpus.train)} and {len(request.corpus.val)}"
        )
    with locked(out, wait=False):
        if afresh:
            _clear(out)
        plan = _read_plan(out, request)
        if (out / INDEX).exists():
            shutil.rmtree(out / TRAINING, ignore_errors=True)
            saved = load_checkpoint(out)
            say(f"{out} is finished")
            return saved.values["about"] if saved else {}
        also = ", words and lines" if config.words else ""
        say(f"counting n-grams of 1 … {config.order} characters{also} in {request.corpus.name}")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        memories = count(config, request.corpus.train, request.corpus.alphabet).to(device)
        steps, speed = request.steps or settings.steps, None
        if plan is None and request.minutes is not None:
            say("measuring how fast this machine trains")
            left = 60 * request.minutes - (time.perf_counter() - began)
            steps, speed = steps_within(left, request, config, memories, device)
            say(f"{steps} steps of {speed:.3g} s fit in {request.minutes:g} minutes")
        if plan is None:
            plan = {"asked": request.asked(), "steps": steps, "seconds_a_step": speed}
            write_text(out / PLAN, json.dumps(plan, indent=1) + "\n")
        torch.manual_seed(request.seed)
        model = LookupLM(config, *memories).to(device)
        draw = BlockDraw(request.corpus.train, config.folds)
        settings = replace(settings, steps=plan["steps"])
        result = train(model, draw, settings, request.seed, out / TRAINING, progress=progress)
        say(f"evaluating on {len(request.corpus.val_text)} characters that it has not seen")
        loss = evaluate(model_log_probs(model), request.corpus.val.to(device), BLOCK).nats
        about = {"preset": request.preset, "corpus": request.corpus.provenance()}
        about |= {"seed": request.seed, "steps": plan["steps"], "seconds": result.seconds}
        about |= {"parameters": model.parameter_count(), "val_nats": loss}
        about |= {"val_perplexity": math.exp(loss), "block": BLOCK, **environment(device)}
        save_model(out, model, request.corpus.alphabet, about)
        shutil.rmtree(out / TRAINING)
    return about


def steps_within(
    seconds: float, request: TrainRequest, config: LookupConfig, memories: Memories, device: str
) -> tuple[int, float]:
    """Return how many steps fit into some seconds, and how long one takes.

    A model that is thrown away is trained and evaluated for a few seconds, which count.
    """
    began = time.perf_counter()
    model = LookupLM(config, *memories).to(device)
    draw, settings = BlockDraw(request.corpus.train, config.folds), preset(request.preset).train
    first = train(model, draw, replace(settings, steps=2), progress=False).seconds / 2
    timed = min(max(round(_MEASURED / first), 2), 50)
    speed = train(model, draw, replace(settings, steps=timed), progress=False).seconds / timed
    piece = request.corpus.val[: 16 * BLOCK + 1].to(device)
    evaluating = time.perf_counter()
    evaluate(model_log_probs(model), piece, BLOCK)
    now = time.perf_counter()
    rest = (now - evaluating) * len(request.corpus.val) / len(piece)
    # a tenth more for the evaluation and for checkpoints: it is an upper limit that was asked for
    steps = int((seconds - (now - began) - 1.1 * rest) / (1.02 * speed))
    if steps < 1:
        needed = 60 * (request.minutes or 0) - seconds + now - began + rest
        raise ValueError(
            f"minutes must leave time for a step, got {request.minutes:g}: counting, measuring and "
            f"evaluating take about {needed:.0f} s"
        )
    return steps, speed


def _clear(out: Path) -> None:
    if (out / INDEX).exists() and not (out / PLAN).exists():
        raise ValueError(f"{out} holds a checkpoint but no {PLAN}: nothing is removed")
    for pattern in (INDEX, "tensors-*.safetensors", PLAN):
        for path in out.glob(pattern):
            path.unlink()
    shutil.rmtree(out / TRAINING, ignore_errors=True)


def _read_plan(out: Path, request: TrainRequest) -> dict[str, Any] | None:
    path = out / PLAN
    if not path.exists():
        if (out / INDEX).exists():
            raise ValueError(f"{out} holds a checkpoint of something else; choose another folder")
        return None
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        asked, _ = plan["asked"], int(plan["steps"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"corrupt plan {path}: {error!r}") from error
    expected = request.asked()
    if different := [k for k in expected if expected[k] != asked.get(k)]:
        named = "; ".join(f"{k} {expected[k]!r}, got {asked.get(k)!r}" for k in different)
        raise ValueError(
            f"{out} holds another model, finished or begun, expected {named}; choose another "
            "folder, or --force to begin anew in this one"
        )
    return plan
