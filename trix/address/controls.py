"""Four controls: ways to choose an address that any emergent one has to be measured against.

And the wrapper that shuffles a trained layer's addresses, to see whether they mattered.
"""

import math

import torch
from torch import Tensor, nn

from trix.address.route import Route, flat_route
from trix.address.sources import Source, TileParts
from trix.address.ternary import ternarize
from trix.checks import positive


class FrozenRandom(Source):
    """Random ternary signatures that nothing trains: similar inputs still meet at one tile.

    Args:
        tiles: rows.
        dim: columns.
    """

    fixed: Tensor

    def __init__(self, tiles: int, dim: int) -> None:
        """See the class."""
        super().__init__()
        shape = (positive("tiles", tiles), positive("dim", dim))
        self.register_buffer("fixed", ternarize(torch.randn(shape)))

    def rows(self, parts: TileParts) -> Tensor:
        """Return the fixed rows, `[tiles, dim]`."""
        return self.fixed


class LinearRouter(Source):
    """The standard: a learned matrix of scores, tiles weighted by a softmax over *all* of them.

    As in Switch Transformers (Fedus et al. 2022), to be trained with the load-balance loss.

    Args:
        tiles: rows.
        dim: columns.
    """

    def __init__(self, tiles: int, dim: int) -> None:
        """See the class."""
        super().__init__()
        shape = (positive("tiles", tiles), positive("dim", dim))
        self.matrix = nn.Parameter(torch.randn(shape) / math.sqrt(dim))

    def rows(self, parts: TileParts) -> Tensor:
        """Return the matrix, `[tiles, dim]`: real numbers, not ternary."""
        return self.matrix

    def route(
        self,
        x: Tensor,
        rows: Tensor,
        top_k: int = 1,
        temperature: float | Tensor = 1.0,
        bias: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Route:
        """Return the routes; the weights of the chosen tiles need not sum to one."""
        route = flat_route(x, rows, top_k, temperature, bias)
        scores = x @ rows.to(x.dtype).T
        top = scores.detach().amax(dim=-1, keepdim=True)
        total = ((scores - top) / temperature).logsumexp(-1, keepdim=True)
        weight = torch.exp((route.score - top) / temperature - total)
        return route._replace(weight=weight)


class _Scoreless(Source):
    """Shared by the two controls that have no signatures: all rows zero, so all scores too."""

    zeros: Tensor

    def __init__(self, tiles: int, dim: int) -> None:
        super().__init__()
        shape = (positive("tiles", tiles), positive("dim", dim))
        self.register_buffer("zeros", torch.zeros(shape))
        self.register_buffer("salt", torch.randint(1 << 30, ()))

    salt: Tensor

    def rows(self, parts: TileParts) -> Tensor:
        """Return zeros, `[tiles, dim]`: there is no signature."""
        return self.zeros

    def _pick(self, x: Tensor, key: Tensor, top_k: int) -> Route:
        tiles = len(self.zeros)
        if not 1 <= top_k <= tiles:
            raise ValueError(f"top_k must be between 1 and the {tiles} tiles, got {top_k}")
        if key.is_floating_point():
            raise TypeError(f"labels must be integers, got {key.dtype}")
        first = _hash(key + self.salt).remainder(tiles)
        # the tiles after the first are its neighbours: k different ones, and chance chose them all
        index = (first.unsqueeze(-1) + torch.arange(top_k, device=x.device)).remainder(tiles)
        score = 0 * x.sum(dim=-1, keepdim=True).expand(index.shape)  # NaN where the token has one
        return Route(index, (score + 1) / top_k, score, index.unsqueeze(-1), x.detach())


class TokenHash(_Scoreless):
    """A hash of the token's label chooses, as in Hash Layers (Roller et al. 2021).

    Args:
        tiles: rows.
        dim: columns.
    """

    def route(
        self,
        x: Tensor,
        rows: Tensor,
        top_k: int = 1,
        temperature: float | Tensor = 1.0,
        bias: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Route:
        """Return the routes by label.

        Raises:
            ValueError: no label, or not one a token.
        """
        if labels is None or labels.shape != x.shape[:-1]:
            got = None if labels is None else list(labels.shape)
            raise ValueError(f"labels must be {list(x.shape[:-1])}, one a token, got {got}")
        return self._pick(x, labels, top_k)


class UniformRandom(_Scoreless):
    """Chance chooses anew for every token: a hash of the bits of the token's vector, as float32.

    So the same vector always goes to the same tile and a forward can be repeated, but vectors that
    differ in their last bit have nothing in common. Read in parts, a text may take other ways than
    read whole, for rounding differs.

    Args:
        tiles: rows.
        dim: columns.
    """

    def route(
        self,
        x: Tensor,
        rows: Tensor,
        top_k: int = 1,
        temperature: float | Tensor = 1.0,
        bias: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Route:
        """Return the routes by chance."""
        bits = x.detach().float().contiguous().view(torch.int32).long()
        place = torch.arange(1, x.shape[-1] + 1, device=x.device)
        return self._pick(x, _hash(bits + _hash(place)).sum(dim=-1), top_k)


class Shuffled(Source):
    """A trained source whose tiles have swapped addresses: what the addresses were worth.

    Args:
        source: the source as trained.
        order: a permutation of the tiles, `[tiles]`: tile i gets the address of tile `order[i]`.

    Raises:
        ValueError: it is not a permutation; when rows are read, not one of all tiles.
    """

    order: Tensor

    def __init__(self, source: Source, order: Tensor) -> None:
        """See the class."""
        super().__init__()
        if not torch.equal(order.sort().values, torch.arange(len(order), device=order.device)):
            raise ValueError(f"order must be a permutation, got {order.tolist()}")
        self.source = source
        self.register_buffer("order", order)

    def rows(self, parts: TileParts) -> Tensor:
        """Return the rows of the source, in another order, `[tiles, dim]`."""
        rows = self.source.rows(parts)
        if len(rows) != len(self.order):
            raise ValueError(f"order must be of {len(rows)} tiles, got {len(self.order)}")
        return rows[self.order]

    def route(
        self,
        x: Tensor,
        rows: Tensor,
        top_k: int = 1,
        temperature: float | Tensor = 1.0,
        bias: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Route:
        """Return the routes that the source gives, to the swapped addresses."""
        return self.source.route(x, rows, top_k, temperature, bias, labels)


def _hash(key: Tensor) -> Tensor:
    # two rounds of multiply and shift (splitmix64's constants, as signed numbers): each bit of the
    # key moves about half the bits of the hash
    key = (key ^ (key >> 30)) * -4658895280553007687
    key = (key ^ (key >> 27)) * -7723592293110705685
    return (key ^ (key >> 31)) & 0x7FFFFFFFFFFFFFFF
