"""Balanced k-means, many groups at once; and visits sorted by owner into blocks of one size."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

ROUNDS = 12
"""The most rounds of k-means; the split settles earlier as a rule."""
SEED = 20
"""Of the points that clusters begin at: the same for every call, so that a tree can be repeated."""


def balanced_kmeans(
    points: Tensor, sizes: list[list[int]], weights: Tensor | None = None
) -> Tensor:
    """Split groups of points `[points, dim]` into clusters of given sizes, always the same way.

    Lloyd's rounds, but a full cluster takes no more: a centre asked by too many takes those that
    would lose most elsewhere. (Malinen and Fränti 2014 solve this exactly, at a cubic cost.) Points
    stand group after group; `sizes` are those of each group's clusters, numbered through all
    groups, and `weights` `[points]` say how much a point counts.
    """
    room = torch.tensor([size for row in sizes for size in row], device=points.device)
    if not sizes or not all(sizes) or room.min() < 1:
        raise ValueError(f"every group must have clusters of at least 1 point, got {sizes}")
    if room.sum() != len(points):
        raise ValueError(f"sizes must add up to the {len(points)} points, got {int(room.sum())}")
    # a square must not overflow; nearness does not depend on the scale
    points = points / points.abs().max().clamp(min=torch.finfo(points.dtype).tiny)
    share = points.new_ones(len(points)) if weights is None else weights.to(points.dtype)
    group = torch.arange(len(sizes), device=points.device).repeat_interleave(
        torch.tensor([sum(row) for row in sizes], device=points.device)
    )
    # each cluster begins at a point of its group that no other begins at
    lots = torch.rand(len(points), generator=torch.Generator().manual_seed(SEED))
    shuffled = lots.to(points.device).argsort()
    shuffled = shuffled[group[shuffled].argsort(stable=True)]
    centres = points[shuffled[room.cumsum(0) - room]]
    label = torch.full_like(group, -1)
    for _ in range(ROUNDS):
        before = label
        label = _assign(_nearness(points, centres, sizes), group, sizes, room)
        if torch.equal(label, before):
            break
        centres = weighted_mean(points, share, label, len(room))
    return label


def weighted_mean(points: Tensor, weights: Tensor, label: Tensor, clusters: int) -> Tensor:
    """Return each cluster's mean, `[clusters, dim]`, of `points[label == cluster]`."""
    total = points.new_zeros(clusters).index_add_(0, label, weights)
    summed = points.new_zeros(clusters, points.shape[1])
    return summed.index_add_(0, label, points * weights[:, None]) / total[:, None]


def _nearness(points: Tensor, centres: Tensor, sizes: list[list[int]]) -> Tensor:
    # x·c − c²/2 grows as the distance shrinks; one small product per group, padded to one width
    out = points.new_full((len(points), max(len(row) for row in sizes)), -torch.inf)
    half = centres.square().sum(-1) / 2
    done = begin = 0
    for row in sizes:
        end, stop = done + sum(row), begin + len(row)
        out[done:end, : len(row)] = points[done:end] @ centres[begin:stop].T - half[begin:stop]
        done, begin = end, stop
    return out


def _assign(nearness: Tensor, group: Tensor, sizes: list[list[int]], room: Tensor) -> Tensor:
    # the cluster of each point: all ask for the nearest with room, the neediest are served first
    device, width = nearness.device, nearness.shape[1]
    counts = torch.tensor([len(row) for row in sizes], device=device)
    first = (counts.cumsum(0) - counts)[:, None]
    cluster = first + torch.arange(width, device=device).minimum(counts[:, None] - 1)
    label, left = torch.full_like(group, -1), room.clone()
    waiting = torch.arange(len(group), device=device)
    # each round fills a cluster or places all of a group, so there are at most `width` rounds
    while len(waiting):
        full = left[cluster[group[waiting]]] == 0
        best = nearness[waiting].masked_fill(full, -torch.inf).topk(min(2, width), dim=-1)
        wanted = cluster[group[waiting], best.indices[:, 0]]
        loss = best.values[:, 0] - best.values[:, -1]
        queue = loss.argsort(descending=True, stable=True)
        queue = queue[wanted[queue].argsort(stable=True)]
        asked = torch.bincount(wanted, minlength=len(room))
        # how many stand before each in the queue of the same cluster
        rank = torch.arange(len(queue), device=device) - (asked.cumsum(0) - asked)[wanted[queue]]
        accepted = queue[rank < left[wanted[queue]]]
        label[waiting[accepted]] = wanted[accepted]
        left -= torch.bincount(wanted[accepted], minlength=len(room))
        waiting = waiting[label[waiting] < 0]
    return label


class Blocks(NamedTuple):
    """Where each visit stands once visits are sorted by owner and cut into blocks."""

    visit: Tensor  # at each place, [blocks, rows], padded with others', which nobody collects
    owner: Tensor  # whose visits a block holds, [blocks]
    place: Tensor  # where a visit stands, [visits]

    def collect(self, result: Tensor) -> Tensor:
        """Return the results of all visits, `[visits, width]`, from `[blocks, rows, width]`."""
        return F.embedding(self.place, result.flatten(0, 1))


def blocks_of(visits: Tensor, owners: int, rows: int) -> Blocks:
    """Sort the visits to some owners, int64 `[visits >= 1]`, into blocks of `rows`.

    How many has a bound that does not depend on who is visited, so a compiled graph needs no break
    and no device is waited for. Longer blocks hold more padding, shorter ones name more owners.
    """
    # the queue holds the visits owner by owner; each owner's begin there at `begin`
    queue = visits.argsort(stable=True)
    visitors = visits.new_zeros(owners).scatter_add_(0, visits, torch.ones_like(visits))
    begin = visitors.cumsum(0) - visitors
    # each owner's blocks are `starts` … `ends` − 1; those beyond the last owner's are padding
    blocks = (visitors + rows - 1) // rows
    ends = blocks.cumsum(0)
    starts = ends - blocks
    block = torch.arange(len(visits) // rows + owners, device=visits.device)
    owner = torch.searchsorted(ends, block, right=True).clamp(max=owners - 1)
    first = begin[owner] + (block - starts[owner]) * rows
    stand = first.unsqueeze(-1) + torch.arange(rows, device=visits.device)
    # and the other way round: how many of its owner stand before each visit
    before = torch.arange(len(queue), device=visits.device) - begin[visits[queue]]
    place = torch.empty_like(queue)
    place[queue] = starts[visits[queue]] * rows + before
    return Blocks(queue[stand.clamp(max=len(queue) - 1)], owner, place)
