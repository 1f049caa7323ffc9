"""Routing: score every address, keep the best, say how they are blended."""

import math
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor


class Route(NamedTuple):
    """Where each token went. All tensors share the token shape `[...]`.

    Attributes:
        index: chosen tiles, best first, `[..., k]`, int64.
        weight: blend weight of each chosen tile, `[..., k]`.
        score: raw score `x · signature` of each chosen tile, `[..., k]`.
        path: the choice made at each level on the way to the tile, `[..., k, levels]`, int64; the
            last entry is the tile itself.
    """

    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    weight: Tensor
    score: Tensor
    path: Tensor


class Routed(NamedTuple):
    """What a layer read, and where: `output` is `[..., dim]`."""

    output: Tensor
    route: Route


@runtime_checkable
class RoutedLayer(Protocol):
    """What every routed layer offers, besides being called: its addresses and its routes."""

    @property
    def signatures(self) -> Tensor:
        """The effective signatures, `[tiles, dim]`."""
        ...

    def routed(self, x: Tensor) -> Routed:
        """Return the output for `x`, `[..., dim]`, with the route that produced it."""
        ...


def blend_weights(score: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Return `softmax(score / temperature)` over the last axis.

    Args:
        score: `[..., k]`.
        temperature: a positive number, or a tensor of positive numbers that may be learned. Small
            temperatures approach the hard choice; large ones blend evenly.

    Raises:
        ValueError: the temperature is a number that is not positive and finite.
    """
    if not isinstance(temperature, Tensor) and not 0.0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}")
    return torch.softmax(score / temperature, dim=-1)


def flat_route(
    x: Tensor, signatures: Tensor, top_k: int = 1, temperature: float | Tensor = 1.0
) -> Route:
    """Send each token to the `top_k` tiles whose signatures match it best.

    Every token is compared with every signature: `tokens × tiles × dim` multiplications. Among
    equal scores the lower tile wins, so that a route is the same on every run.

    Args:
        x: tokens, `[..., dim]`.
        signatures: one row a tile, `[tiles, dim]`.
        top_k: how many tiles each token reads.
        temperature: of the blend among the chosen tiles, see `blend_weights`.

    Returns:
        A `Route` with one level. A token with a NaN gets NaN scores and weights, and some valid
        index; its neighbours are untouched.

    Raises:
        ValueError: shapes do not fit, `top_k` is not in `1 … tiles`, or a bad temperature.
    """
    if signatures.ndim != 2:
        raise ValueError(f"signatures must be [tiles, dim], got {list(signatures.shape)}")
    tiles, dim = signatures.shape
    if x.ndim == 0 or x.shape[-1] != dim:
        raise ValueError(f"x must have shape [..., {dim}], got {list(x.shape)}")
    if not 1 <= top_k <= tiles:
        raise ValueError(f"top_k must be between 1 and the {tiles} tiles, got {top_k}")
    scores = x @ signatures.to(x.dtype).T
    index = _best(scores.detach(), top_k)
    score = scores.gather(-1, index)
    return Route(index, blend_weights(score, temperature), score, index.unsqueeze(-1))


def _best(scores: Tensor, k: int) -> Tensor:
    # topk leaves the order of equal scores open; argmax and a stable sort do not
    if k == 1:
        return scores.argmax(dim=-1, keepdim=True)
    return scores.sort(dim=-1, descending=True, stable=True).indices[..., :k]
