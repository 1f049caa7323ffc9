"""Who predicted each character of a text: which place of the gate, which tiles, which slots."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from trix.lab.lookup_lm import LookupLM
from trix.lab.storage import Stored
from trix.memory.reading import memory_reading
from trix.memory.slots import RoutedMemory

VISIBLE = {" ": "␣", "\n": "↵", "\t": "⇥"}
"""What stands for characters that cannot be seen."""
_DIGITS = "123456789abcdefghijklmnopqrstuvwxyz"


def visible(character: str) -> str:
    """Return something that can be seen for a character that cannot."""
    return VISIBLE.get(character, character if character.isprintable() else "�")


class Explained(NamedTuple):
    """One character, and who foresaw it.

    An order whose address was never counted repeats the next shorter one, so its weight is counted
    there: the leader is an order that knew something.

    The first character of a text has nothing before it: nobody foresaw it, all its numbers are None
    and its tuples are empty.

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
        """Return a place as one character: its order's number, N for the network, · for none."""
        if place is None:
            return "·"
        if self.places[place] == "network":
            return "N"
        return _DIGITS[place] if place < len(_DIGITS) else "+"

    def depth(self, place: int) -> float | None:
        """Return how long an order's address is, from 0 to 1; None for the network."""
        orders = len(self.places) - ("network" in self.places)
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
    with _last_memory(model) as memory:
        routed = model.routed(tokens[:, :-1])
    given = routed.logits[0].double().exp()  # float32 would round small ones to zero
    of_target = given.gather(-1, tokens[0, 1:, None]).squeeze(-1).tolist()
    weights = torch.zeros(len(given), model.gate.places)
    weights.scatter_(-1, routed.gate.index[0], routed.gate.weight[0])
    _pass_on(weights, model, tokens[:, :-1])
    tiles = [route.index[0, :, 0].tolist() for route in routed.routes]
    slots = _slots(*memory) if memory else []
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
    return Explanation(places(model), tuple(rows))


def _pass_on(weights: Tensor, model: LookupLM, tokens: Tensor) -> None:
    # an order whose address is not known says what the next shorter one says, so it is that one
    known = model.memory.addresses(tokens)[0] >= 0
    for order in range(model.config.order, 1, -1):
        silent = ~known[:, order - 1]
        if order in model.dropped:
            silent = torch.ones_like(silent)
        weights[:, order - 2] += weights[:, order - 1] * silent
        weights[:, order - 1] *= ~silent


def places(model: LookupLM) -> tuple[str, ...]:
    """Return the names of a gate's places: the orders, and the network if there is one."""
    orders = tuple(f"order {n}" for n in range(1, model.config.order + 1))
    return orders if model.network is None else (*orders, "network")


@contextmanager
def _last_memory(model: LookupLM) -> Iterator[list]:
    # fills a list with the network's last routed memory and what it is given; no memory, no list
    found: list = []
    layers = [m for m in model.modules() if isinstance(m, RoutedMemory)]
    if not layers:
        yield found
        return
    handle = layers[-1].register_forward_pre_hook(
        lambda layer, given: found.extend((layer, given[0]))
    )
    try:
        yield found
    finally:
        handle.remove()


def _slots(layer: RoutedMemory, x: Tensor) -> list[list[int]]:
    return memory_reading(layer, x).read[0].argmax(dim=-1).tolist()
