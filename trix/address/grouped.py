"""Work for many owners in one product: visits sorted by owner, laid out in blocks of equal length.

A loop over tiles (or nodes) would make one small product each, and spend its time waiting for
threads. Sorted segments padded to blocks make one batched product of them all.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Blocks(NamedTuple):
    """Where each visit stands once visits are sorted by owner and cut into blocks.

    Attributes:
        visit: the visit at each place, int64 `[blocks, rows]`. The last block of an owner is filled
            up with visits of others, whose results nobody collects.
        owner: the one whose visits stand in each block, int64 `[blocks]`.
        place: where each visit stands, int64 `[visits]`, counted through all blocks.
    """

    visit: Tensor
    owner: Tensor
    place: Tensor

    def collect(self, result: Tensor) -> Tensor:
        """Return the results of all visits, `[visits, width]`, from `[blocks, rows, width]`."""
        return F.embedding(self.place, result.flatten(0, 1))


def blocks_of(visits: Tensor, owners: int, rows: int) -> Blocks:
    """Sort visits by owner into blocks of `rows`.

    The number of blocks has a bound that does not depend on who is visited, so a compiled graph
    needs no break and no device has to be waited for.

    Args:
        visits: the owner that each visit goes to, int64 `[visits >= 1]`.
        owners: how many there are.
        rows: visits a block; longer blocks hold more padding, shorter ones name more owners.
    """
    queue = visits.argsort(stable=True)
    visitors = visits.new_zeros(owners).scatter_add_(0, visits, torch.ones_like(visits))
    begin = visitors.cumsum(0) - visitors
    blocks = (visitors + rows - 1) // rows
    ends = blocks.cumsum(0)
    starts = ends - blocks
    block = torch.arange(len(visits) // rows + owners, device=visits.device)
    owner = torch.searchsorted(ends, block, right=True).clamp(max=owners - 1)
    first = begin[owner] + (block - starts[owner]) * rows
    stand = first.unsqueeze(-1) + torch.arange(rows, device=visits.device)
    waited = torch.arange(len(queue), device=visits.device) - begin[visits[queue]]
    place = torch.empty_like(queue)
    place[queue] = starts[visits[queue]] * rows + waited
    return Blocks(queue[stand.clamp(max=len(queue) - 1)], owner, place)
