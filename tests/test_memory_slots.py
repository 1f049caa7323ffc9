"""Routed memory: all at once, in parts and token by token; what it may see; what may go wrong."""

import pytest
import torch

from trix.memory.parts import Rotation
from trix.memory.recurrence import slot_scan
from trix.memory.slots import PARTS, MemoryState, RoutedMemory

DIM, HEADS, SLOTS = 12, 3, 5
SHAPES = [(PARTS, None), (PARTS, 1), (PARTS, 2), (("decay",), 4), ((), None), (("gate",), 1)]
MORE = [
    ((*PARTS, "rotation"), None),
    (("rotation",), 2),
    ((*PARTS, "delta"), None),
    (("delta",), 1),
    ((*PARTS, "rotation", "delta"), 2),
    ((*PARTS, "content"), None),
    (("content",), 2),
]


def _memory(parts=PARTS, top_k=None, dtype=torch.float64):
    torch.manual_seed(0)
    slots = SLOTS + 1 if "rotation" in parts else SLOTS
    layer = RoutedMemory(DIM, HEADS, slots, top_k, parts).to(dtype)
    with torch.no_grad():  # away from where it begins, where much is zero or even
        for parameter in layer.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return layer


def _text(time=23, batch=2, dtype=torch.float64):
    return torch.randn(batch, time, DIM, dtype=dtype, generator=torch.Generator().manual_seed(1))


def _in_parts(layer, x, cuts):
    state: MemoryState = layer.initial_state(len(x))
    outputs = []
    for part in x.split(cuts, dim=1):
        y, state = layer(part, state)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state


def _rows(table, head, slots):
    return table()[head * slots : (head + 1) * slots]


def _share(layer, way, head, score):
    sharp = layer.log_inverse_temperature[way, head].exp().squeeze()
    share = (score * sharp / layer.width**0.5).softmax(0)
    if layer.top_k is not None:
        order = share.argsort(descending=True, stable=True)
        share[order[layer.top_k :]] = 0.0
    return share


def _turned(slots):
    # each pair of slots by its own angle
    half = len(slots) // 2
    turned = slots.clone()
    for pair in range(half):
        angle = torch.tensor(10_000.0 ** (-pair / half), dtype=slots.dtype)
        one, two = slots[pair], slots[half + pair]
        turned[pair] = one * angle.cos() - two * angle.sin()
        turned[half + pair] = one * angle.sin() + two * angle.cos()
    return turned


def _loop(layer, x):
    # one token of one text at a time, slot by slot
    outputs = torch.zeros_like(x)
    width = DIM // HEADS
    for b, text in enumerate(x):
        slots = torch.zeros(HEADS, layer.slots, width, dtype=x.dtype)
        keys = torch.zeros_like(slots)
        for t in range(len(text)):
            seen = text[t]
            if layer.convolution is not None:
                kernel = layer.convolution.kernel
                back = range(min(t + 1, kernel.shape[1]))
                seen = sum(kernel[:, -1 - i] * text[t - i] for i in back)
            heads = []
            for h in range(HEADS):
                query = layer.query[h * width : (h + 1) * width] @ seen
                value = layer.value[h * width : (h + 1) * width] @ seen
                write = _share(layer, 0, h, _rows(layer.write_rows, h, layer.slots) @ query)
                if layer.decay is not None:
                    gate = layer.decay.weight[h] @ seen + layer.decay.bias[h]
                    slots[h], keys[h] = slots[h] * gate.sigmoid(), keys[h] * gate.sigmoid()
                if layer.rotation is not None:
                    slots[h] = _turned(slots[h])
                if layer.keys is None:
                    score = _rows(layer.read_rows, h, layer.slots) @ query
                else:
                    key = layer.keys.weight[h * width : (h + 1) * width] @ seen
                    keys[h] = keys[h] + write[:, None] * key
                    score = keys[h] @ query
                if layer.strength is not None:
                    strength = layer.strength.weight[h] @ seen + layer.strength.bias[h]
                    value = strength.sigmoid() * (value - write @ slots[h])
                slots[h] = slots[h] + write[:, None] * value
                y = _share(layer, 1, h, score) @ slots[h]
                y = y / (y.square().mean() + 1e-6).sqrt()
                heads.append(y)
            mixed = torch.cat(heads) * layer.norm
            if layer.gate is not None:
                opened = layer.gate.weight @ seen
                mixed = mixed * opened * opened.sigmoid()
            outputs[b, t] = layer.out.weight @ mixed
    return outputs


