"""Feed-forward layers: the dense baseline, and tiles that are read on demand."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.checks import positive, tokens
from trix.address.route import Route, Routed, flat_route
from trix.address.signature import weight_signatures
from trix.tiles.bodies import scaled_ternary


class DenseFFN(nn.Module):
    """The baseline: every input reads every hidden unit, `down(gelu(up(x)))`.

    Args:
        dim: input and output features.
        hidden: hidden units; four times `dim` when not given (Vaswani et al. 2017).
        bias: whether the two matrices have biases.
    """

    def __init__(self, dim: int, hidden: int | None = None, bias: bool = False) -> None:
        """See the class."""
        super().__init__()
        hidden = 4 * positive("dim", dim) if hidden is None else positive("hidden", hidden)
        self.up = nn.Linear(dim, hidden, bias=bias)
        self.down = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., dim]` to `[..., dim]`.

        Raises:
            TypeError: `x` is not floating.
            ValueError: the last axis of `x` is not `dim`.
        """
        tokens("x", x, self.up.in_features)
        return self.down(F.gelu(self.up(x)))


class WideDenseFFN(DenseFFN):
    """A dense layer whose first matrix begins with standard deviation 1/√dim, as keys of tiles do.

    GPT-2 begins with 0.02, so that hidden units start out small and nearly linear. A layer that
    reads tiles by unscaled keys starts out wide, and has to be measured beside a dense one that
    does so too.

    Args:
        dim: input and output features.
        hidden: hidden units; four times `dim` when not given.
    """

    def __init__(self, dim: int, hidden: int | None = None) -> None:
        """See the class."""
        super().__init__(dim, hidden)
        nn.init.normal_(self.up.weight, std=1 / math.sqrt(dim))


class TriXFFN(nn.Module):
    r"""Ternary tiles behind one flat level of emergent routing.

    Tile :math:`t` is the two-layer function :math:`f_t(x) = D_t\,\mathrm{gelu}(U_t x)` with ternary
    weights and one scale a row. Its signature is read off :math:`U_t`, so that routing adds no
    parameter. A token reads its `top_k` best tiles:

    .. math:: y = \sum_{t \in \text{top-}k} w_t \; g(s_t) \; f_t(x), \qquad s_t = x \cdot \sigma_t

    with :math:`w = \mathrm{softmax}(s)` over the chosen tiles and the gate
    :math:`g(s) = \mathrm{sigmoid}(s/\sqrt{d})`. With `top_k` = 1 the gate alone
    carries the gradient to the address. All tiles are computed and the chosen ones kept, so
    this layer saves no work over a dense one of the same size. Source: the notes on emergent
    routing; they use two levels.

    Args:
        dim: input and output features.
        tiles: how many tiles.
        hidden: hidden units of each tile; `4 * dim / tiles`, at least 1, when not given, so that
            all tiles together weigh as much as a dense layer.
        top_k: tiles that each token reads.
    """

    def __init__(
        self, dim: int, tiles: int = 16, hidden: int | None = None, top_k: int = 1
    ) -> None:
        """See the class."""
        super().__init__()
        positive("dim", dim)
        positive("tiles", tiles)
        hidden = max(1, 4 * dim // tiles) if hidden is None else positive("hidden", hidden)
        if positive("top_k", top_k) > tiles:
            raise ValueError(f"top_k must be at most the {tiles} tiles, got {top_k}")
        self.dim, self.tiles, self.hidden, self.top_k = dim, tiles, hidden, top_k
        self.up = nn.Parameter(torch.randn(tiles, hidden, dim) / math.sqrt(dim))
        self.down = nn.Parameter(torch.randn(tiles, dim, hidden) / math.sqrt(hidden))

    @property
    def signatures(self) -> Tensor:
        """The tiles' addresses, `[tiles, dim]`, exactly −1, 0 or 1."""
        return weight_signatures(self.up)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., dim]` to `[..., dim]`; the output of `routed`."""
        return self.routed(x).output

    def routed(self, x: Tensor) -> Routed:
        """Return the output `[..., dim]` with the `Route` that produced it.

        Raises:
            TypeError: `x` is not floating.
            ValueError: the last axis of `x` is not `dim`.
        """
        tokens("x", x, self.dim)
        route = flat_route(x, self.signatures, self.top_k)
        up, down = scaled_ternary(self.up).to(x.dtype), scaled_ternary(self.down).to(x.dtype)
        share = route.weight * torch.sigmoid(route.score / math.sqrt(self.dim))
        shares = share.new_zeros(*x.shape[:-1], self.tiles).scatter(-1, route.index, share)
        # two matrix products over all tiles beat a gather of weights while tiles are few
        hidden = F.gelu(torch.einsum("...d,thd->...th", x, up)) * shares.unsqueeze(-1)
        return Routed(torch.einsum("...th,tdh->...d", hidden, down), route)

    def update(self, route: Route) -> None:
        """Nothing here learns outside the gradient."""
