"""The gate of a look-it-up model for one text, a character at a time, in NumPy."""

import numpy as np
import torch

from trix.lab.lookup_lm import LookupLM
from trix.lab.sampler_network import array, gelu

_FLOOR = 1e-9  # the gate's, under its logarithms


class GateStep:
    """The gate of a `LookupLM`, and its network's head.

    Args:
        model: what to copy them from.
    """

    def __init__(self, model: LookupLM) -> None:
        """See the class."""
        gate, vocab = model.gate, model.config.vocab_size
        tables = self.tables = gate.tables
        self.vocab_size = vocab
        self.places, self.fixed = gate.places, gate.fixed
        self.closed = np.where(gate.forbidden.cpu().numpy(), -np.inf, 0).astype(np.float32)
        weight = gate.read.weight.double()
        evidence = 0.3 * weight[:, : 4 * tables].view(-1, tables, 4)
        self.by_evidence = array(torch.cat([evidence[..., :3].flatten(1), evidence[..., 3]], 1))
        by_state = weight[:, 4 * tables :]
        if model.network is not None:
            both = torch.cat([model.network.head.weight.double(), by_state])
            self.by_stream = array(both * model.network.norm.weight.double())
        self.latest: list[np.ndarray] = []
        if model.network is None:
            # a row for each character at each of the latest places
            latest = model.latest.weight.double()
            parts = by_state.split(latest.shape[1], dim=1)
            self.latest = [array(latest @ part.T) for part in parts]
        self.bias = array(gate.read.bias)
        self.think, self.think_bias = array(gate.think.weight), array(gate.think.bias)
        self.score, self.score_bias = array(gate.score.weight), array(gate.score.bias)

    def reset(self) -> None:
        """Forget the text."""
        self.recent = [self.vocab_size] * len(self.latest)

    def blend(
        self, levels: np.ndarray, seen: np.ndarray, token: int, stream: np.ndarray | None
    ) -> np.ndarray:
        """Return the next character's log-probabilities, `[vocab]`.

        Args:
            levels: from the tables, `[tables, vocab]`.
            seen: ends with their evidence, and room for how undecided they are, `[4 · tables]`.
            token: the latest character.
            stream: of the network, `[dim]`, if there is one.
        """
        said = np.empty((self.places, self.vocab_size), dtype=np.float32)
        np.log(np.maximum(levels, _FLOOR), out=said[: self.tables])
        np.add.reduce(levels * said[: self.tables], axis=1, out=seen[-self.tables :])
        state = self.bias
        if stream is not None:
            both = self.by_stream @ stream
            said[-1] = _log_softmax(both[: self.vocab_size])
            state = state + both[self.vocab_size :]
        else:
            self.recent = [*self.recent[1:], token]
            for rows, character in zip(self.latest, self.recent, strict=True):
                state = state + rows[character]
        found = self.score_bias
        if not self.fixed:
            hidden = gelu(self.by_evidence @ seen[-4 * self.tables :] + state)
            found = self.score @ gelu(self.think @ hidden + self.think_bias) + found
        score = found[:-1] + self.closed
        weight = np.exp(score - np.maximum.reduce(score))
        weight *= np.exp(found[-1]) / np.add.reduce(weight)
        return _log_softmax(weight @ said)


def _log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - np.maximum.reduce(x)
    return x - np.log(np.add.reduce(np.exp(x)))
