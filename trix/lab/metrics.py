"""Observers: what routes look like, measured from outside the layers that made them."""

import math

import torch
from torch import Tensor

from trix.address.checks import positive
from trix.address.route import Route


def usage(route: Route, tiles: int) -> Tensor:
    """Return the share of reads that each tile got, float64 `[tiles]`, summing to one.

    Raises:
        ValueError: the route is empty, or names a tile that is not among `tiles`.
    """
    index = route.index.flatten()
    if index.numel() == 0:
        raise ValueError("usage needs at least one token, got none")
    if int(index.max()) >= positive("tiles", tiles):
        raise ValueError(f"tiles must exceed every index, got {tiles} and {int(index.max())}")
    return torch.bincount(index, minlength=tiles).to(torch.float64) / index.numel()


def normalized_entropy(shares: Tensor) -> float:
    """Return the entropy of `shares` over its largest value: 1 for even use, 0 for one tile.

    Args:
        shares: probabilities `[tiles]` that sum to one.
    """
    if shares.numel() < 2:
        return 0.0
    entropy = -torch.special.xlogy(shares, shares).sum()
    return max(0.0, float(entropy) / math.log(shares.numel()))


def churn(before: Route, after: Route) -> float:
    """Return the share of tokens whose best tile is another one after than before.

    Args:
        before: routes of some tokens through a layer, `[..., k]`.
        after: routes of the same tokens through a later checkpoint of it.

    Raises:
        ValueError: the two are not of the same tokens' shape, or there are none.
    """
    first, second = before.index[..., 0], after.index[..., 0]
    if first.shape != second.shape or first.numel() == 0:
        raise ValueError(
            f"expected two routes of the same tokens, at least one, got {list(first.shape)} and "
            f"{list(second.shape)}"
        )
    return float((first != second).to(torch.float64).mean())


def purity(route: Route, labels: Tensor, tiles: int) -> float:
    """Return the share of tokens that carry the commonest label of their best tile.

    It is what naming each tile by one label would get right. It grows with the number of tiles, so
    it means something only beside that of other routes to as many.

    Args:
        route: the routes of the tokens, `[..., k]`.
        labels: int64, one label of at least 0 a token, `[...]`.
        tiles: how many tiles there are.

    Raises:
        ValueError: as `mutual_information`.
    """
    return float(_joint(route, labels, tiles).amax(dim=1).sum())


def mutual_information(route: Route, labels: Tensor, tiles: int) -> float:
    """Return how much a token's best tile tells of its label, in nats.

    Args:
        route: the routes of the tokens, `[..., k]`.
        labels: int64, one label of at least 0 a token, `[...]`.
        tiles: how many tiles there are.

    Raises:
        ValueError: not one label a token, no token, a negative label, or a tile that is not among
            `tiles`.
    """
    joint = _joint(route, labels, tiles)
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    nats = float(torch.special.xlogy(joint, joint / apart.clamp(min=1e-300)).sum())
    return max(0.0, nats)  # rounding can fall below what is never negative


def _joint(route: Route, labels: Tensor, tiles: int) -> Tensor:
    """Return the shares of tokens by best tile and label, float64 `[tiles, labels]`."""
    best = route.index[..., 0]
    if labels.shape != best.shape or best.numel() == 0:
        raise ValueError(
            f"expected labels {list(best.shape)}, one a token and at least one, "
            f"got {list(labels.shape)}"
        )
    best = best.flatten()
    if int(labels.min()) < 0:
        raise ValueError(f"labels must be at least 0, got {int(labels.min())}")
    if int(best.max()) >= positive("tiles", tiles):
        raise ValueError(f"tiles must exceed every index, got {tiles} and {int(best.max())}")
    kinds = int(labels.max()) + 1
    joint = torch.bincount(best * kinds + labels.flatten(), minlength=tiles * kinds)
    return joint.view(tiles, kinds).to(torch.float64) / best.numel()
