"""The look-it-up language model: tables of counts, a gate among them and, if wanted, a network."""

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trix.address.route import Route, RoutedLayer
from trix.checks import one_of, positive, shape
from trix.counts.context import ContextMemory
from trix.counts.gate import ContextGate
from trix.counts.match import BELOW, ECHOES, Echo, echoes
from trix.counts.match import REACH as HEARD
from trix.counts.rows import ContextReading, extended
from trix.counts.words import ADDRESSES, REACH, WordMemory, backoff_place, letters_of
from trix.models.charlm import CharLM, LMConfig, LMState
from trix.models.generate import generate


@dataclass(frozen=True)
class LookupConfig:
    """Everything that decides the shape of a `LookupLM`.

    >>> LookupConfig(order=2, network=LMConfig()).places
    ('order 1', 'order 2', 'network')

    Attributes:
        vocab_size, order: number of distinct characters, longest n-gram of the memory.
        folds: blocks of the text left out in turn in training; 0 shows it its own answers.
        hidden: units of each of the gate's layers.
        gate: "routed", or "fixed": one learned blend for all positions.
        network: what computes beside the tables; None for tables and a gate alone.
        words: whether words and lines are addresses as well, see `WordMemory`.
        echoes: whether the text that is being read is looked through too, see `trix.counts.match`.
    """

    vocab_size: int = 65
    order: int = 9
    folds: int = 8
    hidden: int = 64
    gate: str = "routed"
    network: LMConfig | None = None
    words: bool = False
    echoes: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "order", "hidden"):
            positive(name, getattr(self, name))
        one_of("gate", self.gate, ("routed", "fixed"))
        vocab, network = self.vocab_size, self.network
        if network is not None and network.vocab_size != vocab:
            raise ValueError(f"network must have {vocab} characters, got {network.vocab_size}")

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables, in the order in which they are read."""
        orders = tuple(f"order {n}" for n in range(1, self.order + 1))
        return orders + self.words * ADDRESSES + self.echoes * ECHOES

    def lower(self, table: int) -> int:
        """Return the place of the table that is asked for what one after the first lacks."""
        name = self.tables[table]
        if name == "echo":
            return min(BELOW, self.order) - 1
        if table < self.order or name == "refrain":
            return table - 1
        return backoff_place(name, self.order)

    @property
    def places(self) -> tuple[str, ...]:
        """What the gate chooses among: the tables and, last, the network if there is one."""
        return self.tables if self.network is None else (*self.tables, "network")

    @property
    def ffn(self) -> str:
        """The network's feed-forward, by name."""
        return self.network.ffn if self.network is not None else "none"


