"""Claims: which tiles get the tokens of which class."""

import copy
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from trix.address.route import Route, Routed, RoutedLayer
from trix.address.ternary import ternarize
from trix.checks import place, positive
from trix.tiles.lookup import SparseLookupFFN

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


class EditableLayer(RoutedLayer, Protocol):
    """A routed layer whose signatures are rows of their own, as `SparseLookupFFN`."""

    def insert_signature(
        self, tile_idx: int, signature: Tensor, freeze: bool = True, tag: str = ""
    ) -> None:
        """Give a tile another signature."""
        ...

    def undo_surgery(self) -> object:
        """Take back the latest edit."""
        ...


def signature_from_examples(wanted: Tensor, others: Tensor, threshold: float = 0.5) -> Tensor:
    """Return what tells examples of a class from all else: the cut difference of the means.

    Args:
        wanted: tokens of the class, `[n >= 1, dim]`.
        others: tokens that are not of it, `[m >= 1, dim]`.
        threshold: of the cut, see `ternarize`; larger ones leave more zeros.

    Returns:
        `[dim]`, every number −1, 0 or 1.

    Raises:
        ValueError: shapes do not fit, a set is empty, or something is not finite.
    """
    for name, tokens in (("wanted", wanted), ("others", others)):
        if tokens.ndim != 2 or len(tokens) == 0 or tokens.shape[1] != wanted.shape[-1]:
            raise ValueError(
                f"{name} must be [n >= 1, {wanted.shape[-1]}], got {list(tokens.shape)}"
            )
        if not tokens.isfinite().all():
            raise ValueError(
                f"{name} must be finite, got {tokens[~tokens.isfinite()][:8].tolist()}"
            )
    return ternarize(wanted.detach().mean(dim=0) - others.detach().mean(dim=0), threshold)


def signature_from_features(
    dim: int, positive_dims: Sequence[int] = (), negative_dims: Sequence[int] = ()
) -> Tensor:
    """Return the signature that wants some features, and the opposite of others.

    Args:
        dim: length of the signature.
        positive_dims: features that become 1.
        negative_dims: features that become −1.

    Raises:
        IndexError: a feature is not among the `dim`.
        TypeError: one is not an integer.
        ValueError: one is in both lists.
    """
    signature = torch.zeros(positive("dim", dim))
    if both := set(positive_dims) & set(negative_dims):
        raise ValueError(f"a feature is wanted or unwanted, got {sorted(both)} as both")
    for value, features in ((1.0, positive_dims), (-1.0, negative_dims)):
        for feature in features:
            signature[place("features", feature, dim)] = value
    return signature


def signature_from_tile(layer: RoutedLayer, tile_idx: int) -> Tensor:
    """Return a copy of a tile's signature, `[dim]`.

    Raises:
        IndexError: there is no such tile.
        TypeError: it is not an integer.
    """
    signatures = layer.signatures.detach()
    return signatures[place("tile_idx", tile_idx, len(signatures))].clone()


@dataclass(frozen=True)
class Insertion:
    """One edit of a plan, with the arguments of `insert_signature`."""

    tile_idx: int
    signature: Tensor
    freeze: bool = True
    tag: str = ""


class Preview(NamedTuple):
    """What a plan would do to some tokens: their routes before it and after it."""

    before: Route
    after: Route

    @property
    def moved(self) -> Tensor:
        """Which tokens would get another best tile, bool `[...]`."""
        return self.before.index[..., 0] != self.after.index[..., 0]

    def moves(self) -> list[tuple[int, int, int]]:
        """Return from which tile to which how many tokens would move, most first."""
        pairs = torch.stack([r.index[..., 0][self.moved] for r in (self.before, self.after)], dim=1)
        found, counts = pairs.unique(dim=0, return_counts=True)
        rows = [(a, b, n) for (a, b), n in zip(found.tolist(), counts.tolist(), strict=True)]
        return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))


@dataclass(frozen=True)
class SurgeryPlan:
    """Edits that can be looked at before they are made.

    Args:
        edits: in the order in which they will be made.
    """

    edits: tuple[Insertion, ...]

    @torch.no_grad()
    def preview(self, layer: EditableLayer, x: Tensor) -> Preview:
        """Return how tokens `[..., dim]` are routed now, and how they would be; edit nothing.

        Raises:
            Exception: what `apply` would raise.
        """
        trial = copy.deepcopy(layer)
        self.apply(trial)
        return Preview(layer.routed(x).route, trial.routed(x).route)

    def apply(self, layer: EditableLayer) -> None:
        """Make all edits, or none if one of them cannot be made.

        Raises:
            Exception: what `insert_signature` raised; the layer is then as it was.
        """
        done = 0
        try:
            for edit in self.edits:
                layer.insert_signature(edit.tile_idx, edit.signature, edit.freeze, edit.tag)
                done += 1
        except Exception:
            for _ in range(done):
                layer.undo_surgery()
            raise


