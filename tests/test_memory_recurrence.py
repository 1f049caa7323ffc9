"""Slots in chunks beside slots token by token, and beside published recurrences."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from trix.memory.recurrence import MOST_FADING, delta_scan, slot_scan

BATCH, HEADS, SLOTS, FEATURES = 2, 3, 5, 7
CHUNKS = [1, 4, 5, 13, 32, None]


def _case(time, fading, dtype=torch.float64):
    draw = torch.Generator().manual_seed(time)

    def normal(*shape):
        return torch.randn(shape, generator=draw, dtype=dtype)

    lead = (BATCH, HEADS, time)
    read, write = normal(*lead, SLOTS).softmax(-1), normal(*lead, SLOTS).softmax(-1)
    value, state = normal(*lead, FEATURES), normal(BATCH, HEADS, SLOTS, FEATURES)
    wide = {"none": 0, "head": 1, "slot": SLOTS}[fading]
    fade = -MOST_FADING * normal(*lead, wide).sigmoid() if wide else None
    return [t.requires_grad_() for t in (read, write, value, state)], fade


def _slot_loop(read, write, value, state, fading):
    outputs = []
    for t in range(write.shape[2]):
        if fading is not None:
            state = state * fading[:, :, t, :, None].exp()
        state = state + write[:, :, t, :, None] * value[:, :, t, None, :]
        outputs.append((read[:, :, t, :, None] * state).sum(2))
    return torch.stack(outputs, 2), state


def _delta_loop(read, write, value, strength, state):
    outputs = []
    for t in range(write.shape[2]):
        held = (write[:, :, t, :, None] * state).sum(2)
        change = strength[:, :, t] * (value[:, :, t] - held)
        state = state + write[:, :, t, :, None] * change[:, :, None, :]
        outputs.append((read[:, :, t, :, None] * state).sum(2))
    return torch.stack(outputs, 2), state


def _agree(found, expected, inputs):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    weights = [torch.randn(o.shape, generator=torch.Generator().manual_seed(1)) for o in found]
    totals = [
        torch.stack([(o * w).sum() for o, w in zip(out, weights, strict=True)]).sum()
        for out in (found, expected)
    ]
    grads = [torch.autograd.grad(total, inputs) for total in totals]
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("time", [1, 5, 13, 37])
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("fading", ["none", "head", "slot"])
def test_chunks_equal_single_steps_in_outputs_state_and_gradients(time, chunk, fading):
    inputs, fade = _case(time, fading)
    if fade is not None:
        inputs.append(fade.requires_grad_())
    read, write, value, state = inputs[:4]
    found = slot_scan(read, write, value, state, fade, chunk=chunk)
    _agree(found, _slot_loop(read, write, value, state, fade), inputs)


@pytest.mark.parametrize("time", [1, 5, 13, 37])
@pytest.mark.parametrize("chunk", [1, 4, 5, 13, 32])
def test_the_delta_rule_in_chunks_equals_single_steps(time, chunk):
    (read, write, value, state), _ = _case(time, "none")
    write = torch.nn.functional.normalize(write, dim=-1).detach().requires_grad_()
    strength = torch.rand(BATCH, HEADS, time, 1, dtype=torch.float64).requires_grad_()
    found = delta_scan(read, write, value, strength, state, chunk=chunk)
    expected = _delta_loop(read, write, value, strength, state)
    _agree(found, expected, [read, write, value, strength, state])


@pytest.mark.parametrize("fading", ["none", "head", "slot"])
def test_the_state_of_one_part_is_the_start_of_the_next(fading):
    (read, write, value, state), fade = _case(23, fading)
    whole, end = slot_scan(read, write, value, state, fade)
    outputs = []
    for part in (slice(0, 9), slice(9, 10), slice(10, 23)):
        cut = None if fade is None else fade[:, :, part]
        rows = (read[:, :, part], write[:, :, part], value[:, :, part])
        out, state = slot_scan(*rows, state, cut)
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, 2), whole, rtol=0, atol=1e-10)
    torch.testing.assert_close(state, end, rtol=0, atol=1e-10)


def test_the_strongest_fading_stays_finite_and_right_in_float32():
    (read, write, value, state), _ = _case(64, "none", torch.float32)
    fade = torch.full((BATCH, HEADS, 64, SLOTS), -MOST_FADING)
    fade[..., ::2] = 0
    found = slot_scan(read, write, value, state, fade)
    expected = _slot_loop(read, write, value, state, fade)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_bad_shapes_are_named():
    (read, write, value, state), fade = _case(5, "head")
    assert fade is not None
    with pytest.raises(ValueError, match="time >= 1"):
        slot_scan(read[:, :, :0], write[:, :, :0], value[:, :, :0], state)
    with pytest.raises(ValueError, match=r"state must be \[2, 3, 5, 7\], got \[2, 3, 5, 6\]"):
        slot_scan(read, write, value, state[..., :6])
    with pytest.raises(ValueError, match="value as long"):
        slot_scan(read, write, value[:, :, :4], state)
    with pytest.raises(ValueError, match="fading must be"):
        slot_scan(read, write, value, state, fade[:, :, :4])
    with pytest.raises(ValueError, match="strength must be"):
        delta_scan(read, write, value, torch.ones(BATCH, HEADS, 5), state)
    with pytest.raises(ValueError, match="state must be"):
        delta_scan(read, write, value, torch.ones(BATCH, HEADS, 5, 1), state[:1])


def _reference(path):
    # by path: importing the package itself needs Triton
    found = next(
        (p for root in sys.path if (p := Path(root) / "fla" / "ops" / path / "naive.py").exists()),
        None,
    )
    if found is None:
        pytest.skip("fla-core is not installed")
    pytest.importorskip("einops")
    spec = importlib.util.spec_from_file_location(f"fla_{path}", found)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_fading_by_slot_equals_gated_linear_attention():
    (read, write, value, state), fade = _case(37, "slot", torch.float32)
    assert fade is not None
    by_time = [t.transpose(1, 2) for t in (read, write, value, fade)]
    out, end = _reference("gla").naive_recurrent_gla(*by_time, state, output_final_state=True)
    found = slot_scan(read, write, value, state, fade)
    torch.testing.assert_close(found[0], out.transpose(1, 2) * SLOTS**0.5, rtol=0, atol=2e-6)
    torch.testing.assert_close(found[1], end, rtol=0, atol=2e-6)


def test_the_delta_rule_equals_its_published_recurrence():
    (read, write, value, state), _ = _case(37, "none", torch.float32)
    write = torch.nn.functional.normalize(write, dim=-1)
    strength = torch.rand(BATCH, HEADS, 37, 1)
    module = _reference("delta_rule")
    out, end = module.delta_rule_recurrence(read, write, value, strength, state)
    found = delta_scan(read, write, value, strength, state)
    torch.testing.assert_close(found[0], out * SLOTS**0.5, rtol=0, atol=2e-6)
    torch.testing.assert_close(found[1], end, rtol=0, atol=2e-6)
