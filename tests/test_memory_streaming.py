"""The contract of all mixers: parts and whole agree, the past alone counts, bad input is named."""

import copy
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import trix
from trix.models.charlm import CharLM, LMConfig

DIM = 12
WITH = trix.memory.slots.PARTS
MIXERS = {
    "attention": lambda: trix.CausalAttention(DIM, 3),
    "convolved attention": lambda: trix.ConvolvedAttention(DIM, 3),
    "static": lambda: trix.StaticMemory(DIM, 3, slots=5, top_k=2),
    "convolved static": lambda: trix.memory.controls.ConvolvedStatic(DIM, 3, slots=5, top_k=2),
    "window": lambda: trix.WindowAttention(DIM, 3, window=5),
    "window of one": lambda: trix.WindowAttention(DIM, 3, window=1),
    "narrow window": lambda: trix.WindowAttention(DIM, 5, window=4, width=3),
    "memory": lambda: trix.RoutedMemory(DIM, 3, 6),
    "memory, best slot": lambda: trix.RoutedMemory(DIM, 3, 6, top_k=1),
    "memory, two slots": lambda: trix.RoutedMemory(DIM, 3, 6, top_k=2),
    "memory, four slots": lambda: trix.RoutedMemory(DIM, 3, 6, top_k=4),
    "memory, all slots": lambda: trix.RoutedMemory(DIM, 3, 6, top_k=6),
    "bare memory": lambda: trix.RoutedMemory(DIM, 3, 6, parts=()),
    "narrow memory": lambda: trix.RoutedMemory(DIM, 5, 6, width=3),
    "turning": lambda: trix.RoutedMemory(DIM, 3, 6, 2, (*WITH, "rotation")),
    "delta": lambda: trix.RoutedMemory(DIM, 3, 5, 2, (*WITH, "delta")),
    "delta alone": lambda: trix.RoutedMemory(DIM, 3, 5, None, ("delta",)),
    "turning delta": lambda: trix.RoutedMemory(DIM, 3, 6, None, (*WITH, "rotation", "delta")),
    "content": lambda: trix.RoutedMemory(DIM, 3, 5, None, (*WITH, "content")),
    "content, best slot": lambda: trix.RoutedMemory(DIM, 3, 5, 1, (*WITH, "content")),
    "content alone": lambda: trix.RoutedMemory(DIM, 3, 5, 2, ("content",)),
    "hybrid": lambda: trix.HybridMixer(DIM, 3, routed=2, slots=6, window=5),
    "hybrid with all": lambda: trix.HybridMixer(
        DIM, 4, 1, slots=6, window=3, top_k=2, parts=("decay", "rotation", "delta")
    ),
}
KEEP_ALL = ("attention", "convolved attention")
SOFT = ("attention", "window", "memory", "delta alone", "hybrid")
"""Where no rounding can change a choice."""
LONG = (
    "window",
    "bare memory",
    "memory, best slot",
    "turning delta",
    "content",
    "hybrid",
)
each = pytest.mark.parametrize("name", MIXERS)


def _mixer(name, dtype=torch.float64):
    torch.manual_seed(0)
    layer = MIXERS[name]().to(dtype)
    with torch.no_grad():  # away from where it begins, where much is zero or even
        for parameter in layer.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return layer


def _text(time=37, batch=2, dtype=torch.float64):
    draw = torch.Generator().manual_seed(1)
    return torch.randn(batch, time, DIM, dtype=dtype, generator=draw)


def _tensors(state):
    # all tensors of a state, however deep they lie
    return [state] if isinstance(state, Tensor) else [t for part in state for t in _tensors(part)]


def _in_parts(layer, x, cuts):
    state, outputs = layer.initial_state(len(x)), []
    for part in x.split(cuts, dim=1):
        y, state = layer(part, state)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state


@pytest.mark.parametrize("cuts", [1, 4, 5, 13, 32, [9, 1, 27], [20, *[1] * 17]], ids=str)
@each
def test_parts_equal_the_whole_in_outputs_states_and_gradients(name, cuts):
    layer, x = _mixer(name), _text().requires_grad_()
    upstream = torch.randn(x.shape, dtype=x.dtype)
    found = []
    for y, state in (layer(x), _in_parts(layer, x, cuts)):
        loss = (y * upstream).sum()
        for part in _tensors(state):
            loss = loss + part.masked_fill(part.isinf(), 0.0).square().sum()
        gradients = torch.autograd.grad(loss, [x, *layer.parameters()], allow_unused=True)
        found.append((y, *_tensors(state), *gradients))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
