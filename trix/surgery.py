"""Surgery: which classes of tokens go to which tile, edits that are planned, and compiled routing.

A tile claims the tokens that are assigned to it. `Claims` counts the assigned tokens of each class,
a `SurgeryPlan` edits signatures after a look at what would move, and a `Dispatch` is a table from
class to tile, compiled from claims, for classes that are known before the layer is asked.
"""

import copy
import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from trix.address.route import Route, Routed, RoutedLayer
from trix.address.ternary import ternarize
from trix.checks import finite, indices, instance, integers, last_dim, place, positive, shape
from trix.files import json_sha256
from trix.tiles.lookup import SparseLookupFFN

PART = 4096
"""Tokens whose scores at all tiles are held at once."""
ROUNDING = torch.finfo(torch.float32).eps
"""Two sums of the same `dim` numbers differ by at most `dim` times this share of their sizes."""
LEAST = 100
"""A class seen less often than this is not stable, whatever its tokens did."""


class Claims:
    """How many tokens of each class are assigned to each tile, counted from routes.

    Tracking compares every token with every signature once more, for the scores of tiles that were
    not chosen, from which `compile_dispatch` knows when a score is safe.

    Attributes:
        layer: the layer whose routes are tracked.
        reads: tokens assigned, by tile and class, int64 `[tiles, classes]`.
        tokens: tokens by class, int64 `[classes]`.
        highest_lost: the highest score at which a tile lost a token of a class, `[tiles, classes]`,
            raised by as much as two ways to add it up can differ (see `ROUNDING`).
        signatures: the hash of every set of signatures that was tracked.

    Raises:
        IndexError: there is no such tile or class.
        TypeError: labels, a tile or a class are not integers.
        ValueError: labels do not fit the route, the route the layer, or the classes those before.

    Example:
        >>> layer = SparseLookupFFN(4, tiles=2)
        >>> claims = Claims(layer)
        >>> claims.track_claims(layer.route(torch.randn(3, 4)), torch.tensor([0, 1, 1]), 2)
        >>> claims.get_claim_rate(0, target_class=1) + claims.get_claim_rate(1, target_class=1)
        1.0
    """

    def __init__(self, layer: RoutedLayer) -> None:
        self.layer = layer
        self.reset_claim_tracking()

    @property
    def num_classes(self) -> int:
        """Classes; 0 before anything is tracked."""
        return len(self.tokens)

    @torch.no_grad()
    def track_claims(self, route: Route, labels: Tensor, num_classes: int) -> None:
        """Count which tiles read the tokens of a route.

        Args:
            route: of the layer, `[..., k]`, with its tokens. A token that is not finite is ignored.
            labels: the class of each token, int64 `[...]`; those below 0 are ignored.
            num_classes: how many classes there are, the same until the counts are reset.
        """
        signatures = self.layer.signatures.detach()
        tiles, dim = signatures.shape
        positive("num_classes", num_classes)
        _check_classes("labels", labels, route.index.shape[:-1], num_classes)
        if route.token is None:
            raise ValueError(f"route must carry its tokens [..., {dim}], got None")
        last_dim("route.token", route.token, dim)
        indices("route.index", route.index, tiles, ValueError)
        if self.num_classes not in (0, num_classes):
            raise ValueError(f"expected {self.num_classes} classes as before, got {num_classes}")
        if self.num_classes == 0:
            self.reads = signatures.new_zeros(tiles, num_classes, dtype=torch.int64)
            self.tokens = self.reads.new_zeros(num_classes)
            self.highest_lost = torch.full_like(self.reads, -torch.inf, dtype=torch.float32)
        self.signatures.add(signatures_sha256(signatures))
        keep = (labels >= 0) & route.score.isfinite().all(dim=-1)
        parts = (route.token[keep], route.index[keep], labels[keep])
        for token, index, label in zip(*(part.split(PART) for part in parts), strict=True):
            token = token.to(torch.promote_types(token.dtype, torch.float32))
            slack = dim * ROUNDING * token.abs().sum(dim=-1, keepdim=True)
            scores = (token @ signatures.to(token).T + slack).float()
            lost = scores.scatter(1, index, -torch.inf).T.contiguous()
            self.highest_lost.scatter_reduce_(1, label.expand(tiles, -1), lost, "amax")
            both = (index * num_classes + label.unsqueeze(-1)).flatten()
            self.reads += torch.bincount(both, minlength=self.reads.numel()).view_as(self.reads)
            self.tokens += torch.bincount(label, minlength=num_classes)

    def get_claim_rate(self, tile_idx: int, target_class: int) -> float:
        """Return the share of a class's tokens assigned to a tile; 0 where none was seen."""
        place("tile_idx", tile_idx, len(self.reads))
        place("target_class", target_class, self.num_classes)
        seen = int(self.tokens[target_class])
        return int(self.reads[tile_idx, target_class]) / seen if seen else 0.0

    def get_tile_purity(self, tile_idx: int) -> float:
        """Return the share of a tile's tokens that are of their commonest class; 0 without any."""
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
    ) -> None: ...

    def undo_surgery(self) -> object: ...


