"""A look-it-up model that only writes: one text, character by character, in NumPy."""

import numpy as np
import torch
from torch import Tensor

from trix.checks import shape
from trix.models.lookup import LookupLM
from trix.models.sampler.network import GateStep, NetworkStep
from trix.models.sampler.tables import EchoStep, TableStep, WordStep


class Sampler:
    """A trained `LookupLM` for inference on one text, at the speed of its arithmetic.

    What comes out is the model's up to float32's rounding; where two tiles match a token equally
    well to within that, the other one may be read. Parameters and what was dropped are copied.
    NumPy's own threads only get in the way: `OMP_NUM_THREADS=1`. The model is in float32 on the
    CPU, without a network, or with one of `RoutedMemory` (of `PARTS`, all slots read) and flat
    `SparseLookupFFN`, without positions and biases; the `ValueError` of another names what it has.
    """

    def __init__(self, model: LookupLM) -> None:
        if not isinstance(model, LookupLM):
            raise ValueError(f"model must be a LookupLM, got a {type(model).__name__}")
        w = model.gate.read.weight
        if (w.device.type, w.dtype) != ("cpu", torch.float32):
            raise ValueError(f"model must be in float32 on the CPU, got {w.dtype} on {w.device}")
        tables, vocab = len(model.config.tables), model.config.vocab_size
        self.vocab_size = vocab
        self._tables: list[TableStep | WordStep | EchoStep] = [TableStep(model)]
        if model.words is not None:
            self._tables.append(WordStep(model, model.words))
        if model.config.echoes:
            self._tables.append(EchoStep(model))
        self._said = np.empty((tables, vocab), dtype=np.float32)
        # what a step reads: roots of the tables' probabilities, their evidence, how undecided
        self._seen = np.zeros(tables * (vocab + 4), dtype=np.float32)
        self._roots = self._seen[: tables * vocab].reshape(tables, vocab)
        self._found = self._seen[tables * vocab : tables * (vocab + 3)].reshape(tables, 3)
        self._network = NetworkStep(model.network, model.told) if model.network else None
        self._gate = GateStep(model)

    def step(self, token: int) -> np.ndarray:
        """Read one more character; return the next one's log-probabilities, float32 `[vocab]`."""
        if not 0 <= token < self.vocab_size:
            raise ValueError(f"token must be in 0 … {self.vocab_size - 1}, got {token}")
        for tables in self._tables:
            tables.read(token, self._found, self._said)
        stream = None
        if self._network is not None:
            np.sqrt(self._said, out=self._roots)
            stream = self._network.step(token, self._seen)
        return self._gate.blend(self._said, self._seen, token, stream)

    def read(self, tokens: Tensor) -> Tensor:
        """Read more of the text, int64 `[1, time >= 1]`; return log-probabilities `[1, vocab]`."""
        shape("tokens", tokens, 1, "time >= 1")
        *before, last = tokens[0].tolist()
        for token in before:
            self.step(token)
        return torch.from_numpy(self.step(last))[None]
