"""From soft to hard: a falling temperature, or hard forward and soft backward."""

import math

import torch
from torch import Tensor

from trix.address.route import blend_weights
from trix.address.ternary import straight_through


def annealed(start: float, end: float, progress: float) -> float:
    """Return the temperature at `progress`, falling by equal factors from `start` to `end`.

    Args:
        start: temperature at progress 0.
        end: temperature at progress 1.
        progress: share of the schedule that is done, 0 … 1.

    Raises:
        ValueError: a temperature is not positive and finite, or progress is outside 0 … 1.
    """
    for name, value in (("start", start), ("end", end)):
        if not 0.0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"progress must be in 0 … 1, got {progress}")
    return start ** (1 - progress) * end**progress


def straight_through_weights(score: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Return 1 for the first place and 0 for the others, with the gradient of the soft blend.

    Every tile has to be read to know that gradient: it costs as much as soft routing (Bengio et
    al. 2013).

    Args:
        score: `[..., k]`, the best first as in a `Route`.
        temperature: of the softmax behind the gradient, see `blend_weights`.

    Raises:
        ValueError: a temperature is not positive and finite.
    """
    soft = blend_weights(score, temperature)
    first = torch.zeros_like(soft)
    first[..., :1] = 1
    return straight_through(first, soft)
