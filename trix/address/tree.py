"""Routing down a tree: the same choice at every level, from clusters to tiles."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.kmeans import balanced_kmeans, blocks_of, weighted_mean
from trix.address.route import Route, best, blend_weights, check_signatures, flat_route
from trix.checks import at_most, finite, last_dim, positive, tokens

FEW = 8
"""Up to so many winners are faster picked one by one than by sorting."""


class Level(NamedTuple):
    """One level of a tree: each node's parent, and what a token is compared with."""

    parent: Tensor  # numbered within the level above; 0, the root, at the top
    signatures: Tensor  # [nodes, dim]


class TreeRouter(nn.Module):
    """Finds the best tile by descending a tree, in far fewer comparisons than there are tiles.

    At each level a token is compared with the children of the nodes it has reached, and goes on
    from the `beam` best of them. A node's signature is the mean of its tiles', so it scores what
    they would on average. A narrow beam may miss the best tile; one as wide as the tree cannot.

    `rebuild` makes the tree, which then stays: signatures may move, and the tiles that a token
    reaches are compared as they are now, the nodes above them as they were. The constructor alone
    fixes the shape, so that a saved tree loads into a new router. Source: the notes on hierarchical
    and fractal routing. Two levels are the inverted file of Jégou et al. (2011); a beam down a tree
    of k-means is the search of Muja and Lowe (2014).

    >>> router, signatures = TreeRouter(tiles=6, dim=8, branching=(2, 3)), torch.randn(6, 8)
    >>> router.rebuild(signatures)
    >>> router(torch.randn(5, 8), signatures, top_k=2).path.shape
    torch.Size([5, 2, 2])

    Args:
        dim, beam: input features; nodes kept at each level.
        branching: the most children of a node at each level, from the top.

    Attributes:
        reached: how many tiles every token is sure to be compared with; `top_k` ends there.

    Raises:
        RuntimeError: a tree of several levels is used before it was rebuilt or loaded.
        TypeError: a number is not an integer, or tokens are not floating.
        ValueError: a number below 1, levels without room for all tiles, `top_k` above `reached`,
            and what `flat_route` refuses.
    """

    order: Tensor
    shape: Tensor
    inner: Tensor
    ancestors: Tensor

    def __init__(self, tiles: int, dim: int, branching: Sequence[int], beam: int = 4) -> None:
        super().__init__()
        self.tiles, self.dim = positive("tiles", tiles), positive("dim", dim)
        self.branching = tuple(positive("branching", width) for width in branching)
        self.beam = positive("beam", beam)
        if not self.branching or math.prod(self.branching) < tiles:
            raise ValueError(f"branching must have room for {tiles} tiles, got {self.branching}")
        # tiles below every node, from the root down; children of one node stand side by side
        self._sizes = [[tiles]]
        for width in self.branching[:-1]:
            self._sizes.append([part for size in self._sizes[-1] for part in _split(size, width)])
        self._counts = [
            [min(width, size) for size in sizes]
            for width, sizes in zip(self.branching, self._sizes, strict=True)
        ]
        *self._kept, self.reached = self._beams()
        for level, counts in enumerate(self._counts):
            count = torch.tensor(counts)
            self.register_buffer(f"count_{level}", count, persistent=False)
            self.register_buffer(f"first_{level}", count.cumsum(0) - count, persistent=False)
        # a place is a position at the bottom, left to right: what stands above it never changes
        above = torch.empty(tiles, len(self.branching) - 1, dtype=torch.int64)
        for level, sizes in enumerate(self._sizes[1:]):
            above[:, level] = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        self.register_buffer("ancestors", above, persistent=False)
        # the tile at each place; −1 as long as there is no tree
        self._built = len(self.branching) == 1
        order = torch.arange(tiles)
        self.register_buffer("order", order if self._built else torch.full_like(order, -1))
        self.register_buffer("shape", torch.tensor(self.branching))
        # the signatures of all nodes above the tiles, level after level
        self.register_buffer("inner", torch.zeros(sum(map(len, self._sizes[1:])), dim))
        self.register_load_state_dict_post_hook(_check_loaded)

    @classmethod
    def hierarchical(
        cls, tiles: int, dim: int, cluster_size: int | None = None, beam: int = 4
    ) -> "TreeRouter":
        """Return a tree of two levels: clusters of at most `cluster_size`, by default √tiles."""
        if cluster_size is None:
            cluster_size = math.isqrt(positive("tiles", tiles) - 1) + 1
        clusters = -(-positive("tiles", tiles) // positive("cluster_size", cluster_size))
        return cls(tiles, dim, (clusters, cluster_size), beam)

    @classmethod
    def fractal(cls, tiles: int, dim: int, levels: int = 3, beam: int = 4) -> "TreeRouter":
        """Return a tree of `levels` levels, of the branching that needs fewest comparisons."""
        below = positive("levels", levels) - 1
        positive("tiles", tiles)
        positive("beam", beam)
        shapes = [
            (-(-tiles // width**below), *[width] * below)
            for width in range(2, int(tiles ** (1 / levels)) + 3)
        ]
        return cls(tiles, dim, min(shapes, key=lambda b: b[0] + beam * sum(b[1:])), beam)

    @property
    def comparisons(self) -> int:
        """The most signatures that one token is compared with, all levels together."""
        return sum(
            min(kept * max(counts), sum(counts))
            for kept, counts in zip([1, *self._kept], self._counts, strict=True)
        )

    def extra_repr(self) -> str:
        return f"tiles={self.tiles}, dim={self.dim}, branching={self.branching}, beam={self.beam}"

    @torch.no_grad()
    def rebuild(self, signatures: Tensor, inputs: Tensor | None = None) -> None:
        """Make the tree: balanced k-means from the top down, then means.

        With sample inputs `[..., dim]`, of which a few thousand are enough, signatures are near
        when they score those alike, and a tile weighs in every mean by how often it wins. Without
        them nearness is the distance between signatures, and all tiles weigh the same.
        """
        check_signatures(signatures, self.tiles, self.dim)
        # half precision is too coarse to add up many rows
        rows = signatures.detach().to(torch.promote_types(signatures.dtype, torch.float32))
        points, weights = rows, rows.new_ones(self.tiles)
        if inputs is not None:
            last_dim("inputs", inputs, self.dim)
            sample = inputs.detach().reshape(-1, self.dim).to(rows.dtype)
            finite("inputs", sample)
            if not len(sample):
                raise ValueError("inputs must hold at least one token, got none")
            small = sample / sample.abs().max().clamp(min=torch.finfo(rows.dtype).tiny)
            points = rows @ _root(small.T @ small / len(sample))
            wins = torch.cat([flat_route(part, rows).index[:, 0] for part in sample.split(1024)])
            # one more than counted, so that tiles that did not win still have a say
            weights = wins.bincount(minlength=self.tiles).to(rows.dtype) + 1
        order = torch.arange(self.tiles, device=rows.device)
        for sizes, counts in zip(self._sizes[1:], self._counts, strict=False):
            ahead = iter(sizes)
            split = [[next(ahead) for _ in range(count)] for count in counts]
            node = torch.empty_like(order)
            node[order] = balanced_kmeans(points[order], split, weights[order])
            order = node.argsort(stable=True)  # within a node, by tile
        means = [
            weighted_mean(rows[order], weights[order], node, len(sizes))
            for node, sizes in zip(self.ancestors.T, self._sizes[1:], strict=True)
        ]
        if means:
            self.inner.copy_(torch.cat(means))
        self.order.copy_(order)
        self._built = True

    def forward(
        self, x: Tensor, signatures: Tensor, top_k: int = 1, temperature: float | Tensor = 1.0
    ) -> Route:
        """Send each token to the best `top_k` tiles of those that it reaches, as `flat_route`.

        The way down lies outside the gradient; among equals the lower node wins. The `path` `[...,
        top_k, levels]` numbers nodes within their level.
        """
        check_signatures(signatures, self.tiles, self.dim)
        tokens("x", x, self.dim)
        at_most("top_k", top_k, self.reached, f"tiles that beam {self.beam} is sure to reach")
        self._check_built()
        signatures = signatures.to(x.dtype)
        with torch.no_grad():
            place = self._descend(x.reshape(-1, self.dim), signatures, top_k)
            place = place.view(*x.shape[:-1], top_k)
            index = self.order[place]
            path = torch.cat([self.ancestors[place], index.unsqueeze(-1)], dim=-1)
        score = (F.embedding(index, signatures) * x.unsqueeze(-2)).sum(-1)
        # under autocast the way down is coarser than the score: the best comes first all the same
        rank = score.detach().argsort(dim=-1, descending=True, stable=True)
        index, score = index.gather(-1, rank), score.gather(-1, rank)
        path = path.gather(-2, rank.unsqueeze(-1).expand(path.shape))
        return Route(index, blend_weights(score, temperature), score, path, x.detach())

    def levels(self, signatures: Tensor) -> list[Level]:
        """Return the tree from the top level to the tiles, which stand in their own order."""
        check_signatures(signatures, self.tiles, self.dim)
        self._check_built()
        found, above = [], torch.zeros_like(self.order)
        for node, rows in zip(self.ancestors.T, self._inner_rows(signatures), strict=True):
            parent = node.new_zeros(len(rows)).scatter(0, node, above)
            found.append(Level(parent, rows))
            above = node
        return [*found, Level(torch.empty_like(above).scatter(0, self.order, above), signatures)]

    def _check_built(self) -> None:
        if not self._built:
            raise RuntimeError("there is no tree yet: call rebuild(signatures) once before use")

    def _descend(self, x: Tensor, signatures: Tensor, top_k: int) -> Tensor:
        # places of the best tiles, [tokens, top_k], best first
        node = torch.zeros(len(x), 1, dtype=torch.int64, device=x.device)
        for level, (keep, rows) in enumerate(
            zip(self._kept, self._inner_rows(signatures), strict=True)
        ):
            score = self._compare(x, node, level, rows.to(x.dtype))
            won, width = _best(score.flatten(1), keep), score.shape[-1]
            node = self._child(level, node.gather(-1, won // width), won % width)
            node = node.sort(dim=-1).values  # so that among equals the lower node comes first
        level = len(self._kept)
        score = self._compare(x, node, level, signatures, self.order)
        # tiles ascend within a node, but not across: choose twice
        child = _best(score, top_k)
        place = self._child(level, node.unsqueeze(-1), child).flatten(1)
        score = score.gather(-1, child).flatten(1)
        ascending = self.order[place].argsort(dim=-1)
        won = _best(score.gather(-1, ascending), top_k)
        return place.gather(-1, ascending.gather(-1, won))

    def _compare(
        self, x: Tensor, node: Tensor, level: int, table: Tensor, order: Tensor | None = None
    ) -> Tensor:
        # scores of each node's children, [tokens, nodes, width]; −∞ where there is no child
        counts = self._counts[level]
        width = max(counts)
        if len(counts) == 1:
            return (x @ (table if order is None else table[order]).T).unsqueeze(1)
        child = torch.arange(width, device=x.device)

        def members(nodes: Tensor) -> Tensor:
            place = self._child(level, nodes.unsqueeze(-1), child)
            return F.embedding(place if order is None else order[place], table)

        # longer blocks copy more tokens to fill them up, shorter ones more signatures
        rows = min(node.numel() // len(counts), 4 * width)
        if rows < 2:
            score = torch.einsum("td,tncd->tnc", x, members(node))
        else:
            score = _by_node(x, node, members, len(counts), rows)
        if min(counts) < width:
            missing = child >= self.get_buffer(f"count_{level}")[node].unsqueeze(-1)
            score = score.masked_fill(missing, -torch.inf)
        return score

    def _child(self, level: int, node: Tensor, child: Tensor) -> Tensor:
        # a place beyond the last belongs to padding, which never wins
        place = self.get_buffer(f"first_{level}")[node] + child
        return place.clamp(max=sum(self._counts[level]) - 1)

    def _inner_rows(self, signatures: Tensor) -> tuple[Tensor, ...]:
        # as they were when the tree was built, whatever the tiles' signatures are now
        return self.inner.split([len(sizes) for sizes in self._sizes[1:]]) if self._kept else ()

    def _beams(self) -> list[int]:
        # how many nodes every token is sure to reach at each level; the beam cuts all but the last
        beams, kept = [], 1
        for level, counts in enumerate(self._counts):
            reached = sum(counts) if kept == len(counts) else kept * min(counts)
            kept = reached if level == len(self._counts) - 1 else min(self.beam, reached)
            beams.append(kept)
        return beams


def _check_loaded(router: TreeRouter, _: Any) -> None:
    shape, order = router.shape.tolist(), router.order.sort().values
    if shape != list(router.branching):
        raise ValueError(f"expected a tree of branching {list(router.branching)}, got {shape}")
    # a plain bool: reading the buffer in forward would make every call wait for the device
    router._built = bool(order[0] >= 0)
    if router._built and not torch.equal(order, torch.arange(len(order), device=order.device)):
        raise ValueError(f"expected a tree that holds each of {len(order)} tiles once, got {order}")


def _split(size: int, width: int) -> list[int]:
    parts = min(width, size)
    return [size // parts + (part < size % parts) for part in range(parts)]


def _by_node(
    x: Tensor, node: Tensor, members: Callable[[Tensor], Tensor], nodes: int, rows: int
) -> Tensor:
    # each node's members are scored for all its visitors together, [tokens, visits, width]
    blocks = blocks_of(node.flatten(), nodes, rows)
    visitors = F.embedding(blocks.visit // node.shape[1], x)
    score = torch.bmm(visitors, members(blocks.owner).transpose(1, 2))
    return blocks.collect(score).view(*node.shape, -1)


def _root(moment: Tensor) -> Tensor:
    # the symmetric square root: |(a − b) root|² is the mean square of a·x − b·x over the inputs
    values, vectors = torch.linalg.eigh(moment.to(torch.float64))
    return ((vectors * values.clamp(min=0).sqrt()) @ vectors.T).to(moment.dtype)


def _best(scores: Tensor, k: int) -> Tensor:
    # positions of the k best, or all there are; the lower first among equals, unlike topk
    if k > FEW or k >= scores.shape[-1]:
        return best(scores, min(k, scores.shape[-1]))
    found = [scores.argmax(dim=-1, keepdim=True)]
    for _ in range(k - 1):
        scores = scores.scatter(-1, found[-1], -torch.inf)
        found.append(scores.argmax(dim=-1, keepdim=True))
    return torch.cat(found, dim=-1)
