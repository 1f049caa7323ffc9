"""A look-it-up model that only writes: one text, character by character, in NumPy."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from trix.counts.match import ECHOES
from trix.models.lookup import LookupLM
from trix.models.sampler.network import GateStep, NetworkStep
from trix.models.sampler.tables import EchoStep, TableStep, WordStep


class Sampler:
    """A trained `LookupLM` for inference on one text, at the speed of its arithmetic.

    What comes out is the model's up to float32's rounding; where two tiles match a token equally
    well to within that, the other one may be read. The model's numbers are copied, with the tables
    that were dropped and the places that were forbidden when it was. NumPy's own threads only get
    in the way of products so small: `OMP_NUM_THREADS=1`.

    Args:
        model: without a network, or with one of `RoutedMemory` (of the parts in `PARTS`, all slots
            read) and flat `SparseLookupFFN`, without positions and biases.

    Raises:
        ValueError: the model has something else; it is named.
    """

    def __init__(self, model: LookupLM) -> None:
        """See the class."""
        tables, vocab = len(model.config.tables), model.config.vocab_size
        self.vocab_size = vocab
        order, lower = model.config.order, [model.config.lower(place) for place in range(tables)]
        self._tables: list[TableStep | WordStep | EchoStep] = [
            TableStep(model.memory, model.dropped)
        ]
        if model.words is not None:
            self._tables.append(WordStep(model.words, order, lower[order:], model.dropped))
        if model.config.echoes:
            first = tables - len(ECHOES)
            self._tables.append(EchoStep(first, lower[first:], model.dropped))
        self._said = np.empty((tables, vocab), dtype=np.float32)
        # what a step reads: roots of the tables' probabilities, their evidence, how undecided
        self._seen = np.zeros(tables * (vocab + 4), dtype=np.float32)
        self._roots = self._seen[: tables * vocab].reshape(tables, vocab)
        self._found = self._seen[tables * vocab : tables * (vocab + 3)].reshape(tables, 3)
        self._network = None
        if model.network is not None:
            self._network = NetworkStep(model.network, model.told)
        self._gate = GateStep(model)
        self.reset()

    def reset(self) -> None:
        """Forget the text: the next character is the first."""
        for tables in self._tables:
            tables.reset()
        self._gate.reset()
        if self._network is not None:
            self._network.reset()

    def step(self, token: int) -> np.ndarray:
        """Read one more character; return the next one's log-probabilities, float32 `[vocab]`.

        Raises:
            ValueError: there is no such character.
        """
        if not 0 <= token < self.vocab_size:
            raise ValueError(f"token must be in 0 … {self.vocab_size - 1}, got {token}")
        for tables in self._tables:
            tables.read(token, self._found, self._said)
        if self._network is None:
            return self._gate.blend(self._said, self._seen, token, None)
        np.sqrt(self._said, out=self._roots)
        stream = self._network.step(token, self._seen)
        return self._gate.blend(self._said, self._seen, token, stream)

    def prime(self, tokens: Iterable[int]) -> np.ndarray:
        """Read several characters; return the log-probabilities after the last.

        Raises:
            ValueError: no character, or one that does not exist.
        """
        said = None
        for token in tokens:
            said = self.step(token)
        if said is None:
            raise ValueError("expected at least one token, got none")
        return said

    def characters(
        self,
        prompt: Tensor,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """Yield the characters after a prompt, without end, as `generate.characters` does.

        Args:
            prompt: int64 `[1, time]`, at least one token; what was read before is forgotten.
            temperature: 0 always takes the likeliest character.
            generator: source of randomness; a character takes of it what it takes there.

        Raises:
            ValueError: an empty prompt, several of them, or a negative temperature.
        """
        if prompt.ndim != 2 or len(prompt) != 1 or prompt.shape[1] == 0:
            raise ValueError(f"prompt must be [1, time >= 1], got {list(prompt.shape)}")
        if temperature < 0:
            raise ValueError(f"temperature must not be negative, got {temperature}")
        self.reset()
        said = self.prime(prompt[0].tolist())
        while True:
            if temperature == 0:
                token = int(said.argmax())
            else:
                share = torch.softmax(torch.from_numpy(said) / temperature, dim=-1)
                token = int(torch.multinomial(share, 1, generator=generator))
            yield torch.tensor([[token]])
            said = self.step(token)
