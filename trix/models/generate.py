"""Writing: one character after the other, each from the state before it."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from trix.checks import at_least, magnitude, shape

Read = Callable[[Tensor], Tensor]
"""Reads on in some texts: tokens `[batch, time]` → logits of the next one, `[batch, vocab]`."""


def characters(
    model: Any, prompt: Tensor, temperature: float = 1, generator: torch.Generator | None = None
) -> Iterator[Tensor]:
    """Return the characters after a prompt, `[batch, 1]` each, without end; see `generate`."""
    shape("prompt", prompt, "batch", "time >= 1")
    magnitude("temperature", temperature, zero=True)
    return written(fastest(model.eval(), len(prompt)), prompt, temperature, generator)


def generate(
    model: Any,
    prompt: Tensor,
    length: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return a prompt and the `length` characters after it, int64 `[batch, time + length]`.

    One text of a `LookupLM` is written by the `Sampler`, where it knows all parts of the model:
    many times as fast, and the same but for float32's rounding. A model with learned positions runs
    out of them: it then starts again from the latest half of its context.

    >>> from trix.lab import CharLM, LMConfig
    >>> model = CharLM(LMConfig(vocab_size=5, dim=8, layers=1, mixer_options={"heads": 2}))
    >>> generate(model, torch.tensor([[0, 3]]), 6).shape
    torch.Size([1, 8])

    The model, a `CharLM` or `LookupLM`, stays in its mode; a prompt is int64 `[batch, time >= 1]`;
    temperature 0 always takes the likeliest character. `ValueError` for an empty prompt, or a
    negative length or temperature.
    """
    training, more = model.training, characters(model, prompt, temperature, generator)
    more = itertools.islice(more, at_least("length", length, 0))
    tokens = torch.cat([prompt, *more], dim=1)
    model.train(training)
    return tokens


def written(
    read: Read, fresh: Tensor, temperature: float, generator: torch.Generator | None
) -> Iterator[Tensor]:
    """Yield what follows `fresh`, each character from what was read so far; see `characters`."""
    while True:
        logits = read(fresh)
        if temperature == 0:
            fresh = logits.argmax(dim=-1, keepdim=True)
        else:
            share = torch.softmax(logits / temperature, dim=-1)
            fresh = torch.multinomial(share, 1, generator=generator)
        yield fresh


def fastest(model: Any, batch: int) -> Read:
    """Return the fastest way that there is to read `batch` texts with a model."""
    from trix.models.sampler.sampler import Sampler  # which knows the models, and they this module

    if batch == 1:
        with contextlib.suppress(ValueError):  # there may be something that only torch knows
            return Sampler(model).read
    return torch_reader(model)


def torch_reader(model: Any) -> Read:
    """Return the way that every model is read, a call of `routed` at a time."""
    positions, state, latest = getattr(model.config, "positions", 0), None, None

    @torch.no_grad()
    def read(fresh: Tensor) -> Tensor:
        nonlocal state, latest
        if positions:
            half = max(1, positions // 2)
            known = fresh if latest is None else torch.cat([latest, fresh], dim=1)
            if (state.seen if state else 0) + fresh.shape[1] > positions:
                state, fresh = None, known[:, -half:]
            latest = known[:, -half:]
        routed = model.routed(fresh, state)
        state = routed.state
        return routed.logits[:, -1]

    return read