LEAST = 100
"""A class seen less often than this is not stable, whatever its tokens did."""


class DispatchCheck(NamedTuple):
    """How a dispatch table did on some tokens.

    Attributes:
        hit_rate: share of tokens that the table answered.
        agreement: share of those that live routing would have sent to the same tile; NaN without
            a hit.
    """

    hit_rate: float
    agreement: float


@dataclass(frozen=True, eq=False)
class Dispatch:
    """A table from class to tile, for classes that are known before the layer is asked.

    A token of a tabled class is scored against its tile alone. Above the class's guard that tile
    reads it: a hit. All other tokens are routed live. Made by `compile_dispatch`.

    Attributes:
        tile: the tile of each class, int64 `[classes]`; −1 where a class is routed live.
        guard: a hit scores more than this, float32 `[classes]`.
        threshold: claim rate from which a class counted as stable.
        signatures: hash of the signatures that the table was made for.
        rows: the tabled tiles' signatures, `[classes, dim]`.
    """

    tile: Tensor
    guard: Tensor
    threshold: float
    signatures: str
    rows: Tensor

    @torch.no_grad()
    def route(self, layer: SparseLookupFFN, x: Tensor, classes: Tensor) -> tuple[Route, Tensor]:
        """Return the routes of tokens, and which of them were hits, bool `[...]`.

        Args:
            layer: the layer that the table was made for, see `verify`.
            x: tokens, `[..., dim]`.
            classes: int64, a class a token, `[...]`; those below 0 are routed live.

        Raises:
            IndexError: a class is not in the table.
            TypeError: classes are not integers.
            ValueError: not one class a token, or the last axis of `x` is not `dim`.
        """
        if x.ndim == 0 or x.shape[-1] != self.rows.shape[1]:
            raise ValueError(f"x must be [..., {self.rows.shape[1]}], got {list(x.shape)}")
        if classes.shape != x.shape[:-1]:
            raise ValueError(
                f"classes must be {list(x.shape[:-1])}, one a token, got {list(classes.shape)}"
            )
        if classes.dtype.is_floating_point or classes.dtype == torch.bool:
            raise TypeError(f"classes must be integers, got {classes.dtype}")
        if classes.numel() and int(classes.max()) >= len(self.tile):
            raise IndexError(f"classes must be below {len(self.tile)}, got {int(classes.max())}")
        known = classes.clamp(min=0)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        score = (F.embedding(known, self.rows).to(wide) * wide).sum(dim=-1)
        hit = (classes >= 0) & (score > self.guard[known])
        index, score = self.tile[known], score.to(x.dtype)
        if not hit.all():
            live = layer.route(x[~hit])
            index = index.masked_scatter(~hit, live.index)
            score = score.masked_scatter(~hit, live.score)
        index, score = index.unsqueeze(-1), score.unsqueeze(-1)
        return Route(index, torch.ones_like(score), score, index.unsqueeze(-1), x.detach()), hit

    def routed(self, layer: SparseLookupFFN, x: Tensor, classes: Tensor) -> Routed:
        """Return the layer's output `[..., dim]` for tokens that were routed through the table.

        Raises:
            IndexError: a class is not in the table.
            TypeError: classes are not integers.
            ValueError: not one class a token, or the last axis of `x` is not `dim`.
        """
        route, _ = self.route(layer, x, classes)
        return Routed(layer.read(route).to(x.dtype), route)

    def verify(self, layer: SparseLookupFFN) -> None:
        """Make sure that a layer still has the signatures that the table was made for.

        Raises:
            ValueError: it has others.
        """
        _same_signatures(layer, self.signatures)

    def check(self, layer: SparseLookupFFN, x: Tensor, classes: Tensor) -> DispatchCheck:
        """Measure the table on tokens: how often it answers, and whether live routing agrees.

        Signatures that moved are `verify`'s to notice; what reaches the layer can drift under
        frozen signatures too, and that is seen here.

        Raises:
            IndexError: a class is not in the table.
            TypeError: classes are not integers.
            ValueError: no token, not one class a token, or the last axis of `x` is not `dim`.
        """
        if classes.numel() == 0:
            raise ValueError(f"expected at least one token, got {list(classes.shape)}")
        route, hit = self.route(layer, x, classes)
        live = layer.route(x[hit]).index if hit.any() else route.index[hit]
        agreed = (route.index[hit] == live).double()
        return DispatchCheck(
            float(hit.double().mean()), float(agreed.mean()) if len(agreed) else math.nan
        )

    def to_json(self) -> str:
        """Return the table as a JSON text with a hash of its own."""
        entries = [
            {"class": kind, "tile": tile, "guard": guard if math.isfinite(guard) else None}
            for kind, (tile, guard) in enumerate(
                zip(self.tile.tolist(), self.guard.tolist(), strict=True)
            )
            if tile >= 0
        ]
        values = {
            "classes": len(self.tile),
            "threshold": self.threshold,
            "signatures_sha256": self.signatures,
            "entries": entries,
        }
        return _text(values | {"sha256": _sha256(values)})

    @classmethod
    def from_json(cls, text: str, layer: SparseLookupFFN) -> "Dispatch":
        """Read what `to_json` wrote, for the layer that it was made for.

        Raises:
            ValueError: the text is damaged, or was made for other signatures.
        """
        try:
            values = json.loads(text)
            whole = _text(values) == text
            stated = values.pop("sha256")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"corrupt dispatch table: {error}") from error
        if (received := _sha256(values)) != stated:
            raise ValueError(f"corrupt dispatch table: expected SHA-256 {stated}, got {received}")
        if not whole:
            raise ValueError("corrupt dispatch table: expected the text of to_json, got another")
        _same_signatures(layer, values["signatures_sha256"])
        signatures = layer.signatures.detach()
        tile = torch.full((values["classes"],), -1, device=signatures.device)
        guard = torch.full((values["classes"],), torch.inf, device=signatures.device)
        for entry in values["entries"]:
            tile[entry["class"]] = entry["tile"]
            guard[entry["class"]] = -torch.inf if entry["guard"] is None else entry["guard"]
        rows = signatures[tile.clamp(min=0)]
        return cls(tile, guard, values["threshold"], values["signatures_sha256"], rows)


