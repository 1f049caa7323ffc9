"""Lookup only: the address of the nearest signature, the entry that stands there, and no more."""

import math

import torch
from torch import Tensor, nn

from trix.address.route import Route, Routed, best, blend_weights, check_temperature, flat_route
from trix.address.signatures import SignatureRows
from trix.address.ternary import straight_through
from trix.checks import at_most, indices, one_of, positive, tokens
from trix.tiles.ffn import KeyedFFN, read_entries

KEEP = 0.99
"""Decay of the running means that the codebook learns from outside the gradient."""
STARVED = 0.1
"""An entry that is read less often than this share of its fair share is dead."""


class CodebookFFN(KeyedFFN):
    r"""An entry for every input: :math:`y = \sum_g C_g[\arg\max_e x\cdot\sigma_{g,e}]`.

    The notes' most radical thought: the layer works out which entry you are, and returns that
    entry. The entries of several `groups` add up to `entries ** groups` outputs (product
    quantization, Jégou et al. 2011); with `top_k`, nearby ones are blended by `softmax(score / T)`.

    The forward pass is hard. The backward pass takes it for the softmax over *all* entries of the
    group, so that each signature learns whether its entry would have been the better one: a
    straight-through estimator (Bengio et al. 2013; van den Oord et al. 2017). Falling temperatures
    (`set_temperature`, `TrainConfig.anneal`) let the two come together. When the trainer calls
    `update(route)`, entries that are hardly ever read start again at an input that is served badly,
    as its score in the first codebook tells.

    Args:
        entries, groups: of each codebook, and how many codebooks there are, whose entries add up.
        top_k: entries blended.
        learn: how signatures learn, "gradient", or, as in VQ-VAE, "ema": running means of inputs.
        temperature: of the softmax, in units of √dim.

    Example:
        >>> layer = CodebookFFN(8, entries=4, groups=2)
        >>> layer.routed(torch.randn(5, 8)).route.index.shape
        torch.Size([5, 2])
    """

    reads: Tensor
    temperature: Tensor

    def __init__(
        self,
        dim: int,
        entries: int = 256,
        top_k: int = 1,
        groups: int = 1,
        learn: str = "gradient",
        temperature: float = 0.1,
    ) -> None:
        at_most("top_k", top_k, positive("entries", entries), "entries")
        super().__init__(dim, positive("groups", groups) * entries, top_k)
        self.entries, self.groups = entries, groups
        self.learn = one_of("learn", learn, ("gradient", "ema"))
        self.keys = SignatureRows(self.tiles, dim)
        self.keys.raw.requires_grad_(learn == "gradient")
        self.values = nn.Parameter(0.02 * torch.randn(self.tiles, dim))
        self.register_buffer("reads", torch.full((self.tiles,), 1 / entries))
        self.register_buffer("temperature", torch.zeros(()))
        self.set_temperature(temperature)

    @torch.no_grad()
    def set_temperature(self, temperature: float) -> None:
        """Set the temperature, in units of √dim; `ValueError` unless it is positive and finite."""
        check_temperature(temperature)
        self.temperature.fill_(temperature)

    def _routed(self, x: Tensor) -> Routed:
        signatures, temperature = self.signatures, self.temperature * math.sqrt(self.dim)
        route = route_groups(x, signatures, self.groups, self.top_k, temperature)
        output = read_entries(self.values, route)
        if not torch.is_grad_enabled():
            return Routed(output, route)
        scores = (x @ signatures.to(x.dtype).T).unflatten(-1, (self.groups, self.entries))
        soft = blend_weights(scores, temperature).flatten(-2) @ self.values.to(x.dtype)
        return Routed(straight_through(output, soft), route)

    @torch.no_grad()
    def update(self, route: Route) -> None:
        """Count a route's reads, move EMA signatures, and let dead entries start again."""
        if route.token is None:
            raise ValueError("a codebook learns from the tokens of the route, got token=None")
        token = route.token.reshape(-1, self.dim).to(self.values)
        index, score = (t.reshape(-1, t.shape[-1]) for t in (route.index, route.score))
        sound = score.isfinite().all(dim=-1)  # one NaN would spoil the means for good
        token, index, score = token[sound], index[sound], score[sound]
        if len(token) == 0:
            return
        firsts = index[:, :: self.top_k]  # of each group
        counts = torch.bincount(firsts.flatten(), minlength=self.tiles).to(self.reads)
        self.reads.lerp_(counts / len(token), 1 - KEEP)
        if self.learn == "ema":
            raw = self.keys.raw
            for column in firsts.T:
                total = torch.zeros_like(raw).index_add_(0, column, token)
                seen = torch.bincount(column, minlength=self.tiles).unsqueeze(-1)
                mean = total / seen.clamp(min=1) / math.sqrt(self.dim)
                moved = (seen > 0) & ~self.keys.is_frozen.unsqueeze(-1)
                raw.copy_(torch.where(moved, raw.lerp(mean, 1 - KEEP), raw))
        self._revive(token, score[:, 0])

    def _revive(self, token: Tensor, score: Tensor) -> None:
        # The worst served tokens become signatures of dead entries, one each. No shape depends on
        # how many are dead: the first rows of `order` are the dead ones, the others stay.
        dead = (self.reads < STARVED / self.entries) & ~self.keys.is_frozen
        some = min(self.tiles, len(token))
        worst = token[best(-score, some)]
        order = dead.to(torch.int8).argsort(descending=True, stable=True)[:some]
        take = dead[order].unsqueeze(-1)
        raw = self.keys.raw
        raw[order] = torch.where(take, worst / math.sqrt(self.dim), raw[order])
        self.reads[order] = torch.where(take[:, 0], 1 / self.entries, self.reads[order])

    def export_table(self) -> "CodebookTable":
        """Return the layer as a table, for inference: signatures to address it, entries to read."""
        return CodebookTable(self)


