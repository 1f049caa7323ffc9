"""Overlapping clusters: signatures and tokens to try routers on, drawn the same way each time.

Tiles come in families of clusters: about n^⅓ families, n^⅔ clusters and n tiles. The clusters
overlap, because each tile and each token mixes the centres of two of them. So the tile that wins a
token often belongs to another cluster than the one that the token was drawn from, and a router
that only looked the cluster up would fail. Isotropic data, with no clusters at all, is the
contrast that no tree can be good at.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from trix.address.checks import positive
from trix.address.route import flat_route
from trix.address.ternary import ternarize

CLUSTER = 1.2
"""Distance of a cluster from its family's centre, in units of that centre's own spread."""

TILE_MIX, TOKEN_MIX = 0.4, 0.8
"""The most that a tile or a token takes from its second cluster: a share drawn evenly from 0 up."""

TILE_NOISE, TOKEN_NOISE = 0.5, 0.5
"""What belongs to one tile or one token alone, in the same units."""


class Overlapping(NamedTuple):
    """Signatures and tokens, and the clusters that they were drawn from.

    Attributes:
        signatures: ternary, `[tiles, dim]`.
        tokens: `[tokens, dim]`.
        tile_cluster: the cluster that each tile takes most from, int64 `[tiles]`.
        token_cluster: the cluster that each token takes most from, int64 `[tokens]`.
    """

    signatures: Tensor
    tokens: Tensor
    tile_cluster: Tensor
    token_cluster: Tensor


def overlapping_clusters(
    tiles: int, dim: int = 256, tokens: int = 4096, seed: int = 0
) -> Overlapping:
    """Draw tiles in overlapping clusters, and tokens to route among them.

    Raises:
        ValueError: a number below 1.
    """
    for name, value in (("tiles", tiles), ("dim", dim), ("tokens", tokens)):
        positive(name, value)
    dice = torch.Generator().manual_seed(seed)
    families = round(tiles ** (1 / 3))
    clusters = round(tiles ** (2 / 3))

    def normal(rows: int) -> Tensor:
        return torch.randn(rows, dim, generator=dice)

    centres = normal(families)[torch.arange(clusters) % families] + CLUSTER * normal(clusters)

    def mixed(own: Tensor, most: float) -> Tensor:
        other = torch.randint(clusters, own.shape, generator=dice)
        share = most * torch.rand(len(own), 1, generator=dice)
        return (1 - share) * centres[own] + share * centres[other]

    # every cluster gets its tiles, and a tile's number says nothing about its cluster
    tile_cluster = (torch.arange(tiles) % clusters)[torch.randperm(tiles, generator=dice)]
    token_cluster = torch.randint(clusters, (tokens,), generator=dice)
    signatures = ternarize(mixed(tile_cluster, TILE_MIX) + TILE_NOISE * normal(tiles))
    x = mixed(token_cluster, TOKEN_MIX) + TOKEN_NOISE * normal(tokens)
    return Overlapping(signatures, x, tile_cluster, token_cluster)


def isotropic(
    tiles: int, dim: int = 256, tokens: int = 4096, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Draw ternary signatures `[tiles, dim]` and tokens `[tokens, dim]` of no structure at all.

    Raises:
        ValueError: a number below 1.
    """
    for name, value in (("tiles", tiles), ("dim", dim), ("tokens", tokens)):
        positive(name, value)
    dice = torch.Generator().manual_seed(seed)
    signatures = ternarize(torch.randn(tiles, dim, generator=dice))
    return signatures, torch.randn(tokens, dim, generator=dice)


@torch.no_grad()
def recall(router: nn.Module, x: Tensor, signatures: Tensor, top_k: int = 1) -> float:
    """Return the share of the flat winners that a router finds too.

    Args:
        router: called as `router(x, signatures, top_k)`, as a `TreeRouter` is.
        x: tokens, `[..., dim]`.
        signatures: `[tiles, dim]`.
        top_k: how many winners a token has.

    Raises:
        ValueError: there are no tokens, or the router or `flat_route` refuse their arguments.
    """
    if x.ndim == 0 or x.numel() == 0:
        raise ValueError(f"x must hold tokens, got {list(x.shape)}")
    expected = flat_route(x, signatures, top_k).index.unsqueeze(-1)
    found = router(x, signatures, top_k).index.unsqueeze(-2)
    return float((expected == found).any(-1).to(torch.float64).mean())
