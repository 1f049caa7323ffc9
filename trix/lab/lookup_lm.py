"""The look-it-up language model: a context memory, a gate, and a network where it is needed."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trix.address.checks import positive
from trix.address.route import Route, RoutedLayer
from trix.lab.charlm import CharLM, LMConfig, LMState
from trix.lab.generate import generate
from trix.memory.context_gate import ContextGate
from trix.memory.context_memory import ContextMemory
from trix.memory.count_rows import ContextReading
from trix.memory.word_keys import ADDRESSES, REACH, letters_of
from trix.memory.word_memory import WordMemory, asked

GATES = ("routed", "fixed")
_LATEST, _WIDTH = 3, 12  # characters that a gate without a network knows, features of each


@dataclass(frozen=True)
class LookupConfig:
    """Everything that decides the shape of a `LookupLM`.

    Attributes:
        vocab_size: number of distinct characters.
        order: longest n-gram of the memory.
        folds: blocks of the training text that are left out in turn while the model learns; 0
            shows it its own answers.
        hidden: units of each of the gate's layers.
        gate: "routed", or "fixed": one learned blend for all positions.
        network: what computes beside the tables; None for tables and a gate alone.
        words: whether words and lines are addresses as well, see `WordMemory`.
    """

    vocab_size: int = 65
    order: int = 9
    folds: int = 8
    hidden: int = 64
    gate: str = "routed"
    network: LMConfig | None = None
    words: bool = False

    def __post_init__(self) -> None:
        """Check every value."""
        for name in ("vocab_size", "order", "hidden"):
            positive(name, getattr(self, name))
        if self.gate not in GATES:
            raise ValueError(f"gate must be one of {GATES}, got {self.gate!r}")
        if self.network is not None and self.network.vocab_size != self.vocab_size:
            raise ValueError(
                f"network must have {self.vocab_size} characters, got {self.network.vocab_size}"
            )

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables, in the order in which they are read."""
        orders = tuple(f"order {n}" for n in range(1, self.order + 1))
        return orders + ADDRESSES if self.words else orders

    def lower(self, table: int) -> int:
        """Return which table, by its place, is asked for what one after the first does not know."""
        if table < self.order:
            return table - 1
        return asked(self.tables[table], self.order)

    @property
    def places(self) -> tuple[str, ...]:
        """Whom the gate may ask, which is the tables and, last, the network if there is one."""
        return self.tables if self.network is None else (*self.tables, "network")

    @property
    def ffn(self) -> str:
        """The network's feed-forward, by name."""
        return self.network.ffn if self.network is not None else "none"


class Memories(NamedTuple):
    """What a `LookupLM` looks up: n-grams and, where the config has them, words."""

    memory: ContextMemory
    words: WordMemory | None = None

    def to(self, device: torch.device | str) -> "Memories":
        """Move what is read to a device; return it."""
        for memory in self:
            if memory is not None:
                memory.to(device)
        return self


class LookupState(NamedTuple):
    """What a `LookupLM` remembers: characters seen, the latest of them, the network's state."""

    seen: int
    recent: Tensor
    network: LMState | None


class LookupRouted(NamedTuple):
    """What a `LookupLM` says, and who said it.

    Attributes:
        logits: log-probabilities of the next character, `[batch, time, vocab]`; they sum to one.
        routes: of the network's routed layers.
        state: to go on from.
        gate: the gate's route among `LookupConfig.places`.
        sharpness: the power that the blend was raised to, `[batch, time]`.
    """

    logits: Tensor
    routes: tuple[Route, ...]
    state: LookupState
    gate: Route
    sharpness: Tensor


