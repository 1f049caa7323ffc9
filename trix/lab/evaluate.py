"""One evaluation for every model: the whole text in consecutive blocks, each from nothing."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trix.checks import positive
from trix.counts.ngram import CountTables
from trix.models.charlm import CharLM
from trix.models.lookup import LookupLM

_COUNTED = 8192
"""Characters after which tables that go on counting are brought up to date."""

LogProbs = Callable[[Tensor], Tensor]


class Evaluation(NamedTuple):
    """Mean loss in nats a character, over `tokens` predictions."""

    nats: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """Return e to the power of the mean loss."""
        return math.exp(self.nats)

    @property
    def bits(self) -> float:
        """Return the mean loss in bits a character."""
        return self.nats / math.log(2)


def evaluate(log_probs: LogProbs, data: Tensor, block: int, batch: int = 64) -> Evaluation:
    """Measure the mean loss over all of `data`, cut in blocks that see nothing before them.

    The first character of the text is given; each later one is predicted once, from the
    characters of its own block before it. The last block may be shorter.

    Args:
        log_probs: maps tokens `[batch, time]` to log-probabilities `[batch, time, vocab]` of the
            next character, in nats. See `model_log_probs` and `table_log_probs`.
        data: int64 `[length]`.
        block: predictions in a block. A block as long as the text is one uncut pass.
        batch: blocks evaluated at a time.

    Raises:
        ValueError: the text has fewer than two characters, or `block` or `batch` is below 1.
    """
    positive("block", block)
    positive("batch", batch)
    if data.ndim != 1 or len(data) < 2:
        raise ValueError(f"data must be [length >= 2], got {list(data.shape)}")
    total = 0.0
    with torch.no_grad():
        for inputs, targets in blocks(data, block, batch):
            losses = -log_probs(inputs).gather(-1, targets.unsqueeze(-1))
            total += float(losses.to(torch.float64).sum())
    return Evaluation(total / (len(data) - 1), len(data) - 1)


def evaluate_streaming(model: CharLM, data: Tensor, chunk: int = 256) -> Evaluation:
    """Measure the mean loss in one pass over `data`, the state carried from chunk to chunk.

    Args:
        model: a `CharLM` without learned positions, or whose positions cover the text.
        data: int64 `[length]`.
        chunk: characters a call.

    Raises:
        ValueError: the text is shorter than two characters or longer than the model's positions.
    """
    positive("chunk", chunk)
    if data.ndim != 1 or len(data) < 2:
        raise ValueError(f"data must be [length >= 2], got {list(data.shape)}")
    training = model.training
    model.eval()
    total, state = 0.0, None
    with torch.no_grad():
        for inputs, targets in zip(data[:-1].split(chunk), data[1:].split(chunk), strict=True):
            logits, _, state = model.routed(inputs[None], state)
            losses = torch.nn.functional.cross_entropy(logits[0], targets, reduction="none")
            total += float(losses.to(torch.float64).sum())
    model.train(training)
    return Evaluation(total / (len(data) - 1), len(data) - 1)


def model_log_probs(model: nn.Module) -> LogProbs:
    """Return the function that `evaluate` needs from a model, put in evaluation mode."""

    def log_probs(tokens: Tensor) -> Tensor:
        training = model.training
        model.eval()
        logits = model(tokens)
        model.train(training)
        return torch.log_softmax(logits.float(), dim=-1)

    return log_probs


def table_log_probs(
    tables: CountTables, order: int | None = None, smoothing: str = "witten-bell"
) -> LogProbs:
    """Return the function that `evaluate` needs from count tables."""
    return lambda tokens: tables.probabilities(tokens, order, smoothing).log()


def blocks(data: Tensor, block: int, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs and targets `[batch, block]` of a text in blocks; the last may be shorter."""
    inputs, targets = data[:-1], data[1:]
    whole = len(inputs) // block * block
    if whole:
        yield from zip(
            inputs[:whole].view(-1, block).split(batch),
            targets[:whole].view(-1, block).split(batch),
            strict=True,
        )
    if whole < len(inputs):
        yield inputs[None, whole:], targets[None, whole:]


def evaluate_dynamic(model: LookupLM, text: Tensor, block: int) -> Evaluation:
    """Measure a model whose tables also count what they have read, causally.

    The text is read in blocks that see nothing before them but through the tables, which are
    brought up to date every few thousand characters.

    Args:
        model: on the CPU; its memories stay as they are.
        text: int64 `[length]`.
        block: predictions in a block.
    """
    kept = model.memory, model.words
    part = -(-_COUNTED // block) * block
    total = 0.0
    try:
        for first in range(0, len(text) - 1, part):
            piece = text[first : first + part + 1]
            total += evaluate(model_log_probs(model), piece, block).nats * (len(piece) - 1)
            if first + part < len(text) - 1:
                model.memory = model.memory.with_text(piece[:-1])
                model.words = model.words and model.words.with_text(piece[:-1])
    finally:
        model.memory, model.words = kept
    return Evaluation(total / (len(text) - 1), len(text) - 1)
