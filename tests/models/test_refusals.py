from typing import Any

import pytest
import torch

from tests.models.small import ALPHABET, NETWORK, ORDER, VOCAB, chain, lookup_model
from trix.counts.context import ContextMemory
from trix.counts.words import WordMemory, letters_of
from trix.models.alphabet import decode, encode
from trix.models.charlm import CharLM, LMConfig
from trix.models.lookup import BlockDraw, LookupConfig, LookupLM
from trix.models.sampler.sampler import Sampler

TEXT = torch.tensor(chain(400))
SMALL: dict[str, Any] = {"dim": 12, "layers": 1, "mixer_options": {"heads": 3}}


def _lm(**changes):
    return CharLM(LMConfig(**{**SMALL, **changes}))


def _lookup(order=ORDER, vocab_size=VOCAB, words=None):
    return LookupLM(LookupConfig(VOCAB, ORDER), ContextMemory(TEXT, order, vocab_size), words)


def _drawn(folds, length):
    return BlockDraw(torch.arange(17), folds)(5, length, torch.Generator())


WORDED, MEMORY = LookupConfig(VOCAB, ORDER, words=True), ContextMemory(TEXT, ORDER, VOCAB)
WORDS = WordMemory(TEXT, letters_of(ALPHABET + "z"))
BYTES: Any = b"abc"
HALF: Any = {"hidden": 1.5}
LM: Any = CharLM(NETWORK)
SAMPLER = Sampler(lookup_model())
PROMPT = torch.tensor([[1, 2]])
CALLS: list[tuple[Any, type[Exception], str]] = [
    (lambda: decode([0, 3], "abc"), IndexError, "numbers must be in 0 … 2, got 0 … 3"),
    (lambda: decode([-1, 2], "abc"), IndexError, "numbers must be in 0 … 2, got -1 … 2"),
    (lambda: decode([0.5], "abc"), TypeError, "float32"),  # pyright: ignore[reportArgumentType]
    (lambda: decode([True], "abc"), TypeError, "bool"),
    (lambda: decode(PROMPT, "abc"), ValueError, r"numbers must .* \[length\], got \[1, 2\]"),
    (lambda: encode(BYTES, "abc", "of a test"), TypeError, "expected a str, got b'abc'"),
    (lambda: _lm(mixer="atention"), ValueError, r"mixer must be one of \['att.*, got 'atention'"),
    (lambda: _lm(ffn="moe"), ValueError, r"ffn must be one of \[.*'dense'.*'trix'.*\], got 'moe'"),
    (lambda: _lm(init="gpt3"), ValueError, "init must be one of .*'gpt2'.*, got 'gpt3'"),
    (lambda: _lm(dim=-12), ValueError, "dim must be at least 1, got -12"),
    (lambda: _lm(layers=0), ValueError, "layers must be at least 1, got 0"),
    (lambda: _lm(vocab_size=-1), ValueError, "vocab_size must be at least 1, got -1"),
    (lambda: _lm(positions=-1), ValueError, "positions must be at least 0, got -1"),
    (lambda: _lm(positions=1.5), TypeError, "positions must be an integer, got 1.5"),
    (lambda: _lm(dropout=1.0), ValueError, r"dropout must be in \[0, 1\), got 1.0"),
    (lambda: _lm(dropout=float("nan")), ValueError, "dropout"),
    (lambda: _lm(mixer_options={"heads": 5}), ValueError, "multiple of heads, got dim=12, heads=5"),
    (lambda: _lm()(TEXT[:5]), ValueError, r"tokens must have shape \[batch, time\], got \[5\]"),
    (lambda: _lm()(torch.tensor([[3, 65]])), IndexError, "tokens must be in 0 … 64, got 3 … 65"),
    (lambda: LookupConfig(vocab_size=0), ValueError, "vocab_size must be at least 1, got 0"),
    (lambda: LookupConfig(order=0), ValueError, "order must be at least 1, got 0"),
    (lambda: LookupConfig(**HALF), TypeError, "hidden must be an integer, got 1.5"),
    (lambda: LookupConfig(gate="open"), ValueError, "gate must be one of .*, got 'open'"),
    (lambda: LookupConfig(network=NETWORK), ValueError, "network must have 65 characters, got 11"),
    (lambda: _lookup(order=3), ValueError, "order 4 and 11 characters, got 3 and 11"),
    (lambda: _lookup(vocab_size=12), ValueError, "order 4 and 11 characters, got 4 and 12"),
    (lambda: _lookup(words=WORDS), ValueError, "if and only if words=True, got <"),
    (lambda: LookupLM(WORDED, MEMORY), ValueError, "if and only if words=True, got None"),
    (lambda: LookupLM(WORDED, MEMORY, WORDS), ValueError, "words must have 11 characters, got 12"),
    (lambda: lookup_model()(TEXT[:5]), ValueError, r"\[batch, time\], got \[5\]"),
    (lambda: lookup_model()(torch.tensor([[3, 11]])), ValueError, "0 … 10, got 3 … 11"),
    (lambda: lookup_model(folds=0).routed(PROMPT, None, torch.tensor([0])), ValueError, "folds"),
    (lambda: lookup_model().drop("order 0"), ValueError, "one of .*'order 4'.*, got 'order 0'"),
    (lambda: lookup_model().drop("word"), ValueError, "one of .*'order 4'.*, got 'word'"),
    (lambda: lookup_model().restore("network"), ValueError, "'order 4'.*, got 'network'"),
    (lambda: _drawn(0, 17), ValueError, "longer than 17, got 17"),
    (lambda: _drawn(2, 8), ValueError, "longer than 8, got 8"),
    (lambda: _drawn(3, 5), ValueError, "longer than 5, got 5"),
    (lambda: Sampler(LM), ValueError, "model must be a LookupLM, got a CharLM"),
    (lambda: Sampler(lookup_model(dtype=torch.float64)), ValueError, r"CPU, got torch\.float64"),
    (lambda: SAMPLER.read(PROMPT - 2), ValueError, "0 … 10, got -1"),
    (lambda: SAMPLER.read(PROMPT + 9), ValueError, "0 … 10, got 11"),
    (lambda: SAMPLER.read(PROMPT[:, :0]), ValueError, r"shape \[1, time >= 1\], got \[1, 0\]"),
    (lambda: SAMPLER.read(PROMPT.T), ValueError, r"shape \[1, time >= 1\], got \[2, 1\]"),
    (lambda: SAMPLER.read(PROMPT[0]), ValueError, r"shape \[1, time >= 1\], got \[2\]"),
    (lambda: _lm().generate(PROMPT[:, :0], 3), ValueError, r"time >= 1\], got \[1, 0\]"),
    (lambda: _lm().generate(PROMPT[0], 3), ValueError, r"time >= 1\], got \[2\]"),
    (lambda: _lm().generate(PROMPT, -1), ValueError, "length must be at least 0, got -1"),
    (
        lambda: _lm().generate(PROMPT, 1, -0.5),
        ValueError,
        r"temperature .* not negative, got -0\.5",
    ),
    (lambda: _lm().generate(PROMPT, 0, -1), ValueError, "finite and not negative, got -1"),
]


@pytest.mark.parametrize(("call", "error", "message"), CALLS)
def test_it_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_place_that_cannot_be_dropped_still_speaks():
    model = lookup_model(order=1)
    before = model(PROMPT)
    with pytest.raises(ValueError, match="the last one"):
        model.drop("order 1")
    assert torch.equal(model(PROMPT), before)
    assert model.dropped == frozenset()
