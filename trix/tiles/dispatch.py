"""Many tokens through many two-layer tiles, without a loop over tiles."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from trix.address.grouped import blocks_of

Bend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`bend(units, tile, visit)`: what a tile does between its two layers.

`units` is `[..., seen]`, `tile` and `visit` are int64 `[...]`: the tile, and which of all the
reads this is. It returns `[..., written]`, which may be wider or narrower.
"""

FEW = 2
"""Up to so many reads a tile, on average, each read gathers its tile's weights."""


def through_tiles(x: Tensor, index: Tensor, first: Tensor, bend: Bend, second: Tensor) -> Tensor:
    r"""Send each token through its tiles: :math:`D_t^\top\, \mathrm{bend}_t(U_t x)`.

    One rule decides how. Up to `FEW` reads a tile, every read gathers the weights of its tile:
    `reads × weights of a tile` numbers are copied, and a single token touches nothing but
    the tiles it reads. With more, reads are sorted by tile and cut into blocks as long as the
    average queue, so that each tile's weights are copied for a block and not for a read:
    `2.5 · tiles` copies at the most, and one batched product for all (`trix.address.grouped`).

    Args:
        x: tokens `[tokens, dim]`.
        index: the tiles that each token reads, int64 `[tokens, k]`.
        first: `[tiles, seen, dim]`.
        bend: see `Bend`.
        second: `[tiles, written, dim]`.

    Returns:
        What each of its tiles says to each token, `[tokens, k, dim]`.
    """
    reads, tiles = index.numel(), len(first)
    first, second = first.to(x.dtype), second.to(x.dtype)
    if reads <= FEW * tiles:
        tile, visit = index.flatten(), torch.arange(reads, device=x.device)
        token = x.unsqueeze(1).expand(*index.shape, -1).reshape(reads, 1, x.shape[-1])
        units = (token @ _of(first, tile).transpose(1, 2)).squeeze(1)
        said = bend(units, tile, visit).unsqueeze(1) @ _of(second, tile)
        return said.view(*index.shape, second.shape[-1])
    blocks = blocks_of(index.flatten(), tiles, reads // tiles)
    units = F.embedding(blocks.visit // index.shape[1], x) @ _of(first, blocks.owner).transpose(
        1, 2
    )
    bent = bend(units, blocks.owner.unsqueeze(1).expand_as(blocks.visit), blocks.visit)
    return blocks.collect(bent @ _of(second, blocks.owner)).view(*index.shape, second.shape[-1])


def _of(weights: Tensor, tile: Tensor) -> Tensor:
    # an embedding's gradient is several times faster than that of indexing
    return F.embedding(tile, weights.flatten(1)).unflatten(-1, weights.shape[1:])
