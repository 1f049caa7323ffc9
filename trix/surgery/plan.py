"""Signatures made to measure, and plans: edits that can be looked at before they are made."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from trix.address.checks import place, positive
from trix.address.route import Route, RoutedLayer
from trix.address.ternary import ternarize


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