@each
def test_the_future_and_other_texts_change_nothing(name, training):
    layer, x = _mixer(name).train(training), _text()
    other = x.clone()
    other[0, 11:] = 3 * x[0, 11:].flip(0)
    y, changed, cut = layer(x)[0], layer(other)[0], layer(x[:, :11])[0]
    torch.testing.assert_close(changed[0, :11], y[0, :11], rtol=0, atol=1e-12)
    torch.testing.assert_close(cut, y[:, :11], rtol=0, atol=1e-12)
    torch.testing.assert_close(changed[1], y[1], rtol=0, atol=1e-12)
    assert not torch.allclose(changed[0, 11:], y[0, 11:])
    if not hasattr(layer, "addresses"):
        return
    kept, later = (_pair(layer.addresses(t)) for t in (x, other))
    for a, b in zip(kept, later, strict=True):
        torch.testing.assert_close(b[0, :, :11], a[0, :, :11], rtol=0, atol=1e-12)
        assert torch.equal((b[0, :, :11] > 0), (a[0, :, :11] > 0))  # the same slots, that is
        assert not torch.allclose(b[0, :, 11:], a[0, :, 11:])


def _pair(addresses):
    return [addresses] if isinstance(addresses, Tensor) else addresses


@each
def test_every_parameter_hears_of_the_task(name):
    layer = _mixer(name)
    layer(_text())[0].square().sum().backward()
    for part, parameter in layer.named_parameters():
        # a window of one has no choice that a slope could move
        if (name, part) == ("window of one", "slope"):
            continue
        assert parameter.grad is not None, part
        assert parameter.grad.abs().sum() > 0, part


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@each
def test_what_is_not_finite_spoils_its_own_text_from_there_on(name, bad):
    layer, x = _mixer(name), _text()
    y = layer(x)[0]
    x[1, 9, 2] = bad
    broken, state = layer(x)
    torch.testing.assert_close(broken[0], y[0], rtol=0, atol=0)
    torch.testing.assert_close(broken[1, :9], y[1, :9], rtol=0, atol=0)
    assert broken[1, 9].isnan().all()
    cut, after = _in_parts(layer, x, [7, 5, 1, 24])
    torch.testing.assert_close(cut, broken, rtol=0, atol=1e-12, equal_nan=True)
    torch.testing.assert_close(_tensors(after), _tensors(state), rtol=0, atol=1e-12, equal_nan=True)
    forgets = next((n for n in ("window", "static") if n in name), None)
    if forgets is None:
        assert broken[1, 9:].isnan().all()
    else:  # what no longer reaches the token is whole again
        torch.testing.assert_close(broken[1, 17:], y[1, 17:], rtol=0, atol=1e-12)


@each
def test_the_given_state_is_not_changed(name):
    layer = _mixer(name)
    _, state = layer(_text())
    kept = copy.deepcopy([part.detach() for part in _tensors(state)])
    layer(_text(5), state)
    assert all(torch.equal(a, b) for a, b in zip(_tensors(state), kept, strict=True))


@each
def test_only_attention_over_everything_grows(name):
    layer = _mixer(name)
    sizes = [sum(p.numel() for p in _tensors(layer(_text(n))[1])) for n in (1, 7, 37)]
    before = sum(p.numel() for p in _tensors(layer.initial_state(2)))
    assert (len({before, *sizes}) == 1) == (name not in KEEP_ALL)


