"""Compilation: where a class is stable, its tile is looked up instead of searched for."""

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from trix.address.route import Route, Routed
from trix.surgery.claims import Claims, signatures_sha256
from trix.tiles.lookup import SparseLookupFFN

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
