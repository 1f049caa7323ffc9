"""Routing down fixed nested groups: clusters by position, their signatures always up to date."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trix.address.kmeans import weighted_mean
from trix.address.route import Route, best, blend_weights, check_signatures
from trix.address.tree import TreeRouter
from trix.checks import tokens

FEW = 256
"""Up to so many tiles a product with all signatures takes less time than finding a way down."""


class NestedRouter(TreeRouter):
    """A `TreeRouter` whose groups are fixed and whose inner signatures are never out of date.

    Neighbouring tiles share a cluster, neighbouring clusters a larger one, whose signature is the
    mean of its tiles' as they are then (the notes' "signature from cluster aggregate"). Nothing is
    rebuilt or saved, and a layer can train through it from the first step; a `TreeRouter` fitted to
    a trained layer is the better index. Arguments and errors are those of `TreeRouter`.

    >>> router = NestedRouter(tiles=6, dim=8, branching=(2, 3))
    >>> router(torch.randn(5, 8), torch.randn(6, 8)).path.shape
    torch.Size([5, 1, 2])
    """

    def __init__(self, tiles: int, dim: int, branching: Sequence[int], beam: int = 1) -> None:
        super().__init__(tiles, dim, branching, beam)
        del self.inner
        self.register_buffer("shape", self.shape, persistent=False)
        self.register_buffer("order", torch.arange(tiles), persistent=False)
        self._built = True

    @property
    def cluster_sizes(self) -> Tensor:
        """How many tiles each of the lowest clusters holds, int64 `[clusters]`."""
        return torch.tensor(self._sizes[-1])

    def cluster_signatures(self, signatures: Tensor) -> Tensor:
        """Return the mean signature of each of the lowest clusters, `[clusters, dim]`."""
        return self._inner_rows(signatures)[-1]

    def forward(
        self, x: Tensor, signatures: Tensor, top_k: int = 1, temperature: float | Tensor = 1.0
    ) -> Route:
        """Send each token to the best `top_k` tiles of those that it reaches, see `TreeRouter`.

        Up to `FEW` tiles one product scores them all, and a cluster's score is the mean of its
        tiles', for it is that of their mean: the same routes, in a few operations.
        """
        if self.tiles > FEW or not 1 <= top_k <= self.reached:  # TreeRouter refuses such a top_k
            return super().forward(x, signatures, top_k, temperature)
        check_signatures(signatures, self.tiles, self.dim)
        tokens("x", x, self.dim)
        scores = x.reshape(-1, self.dim) @ signatures.to(x.dtype).T
        with torch.no_grad():
            index = self._choose(scores.detach(), top_k)
            path = torch.cat([self.ancestors[index], index.unsqueeze(-1)], dim=-1)
        chosen = (*x.shape[:-1], top_k)
        score, path = scores.gather(1, index).view(chosen), path.view(*chosen, len(self.branching))
        weight = blend_weights(score, temperature)
        return Route(index.view(chosen), weight, score, path, x.detach())

    def _choose(self, scores: Tensor, top_k: int) -> Tensor:
        # what descending the tree would reach, from the scores of all tiles [tokens, tiles]
        for node, sizes, keep in zip(self.ancestors.T, self._sizes[1:], self._kept, strict=True):
            count = torch.tensor(sizes, dtype=scores.dtype, device=scores.device)
            mean = scores.new_zeros(len(scores), len(sizes)).index_add_(1, node, scores) / count
            kept = torch.zeros_like(mean, dtype=torch.bool).scatter(1, best(mean, keep), True)
            scores = scores.masked_fill(~kept[:, node], -torch.inf)
        return best(scores, top_k)

    def rebuild(self, signatures: Tensor, inputs: Tensor | None = None) -> None:
        """Do nothing: the groups are fixed, and their signatures follow the tiles'."""

    def _inner_rows(self, signatures: Tensor) -> tuple[Tensor, ...]:
        rows = signatures.detach().to(torch.promote_types(signatures.dtype, torch.float32))
        return tuple(
            weighted_mean(rows, rows.new_ones(self.tiles), node, len(sizes))
            for node, sizes in zip(self.ancestors.T, self._sizes[1:], strict=True)
        )