def compile_dispatch(layer: SparseLookupFFN, claims: Claims, threshold: float = 0.8) -> Dispatch:
    """Turn the stable classes of a trained layer into a dispatch table.

    A class is stable when one tile read at least the share `threshold` of its tokens, of which
    there were enough. Its guard is the highest score at which that tile lost a token of the class:
    on the tracked tokens themselves, the table and live routing never disagree.

    Args:
        layer: reads one tile a token.
        claims: tracked with the layer's signatures as they are now.
        threshold: claim rate, above 0 and at most 1.

    Raises:
        TypeError: the layer is no `SparseLookupFFN`.
        ValueError: it reads more than one tile, the threshold is out of range, nothing was tracked,
            or something was with other signatures.
    """
    if not isinstance(layer, SparseLookupFFN):
        raise TypeError(f"layer must be a SparseLookupFFN, got {type(layer).__name__}")
    if layer.top_k != 1:
        raise ValueError(f"layer must read one tile a token, got top_k={layer.top_k}")
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}")
    current = signatures_sha256(layer.signatures)
    if claims.signatures != {current}:
        raise ValueError(
            f"claims must be tracked with signatures of SHA-256 {current} alone, "
            f"got {sorted(claims.signatures)}: reset_claim_tracking(), then track again"
        )
    best = claims.reads.argmax(dim=0)
    rate = claims.reads.amax(dim=0) / claims.tokens.clamp(min=1)
    stable = (rate >= threshold) & (claims.tokens >= LEAST)
    lost = claims.highest_lost.gather(0, best.unsqueeze(0)).squeeze(0)
    return Dispatch(
        tile=torch.where(stable, best, -1),
        guard=torch.where(stable, lost, torch.inf),
        threshold=threshold,
        signatures=current,
        rows=layer.signatures.detach()[best],
    )


def _same_signatures(layer: SparseLookupFFN, expected: str) -> None:
    if (received := signatures_sha256(layer.signatures)) != expected:
        raise ValueError(
            f"the dispatch table was made for signatures with SHA-256 {expected}, "
            f"got {received}: compile it again"
        )


def _sha256(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=1) + "\n"
