"""Observers: what routes look like, measured from outside the layers that made them."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from trix.address.route import Route
from trix.checks import at_least, finite, indices, positive, shape


def usage(route: Route, tiles: int) -> Tensor:
    """Return the share of reads that each tile got, float64 `[tiles]`, summing to one.

    >>> import trix
    >>> layer = trix.TriXFFN(8, tiles=4, top_k=2)
    >>> usage(layer.routed(torch.randn(10, 8)).route, 4).sum().item()
    1.0

    Raises:
        ValueError: the route is empty, or names an unknown tile.
    """
    index = route.index.flatten()
    if not len(index):
        raise ValueError("usage needs at least one token, got none")
    indices("tiles of the route", index, positive("tiles", tiles), ValueError)
    return torch.bincount(index, minlength=tiles).to(torch.float64) / index.numel()


def normalized_entropy(shares: Tensor) -> float:
    """Return the entropy of shares `[tiles]` over its largest: 1 for even use, 0 for one tile.

    >>> round(normalized_entropy(torch.tensor([0.25, 0.25, 0.25, 0.25])), 4)
    1.0
    """
    if shares.numel() < 2:
        return 0.0
    entropy = -torch.special.xlogy(shares, shares).sum()
    return max(0.0, float(entropy) / math.log(shares.numel()))


def purity(route: Route, labels: Tensor, tiles: int) -> float:
    """Return the share of tokens that carry the commonest label of their best tile.

    It grows with the number of tiles, so it means something only beside that of other routes to as
    many. Arguments and errors are those of `mutual_information`.

    >>> from trix.address.route import flat_route
    >>> route = flat_route(torch.eye(4), torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]]))
    >>> purity(route, torch.tensor([0, 0, 0, 1]), tiles=2)
    0.75
    """
    return float(_joint(route, labels, tiles).amax(dim=1).sum())


def mutual_information(route: Route, labels: Tensor, tiles: int) -> float:
    """Return the mutual information of a token's best tile and its label, in nats.

    >>> from trix.address.route import flat_route
    >>> route = flat_route(torch.eye(4), torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]]))
    >>> round(mutual_information(route, torch.tensor([0, 0, 1, 1]), tiles=2), 4)
    0.6931

    Routes are `[..., k]`, labels int64 `[...]` of at least 0.

    Raises:
        ValueError: not one label per token, no token, a negative label, or an unknown tile.
    """
    joint = _joint(route, labels, tiles)
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    nats = float(torch.special.xlogy(joint, joint / apart.clamp(min=1e-300)).sum())
    return max(0.0, nats)  # rounding can fall below what is never negative


def _joint(route: Route, labels: Tensor, tiles: int) -> Tensor:
    # the shares of tokens by best tile and label, float64 `[tiles, labels]`
    best = route.index[..., 0]
    if labels.shape != best.shape or best.numel() == 0:
        raise ValueError(
            f"expected labels {list(best.shape)}, one per token and at least one, "
            f"got {list(labels.shape)}"
        )
    best, kinds = best.flatten(), int(labels.max()) + 1
    at_least("labels", int(labels.min()), 0)
    indices("tiles of the route", best, positive("tiles", tiles), ValueError)
    joint = torch.bincount(best * kinds + labels.flatten(), minlength=tiles * kinds)
    return joint.view(tiles, kinds).to(torch.float64) / best.numel()


class Information(NamedTuple):
    """Mutual information of a label and of `states` states that occur, in nats, three ways.

    Of the observed shares (`plug_in`, too high); with the Miller-Madow correction of each entropy,
    (occupied − 1) / 2n (`corrected`); with the labels `shuffled`, what is left of the bias.
    """

    plug_in: float
    corrected: float
    shuffled: float
    states: int


def information(state: Tensor, label: Tensor, seed: int = 0) -> Information:
    """Measure the mutual information of `state` and `label`, both int64 `[n]`, any numbers.

    >>> state = torch.arange(1000) % 4
    >>> round(information(state, state // 2).plug_in, 4)
    0.6931

    Source: Miller (1955) for the correction, Paninski (2003) for the bias. `seed` shuffles.

    Raises:
        ValueError: the two are not of one length, or empty.
    """
    shape("state", state, "n >= 1")
    shape("label", label, len(state))
    dense, label = (t.unique(return_inverse=True)[1] for t in (state, label))
    order = torch.randperm(len(label), generator=torch.Generator().manual_seed(seed))
    shuffled = _information(dense, label[order])[1]
    return Information(*_information(dense, label), shuffled, int(dense.max()) + 1)


def _information(state: Tensor, label: Tensor) -> tuple[float, float]:
    kinds = int(label.max()) + 1
    parts = [_entropy(t) for t in (state, label, state * kinds + label)]
    plug_in = parts[0][0] + parts[1][0] - parts[2][0]
    excess = parts[0][1] + parts[1][1] - parts[2][1]
    return plug_in, plug_in + excess / (2 * len(state))


def _entropy(values: Tensor) -> tuple[float, int]:
    counts = values.unique(return_counts=True)[1].to(torch.float64)
    share = counts / counts.sum()
    return -float((share * share.log()).sum()), len(counts) - 1


def explained_variance(tokens: Tensor, group: Tensor, dims: int) -> float:
    """Return the share of variance within groups that `dims` directions of each group hold.

    Each group of tokens is centred and given its own principal components. With one group for all
    it is the global figure: whether routing narrows its inputs can be seen beside it.

    >>> tokens = torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1]])
    >>> round(explained_variance(tokens, torch.zeros(4, dtype=torch.int64), dims=1), 4)
    0.9

    Tokens are `[n, dim]`, `group` is the tile of each, int64 `[n]`.

    Raises:
        ValueError: `dims` is below 1, shapes do not fit, tokens are not finite, or do not vary.
    """
    positive("dims", dims)
    shape("tokens", tokens, "n", "dim")
    shape("group", group, len(tokens))
    finite("tokens", tokens)
    kept = total = 0.0
    for tile in group.unique():
        part = tokens[group == tile].to(torch.float64)
        squares = torch.linalg.svdvals(part - part.mean(dim=0)).square()
        kept, total = kept + float(squares[:dims].sum()), total + float(squares.sum())
    if not 0 < total < math.inf:
        raise ValueError(f"expected tokens that vary within their groups, got variance {total}")
    return kept / total
