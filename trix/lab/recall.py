"""Tasks of recall: synthetic texts whose questions can be answered from the text alone."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from trix.address.checks import positive

NOTHING = -100
"""The target where nothing is asked: `cross_entropy` leaves it out."""
POWER = 0.01
"""Exponent of the law that the places of questions in `mqar` follow, as in zoology."""


class Asked(NamedTuple):
    """Texts with questions.

    Attributes:
        tokens: int64 `[batch, length]`.
        targets: the answer that belongs at each place, or `NOTHING`; int64 `[batch, length]`.
    """

    tokens: Tensor
    targets: Tensor


def mqar(batch: int, length: int, pairs: int, vocab: int, generator: torch.Generator) -> Asked:
    """Return multi-query associative recall: keys with their values, then each key once more.

    As in zoology (Arora et al. 2023). The text begins with the pairs, key and value in turn. In
    what follows, at every second place at most, the keys come again in random order, the nearer
    the likelier (weight rank^(`POWER` − 1)), and each asks for its value. All other tokens are 0.
    Keys, all different, are from the lower half of the vocabulary and values, all different, from
    the upper.

    Args:
        batch: texts.
        length: tokens of each.
        pairs: of each.
        vocab: tokens that there are.
        generator: source of randomness.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a count below 1, no room for as many questions as pairs, or too few tokens.
    """
    _counts(batch=batch, length=length, pairs=pairs, vocab=vocab)
    half, space = vocab // 2, (length - 2 * pairs) // 2
    if space < pairs:
        raise ValueError(f"length must be at least {4 * pairs} for {pairs} pairs, got {length}")
    if half - 1 < pairs:
        raise ValueError(f"vocab must be at least {2 * pairs + 2} for {pairs} pairs, got {vocab}")
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

    Args:
        batch: texts.
        length: tokens of each, at least 3.
        vocab: tokens that there are, the special one included.
        generator: source of randomness.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a count below 1, fewer than 3 tokens in a text or 2 in the vocabulary.
    """
    _counts(batch=batch, length=length, vocab=vocab)
    if length < 3 or vocab < 2:
        raise ValueError(f"length must be at least 3 and vocab 2, got {length} and {vocab}")
    tokens = torch.randint(vocab - 1, (batch, length), generator=generator)
    place = torch.randint(length - 2, (batch, 1), generator=generator)
    targets = torch.full_like(tokens, NOTHING)
    targets[:, -1:] = tokens.gather(1, place + 1)
    tokens.scatter_(1, place, vocab - 1)[:, -1] = vocab - 1
    return Asked(tokens, targets)


def selective_copying(
    batch: int, length: int, kept: int, vocab: int, generator: torch.Generator
) -> Asked:
    """Return selective copying: repeat, in order, what stood scattered among noise.

    As in Mamba (Gu & Dao 2023) and MAD (Poli et al. 2024). Random tokens stand at random places,
    and between them noise, the token `vocab - 2`. In the end the token `vocab - 1` comes once for
    each of them and asks for the next.

    Args:
        batch: texts.
        length: tokens of each, questions included.
        kept: tokens to repeat.
        vocab: tokens that there are, noise and question included.
        generator: source of randomness.

    Raises:
        TypeError: a count is not an integer.
        ValueError: a count below 1, too short a text or fewer than 3 tokens in the vocabulary.
    """
    _counts(batch=batch, length=length, kept=kept, vocab=vocab)
    if length < 2 * kept or vocab < 3:
        raise ValueError(
            f"length must be at least {2 * kept} for {kept} tokens and vocab 3, "
            f"got {length} and {vocab}"
        )
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
    """A task with all but the number of texts and their length: `task(batch, length, generator)`.

    Attributes:
        name: in `TASKS`.
        vocab: tokens that there are.
        options: the task's other keywords.
    """

    name: str
    vocab: int
    options: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the name."""
        if self.name not in TASKS:
            raise ValueError(f"task must be one of {sorted(TASKS)}, got {self.name!r}")

    def __call__(self, batch: int, length: int, generator: torch.Generator) -> Asked:
        """Draw texts; see the function of that name."""
        return TASKS[self.name](
            batch, length, vocab=self.vocab, generator=generator, **self.options
        )


@dataclass(frozen=True)
class Varied:
    """A task whose texts are of another length every time, up to the one asked for.

    Attributes:
        task: what draws.
        shortest: the least length.
    """

    task: Task
    shortest: int

    def __call__(self, batch: int, length: int, generator: torch.Generator) -> Asked:
        """Draw texts, all of one length, which is from `shortest` to `length`."""
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
