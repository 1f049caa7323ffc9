"""Slots in chunks beside slots token by token, and beside published recurrences."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from trix.memory.parts import SlotKeys
from trix.memory.recurrence import MAX_DECAY, delta_scan, slot_scan

BATCH, HEADS, SLOTS, FEATURES = 2, 3, 5, 7
ONES = torch.ones(BATCH, HEADS, 5, 1, dtype=torch.float64)
CHUNKS = [(1, None), (5, 1), (5, 4), (5, None), (13, 5), (13, 13), (37, 4), (37, 32), (37, None)]
"""Tokens, and how many of them at once."""


def _case(time, decay, dtype=torch.float64) -> Any:
    draw = torch.Generator().manual_seed(time)

    def normal(*shape):
        return torch.randn(shape, generator=draw, dtype=dtype)

    lead = (BATCH, HEADS, time)
    read, write = normal(*lead, SLOTS).softmax(-1), normal(*lead, SLOTS).softmax(-1)
    value, state = normal(*lead, FEATURES), normal(BATCH, HEADS, SLOTS, FEATURES)
    wide = {"none": 0, "head": 1, "slot": SLOTS}[decay]
    fade = -MAX_DECAY * normal(*lead, wide).sigmoid() if wide else None
    return [t.requires_grad_() for t in (read, write, value, state)], fade


def _loop(read, write, value, strength, state, decay=None):
    # by the delta rule, or by adding up where no strength is given
    outputs = []
    for t in range(write.shape[2]):
        if decay is not None:
            state = state * decay[:, :, t, :, None].exp()
        change = value[:, :, t]
        if strength is not None:
            change = strength[:, :, t] * (change - (write[:, :, t, :, None] * state).sum(2))
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


@pytest.mark.parametrize(("time", "chunk"), CHUNKS)
@pytest.mark.parametrize("decay", ["none", "head", "slot"])
@pytest.mark.parametrize("delta", [False, True])
def test_chunks_equal_single_steps_in_outputs_state_and_gradients(time, chunk, decay, delta):
    (read, write, value, state), fade = _case(time, "head" if delta and decay == "slot" else decay)
    strength = torch.rand(BATCH, HEADS, time, 1, dtype=torch.float64).requires_grad_()
    given = [read, write, value, *([strength] if delta else []), state]
    inputs = [*given, *([] if fade is None else [fade.requires_grad_()])]
    scan: Any = delta_scan if delta else slot_scan
    found = scan(*given, fade, chunk=chunk or (64 if delta else None))
    expected = _loop(read, write, value, strength if delta else None, state, fade)
    _agree(found, expected, inputs)


def test_the_strongest_fading_stays_finite_and_right_in_float32():
    (read, write, value, state), _ = _case(64, "none", torch.float32)
    fade = torch.full((BATCH, HEADS, 64, SLOTS), -MAX_DECAY)
    fade[..., ::2] = 0
    found = slot_scan(read, write, value, state, fade)
    expected = _loop(read, write, value, None, state, fade)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "decay", "match"),
    [
        (lambda r, w, v, s: (r[:, :, :0], w[:, :, :0], v[:, :, :0], s), None, "time >= 1"),
        (lambda r, w, v, s: (r, w, v, s[..., :6]), None, r"state must be \[2, 3, 5, 7\], got .*6"),
        (lambda r, w, v, s: (r, w, v[:, :, :4], s), None, "value as long"),
        (lambda r, w, v, s: (r[..., :4], w, v, s), None, r"got \[2, 3, 5, 4\], \[2, 3, 5, 5\]"),
        (lambda r, w, v, s: (r, w, v, s), (2, 3, 4, 1), "decay must be"),
        (lambda r, w, v, s: (r, w, v, s), (2, 3, 5, 2), "decay must be"),
        (lambda r, w, v, s: (r, w, v, ONES[..., 0], s), None, "strength must be"),
        (lambda r, w, v, s: (r, w, v, ONES, s), (2, 3, 5, 5), r"5, 1\], got \[2, 3, 5, 5\]"),
        (lambda r, w, v, s: (r, w, v, ONES, s[:1]), None, "state must be"),
    ],
)
def test_bad_shapes_are_named(arguments, decay, match):
    given = arguments(*_case(5, "none")[0])
    scan: Any = slot_scan if len(given) == 4 else delta_scan
    with pytest.raises(ValueError, match=match):
        scan(*given, None if decay is None else torch.zeros(decay))


def _reference(path):
    # by path: importing the package itself needs Triton
    found = [p for root in sys.path if (p := Path(root, "fla", "ops", path, "naive.py")).exists()]
    if not found:
        pytest.skip("fla-core is not installed")
    pytest.importorskip("einops")
    spec: Any = importlib.util.spec_from_file_location(f"fla_{path}", found[0])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _by_time(*given):
    return [t.transpose(1, 2) for t in given]


def _close(found, out, end):
    # the references work in float32 whatever they are given
    for a, b in ((found[0], out.transpose(1, 2)), (found[1], end)):
        torch.testing.assert_close(a.float(), b.float(), rtol=0, atol=1e-6)


def test_adding_up_equals_gated_linear_attention():
    (read, write, value, state), fade = _case(37, "slot")
    rows = [t.float() for t in _by_time(read, write, value, fade)]
    gla = _reference("gla").naive_recurrent_gla
    out, end = gla(*rows, state.float(), output_final_state=True)
    _close(slot_scan(read * SLOTS**-0.5, write, value, state, fade), out, end)


def test_the_delta_rule_equals_its_published_recurrence():
    (read, write, value, state), fade = _case(37, "head")
    write = torch.nn.functional.normalize(write, dim=-1)
    strength = torch.rand(BATCH, HEADS, 37, 1, dtype=torch.float64)
    rows = _by_time(read, write, value, strength[..., 0], fade[..., 0])
    rule = _reference("gated_delta_rule").naive_recurrent_gated_delta_rule
    out, end = rule(*rows, scale=1.0, initial_state=state, output_final_state=True)
    _close(delta_scan(read, write, value, strength, state, fade), out, end)


def test_reading_by_content_equals_gated_slot_attention():
    (_, write, value, state), fade = _case(37, "head")
    draw = torch.Generator().manual_seed(2)
    shape = (2, BATCH, HEADS, 37, FEATURES)
    query, key = torch.randn(shape, generator=draw, dtype=torch.float64)
    keys = torch.randn(BATCH, HEADS, SLOTS, FEATURES, generator=draw, dtype=torch.float64)
    layer = SlotKeys(HEADS * FEATURES, HEADS, FEATURES).double()
    layer.weight.data = torch.eye(HEADS * FEATURES).double()  # a token is its keys
    score, after = layer(key.transpose(1, 2).flatten(2), query, write, keys, fade)
    read = (score * FEATURES**-0.5).softmax(-1)
    given = _by_time(query, key, value, write, fade.expand_as(write))
    gsa = _reference("gsa").naive_recurrent_gsa
    out, end = gsa(*given, initial_state=(keys.mT, state), output_final_state=True)
    _close(slot_scan(read, write, value, state, fade), out, end[1])
    torch.testing.assert_close(after.mT.float(), end[0], rtol=0, atol=1e-6)