class LookupLM(nn.Module):
    """tokens → addresses → what stands there (→ network) → gate → one distribution.

    The network reads, beside each character, what the tables say of the next one, so that it need
    not learn what can be looked up. The model is called as a `CharLM` is. The memory is no
    parameter and not in `state_dict`: it is counted from the text, or read from a saved model
    (`trix.lab.storage`).

    Args:
        config: see `LookupConfig`.
        memory: counted from the training text, with the config's order and alphabet.
        words: counted from it as well, if the config has words.

    Raises:
        ValueError: a memory does not fit the config.
    """

    def __init__(
        self, config: LookupConfig, memory: ContextMemory, words: WordMemory | None = None
    ) -> None:
        """See the class."""
        super().__init__()
        if (memory.order, memory.vocab_size) != (config.order, config.vocab_size):
            raise ValueError(
                f"memory must have order {config.order} and {config.vocab_size} characters, got "
                f"{memory.order} and {memory.vocab_size}"
            )
        if (words is not None) != config.words:
            raise ValueError(f"words must be given if and only if words=True, got {words}")
        if words is not None and words.vocab_size != config.vocab_size:
            raise ValueError(
                f"words must have {config.vocab_size} characters, got {words.vocab_size}"
            )
        self.config, self.memory, self.words = config, memory, words
        self.dropped: frozenset[str] = frozenset()
        self.network = CharLM(config.network) if config.network is not None else None
        if self.network is not None:
            state_dim = self.network.config.dim
            told = len(config.tables) * (config.vocab_size + 3)
            self.told = nn.Linear(told, state_dim, bias=False)
            nn.init.zeros_(self.told.weight)
        else:
            state_dim = _LATEST * _WIDTH
            self.latest = nn.Embedding(config.vocab_size + 1, _WIDTH)  # the last one is "none yet"
        self.gate = ContextGate(
            len(config.tables),
            state_dim,
            network=self.network is not None,
            hidden=config.hidden,
            fixed=config.gate == "fixed",
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the next character's log-probabilities `[batch, time, vocab]`."""
        return self.routed(tokens).logits

    def routed(
        self, tokens: Tensor, state: LookupState | None = None, left_out: Tensor | None = None
    ) -> LookupRouted:
        """Return log-probabilities, routes and state.

        Args:
            tokens: int64 `[batch, time]`.
            state: where an earlier call stopped; the beginning when not given.
            left_out: the block of the training text that each row is from, `[batch]`, so that its
                own answers are not looked up.

        Raises:
            ValueError: bad shape or token.
        """
        if tokens.ndim != 2:
            raise ValueError(f"tokens must be [batch, time], got {list(tokens.shape)}")
        if state is None:
            state = LookupState(0, tokens[:, :0], None)
        before = state.recent.shape[1]
        known = torch.cat([state.recent, tokens], dim=1)
        reading = self.read(known, left_out, before)
        routes, inner, own = (), None, None
        if self.network is not None:
            seen, routes, inner = self.network.features(tokens, state.network, self._told(reading))
            own = self.network.head(seen)
        else:
            seen = self._latest(known)[:, before:]
        blended = self.gate(reading, seen, own)
        reach = max(self.config.order - 1, _LATEST, REACH - 1 if self.words else 0)
        recent = known[:, max(0, known.shape[1] - reach) :]
        return LookupRouted(
            blended.log_probabilities,
            routes,
            LookupState(state.seen + tokens.shape[1], recent, inner),
            blended.route,
            blended.sharpness,
        )

    def read(
        self, tokens: Tensor, left_out: Tensor | None = None, first: int = 0
    ) -> ContextReading:
        """Return what the tables say after every position, `[batch, time, tables, ...]`.

        Args:
            tokens: int64 `[batch, time]`.
            left_out: the block of the training text that each row is from, `[batch]`.
            first: the positions before are context only, and are not read.
        """
        found = self.known(tokens, first)
        block = None if left_out is None else left_out[:, None]
        reading = self.memory.read(found[..., : self.config.order], block)
        if self.words is None:
            return reading
        return self.words.read(found[..., self.config.order :], reading, block)

    def known(self, tokens: Tensor, first: int = 0) -> Tensor:
        """Return where each table is read, int64 `[batch, time, tables]`; −1: it does not know."""
        # an n-gram needs a few characters before the first position, a word many
        skipped = max(0, first - self.config.order + 1)
        address = self.memory.addresses(tokens[:, skipped:])[:, first - skipped :]
        if self.words is not None:
            address = torch.cat([address, self.words.addresses(tokens)[:, first:]], dim=-1)
        for name in self.dropped:
            address[..., self.config.tables.index(name)] = -1
        return address

    def drop(self, table: str) -> None:
        """Take a table away: its addresses are found no more, and the gate is told so.

        Args:
            table: a name in `config.tables`.

        Raises:
            ValueError: there is no such table, or the gate has no other place left.
        """
        self.gate.forbid(self._place(table))
        self.dropped |= {table}

    def restore(self, table: str) -> None:
        """Undo `drop`.

        Raises:
            ValueError: there is no such table.
        """
        self.gate.allow(self._place(table))
        self.dropped -= {table}

    generate = generate

    def routed_layers(self) -> list[RoutedLayer]:
        """Return the network's layers that route, in the order of `LookupRouted.routes`."""
        return self.network.routed_layers() if self.network is not None else []

    def parameter_count(self) -> int:
        """Return the number of trained numbers; the tables' counts are not among them."""
        return sum(p.numel() for p in self.parameters())

    def _place(self, table: str) -> int:
        if table not in self.config.tables:
            raise ValueError(f"table must be one of {self.config.tables}, got {table!r}")
        return self.config.tables.index(table)

    def _told(self, reading: ContextReading) -> Tensor:
        # square roots: small probabilities differ by more, and nothing is infinite as in logarithms
        roots = reading.probabilities.sqrt().flatten(-2)
        return self.told(torch.cat([roots, 0.2 * reading.evidence.flatten(-2)], dim=-1))

    def _latest(self, known: Tensor) -> Tensor:
        none = known.new_full((len(known), _LATEST - 1), self.config.vocab_size)
        padded = torch.cat([none, known], dim=1)
        return self.latest(padded.unfold(1, _LATEST, 1)).flatten(-2)


def count(config: LookupConfig, tokens: Tensor, alphabet: str) -> Memories:
    """Return what a model of a config looks up, counted from a text.

    Args:
        config: says which tables.
        tokens: the text, int64 `[length]`.
        alphabet: its characters; of them words are made.

    Raises:
        ValueError: the text is too short or does not fit the config.
    """
    sizes = (config.order, config.vocab_size, config.folds)
    if not config.words:
        return Memories(ContextMemory(tokens, *sizes))
    with ThreadPoolExecutor() as pool:  # sorting leaves the interpreter's lock to others
        words = pool.submit(WordMemory, tokens, letters_of(alphabet), config.folds)
        return Memories(ContextMemory(tokens, *sizes), words.result())
