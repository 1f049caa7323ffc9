"""Losses on addresses: functions of signatures or of a `Route`, added up by the trainer."""

import torch
from torch import Tensor
from torch.nn import functional as F

from trix.address.checks import positive
from trix.address.route import Route, check_signatures


def load_balance(route: Route, tiles: int) -> Tensor:
    """Return the loss that spreads the reads: how much better the busy tiles match than the idle.

    With fᵢ the share of reads that tile i got and pᵢ its mean standing (the logistic function of
    the score, in units of the scores' root mean square, over all tokens), it is Σ (tiles · fᵢ − 1)
    · pᵢ: the loss of Switch Transformers (Fedus et al. 2022) less its value at even use, computed
    from the chosen tiles alone. Even use costs nothing, and then nothing is pushed; the counts fᵢ
    have no gradient, the standings have.

    Args:
        route: of at least one token.
        tiles: how many there are to choose from.

    Raises:
        ValueError: no token, or an index that is not among `tiles`.
    """
    index = route.index.flatten()
    if index.numel() == 0:
        raise ValueError("load_balance needs at least one token, got none")
    # bincount sizes itself by the data: a compiled graph counts without looking
    counts = torch.zeros(positive("tiles", tiles), dtype=torch.float32, device=index.device)
    if not torch.compiler.is_compiling() and int(index.max()) >= tiles:
        raise ValueError(f"tiles must exceed every index, got {tiles} and {int(index.max())}")
    counts = counts.scatter_add(0, index, torch.ones_like(index, dtype=torch.float32))
    excess = tiles * counts / index.numel() - 1
    score = route.score.flatten()
    size = score.detach().float().square().mean().sqrt().clamp(min=1e-6)
    return (excess[index] * torch.sigmoid(score.float() / size)).mean()


def diversity(signatures: Tensor) -> Tensor:
    """Return the loss that keeps signatures diverse: the mean squared cosine between them.

    It is 0 when all signatures are orthogonal and 1 when all are parallel.

    Args:
        signatures: `[tiles, dim]`, at least two tiles.

    Raises:
        ValueError: fewer than two rows, or not a matrix of finite numbers.
    """
    if signatures.ndim != 2 or len(signatures) < 2:
        raise ValueError(f"signatures must be [tiles >= 2, dim], got {list(signatures.shape)}")
    check_signatures(signatures)
    unit = F.normalize(signatures, dim=-1)
    cosine = unit @ unit.T
    other = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    return cosine[other].square().mean()


def ternary_pull(signatures: Tensor) -> Tensor:
    """Return the loss that draws numbers to −1, 0 and 1: the mean squared distance to the nearest.

    For signatures that are real numbers, before any cut; of exactly ternary ones it is 0.

    Args:
        signatures: `[tiles, dim]`.

    Raises:
        ValueError: not a matrix of finite numbers.
    """
    check_signatures(signatures)
    nearest = signatures.detach().round().clamp(-1, 1)
    return (signatures - nearest).square().mean()


def sparsity(signatures: Tensor) -> Tensor:
    """Return the loss that empties signatures: the mean size of an entry (Tibshirani 1996).

    Through a ternary cut it pulls on the entries that are not zero yet, and stops at zero.

    Args:
        signatures: `[tiles, dim]`.

    Raises:
        ValueError: not a matrix of finite numbers.
    """
    check_signatures(signatures)
    return signatures.abs().mean()
