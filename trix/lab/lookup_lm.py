"""The look-it-up language model: a context memory, a gate, and a network where it is needed."""

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trix.address.checks import positive
from trix.address.route import Route, RoutedLayer
from trix.lab.charlm import CharLM, LMConfig, LMState
from trix.lab.generate import generate
from trix.memory.context_gate import ContextGate
from trix.memory.context_memory import ContextMemory, ContextReading

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
    """

    vocab_size: int = 65
    order: int = 9
    folds: int = 8
    hidden: int = 64
    gate: str = "routed"
    network: LMConfig | None = None

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
    def ffn(self) -> str:
        """The network's feed-forward, by name."""
        return self.network.ffn if self.network is not None else "none"


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
        gate: the gate's route: places 0 … order−1 are the orders, the last is the network.
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

    Raises:
        ValueError: the memory does not fit the config.
    """

    def __init__(self, config: LookupConfig, memory: ContextMemory) -> None:
        """See the class."""
        super().__init__()
        if (memory.order, memory.vocab_size) != (config.order, config.vocab_size):
            raise ValueError(
                f"memory must have order {config.order} and {config.vocab_size} characters, got "
                f"{memory.order} and {memory.vocab_size}"
            )
        self.config, self.memory = config, memory
        self.dropped: frozenset[int] = frozenset()
        self.network = CharLM(config.network) if config.network is not None else None
        if self.network is not None:
            state_dim = self.network.config.dim
            told = config.order * (config.vocab_size + 3)
            self.told = nn.Linear(told, state_dim, bias=False)
            nn.init.zeros_(self.told.weight)
        else:
            state_dim = _LATEST * _WIDTH
            self.latest = nn.Embedding(config.vocab_size + 1, _WIDTH)  # the last one is "none yet"
        self.gate = ContextGate(
            config.order,
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
        address = self.memory.addresses(known)[:, before:]
        for order in self.dropped:
            address[..., order - 1] = -1
        reading = self.memory.read(address, None if left_out is None else left_out[:, None])
        routes, inner, own = (), None, None
        if self.network is not None:
            seen, routes, inner = self.network.features(tokens, state.network, self._told(reading))
            own = self.network.head(seen)
        else:
            seen = self._latest(known)[:, before:]
        blended = self.gate(reading, seen, own)
        recent = known[:, max(0, known.shape[1] - max(self.config.order - 1, _LATEST)) :]
        return LookupRouted(
            blended.log_probabilities,
            routes,
            LookupState(state.seen + tokens.shape[1], recent, inner),
            blended.route,
            blended.sharpness,
        )

    def drop(self, order: int) -> None:
        """Take an order's table away: its addresses are found no more, and the gate is told so.

        Raises:
            IndexError: there is no such order.
            ValueError: the gate has no other place left.
        """
        self._check(order)
        self.gate.forbid(order - 1)
        self.dropped |= {order}

    def restore(self, order: int) -> None:
        """Undo `drop`.

        Raises:
            IndexError: there is no such order.
        """
        self._check(order)
        self.dropped -= {order}
        self.gate.allow(order - 1)

    generate = generate

    def routed_layers(self) -> list[RoutedLayer]:
        """Return the network's layers that route, in the order of `LookupRouted.routes`."""
        return self.network.routed_layers() if self.network is not None else []

    def parameter_count(self) -> int:
        """Return the number of trained numbers; the tables' counts are not among them."""
        return sum(p.numel() for p in self.parameters())

    def _check(self, order: int) -> None:
        if not 1 <= order <= self.config.order:
            raise IndexError(f"order must be in 1 … {self.config.order}, got {order}")

    def _told(self, reading: ContextReading) -> Tensor:
        # square roots: small probabilities differ by more, and nothing is infinite as in logarithms
        roots = reading.probabilities.sqrt().flatten(-2)
        return self.told(torch.cat([roots, 0.2 * reading.evidence.flatten(-2)], dim=-1))

    def _latest(self, known: Tensor) -> Tensor:
        none = known.new_full((len(known), _LATEST - 1), self.config.vocab_size)
        padded = torch.cat([none, known], dim=1)
        return self.latest(padded.unfold(1, _LATEST, 1)).flatten(-2)


@dataclass(frozen=True)
class BlockDraw:
    """Draws training windows that lie within one block of the text, and says which.

    What a `Draw` gives, and for each window the number of its block: the model leaves that block
    out of its tables.

    Attributes:
        text: int64 `[length]`.
        folds: blocks, as the memory cuts them; 0 draws anywhere.
    """

    text: Tensor
    folds: int

    def __repr__(self) -> str:
        """Say what is drawn, for a checkpoint."""
        digest = hashlib.sha256(self.text.numpy().tobytes()).hexdigest()
        return f"BlockDraw({digest}, {self.folds})"

    def __call__(self, batch: int, length: int, sampler: torch.Generator) -> tuple[Tensor, ...]:
        """Return tokens and targets `[batch, length]`, and the windows' blocks `[batch]`.

        Raises:
            ValueError: a block does not hold a window.
        """
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
