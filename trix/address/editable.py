"""Surgery on a layer's signatures, under the names that the notes gave it."""

from typing import Any

from torch import Tensor

from trix.address.rows import SignatureRows


class EditableSignatures:
    """What a layer can do whose signatures are rows of their own: edit them, one by one.

    A tile's row is replaced, frozen or thawed; what the tile reads is untouched. A fitted
    `TreeRouter` is to be rebuilt afterwards, since its upper levels were made for the rows of
    before; a `NestedRouter` follows by itself. Source: the surgery of the P0 summary, whose names
    these are.
    """

    @property
    def rows(self) -> SignatureRows:
        """The rows that are edited."""
        raise NotImplementedError

    def insert_signature(
        self, tile_idx: int, signature: Tensor, freeze: bool = True, tag: str = ""
    ) -> None:
        """Give a tile another signature.

        Args:
            tile_idx: the tile. Where it is frozen the new row takes its place, and `freeze=False`
                thaws it.
            signature: `[dim]`, every number −1, 0 or 1.
            freeze: whether training must leave the new row alone.
            tag: a name for it.

        Raises:
            IndexError: there is no such tile.
            TypeError: the tile is not an integer, the signature no tensor, or the tag no string.
            ValueError: the signature is not `[dim]`, or not ternary.
        """
        self.rows.insert(tile_idx, signature, freeze, tag)

    def freeze_signature(self, tile_idx: int) -> None:
        """Keep a tile's signature as it is, whatever training does; one that is frozen stays so.

        Raises:
            IndexError: there is no such tile.
            TypeError: it is not an integer.
        """
        self.rows.freeze(tile_idx)

    def unfreeze_signature(self, tile_idx: int) -> None:
        """Let a tile's signature learn again, from where it stands.

        Raises:
            IndexError: there is no such tile.
            TypeError: it is not an integer.
            ValueError: it is not frozen.
        """
        self.rows.thaw(tile_idx)

    def is_frozen(self, tile_idx: int) -> bool:
        """Return whether training leaves a tile's signature alone.

        Raises:
            IndexError: there is no such tile.
            TypeError: it is not an integer.
        """
        self.rows.check_tile(tile_idx)
        return bool(self.rows.is_frozen[tile_idx])

    def get_signature_analysis(self, tile_idx: int) -> dict[str, Any]:
        """Return what a tile's signature asks for.

        Returns:
            `tile_idx`; `positive_dims` and `negative_dims`, the features that it wants and whose
            opposite it wants; `zero_count`, how many it does not care for; `frozen`; `tag`.

        Raises:
            IndexError: there is no such tile.
            TypeError: it is not an integer.
        """
        self.rows.check_tile(tile_idx)
        row = self.rows()[tile_idx].detach()
        return {
            "tile_idx": tile_idx,
            "positive_dims": (row > 0).nonzero().flatten().tolist(),
            "negative_dims": (row < 0).nonzero().flatten().tolist(),
            "zero_count": int((row == 0).sum()),
            "frozen": self.is_frozen(tile_idx),
            "tag": self.rows.tags.get(tile_idx, ""),
        }

    def get_surgery_history(self) -> list[dict[str, Any]]:
        """Return the edits that stand, oldest first, see `SignatureRows.history`."""
        return self.rows.history()

    def undo_surgery(self) -> dict[str, Any]:
        """Take back the latest edit and return it, see `SignatureRows.undo`.

        Raises:
            ValueError: nothing is left to undo.
        """
        return self.rows.undo()
