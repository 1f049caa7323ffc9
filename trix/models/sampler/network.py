"""The network of a look-it-up model for one text, a character at a time, in NumPy.

All that does not depend on the text is worked out beforehand: signatures are multiplied with the
queries that they match, the scales of norms go into the rows that read them, and the means that
norms subtract are taken from all that writes to the stream instead.
"""

import math
from typing import Any

import numpy as np
import torch
from scipy.special import erf
from torch import Tensor, nn

from trix.memory.recurrence import MAX_DECAY
from trix.memory.slots import PARTS, RoutedMemory
from trix.models.charlm import Block, CharLM
from trix.models.lookup import LookupLM
from trix.tiles.lookup import SparseLookupFFN

_TINY = 1e-6  # the memory's, under its roots


class NetworkStep:
    """What a `CharLM`'s head reads, unscaled; `told` maps roots and evidence to the stream."""

    def __init__(self, network: CharLM, told: nn.Linear) -> None:
        positions, biased = network.position is not None, network.config.bias
        if positions or biased:
            raise ValueError(
                f"network must have neither positions nor biases, got {positions} and {biased}"
            )
        self.embed = array(_centred(network.embed.weight.mT).mT)
        # the stream is told roots as they are, and evidence in fifths
        weight = _centred(told.weight)
        order = told.in_features // (network.config.vocab_size + 3)
        weight[:, -3 * order :] *= 0.2
        self.told = array(weight)
        self.layers = [LayerStep(block) for block in network.blocks]
        self.eps = network.norm.eps

    def step(self, token: int, seen: np.ndarray) -> np.ndarray:
        """Read a character, and roots and evidence, which `seen` begins with; return `[dim]`."""
        x = self.told @ seen[: self.told.shape[1]]
        x += self.embed[token]
        for layer in self.layers:
            layer.step(x)
        return x * _norm(x, self.eps)


class LayerStep:
    """A block of routed memory and flat lookup, with the state of both."""

    def __init__(self, block: Any) -> None:
        mixer, ffn = _checked(block)
        self.heads, self.slot_count, self.width = mixer.heads, mixer.slots, mixer.width
        # the convolution, or one of one token that does nothing but scale as the norm does
        scale = block.mixer_norm.weight.double()[:, None]
        kernel = scale if mixer.convolution is None else mixer.convolution.kernel.double() * scale
        self.kernel = array(kernel.T)
        # all that reads the present token, in one product: addresses, decay, gate, values
        query = mixer.query.double().view(self.heads, self.width, -1)
        inverse_temperature = (-mixer.log_temperature.double()).exp() / math.sqrt(self.width)
        rows = []
        tables = (mixer.write_rows, mixer.read_rows)
        for table, power in zip(tables, inverse_temperature, strict=True):
            signatures = table().double().view(self.heads, self.slot_count, -1)
            rows.append((signatures * power @ query).flatten(0, 1))
        self.addresses = 2 * self.heads * self.slot_count
        # halves, for tanh: sigmoid(x) = (1 + tanh(x / 2)) / 2
        self.bias = np.full(self.heads, np.inf, dtype=np.float32)  # where nothing fades
        rows.append(query.new_zeros(self.heads, mixer.dim))
        if mixer.decay is not None:
            rows[-1] = mixer.decay.weight.double() / 2
            self.bias = array(mixer.decay.bias.double() / 2)
        self.gated = mixer.gate is not None
        if mixer.gate is not None:
            rows.append(mixer.gate.weight.double() / 2)
        self.values_from = sum(map(len, rows))
        self.rows = array(torch.cat([*rows, mixer.value.double()]))
        self.out = array(_centred(mixer.out.weight) * mixer.norm.double())
        self.eps, self.least = block.mixer_norm.eps, math.exp(-MAX_DECAY)
        # tiles
        self.top_k, self.tiles, self.tile_eps = ffn.top_k, ffn.tiles, block.ffn_norm.eps
        scale = block.ffn_norm.weight.double() / math.sqrt(ffn.dim)
        self.keys = array(ffn.signatures.double() * scale)
        self.tile_values = array(_centred(ffn.values.mT).mT)
        self.cells = 0
        if ffn.activation is not None:
            knots, self.cells = ffn.activation.knots.double(), ffn.activation.cells
            self.begin = -ffn.activation.low
            self.a_unit = self.cells / (ffn.activation.high - ffn.activation.low)
            # the last knot is a cell of its own, which does not rise
            self.low = array(knots.flatten())
            self.rise = array(torch.diff(knots, append=knots[:, -1:]).flatten())
        self.past = np.zeros_like(self.kernel)
        self.slots = np.zeros((self.heads, self.slot_count, self.width), dtype=np.float32)

    def step(self, x: np.ndarray) -> None:
        """Add to the stream `[dim]`, whose features have a mean of zero, in place."""
        self.past[:-1] = self.past[1:]
        np.multiply(x, _norm(x, self.eps), out=self.past[-1])
        told = self.rows @ np.add.reduce(self.past * self.kernel, axis=0)
        x += self.out @ self._remember(told)
        score = self.keys @ x
        index = np.argpartition(score, self.tiles - self.top_k)[self.tiles - self.top_k :]
        loud = self._activate(score[index] * _norm(x, self.tile_eps), index)
        x += loud @ self.tile_values[index]

    def _remember(self, told: np.ndarray) -> np.ndarray:
        heads = self.heads
        share = told[: self.addresses].reshape(2 * heads, -1)
        share = np.exp(share - np.maximum.reduce(share, axis=1, keepdims=True))
        share /= np.add.reduce(share, axis=1, keepdims=True)
        half = told[self.addresses : self.values_from]
        half[:heads] += self.bias
        activated = np.tanh(half)
        kept = np.maximum(0.5 + 0.5 * activated[:heads], self.least)
        self.slots *= kept[:, None, None]
        self.slots += share[:heads, :, None] * told[self.values_from :].reshape(heads, 1, -1)
        answer = (share[heads:, None, :] @ self.slots)[:, 0]
        size = np.add.reduce(answer * answer, axis=1, keepdims=True) / self.width
        answer = (answer / np.sqrt(size + _TINY)).ravel()
        return answer * (half[heads:] * (1 + activated[heads:])) if self.gated else answer

    def _activate(self, score: np.ndarray, tile: np.ndarray) -> np.ndarray:
        if not self.cells:
            return gelu(score)
        at = np.minimum(np.maximum((score + self.begin) * self.a_unit, 0.0), self.cells)
        cell = at.astype(np.int64)
        entry = tile * (self.cells + 1) + cell
        return self.low[entry] + self.rise[entry] * (at - cell).astype(np.float32)


