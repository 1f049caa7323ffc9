"""Routing: score every address, keep the best, say how they are blended."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from trix.checks import at_most, finite, last_dim, magnitude, shape


class Route(NamedTuple):
    """Where each token went. All tensors share the token shape `[...]`.

    >>> route = flat_route(torch.tensor([[3.0, 2.0]]), torch.eye(2), top_k=2)
    >>> route.index.tolist(), route.score.tolist()
    ([[0, 1]], [[3.0, 2.0]])

    Attributes:
        index: chosen tiles, best first, `[..., k]`, int64.
        weight: blend weight of each chosen tile, `[..., k]`.
        score: raw score `x · signature` of each chosen tile, `[..., k]`.
        path: the choice made at each level on the way to the tile, `[..., k, levels]`, int64; the
            last entry is the tile itself.
        token: what was routed, `[..., dim]`, outside the gradient: what watches a layer or updates
            it needs no other way to its inputs. None where a router does not pass it on.
    """

    index: Tensor  # pyright: ignore[reportIncompatibleMethodOverride]
    weight: Tensor
    score: Tensor
    path: Tensor
    token: Tensor | None = None


class Routed(NamedTuple):
    """What a layer read, `[..., dim]`, and where.

    >>> Routed(torch.zeros(1, 2), flat_route(torch.ones(1, 2), torch.eye(2))).output.shape
    torch.Size([1, 2])
    """

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

    def update(self, route: Route) -> None:
        """Change what learns outside the gradient; the trainer calls it after each step."""
        ...


def blend_weights(score: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Return `softmax(score / temperature)` over the last axis of `[..., k]`.

    Small temperatures approach the hard choice, large ones blend evenly.
    """
    check_temperature(temperature)
    # shifted first: dividing by a tiny temperature must not end in a difference of infinities
    shifted = score - score.detach().amax(dim=-1, keepdim=True) if score.numel() else score
    return torch.softmax(shifted / temperature, dim=-1)


def check_temperature(temperature: float | Tensor) -> None:
    """Raise `ValueError` unless every temperature is positive and finite."""
    if isinstance(temperature, Tensor):
        if torch.compiler.is_compiling():  # a compiled graph cannot stop to look at values
            return
        good = (temperature > 0) & temperature.isfinite()
        if good.all():
            return
        temperature = float(temperature[~good][0])
    magnitude("temperature", temperature)


def flat_route(
    x: Tensor,
    signatures: Tensor,
    top_k: int = 1,
    temperature: float | Tensor = 1.0,
    bias: Tensor | None = None,
) -> Route:
    """Send each token to the `top_k` tiles whose signatures match it best.

    Every token `[..., dim]` is compared with every signature, finite `[tiles, dim]`. Among equal
    scores the lower tile wins. A token with a NaN gets NaN scores and weights, and some valid
    index; its neighbours are untouched. The temperature of the blend, a number or a tensor, is
    positive and finite; a bias `[tiles]` counts for the choice alone: loss-free balancing. What is
    not as said is a `ValueError`, and a `top_k` that is no integer a `TypeError`.
    """
    check_signatures(signatures)
    tiles, dim = signatures.shape
    last_dim("x", x, dim)
    at_most("top_k", top_k, tiles)
    if bias is not None:
        shape("bias", bias, tiles)
    scores = x @ signatures.to(x.dtype).T
    merit = scores.detach() if bias is None else scores.detach() + bias
    index = best(merit, top_k)
    score = scores.gather(-1, index)
    weight = blend_weights(score, temperature)
    return Route(index, weight, score, index.unsqueeze(-1), x.detach())


def check_signatures(
    signatures: Tensor, tiles: int | str = "tiles >= 1", dim: int | str = "dim"
) -> None:
    """Raise `ValueError` unless `signatures` is a matrix `[tiles, dim]` of finite numbers."""
    shape("signatures", signatures, tiles, dim)
    finite("signatures", signatures)


def best(scores: Tensor, k: int) -> Tensor:
    """Return the places of the `k` highest of `[..., n]`, the lower place first among equals.

    A NaN counts as higher than every number; in which order several do is left open.
    """
    if k == 1:
        return scores.argmax(dim=-1, keepdim=True)
    # topk takes a fraction of a full sort's time, but leaves the order of equal scores open
    if k < scores.shape[-1] and not torch.compiler.is_compiling():
        values, place = scores.topk(k + 1)
        # one more than wanted, so that a tie across the border shows; rows with a tie are sorted
        tied = (values[..., 1:] == values[..., :-1]).any(dim=-1)
        place = place[..., :k]
        place[tied] = scores[tied].argsort(dim=-1, descending=True, stable=True)[..., :k]
        return place
    return scores.argsort(dim=-1, descending=True, stable=True)[..., :k]
