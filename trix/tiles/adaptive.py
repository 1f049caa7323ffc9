"""Spline resolution that follows routing confidence."""

from typing import cast

import torch
from torch import Tensor, nn

from trix.address.route import Route
from trix.address.sources import UniformRandom
from trix.checks import positive, renamed
from trix.tiles.tile import ACTIVATIONS, SplineBodies, through_tiles
from trix.tiles.two_level import TwoLevelFFN

KEEP = 0.98
"""Decay of the running median of margins."""


class AdaptiveKANFFN(TwoLevelFFN):
    """`HybridKANFFN` with two splines a unit: coarse where routing is sure, fine where it is not.

    Routing is sure of a token when the *margin*, the best score less the next best among the tiles
    that it was compared with, is above the median margin, which the layer learns in `update`.
    So about half the tokens read fine cells. What a resolution costs is the bits of an address:
    a line is one multiplication whatever the number of cells. Source: the notes' adaptive
    resolution.

    Args:
        dim: input and output features.
        tiles: how many tiles.
        tiles_per_cluster: tiles that share a cluster, at least two.
        coarse: cells where routing is sure.
        fine: cells where it is not.
        choose: "confidence", or "chance" for a control that tosses a coin for every token.

    Raises:
        TypeError: a number is not an integer.
        ValueError: a number below 1, fewer than two tiles a cluster, or another name.
    """

    threshold: Tensor

    def __init__(
        self,
        dim: int,
        tiles: int = 64,
        tiles_per_cluster: int = 8,
        coarse: int = 4,
        fine: int = 16,
        choose: str = "confidence",
    ) -> None:
        """See the class."""
        if choose not in ("confidence", "chance"):
            raise ValueError(f"choose must be confidence or chance, got {choose!r}")
        rank = max(1, 4 * positive("dim", dim) // positive("tiles", tiles))
        super().__init__(SplineBodies(dim, tiles, rank, coarse), tiles_per_cluster)
        if self.router.reached < 2:
            raise ValueError(
                f"a margin needs two tiles to compare, got {self.router.reached} a cluster"
            )
        self.coarse, self.fine = coarse, positive("fine", fine)
        renamed(self, {"fine_bend": "fine_activation"})
        self.fine_activation: nn.Module = ACTIVATIONS["knots"](tiles, rank, fine)
        self.coin = UniformRandom(2, dim) if choose == "chance" else None
        self.register_buffer("threshold", torch.zeros(()))

    @torch.no_grad()
    def sure(self, x: Tensor) -> Tensor:
        """Return whether tokens `[..., dim]` read coarse cells, bool `[...]`."""
        if self.coin is not None:
            return self.coin.route(x, self.coin.zeros).index[..., 0] == 0
        return self._margin(x) > self.threshold.to(x.dtype)

    def address_bits(self, x: Tensor) -> float:
        """Return the bits of the cell's address, on average over tokens `[..., dim]`."""
        share = float(self.sure(x).double().mean())
        bits = torch.tensor([self.coarse, self.fine], dtype=torch.float64).log2()
        return float(share * bits[0] + (1 - share) * bits[1])

    @torch.no_grad()
    def update(self, route: Route) -> None:
        """Follow the median margin of the tokens.

        Raises:
            ValueError: the route does not carry its tokens.
        """
        if route.token is None:
            raise ValueError("the margins' median needs the route's tokens, got token=None")
        margin = self._margin(route.token).flatten()
        margin = margin[margin.isfinite()]
        if len(margin):
            self.threshold.lerp_(margin.median().to(self.threshold), 1 - KEEP)

    def _margin(self, x: Tensor) -> Tensor:
        score = self.router(x, self.signatures, 2).score
        return score[..., 0] - score[..., 1]

    def _read(self, x: Tensor, route: Route) -> Tensor:
        sure, bodies = self.sure(x), cast(SplineBodies, self.bodies)

        def activation(units: Tensor, tile: Tensor, visit: Tensor) -> Tensor:
            coarse, fine = bodies.activation(units, tile), self.fine_activation(units, tile)
            return torch.where(sure[visit].unsqueeze(-1), coarse, fine)

        return through_tiles(
            x, route.index.reshape(-1, 1), bodies.bottleneck, activation, bodies.down
        )
