"""Losses on addresses: functions of signatures or of a `Route`, added up by the trainer."""

import torch
from torch import Tensor
from torch.nn import functional as F


def diversity(signatures: Tensor) -> Tensor:
    """Return the loss that keeps signatures diverse: the mean squared cosine between them.

    It is 0 when all signatures are orthogonal and 1 when all are parallel.

    Args:
        signatures: `[tiles, dim]`, at least two tiles.

    Raises:
        ValueError: fewer than two rows, or not a matrix.
    """
    if signatures.ndim != 2 or len(signatures) < 2:
        raise ValueError(f"signatures must be [tiles >= 2, dim], got {list(signatures.shape)}")
    unit = F.normalize(signatures, dim=-1)
    cosine = unit @ unit.T
    other = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    return cosine[other].square().mean()