def signature_from_examples(wanted: Tensor, others: Tensor, threshold: float = 0.5) -> Tensor:
    """Return a signature that tells a class from all else: the ternary difference of the means.

    Args:
        wanted: tokens of the class, `[n >= 1, dim]`.
        others: tokens that are not of it, `[n >= 1, dim]`.
        threshold: of the cut, see `ternarize`; larger ones leave more zeros.

    Raises:
        ValueError: shapes do not fit, a set is empty, or something is not finite.

    Example:
        >>> signature_from_examples(torch.tensor([[2.0, 1, 0]]), torch.tensor([[0.0, 1, 3]]))
        tensor([ 1.,  0., -1.])
    """
    for name, x in (("wanted", wanted), ("others", others)):
        shape(name, x, "n >= 1", wanted.shape[-1])
        finite(name, x)
    return ternarize(wanted.detach().mean(dim=0) - others.detach().mean(dim=0), threshold)


@dataclass(frozen=True)
class Insertion:
    """One edit of a plan, with the arguments of `insert_signature`; see `SurgeryPlan`.

    Example:
        >>> Insertion(3, torch.tensor([1.0, 0.0, -1.0]), tag="digits").freeze
        True
    """

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
        ends = (r.index[..., 0][self.moved].tolist() for r in (self.before, self.after))
        counts = Counter(zip(*ends, strict=True))
        return sorted(((a, b, n) for (a, b), n in counts.items()), key=lambda m: (-m[2], *m))


@dataclass(frozen=True)
class SurgeryPlan:
    """Edits that can be looked at before they are made, in this order.

    Example:
        >>> layer, edit = SparseLookupFFN(2), Insertion(0, torch.tensor([1.0, 0.0]), tag="first")
        >>> list(SurgeryPlan((edit,)).preview(layer, torch.eye(2)).moved.shape)
        [2]
    """

    edits: tuple[Insertion, ...]

    @torch.no_grad()
    def preview(self, layer: EditableLayer, x: Tensor) -> Preview:
        """Return how tokens `[..., dim]` are routed now, and how they would be; edit nothing."""
        trial = copy.deepcopy(layer)
        self.apply(trial)
        return Preview(layer.routed(x).route, trial.routed(x).route)

    def apply(self, layer: EditableLayer) -> None:
        """Make all edits, or none: what `insert_signature` raises leaves the layer as it was."""
        for done, edit in enumerate(self.edits):
            try:
                layer.insert_signature(edit.tile_idx, edit.signature, edit.freeze, edit.tag)
            except Exception:
                for _ in range(done):
                    layer.undo_surgery()
                raise


class DispatchCheck(NamedTuple):
    """Share of tokens that a table routed, and of these the share that live routing agrees with."""

    hit_rate: float
    agreement: float


