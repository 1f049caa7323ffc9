"""The contract of all mixers: parts and whole agree, the past alone counts, bad input is named."""

import copy
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import trix
from tests.memory.mixers import (
    DIM,
    MEMORIES,
    MIXERS,
    WITH,
    close,
    in_parts,
    made,
    moved,
    tensors,
    text,
)
from trix.models.charlm import CharLM, LMConfig, LMState

KEEP_ALL = ("attention", "convolved attention")
SOFT = ("attention", "window", "memory", "delta alone", "hybrid")
"""Where no rounding can change a choice."""
LONG = ("window", "memory", "memory, best slot", "turning delta", "content", "hybrid")
CUTS = [4, 5, 13, 32, [20, *[1] * 17]]
each = pytest.mark.parametrize("name", MIXERS)


@pytest.mark.parametrize(
    ("name", "cuts"),
    [*((n, c) for n in MIXERS for c in (1, [9, 1, 27])), *((n, c) for n in LONG for c in CUTS)],
    ids=str,
)
def test_parts_equal_the_whole_in_outputs_states_and_gradients(name, cuts):
    layer, x = made(name), text().requires_grad_()
    upstream = torch.randn(x.shape, dtype=x.dtype)
    found = []
    for y, state in (layer(x), in_parts(layer, x, cuts)):
        loss = (y * upstream).sum()
        for part in tensors(state):
            loss = loss + part.masked_fill(part.isinf(), 0.0).square().sum()
        gradients = torch.autograd.grad(loss, [x, *layer.parameters()], allow_unused=True)
        found.append((y, *tensors(state), *gradients))
    close(found[0], found[1], 1e-10)


@pytest.mark.parametrize("training", [True, False])
@each
def test_the_future_and_other_texts_change_nothing(name, training):
    layer, x = made(name).train(training), text()
    other = x.clone()
    other[0, 11:] = 3 * x[0, 11:].flip(0)
    y, changed, cut = layer(x)[0], layer(other)[0], layer(x[:, :11])[0]
    close(changed[0, :11], y[0, :11])
    close(cut, y[:, :11])
    close(changed[1], y[1])
    assert not torch.allclose(changed[0, 11:], y[0, 11:])
    if hasattr(layer, "addresses"):
        kept, later = (tensors(layer.addresses(t)) for t in (x, other))
        for a, b in zip(kept, later, strict=True):
            close(b[0, :, :11], a[0, :, :11])
            assert torch.equal((b[0, :, :11] > 0), (a[0, :, :11] > 0))  # the same slots, that is


@each
def test_every_parameter_gets_a_gradient(name):
    layer = made(name)
    layer(text())[0].square().sum().backward()
    for part, parameter in layer.named_parameters():
        # a window of one has no choice that a slope could move
        if (name, part) == ("window of one", "slope"):
            continue
        assert parameter.grad is not None, part
        assert parameter.grad.abs().sum() > 0, part


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@each
def test_what_is_not_finite_spoils_its_own_text_from_there_on(name, bad):
    layer, x = made(name), text()
    y = layer(x)[0]
    x[1, 9, 2] = bad
    broken, state = layer(x)
    close(broken[0], y[0], 0)
    close(broken[1, :9], y[1, :9], 0)
    assert broken[1, 9].isnan().all()
    cut, after = in_parts(layer, x, [7, 5, 1, 24])
    for a, b in zip([cut, *tensors(after)], [broken, *tensors(state)], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12, equal_nan=True)
    if "window" in name or "static" in name:  # what no longer reaches the token is whole again
        close(broken[1, 17:], y[1, 17:])
    else:
        assert broken[1, 9:].isnan().all()


@each
def test_the_given_state_is_not_changed_and_only_attention_over_everything_grows(name):
    layer = made(name)
    states = [layer(text(n))[1] for n in (1, 7, 37)]
    sizes = {sum(p.numel() for p in tensors(s)) for s in (layer.initial_state(2), *states)}
    assert (len(sizes) == 1) == (name not in KEEP_ALL)
    kept = copy.deepcopy([part.detach() for part in tensors(states[-1])])
    layer(text(5), states[-1])
    assert all(torch.equal(a, b) for a, b in zip(tensors(states[-1]), kept, strict=True))