@dataclass(frozen=True)
class BlockDraw:
    """Draws windows of a text, int64 `[length]`, within one of the memory's blocks, and says which.

    The model leaves that block out of its tables. Without `folds` windows lie anywhere.
    """

    text: Tensor
    folds: int

    def __repr__(self) -> str:
        digest = hashlib.sha256(self.text.numpy().tobytes()).hexdigest()
        return f"BlockDraw({digest}, {self.folds})"

    def __call__(self, batch: int, length: int, sampler: torch.Generator) -> tuple[Tensor, ...]:
        """Return tokens and targets `[batch, length]`, and the windows' blocks `[batch]`."""
        if (shortest := len(self.text) // max(self.folds, 1)) <= length:
            raise ValueError(f"blocks must be longer than {length}, got {shortest}")
        first = torch.randint(len(self.text) - length, (batch,), generator=sampler)
        block: tuple[Any, ...] = ()
        if self.folds:
            # a window that begins in one block and ends in another moves back into the first
            fold = first * self.folds // len(self.text)
            end = -(-(fold + 1) * len(self.text) // self.folds)
            first, block = torch.minimum(first, end - length - 1), (fold,)
        window = self.text[first[:, None] + torch.arange(length + 1)]
        return window[:, :-1], window[:, 1:], *block


_LATEST, _WIDTH = 3, 12  # characters that a gate without a network knows, features of each


class Memories(NamedTuple):
    """What a `LookupLM` looks up: n-grams and, where the config has them, words."""

    memory: ContextMemory
    words: WordMemory | None = None

    def to(self, device: torch.device | str) -> "Memories":
        """Move what is read to a device."""
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
    """What a `LookupLM` predicts, `logits` being log-probabilities, and what it is made of."""

    logits: Tensor  # [batch, time, vocab]
    routes: tuple[Route, ...]  # of the network's routed layers
    state: LookupState  # to go on from
    gate: Route  # among `LookupConfig.places`
    inverse_temperature: Tensor  # the power to which the blend was raised, [batch, time]


class LookupLM(nn.Module):
    """tokens → addresses → what stands there (→ network) → gate → one distribution.

    The network reads, beside each character, what the tables say of the next one, so that it need
    not learn what can be looked up. The model is called as a `CharLM` is. The memory is no
    parameter and not in `state_dict`: it is counted from the text, or read from a saved model
    (`trix.models.storage`).

    >>> config, text = LookupConfig(vocab_size=3, order=2), torch.tensor([0, 1, 2] * 20)
    >>> model = LookupLM(config, *count(config, text, "abc"))
    >>> model(text[None, :7]).shape
    torch.Size([1, 7, 3])

    Args:
        config, memory: the memory is counted from the training text, with the config's order.
        words: counted from it as well, if the config has words.

    Raises:
        ValueError: a memory does not fit the config; a bad shape or token; `drop` knows no such
            table, or it is the last place of the gate.
    """

    def __init__(
        self, config: LookupConfig, memory: ContextMemory, words: WordMemory | None = None
    ) -> None:
        super().__init__()
        vocab = config.vocab_size
        if (memory.order, memory.vocab_size) != (config.order, vocab):
            raise ValueError(
                f"memory must have order {config.order} and {vocab} characters, got "
                f"{memory.order} and {memory.vocab_size}"
            )
        if (words is not None) != config.words:
            raise ValueError(f"words must be given if and only if words=True, got {words}")
        if words is not None and words.vocab_size != vocab:
            raise ValueError(f"words must have {vocab} characters, got {words.vocab_size}")
        self.config, self.memory, self.words = config, memory, words
        self.dropped: frozenset[str] = frozenset()
        self.network = CharLM(config.network) if config.network is not None else None
        if self.network is not None:
            state_dim = self.network.config.dim
            self.told = nn.Linear(len(config.tables) * (vocab + 3), state_dim, bias=False)
            nn.init.zeros_(self.told.weight)
        else:
            state_dim = _LATEST * _WIDTH
            self.latest = nn.Embedding(vocab + 1, _WIDTH)  # the last one is "none yet"
        network, fixed = self.network is not None, config.gate == "fixed"
        self.gate = ContextGate(len(config.tables), state_dim, network, config.hidden, fixed)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the next character's log-probabilities `[batch, time, vocab]`; see `routed`."""
        return self.routed(tokens).logits

    def routed(
        self, tokens: Tensor, state: LookupState | None = None, left_out: Tensor | None = None
    ) -> LookupRouted:
        """Read tokens, int64 `[batch, time]`, going on from where an earlier call stopped, if any.

        `left_out` `[batch]` is the block of the training text that each row is from, so that its
        own answers are not looked up.
        """
        shape("tokens", tokens, "batch", "time")
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
        log_p, route, inverse_temperature = self.gate(reading, seen, own)
        recent = known[:, max(0, known.shape[1] - self._reach()) :]
        state = LookupState(state.seen + tokens.shape[1], recent, inner)
        return LookupRouted(log_p, routes, state, route, inverse_temperature)

    def read(
        self, tokens: Tensor, left_out: Tensor | None = None, first: int = 0
    ) -> ContextReading:
        """Return what the tables say from `first` on, `[batch, time - first, tables, ...]`."""
        found = self._addresses(tokens, first)
        block = None if left_out is None else left_out[:, None]
        reading = self.memory.read(found[..., : self.config.order], block)
        if self.words is not None:
            reading = self.words.read(found[..., self.config.order :], reading, block)
        if self.config.echoes:
            asked = [self.config.lower(self.config.tables.index(name)) for name in ECHOES]
            reading = extended(reading, self._echoes(tokens, first).found, asked)
        return reading

    def known(self, tokens: Tensor, first: int = 0) -> Tensor:
        """Return where each table is read, int64 `[batch, time, tables]`; −1: it does not know."""
        found = [self._addresses(tokens, first)]
        if self.config.echoes:  # read at a position of `tokens`
            found.append(self._echoes(tokens, first).place)
        return torch.cat(found, dim=-1)

    def drop(self, table: str) -> None:
        """Take a table of `config.tables` away: it finds nothing, and the gate does not ask it."""
        self.gate.forbid(self._place(table))
        self.dropped |= {table}

    def restore(self, table: str) -> None:
        """Undo `drop`."""
        self.gate.allow(self._place(table))
        self.dropped -= {table}

    generate = generate

    def routed_layers(self) -> list[RoutedLayer]:
        """Return the network's layers that route, in the order of `routes`."""
        return self.network.routed_layers() if self.network is not None else []

    def parameter_count(self) -> int:
        """Return the number of trained parameters; the tables' counts are not among them."""
        return sum(p.numel() for p in self.parameters())

    def _place(self, table: str) -> int:
        return self.config.tables.index(one_of("table", table, self.config.tables))

    def _reach(self) -> int:
        # characters before the next that it depends on, the network's aside
        words, heard = self.config.words * REACH, self.config.echoes * HEARD
        return max(self.config.order, _LATEST + 1, words, heard) - 1

    def _addresses(self, tokens: Tensor, first: int) -> Tensor:
        # an n-gram needs a few characters before the first position, a word many
        skipped = max(0, first - self.config.order + 1)
        address = self.memory.addresses(tokens[:, skipped:])[:, first - skipped :]
        if self.words is not None:
            address = torch.cat([address, self.words.addresses(tokens)[:, first:]], dim=-1)
        for name in self.dropped - set(ECHOES):
            address[..., self.config.tables.index(name)] = -1
        return address

    def _echoes(self, tokens: Tensor, first: int) -> Echo:
        echo = echoes(tokens, self.config.vocab_size, first, self.memory.share.dtype)
        for name in self.dropped & set(ECHOES):
            n = ECHOES.index(name)
            echo.place[..., n] = -1
            echo.found.share[..., n, :], echo.found.evidence[..., n, :] = 0, 0
            echo.found.backoff_mass[..., n] = 1
        return echo

    def _told(self, reading: ContextReading) -> Tensor:
        # square roots: small probabilities differ by more, and nothing is infinite as in logarithms
        roots = reading.probabilities.sqrt().flatten(-2)
        return self.told(torch.cat([roots, 0.2 * reading.evidence.flatten(-2)], dim=-1))

    def _latest(self, known: Tensor) -> Tensor:
        none = known.new_full((len(known), _LATEST - 1), self.config.vocab_size)
        padded = torch.cat([none, known], dim=1)
        return self.latest(padded.unfold(1, _LATEST, 1)).flatten(-2)


def count(config: LookupConfig, tokens: Tensor, alphabet: str) -> Memories:
    """Return what a model of a config looks up, counted from a text, int64 `[length]`."""
    memory = ContextMemory(tokens, config.order, config.vocab_size, config.folds)
    words = WordMemory(tokens, letters_of(alphabet), config.folds) if config.words else None
    return Memories(memory, words)
