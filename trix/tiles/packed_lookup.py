"""SparseLookup for inference: keys of two bits, and a compiled pass that chooses and reads."""

import functools
import importlib
import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.gate import cell_of
from trix.address.nested import NestedRouter
from trix.address.packed import PackedTernary
from trix.address.route import best
from trix.checks import tokens
from trix.tiles.lookup import REACH, SparseLookupFFN

FEW = 8
"""Up to so many tokens keys are read as they are packed; above, one product of all is faster."""
GRAIN = 32
"""A thread is given at least so many tokens."""


class PackedLookup(nn.Module):
    """A trained `SparseLookupFFN` for inference on a CPU; its numbers are copied.

    The keys take two bits per number (`PackedTernary`). Where numba is installed, one compiled pass
    over a token's scores finds its tiles, activates their scores and adds up their values; it never
    sorts, and through clusters it scores none but the tiles of the chosen ones. Outputs are the
    layer's up to rounding.

    Raises:
        TypeError: an input is not floating.
        ValueError: the layer chooses by a router other than `NestedRouter`, or the last axis of an
            input is not `dim`.

    Example:
        >>> packed = PackedLookup(SparseLookupFFN(8, tiles=12, top_k=2))
        >>> packed.keys.packed.shape  # two bytes hold the eight numbers of a key
        torch.Size([12, 2])
    """

    values: Tensor
    knots: Tensor
    clusters: Tensor
    first: Tensor
    count: Tensor

    def __init__(self, layer: SparseLookupFFN) -> None:
        super().__init__()
        router, signatures = layer.router, layer.signatures.detach().float()
        if router is not None and not isinstance(router, NestedRouter):
            raise ValueError(f"router must be a NestedRouter, got {type(router).__name__}")
        self.dim, self.tiles, self.top_k = layer.dim, layer.tiles, layer.top_k
        self.beam = 1 if router is None else router.beam
        self.keys, spline = PackedTernary(signatures), layer.activation
        parts = {
            "values": layer.values,
            "knots": signatures.new_zeros(0, 0) if spline is None else spline.knots,
            # without clusters there is one, of all tiles, and nothing to compare
            "clusters": signatures.new_zeros(1, 0),
            "first": torch.tensor([0]),
            "count": torch.tensor([layer.tiles]),
        }
        if router is not None:
            sizes = router.cluster_sizes
            parts["clusters"] = router.cluster_signatures(signatures)
            parts["count"], parts["first"] = sizes, sizes.cumsum(0) - sizes
        for name, value in parts.items():
            kept = value.detach().clone()
            self.register_buffer(name, kept.float() if kept.is_floating_point() else kept)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., dim]` to `[..., dim]` in float32; a token that is not finite gets NaN."""
        tokens("x", x, self.dim)
        flat = x.reshape(-1, self.dim).float().contiguous()
        node = self._nodes(flat)
        read = kernel() if flat.is_cpu else None
        if read is None:
            return self._plainly(flat, node).view(x.shape).to(x.dtype)
        out = torch.zeros_like(flat)
        given, rows = self._scores(flat)
        per_token = [t.numpy() for t in (flat, given, node, out)]
        fixed = [t.numpy() for t in (rows, self.first, self.count, self.knots, self.values)]

        def work(part: slice) -> None:
            tokens, scores, nodes, target = (a[part] if len(a) else a for a in per_token)
            read(tokens, scores, nodes, *fixed, self.top_k, target)

        count = max(1, min(torch.get_num_threads(), len(flat) // GRAIN))
        edges = [len(flat) * i // count for i in range(count + 1)]
        parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
        if len(parts) == 1:
            work(parts[0])
        else:
            with ThreadPoolExecutor(len(parts)) as pool:
                list(pool.map(work, parts))
        return out.view(x.shape).to(x.dtype)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, tiles={self.tiles}, top_k={self.top_k}"

    def _scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # all scores, or else the rows that the compiled pass is to compare some tokens with
        none = x.new_empty(0, 0)
        if len(x) <= FEW:
            return self.keys(x), none
        rows = self.keys.unpack()
        return (x @ rows.T, none) if self.clusters.shape[1] == 0 else (none, rows)

    def _nodes(self, x: Tensor) -> Tensor:
        # the clusters to look into, [tokens, beam], in their own order
        if self.clusters.shape[1] == 0:
            return torch.zeros(len(x), 1, dtype=torch.int64, device=x.device)
        beam = min(self.beam, len(self.clusters))
        return best(x @ self.clusters.T, beam).sort(dim=-1).values

    def _plainly(self, x: Tensor, node: Tensor) -> Tensor:
        score = self.keys(x)
        owner = torch.arange(len(self.count), device=x.device).repeat_interleave(self.count)
        looked = (owner == node.unsqueeze(-1)).any(dim=1)
        index = best(score.masked_fill(~looked, -torch.inf), self.top_k)
        share = self._activate(score.gather(1, index) / math.sqrt(self.dim), index)
        read = F.embedding_bag(index, self.values, mode="sum", per_sample_weights=share)
        return read + 0 * x.sum(dim=1, keepdim=True)  # NaN where the token is not finite

    def _activate(self, score: Tensor, tile: Tensor) -> Tensor:
        if self.knots.shape[1] == 0:
            return F.gelu(score)
        score = score.clamp(-REACH, REACH)
        cell, place = cell_of(score, self.knots.shape[1], -REACH, REACH)
        low, high = self.knots[tile, cell], self.knots[tile, cell + 1]
        return low + (high - low) * place


@functools.cache
def kernel() -> Callable[..., None] | None:
    """Return the compiled pass, or None where numba is not installed. The first call compiles.

    It fills `out [tokens, dim]` from `x [tokens, dim]`, `scores [tokens, tiles]` (or none: then
    `rows [tiles, dim]` are compared) and `node [tokens, beam]`, the clusters to look into.
    """
    try:
        numba = importlib.import_module("numba")
    except ImportError:
        return None

    @numba.njit(fastmath={"reassoc", "contract"}, nogil=True)
    def activation(score, knots):
        cells = len(knots) - 1
        if cells < 0:
            return np.float32(0.5 * score * (1.0 + math.erf(score / math.sqrt(2.0))))
        at = (min(max(score, -REACH), REACH) + REACH) * (cells / (2 * REACH))
        cell = min(int(at), cells - 1)
        return np.float32(knots[cell] + (knots[cell + 1] - knots[cell]) * (at - cell))

    @numba.njit(nogil=True)
    def least_of(pool, top_k):
        # A number that `top_k` scores reach: halve the range until just as many do. Counting is
        # a few vector instructions, where finding the k-th by sorting or swapping jumps about.
        low, high = pool.min(), pool.max()
        for _ in range(40):
            middle = np.float32(0.5) * (low + high)
            count = 0
            for m in range(len(pool)):
                count += pool[m] >= middle
            if count == top_k:
                return middle
            if count > top_k:
                low = middle
            else:
                high = middle
        return np.partition(pool, len(pool) - top_k)[len(pool) - top_k]  # the k-th has equals

    @numba.njit(fastmath={"reassoc", "contract"}, nogil=True)
    def read(x, scores, node, rows, first, count, knots, values, top_k, out):
        dim, given = x.shape[1], scores.shape[0] > 0
        scale = np.float32(1 / math.sqrt(dim))
        pool = np.empty(node.shape[1] * count.max(), np.float32)
        tile = np.empty(len(pool), np.int64)
        chosen = np.empty(len(pool) + 1, np.int64)
        for t in range(len(x)):
            broken = np.float32(0)
            for i in range(dim):
                broken += x[t, i] * np.float32(0)
            if np.isnan(broken):
                out[t, :] = np.nan
                continue
            met = 0
            for c in node[t]:
                begin, size = first[c], count[c]
                for r in range(size):
                    tile[met + r] = begin + r
                if given:
                    pool[met : met + size] = scores[t, begin : begin + size]
                else:
                    for r in range(size):
                        total = np.float32(0)
                        for i in range(dim):
                            total += x[t, i] * rows[begin + r, i]
                        pool[met + r] = total
                met += size
            least = least_of(pool[:met], top_k)
            found = over = 0
            for m in range(met):
                chosen[found] = m
                found += pool[m] >= least
                over += pool[m] > least
            equals = top_k - over  # of those that are just as good as the last, the first few
            for n in range(found):
                score = pool[chosen[n]]
                if score == least:
                    if equals == 0:
                        continue
                    equals -= 1
                place = tile[chosen[n]]
                share = activation(score * scale, knots[place] if len(knots) else knots.ravel())
                for i in range(dim):
                    out[t, i] += share * values[place, i]

    return read