@pytest.mark.parametrize("name", LONG)
def test_it_stays_finite_and_right_over_a_long_text(name):
    layer = made(name, dtype=torch.float32)
    x = text(16_384, batch=1, dtype=torch.float32)
    with torch.no_grad():
        y, state = layer(x)
        cut, after = in_parts(layer, x, [*[4099] * 3, 16_384 - 3 * 4099 - 8, *[1] * 8])
    assert y.isfinite().all()
    close(cut[:, -8:], y[:, -8:], 1e-3)
    for a, b in zip(tensors(after), tensors(state), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


class _Foreign(NamedTuple):
    keys: Tensor
    values: Tensor


@each
def test_bad_input_is_named(name):
    layer, x = made(name), text()
    for wrong in (x[:, :0], x[0], x[..., :11]):
        shape = str(list(wrong.shape)).replace("[", r"\[")
        with pytest.raises(ValueError, match=rf"\[batch, time >= 1, 12\], got {shape}"):
            layer(wrong)
    with pytest.raises(TypeError, match=r"floating, got torch\.int64"):
        layer(x.long())
    for foreign in (_Foreign(x, x), [x, x], LMState(0, ())):
        with pytest.raises(TypeError, match=r"state must be .*, got a"):
            layer(x, foreign)
    if not tensors(layer.initial_state(2)):
        return
    with pytest.raises(ValueError, match=r"state.\w+ must be \[2, .* of torch.float64, got \[3, "):
        layer(x, layer.initial_state(3))
    with pytest.raises(ValueError, match=r"of torch.float64, got .* of torch.float32"):
        layer(x, copy.deepcopy(layer).float().initial_state(2))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("attention", trix.CausalAttention(DIM, 2).double()),
        ("memory", MIXERS["decay alone"]().double()),
        ("memory", MIXERS["bare memory"]().double()),
        ("bare memory", MIXERS["memory"]().double()),
        ("window", trix.WindowAttention(DIM, 3, 4).double()),
        ("hybrid", trix.HybridMixer(DIM, 3, 1).double()),
        ("content", trix.RoutedMemory(DIM, 3, 5).double()),
    ],
)
def test_the_state_of_another_layer_is_refused(one, other):
    with pytest.raises(ValueError, match=r"state\.\w+ must be \[.* of torch.float64$"):
        made(one)(text(4), other.initial_state(2))


def test_keys_and_values_of_unequal_length_are_refused():
    layer, x = made("attention"), text()
    _, state = layer(x)
    with pytest.raises(ValueError, match=r"state.values must be \[2, 3, 37, 4\]"):
        layer(x, state._replace(values=state.values[:, :, 1:]))


@pytest.mark.parametrize("name", ["attention", "hybrid with all"])
def test_it_compiles_as_one_graph(name):
    layer, x = made(name), text(13)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    state = layer.initial_state(2)
    close(compiled(x)[0], layer(x)[0])
    close(compiled(x, state)[0], layer(x, state)[0])


@pytest.mark.parametrize("name", SOFT)
def test_lower_precision_comes_near(name):
    layer, x = made(name, dtype=torch.float32), text(dtype=torch.float32)
    low, state = copy.deepcopy(layer).bfloat16()(x.bfloat16())
    assert low.dtype == torch.bfloat16
    assert all(part.dtype == torch.bfloat16 for part in tensors(state))
    close(low.float(), layer(x)[0], 0.1)


@pytest.mark.parametrize("name", [n for n in MEMORIES if "alone" not in n] + ["hybrid with all"])
def test_parameters_saved_by_their_old_names_load(name):
    layer, fresh = made(name), MIXERS[name]().double()
    saved = {k.replace("decay.", "fading."): value for k, value in layer.state_dict().items()}
    for key in [key for key in saved if key.endswith("log_temperature")]:
        saved[key.replace("log_temperature", "log_sharpness")] = -saved.pop(key)
    assert sorted(saved.keys() - layer.state_dict().keys())[-1].endswith("log_sharpness")
    fresh.load_state_dict(saved)
    assert torch.equal(fresh(text())[0], layer(text())[0])


def test_a_layer_tells_its_sizes():
    assert MIXERS["narrow window"]().extra_repr() == "dim=12, heads=5, window=4, width=3"
    sizes = "dim=12, heads=3, slots=6, top_k=1, width=4"
    assert MIXERS["memory, best slot"]().extra_repr() == sizes


GENERATORS = {
    "attention": ("attention", {"heads": 3}),
    "turning delta": ("routed-memory", {"heads": 3, "slots": 6, "parts": ["rotation", "delta"]}),
    "content": ("routed-memory", {"heads": 3, "slots": 5, "parts": [*WITH, "content"]}),
    "hybrid": ("hybrid", {"heads": 3, "routed": 1, "slots": 5, "window": 4}),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_a_model_generates_what_full_passes_would(name):
    mixer, options = GENERATORS[name]
    torch.manual_seed(0)
    config = LMConfig(11, DIM, 2, positions=0, mixer=mixer, mixer_options=options)
    model = moved(CharLM(config), 0.3)
    prompt, seen = torch.randint(11, (2, 5)), []
    model.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    found = model.generate(prompt, 30, temperature=0)
    assert seen == [5, *[1] * 29]  # the prompt at once, then token by token
    expected = prompt
    for _ in range(30):
        expected = torch.cat([expected, model(expected)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(found, expected)
    assert len(found[:, 5:].unique()) > 1
