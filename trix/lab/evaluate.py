"""One evaluation for every model: the whole text in consecutive blocks, each from nothing."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trix.checks import positive, shape
from trix.counts.ngram import CountTables
from trix.models.lookup import LookupLM

_COUNTED = 8192  # characters after which tables that go on counting are brought up to date
LogProbs = Callable[[Tensor], Tensor]


class Evaluation(NamedTuple):
    """Mean loss in nats (or `bits`) per character, over `tokens` predictions."""

    nats: float
    tokens: int

    @property
    def perplexity(self) -> float:
        return math.exp(self.nats)

    @property
    def bits(self) -> float:
        return self.nats / math.log(2)


def evaluate(log_probs: LogProbs, data: Tensor, block: int, batch: int = 64) -> Evaluation:
    """Measure the mean loss over all of `data`, cut in blocks that see nothing before them.

    The first character of the text is given; each later one is predicted once, from the
    characters of its own block before it. The last block may be shorter.

    >>> def uniform(tokens):
    ...     return torch.full((*tokens.shape, 4), 0.25).log()
    >>> round(evaluate(uniform, torch.arange(4).repeat(5), block=8).bits, 4)
    2.0

    `log_probs`, of `model_log_probs` or `table_log_probs`, maps tokens `[batch, time]` to
    log-probabilities `[batch, time, vocab]` of the next character. `data` is int64 `[length >= 2]`,
    else a `ValueError`; a block as long is one uncut pass.
    """
    positive("block", block)
    positive("batch", batch)
    shape("data", data, "length >= 2")
    total = 0.0
    with torch.no_grad():
        for inputs, targets in blocks(data, block, batch):
            losses = -log_probs(inputs).gather(-1, targets.unsqueeze(-1))
            total += float(losses.to(torch.float64).sum())
    return Evaluation(total / (len(data) - 1), len(data) - 1)


def model_log_probs(model: nn.Module) -> LogProbs:
    """Return the function that `evaluate` needs from a model, put in evaluation mode.

    >>> from trix.lab import CharLM, LMConfig
    >>> model = CharLM(LMConfig(vocab_size=4, dim=8, layers=1, mixer="none"))
    >>> evaluate(model_log_probs(model), torch.arange(4).repeat(5), block=8).tokens
    19
    """

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
    """Return the function that `evaluate` needs from count tables.

    >>> text = torch.arange(4).repeat(50)
    >>> round(evaluate(table_log_probs(CountTables(text, 3, 4)), text, block=200).perplexity, 1)
    1.0
    """
    return lambda tokens: tables.probabilities(tokens, order, smoothing).log()


def blocks(data: Tensor, block: int, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs and targets `[batch, block]` of a text in blocks; the last may be shorter."""
    inputs, targets = data[:-1], data[1:]
    whole = len(inputs) // block * block
    if whole:
        parts = (t[:whole].view(-1, block).split(batch) for t in (inputs, targets))
        yield from zip(*parts, strict=True)
    if whole < len(inputs):
        yield inputs[None, whole:], targets[None, whole:]


def evaluate_dynamic(model: LookupLM, text: Tensor, block: int) -> Evaluation:
    """Measure a model whose tables also count what they have read, causally.

    The text, int64 `[length >= 2]`, is read in blocks that see nothing before them but through the
    tables, which are brought up to date every few thousand characters. The model is on the CPU; its
    memories stay as they are.

    >>> from trix.counts.context import ContextMemory
    >>> from trix.lab import LookupConfig
    >>> text = torch.arange(4).repeat(50)
    >>> model = LookupLM(LookupConfig(4, order=2), ContextMemory(text, 2, 4))
    >>> evaluate_dynamic(model, text, block=16).tokens
    199
    """
    positive("block", block)
    shape("text", text, "length >= 2")
    kept = model.memory, model.words
    part, total = -(-_COUNTED // block) * block, 0.0
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