@pytest.mark.parametrize(("parts", "top_k"), [*SHAPES, *MORE])
def test_it_equals_the_loop_over_tokens_and_slots(parts, top_k):
    layer, x = _memory(parts, top_k), _text(7)
    with torch.no_grad():
        torch.testing.assert_close(layer(x)[0], _loop(layer, x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("cuts", [1, 4, 13, [9, 1, 13]])
@pytest.mark.parametrize(("parts", "top_k"), SHAPES)
def test_parts_and_single_steps_equal_the_whole(parts, top_k, cuts):
    layer, x = _memory(parts, top_k), _text()
    weights = torch.randn(x.shape, dtype=x.dtype)
    found = []
    for y, state in (layer(x), _in_parts(layer, x, cuts)):
        loss = (y * weights).sum() + state.slots.square().sum()
        found.append((y, *state, *torch.autograd.grad(loss, list(layer.parameters()))))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("parts", "top_k"), SHAPES)
def test_the_future_and_other_texts_change_nothing(parts, top_k, training):
    layer, x = _memory(parts, top_k).train(training), _text()
    other = x.clone()
    other[0, 11:] = _text(12, dtype=x.dtype)[0].flip(0) * 3
    y, changed, cut = layer(x)[0], layer(other)[0], layer(x[:, :11])[0]
    torch.testing.assert_close(changed[0, :11], y[0, :11], rtol=0, atol=1e-12)
    torch.testing.assert_close(cut, y[:, :11], rtol=0, atol=1e-12)
    torch.testing.assert_close(changed[1], y[1], rtol=0, atol=1e-12)
    assert (changed[0, 11:] - y[0, 11:]).abs().min() > 0
    before = [a.argmax(-1) for a in layer.addresses(x)]
    after = [a.argmax(-1) for a in layer.addresses(other)]
    assert all(torch.equal(a[:, :, :11], b[:, :, :11]) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("top_k", [1, 2, 4, SLOTS, None])
def test_every_parameter_hears_of_the_task(top_k):
    layer = _memory(top_k=top_k)
    layer(_text())[0].square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_all_slots_chosen_is_the_soft_form():
    x = _text()
    assert torch.equal(_memory(top_k=SLOTS)(x)[0], _memory(top_k=None)(x)[0])


@pytest.mark.parametrize("part", ["rotation", "delta", "content"])
def test_all_slots_chosen_is_the_soft_form_with_more_parts(part):
    x, parts = _text(), (*PARTS, part)
    slots = _memory(parts).slots
    assert torch.equal(_memory(parts, slots)(x)[0], _memory(parts)(x)[0])


def test_what_turned_tells_how_long_ago():
    turn, steps = Rotation(2), 7
    address = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(1, 1, steps, 2)
    turned = turn.back(address)
    # written by the first token, read by each: the cosine of the distance, in radians
    met = (turned @ turned[..., :1, :].mT).flatten()
    torch.testing.assert_close(met, torch.arange(steps, dtype=torch.float64).cos())


def test_a_full_write_by_the_delta_rule_is_read_back_alone():
    layer = _memory(("delta",))
    assert layer.strength is not None
    with torch.no_grad():
        layer.log_inverse_temperature.add_(12)  # one slot a token
        layer.strength.bias.add_(100)
        x = _text(9)
        write, _ = layer.addresses(x)
        _, slots = layer.remember(x, layer.initial_state(2).slots)
        value = layer._heads(x @ layer.value.T)
    last = write[:, :, -1]
    assert last.amax(-1).min() > 1 - 1e-9
    held = (last.unsqueeze(-1) * slots).sum(2)
    torch.testing.assert_close(held, value[:, :, -1], rtol=0, atol=1e-7)


@pytest.mark.parametrize("part", ["rotation", "delta"])
def test_other_values_are_remembered_by_the_same_addresses(part):
    layer, x = _memory((*PARTS, part), 2), _text(9)
    own = layer._heads(x @ layer.value.T)
    answers, _ = layer.remember(x, layer.initial_state(2).slots)
    eye = torch.eye(9, dtype=x.dtype).expand(2, HEADS, 9, 9)
    back, _ = layer.remember(x, eye.new_zeros(2, HEADS, layer.slots, 9), eye)
    assert not back.triu(1).any()
    torch.testing.assert_close(back @ own, answers, rtol=0, atol=1e-12)


def test_slots_that_are_not_written_stay_bit_for_bit():
    layer, x = _memory(("gate",), top_k=1), _text(1)
    _, state = layer(_text(9))
    _, after = layer(x, state)
    write, _ = layer.addresses(x)
    alone = (write[:, :, 0] == 0).unsqueeze(-1).expand_as(state.slots)
    assert torch.equal(after.slots[alone], state.slots[alone])
    assert not torch.equal(after.slots, state.slots)


def test_it_stays_finite_over_a_long_text():
    layer = _memory(dtype=torch.float32)
    assert layer.convolution is not None
    assert layer.decay is not None
    x = _text(65_536, batch=1, dtype=torch.float32)
    with torch.no_grad():
        y, state = layer(x)
        _, before = layer(x[:, :-1])
        last, _ = layer(x[:, -1:], before)
        seen, _ = layer.convolution(x, layer.convolution.initial_state(1))
        write, read = layer.addresses(seen)
        value = layer._heads(seen @ layer.value.T)
        start = layer.initial_state(1).slots
        _, slots = slot_scan(read, write, value, start, layer.decay(seen), chunk=1)
    assert y.isfinite().all()
    torch.testing.assert_close(last[:, 0], y[:, -1], rtol=0, atol=1e-3)
    torch.testing.assert_close(slots, state.slots, rtol=0, atol=1e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_spoils_its_own_text_from_there_on(bad):
    layer, x = _memory(), _text()
    y = layer(x)[0]
    x[1, 9, 2] = bad
    broken, state = layer(x)
    torch.testing.assert_close(broken[0], y[0], rtol=0, atol=0)
    torch.testing.assert_close(broken[1, :9], y[1, :9], rtol=0, atol=0)
    assert broken[1, 9:].isnan().all()
    assert layer(_text(1), state)[0][1].isnan().all()


def test_the_given_state_is_not_changed():
    layer = _memory()
    _, state = layer(_text())
    kept = [part.clone() for part in state]
    layer(_text(5), state)
    assert all(torch.equal(a, b) for a, b in zip(state, kept, strict=True))


def test_bad_input_is_named():
    for arguments, message in (
        ((0,), "dim must be at least 1"),
        ((12, 0), "heads must be at least 1"),
        ((12, 5), "multiple of heads, got dim=12, heads=5"),
        ((12, 3, 0), "slots must be at least 1"),
        ((12, 3, 5, 6), "at most the 5 slots, got 6"),
        ((12, 3, 5, 0), "top_k must be at least 1"),
        ((12, 3, 5, None, ("fade",)), "got .'fade'."),
        ((12, 3, 5, None, ("rotation",)), "slots must be even to turn in pairs, got 5"),
        ((12, 3, 5, None, ("content", "delta")), "neither rotation nor delta, got .'content', 'd"),
        ((12, 3, 5, None, (), 0), "width must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            RoutedMemory(*arguments)  # pyright: ignore[reportArgumentType]
    layer, x = _memory(), _text()
    state = layer.initial_state(2)
    with pytest.raises(ValueError, match=r"\[batch, time >= 1, 12\], got \[2, 0, 12\]"):
        layer(x[:, :0])
    with pytest.raises(ValueError, match=r"got \[23, 12\]"):
        layer(x[0])
    with pytest.raises(TypeError, match=r"floating, got torch\.int64"):
        layer(x.long())
    with pytest.raises(ValueError, match=r"state.slots must be \[2, 3, 5, 4\] of torch.float64"):
        layer(x, layer.initial_state(3))
    with pytest.raises(ValueError, match=r"got \[2, 3, 5, 4\] of torch.float32"):
        layer(x, MemoryState(state.slots.float(), state.past))
    with pytest.raises(ValueError, match=r"state.past must be \[2, 3, 12\]"):
        layer(x, MemoryState(state.slots, state.past[:, 1:]))


def test_it_compiles_as_one_graph():
    layer, x = _memory(top_k=2), _text()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x)[0], layer(x)[0], rtol=0, atol=1e-12)
