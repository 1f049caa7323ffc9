"""`MixtureLens`: lines of text as a look-it-up model sees them, and whom its gate believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import traitlets
from torch import Tensor

from trix.counts.gate import Blended
from trix.counts.match import LENGTHS
from trix.counts.rows import ContextReading
from trix.counts.words import REACH
from trix.models.explain import passed_on
from trix.models.lookup import LookupLM
from trix.show.figures.style import NAMED
from trix.show.widgets import base
from trix.show.widgets.context_lens import encoded

MOST_LINES = 12  # more lines make the page heavy
MOST_CHARACTERS = 300  # a longer line is not taken in at a glance
SHOWN = 5  # how many of the likeliest characters are listed
COLOURS = {"orders": "teal", "words": "periwinkle", "network": "orange"}


class MixtureLens(base.Widget):
    """Lines of text, each character tinted by the place that the gate gave most weight.

    A place is one of the model's tables, or its network: first the orders, then what it looks up
    under words and lines and what echoes of the line itself, if it does. A table whose address was
    never seen says what the one says that it asks; its weight is shown there.

    The reader picks a line and a character, and sees the weight of every place there, the likeliest
    next characters by each place and by the blend, and what the true one costs. A line is read from
    nothing, so its first character is given and not predicted.

    Args:
        model: the tables, the gate, and the network if there is one.
        alphabet: the characters that its numbers stand for, none twice.
        lines: 1 to `MOST_LINES` of them, of 2 to `MOST_CHARACTERS` characters.

    Attributes:
        line, position: that is looked at, from 0; of the character to be predicted, from 1.
        typed: the line that the reader typed last; it is read and stands last in `lines`.
        orders, words: how many of the tables are orders; the names of the others.
        network: whether the last place is a network's.
        refused: why the typed line was not read; empty where it was.
        hail, heard: a word by which a page asks whether anybody reads what is typed; from whoever
            does, the same word.
    """

    _esm = base.script("mixture_lens", "passage")
    _css = base.style("mixture_lens", "passage")

    line, orders = base.synced(traitlets.Int, 2)
    position = traitlets.Int(1).tag(sync=True)
    typed, alphabet, refused, hail, heard = base.synced(traitlets.Unicode, 5)
    lines = traitlets.List(traitlets.Dict()).tag(sync=True)
    words = traitlets.List(traitlets.Unicode()).tag(sync=True)
    network = traitlets.Bool().tag(sync=True)
    colours = traitlets.Dict().tag(sync=True)

    def __init__(self, model: LookupLM, alphabet: str, lines: Sequence[str], *, alt: str) -> None:
        if not isinstance(model, LookupLM):
            raise TypeError(f"model: expected a LookupLM, received {type(model).__name__}")
        if isinstance(lines, str) or not 1 <= len(lines) <= MOST_LINES:
            received = repr(lines) if isinstance(lines, str) else str(len(lines))
            raise ValueError(f"lines: expected 1 to {MOST_LINES} texts, received {received}")
        self._model = model
        self._given = [_read(model, alphabet, text) for text in lines]
        super().__init__(
            line=0,
            position=len(lines[0]) // 2,
            lines=self._given,
            alphabet=alphabet,
            orders=model.config.order,
            words=list(model.config.tables[model.config.order :]),
            network=model.network is not None,
            colours={place: NAMED[colour] for place, colour in COLOURS.items()},
            alt=alt,
        )

    @traitlets.observe("typed")
    def _read_typed(self, change: Any) -> None:
        # a reader's slip has nobody above it to hear an exception: the page says what was wrong
        try:
            read = _read(self._model, self.alphabet, change["new"])
        except ValueError as error:
            self.refused = str(error)
            return
        with self.hold_sync():
            self.refused = ""
            self.position = 1
            self.lines = [*self._given, read]
            self.line = len(self._given)
            self.position = max(1, len(read["text"]) // 2)

    @traitlets.observe("hail")
    def _answer(self, change: Any) -> None:
        self.heard = change["new"]

    @traitlets.observe("line")
    def _keep_within(self, change: Any) -> None:
        if self.lines:
            self.position = min(self.position, len(self.lines[self.line]["text"]) - 1)

    _line = base.index("line", "lines")
    _position = base.checked(
        "position", base.whole, lambda self: range(1, len(self.lines[self.line]["text"]))
    )


@torch.no_grad()
def _read(model: LookupLM, alphabet: str, text: str) -> dict[str, Any]:
    """What a model says of a line, in bytes, for each character but the first.

    A source is a place or, last of all, the blend. Shapes begin with `[characters]`; shares and
    weights are in 1 / 65535.
    """
    base.text("line", text, 2, MOST_CHARACTERS)
    if strange := sorted(set(text) - set(alphabet)):
        raise ValueError(f"line: expected characters that the model knows, received {strange}")
    tokens = encoded(text, alphabet, model.config.vocab_size)
    reading, own, blended = _overheard(model, tokens[None, :-1])
    said = [reading.probabilities[0].log()]
    if own is not None:
        said.append(own[0].float().log_softmax(-1)[:, None])
    said = torch.cat([*said, blended.log_probabilities[0][:, None]], dim=1).double().cpu()
    true = tokens[1:, None, None].expand(-1, said.shape[1], 1)
    ranked = said.sort(dim=-1, descending=True, stable=True)
    totals = reading.evidence[0, :, :, 0].double().expm1().round()
    weight = blended.route.weight[0].float().cpu()
    weights = torch.zeros(weight.shape).scatter(1, blended.route.index[0].cpu(), weight)
    return {
        "text": text,
        "costs": base.packed(said.gather(2, true).abs(), "<f4"),  # [sources]; no minus zero
        "weights": _steps(passed_on(weights, totals.cpu() > 0, model.config)),  # [places]
        "likeliest": base.packed(ranked.indices[..., :SHOWN], "<u2"),  # [sources, shown]
        "shares": _steps(ranked.values[..., :SHOWN].exp()),  # [sources, shown]
        "totals": base.packed(totals, "<u4"),  # [tables]: how often the address was seen
        "reaches": base.packed(_reaches(model, tokens[:-1]), "u1"),  # [tables]
        "inverse_temperature": base.packed(blended.inverse_temperature[0], "<f4"),
    }


def _overheard(model: LookupLM, tokens: Tensor) -> tuple[ContextReading, Tensor | None, Blended]:
    """What the gate of a model was told at each token, and what it made of it."""
    heard: list[Any] = []
    hook = model.gate.register_forward_hook(lambda _, told, blended: heard.append((told, blended)))
    training = model.training
    model.eval()
    try:
        model(tokens.to(next(model.parameters()).device))
    finally:
        hook.remove()
        model.train(training)
    ((reading, _, own), blended) = heard[0]
    return reading, own, blended


def _reaches(model: LookupLM, tokens: Tensor) -> Tensor:
    """How many characters back the address of each table begins, `[characters, tables]`.

    0 where the line has not so many, and for order 1, which has no address. An address of words
    begins with the first letter of its first word; one in a line is three characters long, wherever
    the line began.
    """
    config = model.config
    lengths = [*range(config.order), *(LENGTHS if config.echoes else ())]
    rows = [[n if n <= at + 1 else 0 for n in lengths] for at in range(len(tokens))]
    if model.words is None:
        return torch.tensor(rows)
    gap = turn = one = two = -1  # before the word here, the line, the word before, the one before
    inside = False
    for at, letter in enumerate(model.words.letters.cpu()[tokens].tolist()):
        if letter <= 0:
            if inside:
                one, two = gap, one
            gap = at
        turn = at if letter < 0 else turn
        inside = letter > 0
        known = [begin >= 0 and at - begin < REACH for begin in (gap, one, two, turn)]
        reach = (max(1, at - gap), at - one, at - two, 3 if at >= 2 else 0)
        rows[at][config.order : config.order] = [
            n if yes else 0 for n, yes in zip(reach, known, strict=True)
        ]
    return torch.tensor(rows)


def _steps(shares: Tensor) -> bytes:
    return base.packed((shares.clamp(0, 1) * 65535).round(), "<u2")
