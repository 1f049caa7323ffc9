"""`ContextLens`: a passage, an address in it, and what a count table reads there."""

from __future__ import annotations

import torch
import traitlets
from torch import Tensor

from trix.counts.ngram import CountTables
from trix.show.figures.style import NAMED
from trix.show.widgets import base

MOST_CHARACTERS = 600  # a longer passage is not taken in at a glance
MOST_LETTERS = 2**16  # places in a longer alphabet do not fit the 16 bits that they are sent in
SHOWN = 6  # how many of the likeliest characters are listed


class ContextLens(base.Widget):
    """A passage of text as count tables see it, one character and one order at a time.

    The reader picks the character to be predicted and the order of the table. The address, the
    last `order - 1` characters, is marked in the passage; beside it stand how often it occurs in
    the counted text, what followed it there, and what the true next character costs under the
    Witten–Bell distribution. The passage is tinted by that cost, character by character.

    The tables see the passage and nothing before it: at its beginning addresses are shorter.

    Args:
        tables: the counts; every order up to `tables.order` is shown.
        alphabet: the `tables.vocab_size` characters that the tables' numbers stand for.
        passage: 1 to `MOST_CHARACTERS` of them, best from a text that was not counted.
        order: to start with, from 1 to `tables.order`.

    Attributes:
        position: of the character to be predicted, from 0; the one in the middle at first.
        orders: the longest order.
        costs: nats of each character at each order, float32 `[orders, characters]`, in bytes.
        likeliest: the `SHOWN` likeliest next characters (fewer where the alphabet has fewer), as
            places in the alphabet, uint16 `[orders, characters, shown]`, in bytes.
        shares: their probabilities, float32 of the same shape, in bytes.
        totals, distincts: how often a character followed the address of n characters, and how many
            different ones did, uint32 `[characters, orders]` with n from 0, in bytes.
    """

    _esm = base.script("context_lens", "passage")
    _css = base.style("context_lens", "passage")

    passage, alphabet = base.synced(traitlets.Unicode, 2)
    order, position, orders = base.synced(traitlets.Int, 3)
    costs, likeliest, shares, totals, distincts = base.synced(traitlets.Bytes, 5)
    colours = traitlets.Dict().tag(sync=True)

    def __init__(
        self, tables: CountTables, alphabet: str, passage: str, *, alt: str, order: int = 3
    ) -> None:
        if not isinstance(tables, CountTables):
            raise TypeError(f"tables: expected CountTables, received {type(tables).__name__}")
        tokens = encoded(passage, alphabet, tables.vocab_size)
        costs, likeliest, shares, totals, distincts = _read(tables, tokens)
        super().__init__(
            passage=passage,
            alphabet=alphabet,
            order=base.whole("order", order, range(1, tables.order + 1)),
            position=len(passage) // 2,
            orders=tables.order,
            costs=base.packed(costs),
            likeliest=base.packed(likeliest, "<u2"),
            shares=base.packed(shares),
            totals=base.packed(totals, "<u4"),
            distincts=base.packed(distincts, "<u4"),
            colours={"surprise": NAMED["orange"], "read": NAMED["teal"]},
            alt=alt,
        )

    _order = base.checked("order", base.whole, lambda self: range(1, self.orders + 1))
    _position = base.index("position", "passage")


def _read(tables: CountTables, tokens: Tensor) -> list[Tensor]:
    """Costs, likeliest, shares, totals and distincts, as `ContextLens` has them."""
    # The tables speak of what comes after a position; the first character comes after nothing,
    # where all that is known is how frequent each character is.
    before = tokens[None, :-1]
    at_start = tables.probabilities(tokens[None, :1], order=1)[0]
    costs, likeliest, shares = [], [], []
    for order in range(1, tables.order + 1):
        p = torch.cat([at_start, tables.probabilities(before, order)[0]])
        costs.append(-p.gather(1, tokens[:, None]).log().squeeze(1))
        ranked = p.sort(dim=1, descending=True, stable=True)
        likeliest.append(ranked.indices[:, :SHOWN])
        shares.append(ranked.values[:, :SHOWN])
    no_address = torch.arange(tables.order) > 0
    evidence = []
    for first, rest in zip(tables.evidence(tokens[None, :1]), tables.evidence(before), strict=True):
        evidence.append(torch.cat([first[0].masked_fill(no_address, 0), rest[0]]))
    return [*map(torch.stack, (costs, likeliest, shares)), *evidence]


def encoded(passage: str, alphabet: str, vocab_size: int) -> Tensor:
    """Return a passage as int64 `[characters]`."""
    if not isinstance(alphabet, str) or len(alphabet) != vocab_size:
        raise ValueError(
            f"alphabet: expected the {vocab_size} characters of the tables, received {alphabet!r}"
        )
    place = {character: i for i, character in enumerate(alphabet)}
    if len(place) != vocab_size:
        raise ValueError(f"alphabet: expected no character twice, received {alphabet!r}")
    if vocab_size > MOST_LETTERS:
        raise ValueError(f"alphabet: expected at most {MOST_LETTERS}, received {vocab_size}")
    base.text("passage", passage, 1, MOST_CHARACTERS)
    for c in passage:
        if c not in place:
            raise ValueError(f"passage: expected characters of the alphabet, received {c!r}")
    return torch.tensor([place[character] for character in passage], dtype=torch.int64)
