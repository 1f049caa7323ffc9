"""How much a discrete state tells of a label: plug-in, corrected, and beside shuffled labels."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from trix.address.checks import positive


class Information(NamedTuple):
    """Mutual information of a state and a label in nats, three ways.

    Attributes:
        plug_in: of the observed shares. Too high: chance alone makes states seem to tell something.
        corrected: with the Miller-Madow correction of each entropy, (occupied − 1) / 2n.
        shuffled: the corrected figure with the labels shuffled: what is left of the bias.
        states: how many states occur.
    """

    plug_in: float
    corrected: float
    shuffled: float
    states: int


def information(state: Tensor, label: Tensor, seed: int = 0) -> Information:
    """Measure how much `state` tells of `label`.

    Source: Miller (1955) for the correction; the plug-in estimate's bias is Paninski's (2003)
    subject.

    Args:
        state: int64 `[n]`, any numbers.
        label: int64 `[n]`, any numbers.
        seed: of the shuffle.

    Raises:
        ValueError: the two are not of one length, or empty.
    """
    if state.ndim != 1 or state.shape != label.shape or len(state) == 0:
        raise ValueError(
            f"state and label must be [n >= 1] of one length, got {list(state.shape)} and "
            f"{list(label.shape)}"
        )
    dense, label = (t.unique(return_inverse=True)[1] for t in (state, label))
    order = torch.randperm(len(label), generator=torch.Generator().manual_seed(seed))
    plug_in, corrected = _information(dense, label)
    return Information(
        plug_in, corrected, _information(dense, label[order])[1], int(dense.max()) + 1
    )


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
    """Return the share of variance that `dims` directions hold, chosen within each group.

    Each group of tokens is centred and given its own best directions (principal components). With
    one group for all it is the global figure, so that routing can be seen to narrow its inputs or
    not. The share is of the variance that is left within the groups.

    Args:
        tokens: `[n, dim]`.
        group: the tile of each token, int64 `[n]`.
        dims: directions a group.

    Raises:
        TypeError: `dims` is not an integer.
        ValueError: it is below 1, shapes do not fit, tokens are not finite, or no variance is left
            to explain.
    """
    positive("dims", dims)
    if tokens.ndim != 2 or group.shape != tokens.shape[:1]:
        raise ValueError(
            f"tokens and group must be [n, dim] and [n], got {list(tokens.shape)} and "
            f"{list(group.shape)}"
        )
    if not tokens.isfinite().all():
        raise ValueError(f"tokens must be finite, got {int((~tokens.isfinite()).sum())} others")
    kept = total = 0.0
    for tile in group.unique():
        part = tokens[group == tile].to(torch.float64)
        squares = torch.linalg.svdvals(part - part.mean(dim=0)).square()
        kept, total = kept + float(squares[:dims].sum()), total + float(squares.sum())
    if not 0 < total < math.inf:
        raise ValueError(f"expected tokens that vary within their groups, got variance {total}")
    return kept / total
