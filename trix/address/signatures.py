"""Signatures that belong to no weights: learned rows that can be inserted, frozen and thawed."""

import json
import math
from typing import Any

import torch
from torch import Tensor, nn

from trix.address.ternary import row_scale, ternarize
from trix.checks import instance, place, positive, shape


class SignatureRows(nn.Module):
    """A table of ternary signatures that is learned, and edited row by row.

    A row is the ternary cut of a trained row of real numbers, normal at initialization with
    standard deviation 1/√dim. No gradient, momentum or weight decay can reach a frozen row: it is
    bit-identical after training and loading. Every edit is written down, saved, and can be undone.

    >>> rows = SignatureRows(tiles=4, dim=3)
    >>> rows.insert(2, torch.tensor([1, 0, -1]), freeze=True)
    >>> rows()[2].tolist()
    [1.0, 0.0, -1.0]

    Attributes:
        tags: the names that edited rows were given, by tile.

    Raises:
        IndexError: a method is asked for a tile that is not there.
        TypeError: a count or a tile is not an integer.
        ValueError: a count below 1, and as `EditableSignatures` says.
    """

    raw: nn.Parameter
    is_frozen: Tensor
    frozen_rows: Tensor  # zeros where a row is not frozen

    def __init__(self, tiles: int, dim: int) -> None:
        super().__init__()
        lengths = (positive("tiles", tiles), positive("dim", dim))
        self.raw = nn.Parameter(torch.randn(lengths) / math.sqrt(dim))
        self.register_buffer("is_frozen", torch.zeros(tiles, dtype=torch.bool))
        self.register_buffer("frozen_rows", torch.zeros(lengths))
        self.tags: dict[int, str] = {}
        self._edits: list[dict[str, Any]] = []

    def extra_repr(self) -> str:
        return f"tiles={self.raw.shape[0]}, dim={self.raw.shape[1]}"

    def forward(self) -> Tensor:
        """Return the effective signatures, `[tiles, dim]`, exactly −1, 0 or 1."""
        return torch.where(self.is_frozen[:, None], self.frozen_rows, ternarize(self.raw))

    def latent(self) -> Tensor:
        """Return the trained rows before the cut, `[tiles, dim]`, in units of their own scale."""
        return self.raw / row_scale(self.raw, ternarize(self.raw)).detach().clamp(min=1e-12)

    @torch.no_grad()
    def insert(self, tile: int, signature: Tensor, freeze: bool = False, tag: str = "") -> None:
        """Put a signature in a tile's row, see `EditableSignatures.insert_signature`."""
        self.check_tile(tile)
        shape("signature", instance("signature", signature, Tensor), self.raw.shape[1])
        other = signature[~((signature == -1) | (signature == 0) | (signature == 1))]
        if len(other):
            raise ValueError(f"signature must hold −1, 0 and 1 alone, got {other[:8].tolist()}")
        row = signature.detach().to(self.raw) + 0.0  # no −0.0, which JSON would not give back
        instance("tag", tag, str)
        self._edit("insert", tile, tag, row, row if freeze else None)

    @torch.no_grad()
    def freeze(self, tile: int) -> None:
        """Keep a tile's signature as it is now; one that is frozen stays so."""
        self.check_tile(tile)
        if not self.is_frozen[tile]:
            row = ternarize(self.raw[tile])
            self._edit("freeze", tile, self.tags.get(tile, ""), None, row)

    @torch.no_grad()
    def thaw(self, tile: int) -> None:
        """Let a tile's signature learn again, from where it stands; it must be frozen."""
        self.check_tile(tile)
        if not self.is_frozen[tile]:
            raise ValueError(f"expected a frozen tile, got {tile}, which is not")
        self._edit("thaw", tile, self.tags.get(tile, ""), self.frozen_rows[tile], None)

    @torch.no_grad()
    def undo(self) -> dict[str, Any]:
        """Take back the latest edit and return it: its row is as it was, learning included."""
        if not self._edits:
            raise ValueError("expected an edit to undo, got none")
        edit = self._edits.pop()
        tile, before = edit["tile_idx"], edit["before"]
        self.raw[tile] = torch.tensor(before["raw"], dtype=torch.float64)
        frozen = torch.tensor(before["signature"]) if before["frozen"] else None
        self._set(tile, before["tag"], frozen)
        return _told(edit)

    def history(self) -> list[dict[str, Any]]:
        """Return the edits that stand, oldest first.

        Each has its `operation` (insert, freeze or thaw), `tile_idx` and `tag`, and `before`: the
        row's `signature`, whether it was `frozen`, and its `tag`.
        """
        return [_told(edit) for edit in self._edits]

    def check_tile(self, tile: int) -> None:
        """Raise unless `tile` is the number of a row: `TypeError` or `IndexError`."""
        place("tile", tile, len(self.raw))

    def get_extra_state(self) -> Tensor:
        """Return tags and edits as the bytes of a JSON text, so that `state_dict` has them."""
        text = json.dumps({"tags": self.tags, "edits": self._edits})
        return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take back what `get_extra_state` returned, or raise `ValueError` if it is not that."""
        try:
            values = json.loads(bytes(state.tolist()))
            tags = {int(tile): str(tag) for tile, tag in values["tags"].items()}
            edits = list(values["edits"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"corrupt history of edits: {error}") from error
        self.tags, self._edits = tags, edits

    def _edit(
        self, operation: str, tile: int, tag: str, raw: Tensor | None, frozen: Tensor | None
    ) -> None:
        before = {
            "raw": self.raw[tile].to(torch.float64).tolist(),  # JSON keeps every bit of these
            "signature": self()[tile].to(torch.int8).tolist(),
            "frozen": bool(self.is_frozen[tile]),
            "tag": self.tags.get(tile, ""),
        }
        self._edits.append({"operation": operation, "tile_idx": tile, "tag": tag, "before": before})
        if raw is not None:
            self.raw[tile] = raw / math.sqrt(len(raw))  # of the size of a trained row
        self._set(tile, tag, frozen)

    def _set(self, tile: int, tag: str, frozen: Tensor | None) -> None:
        self.is_frozen[tile] = frozen is not None
        self.frozen_rows[tile] = 0 if frozen is None else frozen
        self.tags.pop(tile, None)
        if tag:
            self.tags[tile] = tag


def _told(edit: dict[str, Any]) -> dict[str, Any]:
    # a copy for outside, without the raw row
    before = {k: v for k, v in edit["before"].items() if k != "raw"}
    return {**edit, "before": before | {"signature": list(before["signature"])}}


class EditableSignatures:
    """What a layer can do whose signatures are rows of their own: edit them, one by one.

    What a tile reads is untouched. A fitted `TreeRouter` is to be rebuilt afterwards. Source: the
    surgery of the P0 summary, whose names these are.

    Raises:
        IndexError: a method is asked for a tile that is not there.
        TypeError: the tile is not an integer, a signature no tensor, or a tag no string.
        ValueError: a signature is not ternary of `[dim]`, a tile to unfreeze is not frozen, or
            nothing is left to undo.
    """

    @property
    def rows(self) -> SignatureRows:
        """The rows that are edited."""
        raise NotImplementedError

    def insert_signature(
        self, tile_idx: int, signature: Tensor, freeze: bool = True, tag: str = ""
    ) -> None:
        """Give a tile another signature, `[dim]` of −1, 0 and 1, even if its row is frozen."""
        self.rows.insert(tile_idx, signature, freeze, tag)

    def freeze_signature(self, tile_idx: int) -> None:
        """Keep a tile's signature as it is, whatever training does; one that is frozen stays so."""
        self.rows.freeze(tile_idx)

    def unfreeze_signature(self, tile_idx: int) -> None:
        """Let a tile's signature learn again, from where it stands."""
        self.rows.thaw(tile_idx)

    def is_frozen(self, tile_idx: int) -> bool:
        """Return whether training leaves a tile's signature alone."""
        self.rows.check_tile(tile_idx)
        return bool(self.rows.is_frozen[tile_idx])

    def get_signature_analysis(self, tile_idx: int) -> dict[str, Any]:
        """Return what a tile's signature asks for.

        `tile_idx`; `positive_dims` and `negative_dims`, the features that it wants and whose
        opposite it wants; `zero_count`, how many it does not care for; `frozen`; `tag`.
        """
        frozen, row = self.is_frozen(tile_idx), self.rows()[tile_idx].detach()
        return {
            "tile_idx": tile_idx,
            "positive_dims": (row > 0).nonzero().flatten().tolist(),
            "negative_dims": (row < 0).nonzero().flatten().tolist(),
            "zero_count": int((row == 0).sum()),
            "frozen": frozen,
            "tag": self.rows.tags.get(tile_idx, ""),
        }

    def get_surgery_history(self) -> list[dict[str, Any]]:
        """Return the edits that stand, oldest first, see `SignatureRows.history`."""
        return self.rows.history()

    def undo_surgery(self) -> dict[str, Any]:
        """Take back the latest edit and return it, see `SignatureRows.undo`."""
        return self.rows.undo()