@pytest.mark.parametrize("name", LONG)
def test_it_stays_finite_and_right_over_a_long_text(name):
    layer = _mixer(name, torch.float32)
    x = _text(65_536, batch=1, dtype=torch.float32)
    with torch.no_grad():
        y, state = layer(x)
        cut, after = _in_parts(layer, x, [*[4099] * 15, 65_536 - 15 * 4099 - 8, *[1] * 8])
    assert y.isfinite().all()
    torch.testing.assert_close(cut[:, -8:], y[:, -8:], rtol=0, atol=1e-3)
    for a, b in zip(_tensors(after), _tensors(state), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


class _Foreign(NamedTuple):
    keys: Tensor
    values: Tensor


@each
def test_bad_input_is_named(name):
    layer, x = _mixer(name), _text()
    with pytest.raises(ValueError, match=r"\[batch, time >= 1, 12\], got \[2, 0, 12\]"):
        layer(x[:, :0])
    for shape in ((37, 12), (2, 37, 11)):
        with pytest.raises(ValueError, match=r"12.*got"):
            layer(torch.zeros(shape, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"floating, got torch\.int64"):
        layer(x.long())
    for foreign in (_Foreign(x, x), [x, x], trix.models.charlm.LMState(0, ())):
        with pytest.raises(TypeError, match=r"state must be .*, got a"):
            layer(x, foreign)
    if not _tensors(layer.initial_state(2)):
        return
    with pytest.raises(ValueError, match=r"state.\w+ must be \[2, .* of torch.float64, got \[3, "):
        layer(x, layer.initial_state(3))
    with pytest.raises(ValueError, match=r"of torch.float64, got .* of torch.float32"):
        layer(x, copy.deepcopy(layer).float().initial_state(2))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: trix.CausalAttention(DIM, 3), lambda: trix.CausalAttention(DIM, 2)),
        (lambda: trix.RoutedMemory(DIM, 3, 5), lambda: trix.RoutedMemory(DIM, 3, 6)),
        (lambda: trix.RoutedMemory(DIM, 3, 5), lambda: trix.RoutedMemory(DIM, 3, 5, parts=())),
        (lambda: trix.WindowAttention(DIM, 3, 4), lambda: trix.WindowAttention(DIM, 3, 5)),
        (lambda: trix.HybridMixer(DIM, 3, 1), lambda: trix.HybridMixer(DIM, 3, 2)),
        (
            lambda: trix.RoutedMemory(DIM, 3, 5, None, (*WITH, "content")),
            lambda: trix.RoutedMemory(DIM, 3, 5),
        ),
    ],
)
def test_the_state_of_another_layer_is_refused(one, other):
    with pytest.raises(ValueError, match=r"state\.\w+ must be \["):
        one()(torch.zeros(2, 4, DIM), other().initial_state(2))


@pytest.mark.parametrize("name", ["attention", "window", "turning delta", "content", "hybrid"])
def test_it_compiles_as_one_graph(name):
    layer, x = _mixer(name), _text(13)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    state = layer.initial_state(2)
    torch.testing.assert_close(compiled(x)[0], layer(x)[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(compiled(x, state)[0], layer(x, state)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SOFT)
def test_lower_precision_comes_near(name):
    layer, x = _mixer(name, torch.float32), _text(dtype=torch.float32)
    low, state = copy.deepcopy(layer).bfloat16()(x.bfloat16())
    assert low.dtype == torch.bfloat16
    assert all(part.dtype == torch.bfloat16 for part in _tensors(state))
    torch.testing.assert_close(low.float(), layer(x)[0], rtol=0.1, atol=0.1)


GENERATORS = {
    "attention": ("attention", {"heads": 3}),
    "routed memory": ("routed-memory", {"heads": 3, "slots": 5}),
    "turning delta": (
        "routed-memory",
        {"heads": 3, "slots": 6, "top_k": 2, "parts": ["convolution", "rotation", "delta"]},
    ),
    "content": ("routed-memory", {"heads": 3, "slots": 5, "parts": [*WITH, "content"]}),
    "window": ("window-attention", {"heads": 3, "window": 4}),
    "hybrid": ("hybrid", {"heads": 3, "routed": 1, "slots": 5, "window": 4}),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_a_model_generates_what_full_passes_would_from_a_state_of_constant_size(name):
    mixer, options = GENERATORS[name]
    torch.manual_seed(0)
    config = LMConfig(11, DIM, 2, positions=0, mixer=mixer, mixer_options=options)
    model = CharLM(config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    sizes, seen = [], []

    def look(_module, given, result):
        seen.append(given[0].shape[1])
        sizes.append(sum(part.numel() for part in _tensors(result[1])))

    prompt = torch.randint(11, (2, 5))
    hook = model.blocks[0].get_submodule("mixer").register_forward_hook(look)
    found = model.generate(prompt, 30, temperature=0)
    hook.remove()
    assert seen == [5, *[1] * 29]  # the prompt at once, then token by token
    assert (len(set(sizes)) == 1) == (mixer != "attention")
    expected = prompt
    for _ in range(30):
        expected = torch.cat([expected, model(expected)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(found, expected)
    assert len(found[:, 5:].unique()) > 1
