"""What decides the shape of a look-it-up language model, and the names of what it looks up."""

from dataclasses import dataclass

from trix.address.checks import positive
from trix.lab.charlm import LMConfig
from trix.memory.echo import BELOW, ECHOES
from trix.memory.word_keys import ADDRESSES
from trix.memory.word_memory import asked

GATES = ("routed", "fixed")


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
        echoes: whether the text that is being read is looked through too, see `trix.memory.echo`.
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
        return orders + self.words * ADDRESSES + self.echoes * ECHOES

    def lower(self, table: int) -> int:
        """Return which table, by its place, is asked for what one after the first does not know."""
        name = self.tables[table]
        if name == "echo":
            return min(BELOW, self.order) - 1
        if table < self.order or name == "refrain":
            return table - 1
        return asked(name, self.order)

    @property
    def places(self) -> tuple[str, ...]:
        """Whom the gate may ask, which is the tables and, last, the network if there is one."""
        return self.tables if self.network is None else (*self.tables, "network")

    @property
    def ffn(self) -> str:
        """The network's feed-forward, by name."""
        return self.network.ffn if self.network is not None else "none"
