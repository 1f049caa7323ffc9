"""Who predicted each character of a text: which place of the gate, which tiles, which slots."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from trix.memory.slots import RoutedMemory, memory_reading
from trix.models.lookup import LookupConfig
from trix.models.storage import Stored

VISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥"}
"""What stands for characters that cannot be seen."""
_DIGITS = "123456789abcdefghijklmnopqrstuvwxyz"


def visible(character: str) -> str:
    """Return something that can be seen for a character that cannot."""
    return VISIBLE.get(character, character if character.isprintable() else "�")


class Explained(NamedTuple):
    """One character, and what foresaw it.

    A table whose address was never counted repeats the one that it asks, so its weight is counted
    there: the leader is a table that knew something, unless the shortest one was dropped. The first
    character has nothing before it: all its numbers are None and its tuples are empty.

    Attributes:
        character: as it stands in the text.
        probability: what the model gave it.
        likeliest: the character that it thought likeliest.
        leader: the heaviest place, an index of `Explanation.places`.
        weights: of every place; they add up to one.
        tiles: the best tile of each of the network's routed layers.
        slots: the slot that each head of the last memory read most of.
    """

    character: str
    probability: float | None
    likeliest: str | None
    leader: int | None
    weights: tuple[float, ...]
    tiles: tuple[int, ...]
    slots: tuple[int, ...]


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
    """Read a text with a model and say, for each character, what foresaw it.

    Args:
        stored: a model from `load_model`, in evaluation mode.
        text: at least two characters, all of the model's alphabet.

    Raises:
        ValueError: a text shorter than that, or a character that the model does not know.
    """
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
    rows = [Explained(text[0], None, None, None, (), (), ())]
    rows += [
        Explained(
            text[t + 1],
            of_target[t],
            best[t],
            leaders[t],
            tuple(weights[t].tolist()),
            tuple(layer[t] for layer in tiles),
            tuple(head[t] for head in slots),
        )
        for t in range(len(given))
    ]
    return Explanation(model.config.places, tuple(rows))


def passed_on(weights: Tensor, known: Tensor, config: LookupConfig) -> Tensor:
    """Return the weights `[characters, places]` as they come to bear.

    A table whose address is not known, bool `[characters, tables]`, says what the one says that it
    asks, so its weight counts as that one's.
    """
    weights = weights.clone()
    for place in range(len(config.tables) - 1, 0, -1):
        weights[:, config.lower(place)] += weights[:, place] * ~known[:, place]
        weights[:, place] *= known[:, place]
    return weights