class CodebookTable(nn.Module):
    """A trained `CodebookFFN` for inference, bit for bit: an address, and what stands there.

    With `top_k=1`, nothing past the address is multiplied. The layer's numbers are copied.

    Example:
        >>> layer, x = CodebookFFN(8, entries=4), torch.randn(5, 8)
        >>> torch.equal(CodebookTable(layer)(x), layer(x))
        True
    """

    signatures: Tensor
    values: Tensor
    temperature: Tensor

    def __init__(self, layer: CodebookFFN) -> None:
        super().__init__()
        self.dim, self.groups, self.top_k = layer.dim, layer.groups, layer.top_k
        self.register_buffer("temperature", (layer.temperature * math.sqrt(layer.dim)).detach())
        self.register_buffer("signatures", layer.signatures.detach().clone())
        self.register_buffer("values", layer.values.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., dim]` to `[..., dim]`: `read(address(x))`; raises as the layer does."""
        tokens("x", x, self.dim)
        return self.read(self.address(x))

    def address(self, x: Tensor) -> Route:
        """Return where tokens `[..., dim]` are to look."""
        return route_groups(x, self.signatures, self.groups, self.top_k, self.temperature)

    def read(self, route: Route) -> Tensor:
        """Return what stands there, `[..., dim]`; `IndexError` for an entry that is not there."""
        indices("entries", route.index, len(self.values))
        return read_entries(self.values, route)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, tiles={len(self.values)}, top_k={self.top_k}"


def route_groups(
    x: Tensor, signatures: Tensor, groups: int, top_k: int, temperature: float | Tensor
) -> Route:
    """Return a route with the `top_k` best entries of each group, `[..., groups · top_k]`.

    The signatures are those of all groups, one after another, `[groups · entries, dim]`.
    """
    entries = len(signatures) // groups
    parts = [flat_route(x, rows, top_k, temperature) for rows in signatures.split(entries)]
    index = torch.cat([part.index + i * entries for i, part in enumerate(parts)], dim=-1)
    weight = torch.cat([part.weight for part in parts], dim=-1)
    score = torch.cat([part.score for part in parts], dim=-1)
    return Route(index, weight, score, index.unsqueeze(-1), x.detach())
