"""Losses on addresses: functions of signatures or of a `Route`, added up by the trainer.

Those of signatures raise `ValueError` unless these are a matrix `[tiles, dim]` of finite numbers.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from trix.address.route import Route, blend_weights, check_signatures
from trix.address.ternary import straight_through
from trix.checks import between, indices, magnitude, positive

NUDGE = 0.1
"""How far `diversity` nudges rows for its gradient, in units of their entries' size."""


def load_balance(route: Route, tiles: int) -> Tensor:
    """Return the loss that spreads the reads: how much better the busy tiles match than the idle.

    With fᵢ the share of reads that tile i got and pᵢ its mean standing (the logistic function of
    the score, in units of the scores' root mean square, over all tokens), it is Σ (tiles · fᵢ − 1)
    · pᵢ: the loss of Switch Transformers (Fedus et al. 2022) less its value at even use, computed
    from the chosen tiles alone. The counts fᵢ have no gradient, the standings have.

    >>> from trix.address.route import flat_route
    >>> load_balance(flat_route(torch.eye(3), torch.eye(3)), tiles=3).item()
    0.0

    `ValueError` for no token, or an index that is not among `tiles`.
    """
    index = route.index.flatten()
    if index.numel() == 0:
        raise ValueError("load_balance needs at least one token, got none")
    indices("route.index", index, positive("tiles", tiles), ValueError)
    # bincount would size itself by the data, which a compiled graph cannot look at
    reads = torch.zeros(tiles, dtype=torch.float32, device=index.device)
    reads = reads.scatter_add(0, index, torch.ones_like(index, dtype=torch.float32))
    excess = tiles * reads / index.numel() - 1
    score = route.score.flatten()
    size = score.detach().float().square().mean().sqrt().clamp(min=1e-6)
    return (excess[index] * torch.sigmoid(score.float() / size)).mean()


def diversity(signatures: Tensor) -> Tensor:
    """Return the loss that keeps signatures diverse: the mean squared cosine between them.

    It is 0 when all signatures are orthogonal and 1 when all are parallel. Parallel rows have no
    direction to part in: there the gradient is that of rows that were nudged a little, each its
    own way, always the same. It needs at least two rows.

    >>> diversity(torch.tensor([[1.0, 0.0], [0.0, -1.0]])).item()
    0.0
    """
    check_signatures(signatures, "tiles >= 2")
    generator = torch.Generator().manual_seed(0)
    nudge = torch.randn(signatures.shape, generator=generator).to(signatures)
    size = signatures.detach().square().mean(dim=-1, keepdim=True).sqrt()
    return straight_through(_alike(signatures), _alike(signatures + NUDGE * size * nudge))


def _alike(rows: Tensor) -> Tensor:
    unit = F.normalize(rows, dim=-1)
    other = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    return (unit @ unit.T)[other].square().mean()


def ternary_pull(signatures: Tensor) -> Tensor:
    """Return the loss that draws numbers to −1, 0 and 1: the mean squared distance to the nearest.

    For signatures `[tiles, dim]` that are real numbers, before any cut; of ternary ones it is 0.

    >>> ternary_pull(torch.tensor([[0.5, -1.0, 0.0, 2.0]])).item()
    0.3125
    """
    check_signatures(signatures)
    nearest = signatures.detach().round().clamp(-1, 1)
    return (signatures - nearest).square().mean()


def sparsity(signatures: Tensor) -> Tensor:
    """Return the loss that empties signatures: each row's mean size over its root mean square.

    It is 1 for a row of equal sizes and 1/√dim for a row with a single entry (Hoyer 2004), and does
    not depend on the row's scale: a loss that shrank all entries alike would change no cut that
    is relative to their mean. For signatures `[tiles, dim]` of real numbers, before any cut.

    >>> sparsity(torch.tensor([[0.0, 0.0, -7.0, 0.0]])).item()
    0.5
    """
    check_signatures(signatures)
    size = signatures.square().mean(dim=-1).sqrt()
    return (signatures.abs().mean(dim=-1) / size.clamp(min=1e-12)).mean()


def annealed(start: float, end: float, progress: float) -> float:
    """Return the temperature at `progress`, falling by equal factors from `start` to `end`.

    >>> [annealed(4.0, 1.0, progress) for progress in (0.0, 0.5, 1.0)]
    [4.0, 2.0, 1.0]

    `ValueError` unless temperatures are positive and finite and progress is in 0 … 1.
    """
    magnitude("start", start)
    magnitude("end", end)
    between("progress", progress, 0, 1)
    return start ** (1 - progress) * end**progress


def straight_through_weights(score: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    """Return 1 for the first of `[..., k]` and 0 else, with the gradient of `blend_weights`.

    To know that gradient every tile is read: it costs as much as soft routing.
    """
    soft = blend_weights(score, temperature)
    first = torch.zeros_like(soft)
    first[..., :1] = 1
    return straight_through(first, soft)
