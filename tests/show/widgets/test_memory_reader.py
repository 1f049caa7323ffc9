"""What `MemoryReader` checks and sends; what the page makes of it is tested in a browser."""

import numpy as np
import pytest
import torch

from tests.static_page import size_on_page
from trix.memory.slots import RoutedMemory, memory_reading
from trix.models.charlm import CharLM, LMConfig
from trix.show.widgets.base import Numbers
from trix.show.widgets.memory_reader import MOST_CHARACTERS, MemoryReader

TEXT, LAYERS, HEADS, SLOTS = "so sad\n", 2, 3, 5
N = len(TEXT)
RANDOM = np.random.default_rng(0)


def shares(*shape: int) -> np.ndarray:
    return RANDOM.dirichlet(np.full(shape[-1], 0.3), size=shape[:-1])


WRITE, READ = shares(LAYERS, HEADS, N, SLOTS), shares(LAYERS, HEADS, N, SLOTS)
BACK = np.tril(RANDOM.gamma(0.5, size=(LAYERS, HEADS, N, N)))


def reader(
    text=TEXT, write: Numbers = WRITE, read: Numbers = READ, back: Numbers = BACK, **options
) -> MemoryReader:
    return MemoryReader(text, write, read, back, **{"alt": "Seven characters.", **options})


def largest(made: MemoryReader, name: str) -> np.ndarray:
    sent = np.frombuffer(made.largest[name], "<u2").reshape(*WRITE.shape[:2], -1)
    return sent / 65535


def test_slots_are_sent_in_steps_of_the_largest():
    made = reader()
    for name, values in (("written", WRITE), ("read", READ)):
        digits = [int(digit, 16) for digit in getattr(made, name).hex()]
        found = np.array(digits[: values.size]).reshape(values.shape)
        top = largest(made, name)
        np.testing.assert_allclose(top, values.max(axis=-1), atol=1e-5)
        assert (found.argmax(axis=-1) == values.argmax(axis=-1)).all()
        assert ((found == 15).sum(axis=-1) == 1).all()
        error = np.abs(found / 15 * top[..., None] - values)
        close = values > 14.5 / 15 * top[..., None]  # they give way to the first of the largest
        assert error[~close].max() <= 0.5 / 15 + 1e-4
        assert error.max() <= 1 / 15 + 1e-4


def test_what_comes_back_is_sent_as_parts_of_all_that_does():
    back = BACK.copy()
    back[1, 2, 3] = 0
    total = np.maximum(back.sum(axis=-1, keepdims=True), 1e-300)
    made = reader(back=back)
    sent = np.frombuffer(made.back, np.uint8).reshape(LAYERS, HEADS, N * (N + 1) // 2)
    top = largest(made, "back")
    for t in range(N):
        row = sent[..., t * (t + 1) // 2 : (t + 1) * (t + 2) // 2] / 255 * top[..., t, None]
        np.testing.assert_allclose(row, (back / total)[..., t, : t + 1], atol=0.5 / 255 + 1e-4)
    assert [tuple(at) for at in np.argwhere(top == 0)] == [(1, 2, 3)]
    assert made.layers == [1, 2]
    assert reader(layers=(3, 7)).layers == [3, 7]
    # an odd number of slots fills its last byte
    made = reader(TEXT[:1], WRITE[:1, :1, :1], READ[:1, :1, :1], BACK[:1, :1, :1, :1])
    assert len(made.written) == 3
    assert made.written[-1] % 16 == 0
    assert made.back == bytes([255])


def test_the_largest_reader_is_small_enough_for_a_page():
    layers, heads, slots, n = 4, 4, 64, MOST_CHARACTERS
    write, read = shares(layers, heads, n, slots), shares(layers, heads, n, slots)
    back = np.tril(RANDOM.uniform(size=(layers, heads, n, n)))
    made = reader("x" * n, write, read, back)
    assert size_on_page(made) < 300_000


def model(**changes) -> CharLM:
    torch.manual_seed(0)
    options = {"mixer": "routed-memory", "mixer_options": {"heads": HEADS, "slots": SLOTS}}
    sizes = {"vocab_size": 11, "dim": 12, "layers": 2, "positions": 0, "dropout": 0.5}
    return CharLM(LMConfig(**{**sizes, **options, **changes}))


@pytest.mark.parametrize("positions", [0, N])
def test_a_model_shows_the_memory_of_every_block(positions):
    lm = model(positions=positions)
    tokens = torch.arange(N) % 11
    inputs = []
    memories = [part for part in lm.modules() if isinstance(part, RoutedMemory)]
    for memory in memories:
        memory.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    lm.eval()(tokens[None])
    lm.train()
    with torch.no_grad():
        found = [memory_reading(*pair) for pair in zip(memories, inputs, strict=True)]
    expected = reader(TEXT, *(torch.cat(parts) for parts in zip(*found, strict=True)))
    made = MemoryReader.from_model(lm, tokens, TEXT, alt="A model.")
    assert lm.training
    for name in ("written", "read", "back", "largest", "layers"):
        assert getattr(made, name) == getattr(expected, name)


def test_models_that_cannot_be_shown_are_named():
    tokens, lm = torch.arange(N) % 11, model()
    attention = model(mixer="attention", mixer_options={}, positions=N)
    for shown, given, error, message in (
        (attention, tokens, ValueError, "expected a routed memory, received 'attention'"),
        (lm, tokens[:-1], ValueError, r"tokens: expected shape \[7\], .* received \[6\]"),
        (model(positions=3), tokens, ValueError, "at most 3 positions"),
        (lm, tokens + 5, IndexError, "tokens must be in 0 … 10"),
        (torch.nn.Linear(2, 2), tokens, TypeError, "model: expected a CharLM, received Linear"),
    ):
        with pytest.raises(error, match=message):
            MemoryReader.from_model(shown, given, TEXT, alt="A model.")  # pyright: ignore[reportArgumentType]
    assert lm.training