@dataclass(frozen=True, eq=False)
class Dispatch:
    """A table from class to tile, for classes that are known before the layer is asked.

    A token of a tabled class is scored against its tile alone. Above the class's guard that tile
    reads it: a hit. All other tokens are routed live.

    Attributes:
        tile: the tile of each class, int64 `[classes]`; −1 where a class is routed live.
        guard: a hit scores more than this, float32 `[classes]`.
        threshold: claim rate from which a class counted as stable.
        signatures: hash of the signatures that the table was made for.
        rows: the tabled tiles' signatures, `[classes, dim]`.

    Raises:
        IndexError: a token's class is not in the table.
        TypeError: classes are not integers.
        ValueError: classes, tokens and layer do not fit each other, no token, or a damaged text.

    Example:
        >>> table = Dispatch(torch.tensor([1]), torch.tensor([0.5]), 0.8, "", torch.ones(1, 2))
        >>> x, classes = torch.ones(3, 2), torch.tensor([0, 0, -1])
        >>> table.route(SparseLookupFFN(2), x, classes)[1]  # the last token is routed live
        tensor([ True,  True, False])
    """

    tile: Tensor
    guard: Tensor
    threshold: float
    signatures: str
    rows: Tensor

    @torch.no_grad()
    def route(self, layer: SparseLookupFFN, x: Tensor, classes: Tensor) -> tuple[Route, Tensor]:
        """Return the routes of tokens `[..., dim]`, and which of them were hits, bool `[...]`.

        Each has a class, int64 `[...]`; those below 0 are routed live.
        """
        last_dim("x", x, self.rows.shape[1])
        _check_classes("classes", classes, x.shape[:-1], len(self.tile))
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
        """Return the layer's output `[..., dim]` for tokens that were routed through the table."""
        route, _ = self.route(layer, x, classes)
        return Routed(layer.read(route).to(x.dtype), route)

    def verify(self, layer: SparseLookupFFN) -> None:
        """Ask a layer for the signatures that the table was made for: `ValueError`."""
        if (received := signatures_sha256(layer.signatures)) != self.signatures:
            raise ValueError(
                f"the dispatch table was made for signatures with SHA-256 {self.signatures}, "
                f"got {received}: compile it again"
            )

    def check(self, layer: SparseLookupFFN, x: Tensor, classes: Tensor) -> DispatchCheck:
        """Measure the table, as tokens can drift; the agreement is NaN without a hit."""
        if classes.numel() == 0:
            raise ValueError(f"expected at least one token, got {list(classes.shape)}")
        route, hit = self.route(layer, x, classes)
        agreed = route.index[hit] == layer.route(x[hit]).index
        return DispatchCheck(float(hit.double().mean()), float(agreed.double().mean()))

    def to_json(self) -> str:
        """Return the table as a JSON text with a hash of its own."""
        pairs = zip(self.tile.tolist(), self.guard.tolist(), strict=True)
        entries = [
            {"class": kind, "tile": tile, "guard": guard if math.isfinite(guard) else None}
            for kind, (tile, guard) in enumerate(pairs)
            if tile >= 0
        ]
        about = {"threshold": self.threshold, "signatures_sha256": self.signatures}
        return _text({"classes": len(self.tile), **about, "entries": entries})

    @classmethod
    def from_json(cls, text: str, layer: SparseLookupFFN) -> "Dispatch":
        """Read what `to_json` wrote, for the layer that it was made for."""
        try:
            values = json.loads(text)
            stated, whole = values.pop("sha256"), _text(values)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"corrupt dispatch table: {error}") from error
        if text != whole:
            raise ValueError(
                "corrupt dispatch table: expected what to_json writes, with SHA-256 "
                f"{json_sha256(values)}, got another text, with {stated}"
            )
        signatures = layer.signatures.detach()
        tile = torch.full((values["classes"],), -1, device=signatures.device)
        guard = torch.full_like(tile, torch.inf, dtype=torch.float32)
        for entry in values["entries"]:
            tile[entry["class"]] = entry["tile"]
            guard[entry["class"]] = -torch.inf if entry["guard"] is None else entry["guard"]
        about = (values["threshold"], values["signatures_sha256"])
        cls(tile, guard, *about, rows=signatures[:0]).verify(layer)  # before its tiles are read
        return cls(tile, guard, *about, rows=signatures[tile.clamp(min=0)])


def compile_dispatch(layer: SparseLookupFFN, claims: Claims, threshold: float = 0.8) -> Dispatch:
    """Turn the stable classes of a trained layer into a dispatch table.

    A class of at least `LEAST` tokens is stable when one tile read at least the share `threshold`
    of them. Its guard is the highest score at which that tile lost one of them, so on the tracked
    tokens themselves the table and live routing never disagree.

    Args:
        layer: reads one tile a token.
        claims: tracked with the layer's signatures as they are now.
        threshold: claim rate, above 0 and at most 1.

    Raises:
        TypeError: the layer is no `SparseLookupFFN`.
        ValueError: it reads more than one tile, the threshold is out of range, nothing was tracked,
            or something was with other signatures.

    Example:
        >>> layer, x, classes = SparseLookupFFN(2), torch.ones(100, 2), torch.zeros(100).long()
        >>> claims = Claims(layer)
        >>> claims.track_claims(layer.route(x), classes, num_classes=1)
        >>> compile_dispatch(layer, claims).check(layer, x, classes)
        DispatchCheck(hit_rate=1.0, agreement=1.0)
    """
    instance("layer", layer, SparseLookupFFN)
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
    tile, guard = torch.where(stable, best, -1), torch.where(stable, lost, torch.inf)
    return Dispatch(tile, guard, threshold, current, layer.signatures.detach()[best])


def _check_classes(name: str, classes: Tensor, expected: torch.Size, count: int) -> None:
    # one class per token, an integer below `count`; those below 0 mean none
    integers(name, classes)
    shape(name, classes, *expected)
    indices(name, classes.clamp(min=0), count)


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values | {"sha256": json_sha256(values)}, indent=1) + "\n"