def _checked(block: Block) -> tuple[RoutedMemory, SparseLookupFFN]:
    mixer, ffn = block.mixer, block.ffn
    if type(mixer) is not RoutedMemory or type(ffn) is not SparseLookupFFN:
        raise ValueError(
            "network must be of RoutedMemory and SparseLookupFFN, got "
            f"{type(mixer).__name__} and {type(ffn).__name__}"
        )
    others = {"rotation": "rotation", "delta": "strength", "content": "keys"}
    more = [name for name, part in others.items() if getattr(mixer, part, None) is not None]
    if more or (mixer.top_k or mixer.slots) < mixer.slots:
        raise ValueError(
            f"memory must read all slots and have none but {PARTS}, got top_k {mixer.top_k} of "
            f"{mixer.slots} and {more}"
        )
    if ffn.router is not None:
        raise ValueError(f"tiles must be searched flat, got {type(ffn.router).__name__}")
    return mixer, ffn


def array(values: Tensor) -> np.ndarray:
    """Return a copy in float32, row by row."""
    return np.array(values.detach().cpu().float().numpy(), order="C")


def _centred(weight: Tensor) -> Tensor:
    # [features, inputs] that write to the stream, without the mean that every norm takes away
    return weight.double() - weight.double().mean(dim=0)


def _norm(x: np.ndarray, eps: float) -> float:
    return 1 / math.sqrt(float(x @ x) / len(x) + eps)


def gelu(x: np.ndarray) -> np.ndarray:
    """Return the exact GELU."""
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


_FLOOR = 1e-9  # the gate's, under its logarithms


class GateStep:
    """The gate of a `LookupLM`, and its network's head."""

    def __init__(self, model: LookupLM) -> None:
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
            self.by_stream, self.latest = array(both * model.network.norm.weight.double()), []
        else:  # a row for each character at each of the latest places
            latest = model.latest.weight.double()
            parts = by_state.split(latest.shape[1], dim=1)
            self.latest = [array(latest @ part.T) for part in parts]
        self.bias = array(gate.read.bias)
        self.think, self.think_bias = array(gate.think.weight), array(gate.think.bias)
        self.score, self.score_bias = array(gate.score.weight), array(gate.score.bias)
        self.recent = [self.vocab_size] * len(self.latest)

    def blend(
        self, levels: np.ndarray, seen: np.ndarray, token: int, stream: np.ndarray | None
    ) -> np.ndarray:
        """Return log-probabilities `[vocab]` from the tables' `levels` `[tables, vocab]`.

        `seen` ends with their evidence and room for how undecided they are, `[4 · tables]`; the
        `stream` is the network's, `[dim]`, if there is one.
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
