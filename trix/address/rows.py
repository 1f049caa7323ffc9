"""Signatures that belong to no weights: learned rows that can be inserted, frozen and thawed."""

import math

import torch
from torch import Tensor, nn

from trix.address.checks import positive
from trix.address.ternary import row_scale, ternarize


class SignatureRows(nn.Module):
    """A table of ternary signatures that is learned, and edited row by row.

    A row is the ternary cut of a trained row of numbers, each cut by its own mean size, so that no
    row depends on another. A frozen row is kept in a buffer and chosen by `torch.where`: no
    gradient, momentum or weight decay can reach it, and it is bit-identical after training and
    after loading.

    Args:
        tiles: rows.
        dim: columns.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a count below 1.
    """

    raw: nn.Parameter
    is_frozen: Tensor
    frozen_rows: Tensor

    def __init__(self, tiles: int, dim: int) -> None:
        """See the class. Rows begin normal, with standard deviation 1/√dim, as weights do."""
        super().__init__()
        shape = (positive("tiles", tiles), positive("dim", dim))
        self.raw = nn.Parameter(torch.randn(shape) / math.sqrt(dim))
        self.register_buffer("is_frozen", torch.zeros(tiles, dtype=torch.bool))
        self.register_buffer("frozen_rows", torch.zeros(shape))

    def forward(self) -> Tensor:
        """Return the effective signatures, `[tiles, dim]`, exactly −1, 0 or 1."""
        return torch.where(self.is_frozen[:, None], self.frozen_rows, ternarize(self.raw))

    def latent(self) -> Tensor:
        """Return the trained rows in units of their own scale, `[tiles, dim]`, before the cut.

        What `ternary_pull` and `sparsity` are for: in these units −1, 0 and 1 are what the
        cut makes of them.
        """
        return self.raw / row_scale(self.raw, ternarize(self.raw)).detach().clamp(min=1e-12)

    @torch.no_grad()
    def insert(self, tile: int, signature: Tensor, freeze: bool = False) -> None:
        """Put a signature in a tile's row, and keep it there for good if asked.

        Args:
            tile: the row.
            signature: `[dim]`; numbers other than −1, 0 and 1 are cut as trained rows are.
            freeze: whether training must leave it alone.

        Raises:
            IndexError: there is no such tile.
            TypeError: the tile is not an integer.
            ValueError: not `[dim]`, or not finite.
        """
        self._check(tile)
        signature = signature.to(self.raw)
        if list(signature.shape) != [self.raw.shape[1]]:
            raise ValueError(
                f"signature must be [{self.raw.shape[1]}], got {list(signature.shape)}"
            )
        if not signature.isfinite().all():
            bad = signature[~signature.isfinite()].tolist()
            raise ValueError(f"signature must be finite, got {bad}")
        row = ternarize(signature)
        self.raw[tile] = row / math.sqrt(len(row))  # of the size of a trained row
        self.frozen_rows[tile] = row
        self.is_frozen[tile] = freeze

    @torch.no_grad()
    def freeze(self, tile: int) -> None:
        """Keep a tile's signature as it is now.

        Raises:
            IndexError: there is no such tile.
        """
        self._check(tile)
        if not self.is_frozen[tile]:
            self.frozen_rows[tile] = ternarize(self.raw[tile])
            self.is_frozen[tile] = True

    @torch.no_grad()
    def thaw(self, tile: int) -> None:
        """Let a tile's signature learn again, from where it is.

        Raises:
            IndexError: there is no such tile.
        """
        self._check(tile)
        if self.is_frozen[tile]:
            row = self.frozen_rows[tile]
            self.raw[tile] = row / math.sqrt(len(row))
            self.is_frozen[tile] = False

    def _check(self, tile: int) -> None:
        if isinstance(tile, bool) or not isinstance(tile, int):
            raise TypeError(f"tile must be an integer, got {tile!r}")
        if not 0 <= tile < len(self.raw):
            raise IndexError(f"tile must be in 0 … {len(self.raw) - 1}, got {tile}")
