"""Who predicted each character of a text: which place of the gate, which tiles, which slots."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from trix.memory.slots import RoutedMemory, memory_reading
from trix.models.lookup import LookupConfig
from trix.models.storage import Stored

_VISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥"}
_DIGITS = "123456789abcdefghijklmnopqrstuvwxyz"


def visible(character: str) -> str:
    """Return something that can be seen for a character that cannot."""
    return _VISIBLE.get(character, character if character.isprintable() else "�")


class Explained(NamedTuple):
    """One character, and what foresaw it: None and empty for the first, with nothing before it."""

    character: str
    probability: float | None
    likeliest: str | None
    leader: int | None  # the heaviest place, an index of `Explanation.places`
    weights: tuple[float, ...]  # of all places, see `passed_on`; their sum is one
    tiles: tuple[int, ...]  # the best of each of the network's routed layers
    slots: tuple[int, ...]  # what each head of the last memory read most of


class Explanation(NamedTuple):
    """A text, character by character, and the names of the places that a gate chooses among."""

    places: tuple[str, ...]
    rows: tuple[Explained, ...]

    @property
    def nats(self) -> float:
        """Return the mean loss of the characters after the first."""
        found = [row.probability for row in self.rows if row.probability is not None]
        return -sum(math.log(max(p, 1e-300)) for p in found) / len(found)

    def mark(self, place: int | None) -> str:
        """Return a place as one character: an order's number, or an initial; · for none."""
        if place is None:
            return "·"
        if not self.places[place].startswith("order"):
            return self.places[place][0].upper()
        return _DIGITS[place] if place < len(_DIGITS) else "+"

    def depth(self, place: int) -> float | None:
        """Return how long an order's address is, from 0 to 1; None for other places."""
        orders = sum(name.startswith("order") for name in self.places)
        return None if place >= orders else place / max(1, orders - 1)

    def led(self) -> dict[str, int]:
        """Return how many characters each place led, of those that led one."""
        leaders = [row.leader for row in self.rows]
        return {name: n for i, name in enumerate(self.places) if (n := leaders.count(i))}


@torch.no_grad()
def explain(stored: Stored, text: str) -> Explanation:
    """Read a text of at least two characters and say, for each, what foresaw it."""
    model = stored.model
    tokens = stored.encode(text)
    if len(text) < 2:
        raise ValueError(
            f"text must have at least two characters, got {text!r}: the first has nothing before it"
        )
    memories = [m for m in model.modules() if isinstance(m, RoutedMemory)][-1:]
    seen: list[Tensor] = []
    hooks = [m.register_forward_pre_hook(lambda _, x: seen.append(x[0])) for m in memories]
    try:
        routed = model.routed(tokens[:, :-1])
    finally:
        for hook in hooks:
            hook.remove()
    given = routed.logits[0].double().exp()  # in float32 small ones would be zero
    of_target = given.gather(-1, tokens[0, 1:, None]).squeeze(-1).tolist()
    weights = torch.zeros(len(given), model.gate.places)
    weights.scatter_(-1, routed.gate.index[0], routed.gate.weight[0])
    weights = passed_on(weights, model.known(tokens[:, :-1])[0] >= 0, model.config)
    tiles = [route.index[0, :, 0].tolist() for route in routed.routes]
    read = [memory_reading(memory, x).read[0] for memory, x in zip(memories, seen, strict=True)]
    slots = [head.argmax(dim=-1).tolist() for heads in read for head in heads]
    leaders, best = weights.argmax(dim=-1).tolist(), stored.decode(given.argmax(dim=-1))
    shares, none = map(tuple, weights.tolist()), [()] * len(given)
    reads = (list(zip(*found, strict=True)) or none for found in (tiles, slots))
    rows = zip(text[1:], of_target, best, leaders, shares, *reads, strict=True)
    first = Explained(text[0], None, None, None, (), (), ())
    return Explanation(model.config.places, (first, *(Explained(*row) for row in rows)))


def passed_on(weights: Tensor, known: Tensor, config: LookupConfig) -> Tensor:
    """Return weights `[characters, places]`, those of tables not `known` given to what they ask."""
    weights = weights.clone()
    for place in range(len(config.tables) - 1, 0, -1):
        weights[:, config.lower(place)] += weights[:, place] * ~known[:, place]
        weights[:, place] *= known[:, place]
    return weights
