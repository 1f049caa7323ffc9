"""Writing: one character after the other, each from the state before it."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def characters(
    model: Any,
    prompt: Tensor,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Return the characters after a prompt, `[batch, 1]` each, without end.

    Each comes from the state before it. A model with learned positions runs out of them: it then
    starts again from the latest half of its context.

    Args:
        model: a `CharLM`, or what is called as one; put in evaluation mode.
        prompt: int64 `[batch, time]`, at least one token.
        temperature: 0 always takes the likeliest character.
        generator: source of randomness.

    Raises:
        ValueError: an empty prompt or a negative temperature.
    """
    if prompt.ndim != 2 or prompt.shape[1] == 0:
        raise ValueError(f"prompt must be [batch, time >= 1], got {list(prompt.shape)}")
    if temperature < 0:
        raise ValueError(f"temperature must not be negative, got {temperature}")
    return _characters(model.eval(), prompt, temperature, generator)


@torch.no_grad()
def _characters(
    model: Any, prompt: Tensor, temperature: float, generator: torch.Generator | None
) -> Iterator[Tensor]:
    positions = getattr(model.config, "positions", 0)
    limit, half = positions or math.inf, max(1, positions // 2)
    fresh, state, tokens = prompt if prompt.shape[1] <= limit else prompt[:, -half:], None, prompt
    while True:
        if state is not None and state.seen >= limit:
            state, fresh = None, tokens[:, -half:]
        routed = model.routed(fresh, state)
        state, fresh = routed.state, _choose(routed.logits[:, -1], temperature, generator)
        if positions:
            tokens = torch.cat([tokens, fresh], dim=1)[:, -half:]
        yield fresh


def generate(
    model: Any,
    prompt: Tensor,
    length: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return a prompt and the `length` characters after it, int64 `[batch, time + length]`.

    See `characters`; the model stays in the mode that it was in.

    Raises:
        ValueError: an empty prompt, a negative length or temperature.
    """
    if length < 0:
        raise ValueError(f"length must not be negative, got {length}")
    training = model.training
    more = itertools.islice(characters(model, prompt, temperature, generator), length)
    tokens = torch.cat([prompt, *more], dim=1)
    model.train(training)
    return tokens


def _choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    return torch.multinomial(torch.softmax(logits / temperature, dim=-1), 1, generator=generator)
