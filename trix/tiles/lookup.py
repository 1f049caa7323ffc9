"""SparseLookup: a feed-forward whose tiles are single neurons, read on demand."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.calibrate import ScoreGate
from trix.address.checks import positive, tokens
from trix.address.route import Route, Routed, flat_route
from trix.address.rows import SignatureRows
from trix.address.tree import TreeRouter


class SparseLookupFFN(nn.Module):
    r"""A key, an activation and a value a tile; a token reads the `top_k` best-matching ones.

    .. math:: y = \sum_{t \in \text{top-}k} g(x \cdot \sigma_t)\, v_t

    The keys :math:`\sigma` are learned ternary signatures, the activation :math:`g` is the gate of
    the score, shared by all tiles, and the values :math:`v` are directions in the output. The tiles
    add up rather than compete, so each blend weight is 1. With `top_k` = `tiles` this is a dense
    layer with ternary keys; with less, the values that are not chosen are never touched. It is
    the notes' SparseLookup without its splines; memory layers (Lample et al. 2019; He 2024) read
    values the same way.

    Args:
        dim: input and output features.
        tiles: how many tiles.
        top_k: tiles that each token reads.
        router: chooses tiles in place of flat routing. It is rebuilt when its owner says so, never
            here.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a count below 1, `top_k` above `tiles`, or a router for other tiles.
    """

    def __init__(
        self, dim: int, tiles: int = 512, top_k: int = 32, router: TreeRouter | None = None
    ) -> None:
        """See the class. Values begin normal, with standard deviation 0.02."""
        super().__init__()
        positive("dim", dim)
        positive("tiles", tiles)
        if positive("top_k", top_k) > tiles:
            raise ValueError(f"top_k must be at most the {tiles} tiles, got {top_k}")
        if router is not None and (router.tiles, router.dim) != (tiles, dim):
            raise ValueError(
                f"router must be for {tiles} tiles of {dim} features, got {router.tiles} of "
                f"{router.dim}"
            )
        if router is not None and router.reached < top_k:
            raise ValueError(
                f"top_k must be at most the {router.reached} tiles that the router reaches, "
                f"got {top_k}"
            )
        self.dim, self.tiles, self.top_k = dim, tiles, top_k
        self.keys = SignatureRows(tiles, dim)
        self.gate = ScoreGate(dim)
        self.values = nn.Parameter(0.02 * torch.randn(tiles, dim))
        self.router = router

    @property
    def signatures(self) -> Tensor:
        """The tiles' addresses, `[tiles, dim]`, exactly −1, 0 or 1."""
        return self.keys()

    @property
    def latent(self) -> Tensor:
        """The keys before their cut, `[tiles, dim]`, see `SignatureRows.latent`."""
        return self.keys.latent()

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., dim]` to `[..., dim]`; the output of `routed`."""
        return self.routed(x).output

    def routed(self, x: Tensor) -> Routed:
        """Return the output `[..., dim]` with the `Route` that produced it.

        Raises:
            ValueError: the last axis of `x` is not `dim`.
        """
        tokens("x", x, self.dim)
        choose = flat_route if self.router is None else self.router
        route: Route = choose(x, self.signatures, self.top_k)
        route = route._replace(weight=torch.ones_like(route.score), token=x.detach())
        gate = self.gate(route.score).to(self.values.dtype)
        read = F.embedding_bag(
            route.index.reshape(-1, self.top_k),
            self.values,
            mode="sum",
            per_sample_weights=gate.reshape(-1, self.top_k),
        )
        return Routed(read.view(x.shape).to(x.dtype), route)

    def update(self, route: Route) -> None:
        """Nothing here learns outside the gradient."""
