"""Synthetic data: tasks, `batch` texts of `length` tokens below `vocab`, and clusters to route."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trix.address.route import flat_route
from trix.address.ternary import ternarize
from trix.checks import at_least, one_of, positive

NOTHING = -100  # the target where nothing is asked: `cross_entropy` leaves it out
POWER = 0.01  # of the law that the places of questions in `mqar` follow, as in zoology


class Asked(NamedTuple):
    """Texts, and the answer that belongs at each place or `NOTHING`; int64 `[batch, length]`."""

    tokens: Tensor
    targets: Tensor


def mqar(batch: int, length: int, pairs: int, vocab: int, generator: torch.Generator) -> Asked:
    """Return multi-query associative recall: keys with their values, then each key once more.

    As in zoology (Arora et al. 2023). Behind the pairs, at every second place at most, the keys
    come again in random order, the nearer the likelier (weight rank^(`POWER` − 1)), and ask for
    their values. All other tokens are 0. Keys, all different, are from the lower half of the
    vocabulary and values, all different, from the upper.
    """
    _counts(batch=batch, pairs=pairs)
    at_least("length", length, 4 * pairs)
    at_least("vocab", vocab, 2 * pairs + 2)
    half, space = vocab // 2, (length - 2 * pairs) // 2
    keys = 1 + _distinct(batch, pairs, half - 1, generator)
    values = half + _distinct(batch, pairs, vocab - half, generator)
    law = torch.arange(1, space + 1, dtype=torch.float64) ** (POWER - 1)
    gaps = torch.multinomial(law.expand(batch, -1), pairs, generator=generator)
    tokens = torch.zeros(batch, length, dtype=torch.int64)
    targets = torch.full_like(tokens, NOTHING)
    tokens[:, : 2 * pairs] = torch.stack([keys, values], dim=2).flatten(1)
    places = 2 * pairs + 2 * gaps
    return Asked(tokens.scatter_(1, places, keys), targets.scatter_(1, places, values))


def induction(batch: int, length: int, vocab: int, generator: torch.Generator) -> Asked:
    """Return induction heads: what followed the special token, the time before?

    As in Mamba (Gu & Dao 2023, after Olsson et al. 2022). Random tokens; at a random place the
    special token, `vocab - 1`, which comes again at the end and asks for its first successor.
    """
    positive("batch", batch)
    at_least("length", length, 3)
    at_least("vocab", vocab, 2)
    tokens = torch.randint(vocab - 1, (batch, length), generator=generator)
    place = torch.randint(length - 2, (batch, 1), generator=generator)
    targets = torch.full_like(tokens, NOTHING)
    targets[:, -1:] = tokens.gather(1, place + 1)
    tokens.scatter_(1, place, vocab - 1)[:, -1] = vocab - 1
    return Asked(tokens, targets)


def selective_copying(
    batch: int, length: int, kept: int, vocab: int, generator: torch.Generator
) -> Asked:
    """Return selective copying: repeat, in order, what stood scattered among noise, `vocab - 2`.

    As in Mamba (Gu & Dao 2023) and MAD (Poli et al. 2024). In the end the token `vocab - 1` comes
    once for each of the random tokens and asks for the next.
    """
    _counts(batch=batch, kept=kept)
    at_least("length", length, 2 * kept)
    at_least("vocab", vocab, 3)
    wanted = torch.randint(vocab - 2, (batch, kept), generator=generator)
    places = _distinct(batch, kept, length - kept, generator).sort(dim=1).values
    tokens = torch.full((batch, length), vocab - 2)
    targets = torch.full_like(tokens, NOTHING)
    tokens.scatter_(1, places, wanted)[:, -kept:] = vocab - 1
    targets[:, -kept:] = wanted
    return Asked(tokens, targets)


TASKS: dict[str, Callable[..., Asked]] = {
    "mqar": mqar,
    "induction": induction,
    "selective-copying": selective_copying,
}


@dataclass(frozen=True)
class Task:
    """A task of `TASKS` with its options: what is left is `task(batch, length, generator)`."""

    name: str
    vocab: int
    options: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        one_of("task", self.name, TASKS)

    def __call__(self, batch: int, length: int, generator: torch.Generator) -> Asked:
        more = {"vocab": self.vocab, "generator": generator}
        return TASKS[self.name](batch, length, **more, **self.options)


@dataclass(frozen=True)
class Varied:
    """A task whose texts are of another length every time, from `shortest` to the one asked for."""

    task: Task
    shortest: int

    def __call__(self, batch: int, length: int, generator: torch.Generator) -> Asked:
        if not 1 <= self.shortest <= length:
            raise ValueError(f"length must be at least {self.shortest}, got {length}")
        drawn = int(torch.randint(self.shortest, length + 1, (), generator=generator))
        return self.task(batch, drawn, generator)


def _counts(**counts: int) -> None:
    for name, value in counts.items():
        positive(name, value)


def _distinct(batch: int, count: int, of: int, generator: torch.Generator) -> Tensor:
    # `count` different numbers below `of` in random order, `[batch, count]`
    return torch.rand(batch, of, generator=generator).topk(count, dim=1).indices


CLUSTER = 1.2  # distance from the family's centre, in units of that centre's own spread
TILE_MIX, TOKEN_MIX = 0.4, 0.8  # the most that is taken from a second cluster
NOISE = 0.5  # what belongs to one tile or one token alone, in the same units


class Overlapping(NamedTuple):
    """Ternary signatures `[tiles, dim]`, tokens `[tokens, dim]`, and the cluster of each, int64."""

    signatures: Tensor
    tokens: Tensor
    tile_cluster: Tensor
    token_cluster: Tensor


def overlapping_clusters(
    tiles: int, dim: int = 256, tokens: int = 4096, seed: int = 0
) -> Overlapping:
    """Draw tiles in overlapping clusters, and tokens to route among them; none is a `ValueError`.

    >>> data = overlapping_clusters(64, dim=32, tokens=100)
    >>> data.signatures.shape, data.tokens.shape
    (torch.Size([64, 32]), torch.Size([100, 32]))
    """
    _counts(tiles=tiles, dim=dim, tokens=tokens)
    generator = torch.Generator().manual_seed(seed)
    families, clusters = round(tiles ** (1 / 3)), round(tiles ** (2 / 3))

    def normal(rows: int) -> Tensor:
        return torch.randn(rows, dim, generator=generator)

    centres = normal(families)[torch.arange(clusters) % families] + CLUSTER * normal(clusters)

    def mixed(own: Tensor, most: float) -> Tensor:
        other = torch.randint(clusters, own.shape, generator=generator)
        share = most * torch.rand(len(own), 1, generator=generator)
        return (1 - share) * centres[own] + share * centres[other]

    # every cluster gets its tiles, and a tile's number says nothing about its cluster
    tile_cluster = (torch.arange(tiles) % clusters)[torch.randperm(tiles, generator=generator)]
    token_cluster = torch.randint(clusters, (tokens,), generator=generator)
    signatures = ternarize(mixed(tile_cluster, TILE_MIX) + NOISE * normal(tiles))
    x = mixed(token_cluster, TOKEN_MIX) + NOISE * normal(tokens)
    return Overlapping(signatures, x, tile_cluster, token_cluster)


def isotropic(tiles: int, dim: int = 256, tokens: int = 4096, seed: int = 0) -> tuple[Tensor, ...]:
    """Draw ternary signatures `[tiles, dim]` and tokens `[tokens, dim]` of no structure at all."""
    _counts(tiles=tiles, dim=dim, tokens=tokens)
    generator = torch.Generator().manual_seed(seed)
    signatures = ternarize(torch.randn(tiles, dim, generator=generator))
    return signatures, torch.randn(tokens, dim, generator=generator)


@torch.no_grad()
def recall(router: nn.Module, x: Tensor, signatures: Tensor, top_k: int = 1) -> float:
    """Return the share of the `top_k` flat winners that a router finds too.

    It is called as `router(x, signatures, top_k)`, with tokens `[..., dim]`, at least one (else
    `ValueError`), and `[tiles, dim]`.

    >>> from trix import TreeRouter
    >>> data, router = overlapping_clusters(64, dim=32), TreeRouter.hierarchical(64, 32)
    >>> router.rebuild(data.signatures)
    >>> recall(router, data.tokens, data.signatures) > 0.9
    True

    """
    if x.ndim == 0 or x.numel() == 0:
        raise ValueError(f"x must hold tokens, got {list(x.shape)}")
    expected = flat_route(x, signatures, top_k).index.unsqueeze(-1)
    found = router(x, signatures, top_k).index.unsqueeze(-2)
    return float((expected == found).any(-1).to(torch.float64).mean())
