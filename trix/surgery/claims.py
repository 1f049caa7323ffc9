"""Claims: which tiles get the tokens of which class."""

import hashlib

import torch
from torch import Tensor

from trix.address.checks import place, positive
from trix.address.route import Route, RoutedLayer

PART = 4096
"""Tokens whose scores at all tiles are held at once."""
ROUNDING = torch.finfo(torch.float32).eps
"""Two sums of the same `dim` numbers differ by at most `dim` times this share of their sizes."""


class Claims:
    """Which tiles get the tokens of which class, counted from routes, outside any forward.

    Beside the counts it keeps, for every tile and class, the highest score with which the tile was
    *not* chosen: what `compile_dispatch` needs to know when a score is safe. So tracking compares
    every token with every signature once more.

    Args:
        layer: the layer whose routes will be tracked.

    Attributes:
        reads: reads by tile and class, int64 `[tiles, classes]`.
        tokens: tokens by class, int64 `[classes]`.
        highest_lost: the highest score at which a tile lost a token of a class, `[tiles, classes]`,
            raised by as much as two ways to add it up can differ (see `ROUNDING`).
        signatures: the hash of every set of signatures that was tracked.
    """

    def __init__(self, layer: RoutedLayer) -> None:
        """See the class."""
        self.layer = layer
        self.reset_claim_tracking()

    @property
    def num_classes(self) -> int:
        """How many classes there are; 0 before anything is tracked."""
        return len(self.tokens)

    @torch.no_grad()
    def track_claims(self, route: Route, labels: Tensor, num_classes: int) -> None:
        """Count which tiles read the tokens of a route.

        Args:
            route: of the layer, `[..., k]`, with its tokens. A token that is not finite is ignored.
            labels: int64, a class a token, `[...]`; those below 0 are ignored.
            num_classes: how many classes there are, the same until the counts are reset.

        Raises:
            IndexError: a label is not below `num_classes`.
            TypeError: labels, or their number of classes, are not integers.
            ValueError: no class, not one label a token, another number of classes than before, or
                a route that is not of this layer or does not carry its tokens.
        """
        signatures = self.layer.signatures.detach()
        tiles, dim = signatures.shape
        positive("num_classes", num_classes)
        if labels.dtype.is_floating_point or labels.dtype == torch.bool:
            raise TypeError(f"labels must be integers, got {labels.dtype}")
        if labels.shape != route.index.shape[:-1]:
            raise ValueError(
                f"labels must be {list(route.index.shape[:-1])}, one a token, "
                f"got {list(labels.shape)}"
            )
        if route.token is None or route.token.shape[-1] != dim:
            got = None if route.token is None else list(route.token.shape)
            raise ValueError(f"expected a route with its tokens [..., {dim}], got {got}")
        if route.index.numel() and int(route.index.max()) >= tiles:
            raise ValueError(f"expected tiles below {tiles}, got {int(route.index.max())}")
        if labels.numel() and int(labels.max()) >= num_classes:
            raise IndexError(f"labels must be below {num_classes}, got {int(labels.max())}")
        if self.num_classes not in (0, num_classes):
            raise ValueError(f"expected {self.num_classes} classes as before, got {num_classes}")
        if self.num_classes == 0:
            count = {"dtype": torch.int64, "device": signatures.device}
            self.reads = torch.zeros(tiles, num_classes, **count)
            self.tokens = torch.zeros(num_classes, **count)
            self.highest_lost = torch.full_like(self.reads, -torch.inf, dtype=torch.float32)
        self.signatures.add(signatures_sha256(signatures))
        keep = (labels >= 0) & route.score.isfinite().all(dim=-1)
        parts = (route.token[keep], route.index[keep], labels[keep])
        for token, index, label in zip(*(part.split(PART) for part in parts), strict=True):
            token = token.to(torch.promote_types(token.dtype, torch.float32))
            slack = dim * ROUNDING * token.abs().sum(dim=-1, keepdim=True)
            self._count(token @ signatures.to(token).T + slack, index, label)

    def _count(self, scores: Tensor, index: Tensor, label: Tensor) -> None:
        tiles, classes = self.reads.shape
        flat = index * classes + label.unsqueeze(-1)
        self.reads += torch.bincount(flat.flatten(), minlength=tiles * classes).view(tiles, classes)
        self.tokens += torch.bincount(label, minlength=classes)
        lost = scores.float().scatter(1, index, -torch.inf)
        where = label.expand(tiles, -1)
        self.highest_lost.scatter_reduce_(1, where, lost.T.contiguous(), "amax")

    def get_claim_rate(self, tile_idx: int, target_class: int) -> float:
        """Return the share of a class's tokens that a tile read; 0 where none was seen.

        Raises:
            IndexError: there is no such tile or class.
        """
        place("tile_idx", tile_idx, len(self.reads))
        place("target_class", target_class, self.num_classes)
        seen = int(self.tokens[target_class])
        return int(self.reads[tile_idx, target_class]) / seen if seen else 0.0

    def get_tile_purity(self, tile_idx: int) -> float:
        """Return the share of a tile's tokens that are of its commonest class; 0 if it read none.

        Raises:
            IndexError: there is no such tile.
        """
        place("tile_idx", tile_idx, len(self.reads))
        reads = self.reads[tile_idx]
        return int(reads.max()) / int(reads.sum()) if reads.any() else 0.0

    def reset_claim_tracking(self) -> None:
        """Forget all counts, and the number of classes."""
        self.reads = torch.zeros(len(self.layer.signatures), 0, dtype=torch.int64)
        self.tokens = torch.zeros(0, dtype=torch.int64)
        self.highest_lost = torch.zeros(len(self.reads), 0)
        self.signatures: set[str] = set()


def signatures_sha256(signatures: Tensor) -> str:
    """Return the SHA-256 of ternary signatures `[tiles, dim]` and their shape."""
    rows = signatures.detach().to("cpu", torch.int8).contiguous()
    return hashlib.sha256(f"{list(rows.shape)}".encode() + rows.numpy().tobytes()).hexdigest()
