from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import trix

DIM, TILES = 7, 5
LAYERS: dict[str, Any] = {
    "lookup": lambda: trix.SparseLookupFFN(DIM, TILES, None, 4),
    "clusters": lambda: trix.SparseLookupFFN(DIM, TILES, 3, None, top_k=2, beam=2),
    "codebook": lambda: trix.CodebookFFN(DIM, TILES, top_k=2),
    "ema": lambda: trix.CodebookFFN(DIM, TILES, learn="ema"),
    "funnel": lambda: trix.FunnelFFN(DIM, TILES, 3, levels=3),
    "tiled": lambda: trix.TiledFFN(DIM, TILES, source="decoupled"),
}
ROW = torch.tensor([1.0, -1, 0, 0, 1, -1, 1])
each_layer = pytest.mark.parametrize("name", LAYERS)


def _layer(name="lookup", seed=0) -> Any:
    torch.manual_seed(seed)
    return LAYERS[name]()


def _state(layer):
    return {name: value.detach().clone() for name, value in layer.state_dict().items()}


def _same(first, second):
    return first.keys() == second.keys() and all(
        first[name].numpy().tobytes() == second[name].numpy().tobytes() for name in first
    )


def _learn(layer, optimizer, steps):
    x, losses = torch.randn(40, DIM, generator=torch.Generator().manual_seed(3)), []
    target = x.roll(1, dims=1).abs() - 1
    for _ in range(steps):
        optimizer.zero_grad()
        output, route = layer.routed(x)
        loss = (output - target).square().mean()
        loss.backward()
        optimizer.step()
        layer.update(route)
        losses.append(loss.item())
    return losses


def _adamw(layer):
    return torch.optim.AdamW(layer.parameters(), lr=3e-3, weight_decay=0.5)


@each_layer
def test_an_inserted_signature_is_there_frozen_said_to_be_and_read(name):
    layer = _layer(name)
    before = layer.signatures.clone()
    assert torch.equal(layer.rows(), before)
    layer.insert_signature(3, ROW, tag="vowels")
    assert torch.equal(layer.signatures[3], ROW)
    assert torch.equal(layer.signatures[[0, 1, 2, 4]], before[[0, 1, 2, 4]])
    assert [layer.is_frozen(t) for t in range(TILES)] == [False, False, False, True, False]
    assert layer.get_signature_analysis(3) == {
        "tile_idx": 3,
        "positive_dims": [0, 4, 6],
        "negative_dims": [1, 5],
        "zero_count": 2,
        "frozen": True,
        "tag": "vowels",
    }
    layer.insert_signature(0, -ROW, freeze=False)
    found = layer.get_signature_analysis(0)
    assert (found["positive_dims"], found["negative_dims"]) == ([1, 5], [0, 4, 6])
    assert (found["frozen"], found["tag"], layer.is_frozen(0)) == (False, "", False)
    x = 5 * ROW + 0.01 * torch.randn(9, DIM)
    assert (layer.routed(x).route.index[:, 0] == 3).all()
    assert (layer.routed(-x).route.index[:, 0] == 0).all()


@each_layer
@pytest.mark.parametrize("steps", [30, pytest.param(970, marks=pytest.mark.slow)])
def test_frozen_rows_keep_every_bit_while_the_rest_learns_and_learn_once_thawed(name, steps):
    layer = _layer(name)
    optimizer = _adamw(layer)
    losses = _learn(layer, optimizer, 10)  # the moments are warm
    layer.freeze_signature(0)
    layer.insert_signature(3, ROW, tag="kept")
    kept, begin = layer.signatures[[0, 3]].clone(), _state(layer)
    losses += _learn(layer, optimizer, steps)
    bits = [rows.detach().view(torch.int32).tolist() for rows in (layer.signatures[[0, 3]], kept)]
    assert bits[0] == bits[1]
    assert losses[-1] < losses[0]
    end = _state(layer)
    moved = {key for key in end if not torch.equal(end[key], begin[key])}
    assert any(key.endswith("raw") for key in moved)
    assert not any(key.endswith(("frozen_rows", "is_frozen", "_extra_state")) for key in moved)
    layer.unfreeze_signature(3)
    assert torch.equal(layer.signatures[3], ROW)
    if name == "ema":  # learns from what reads it alone, which here is nothing near
        layer.reads[3] = 0
    raw = layer.rows.raw[3].detach().clone()
    _learn(layer, optimizer, 20)
    assert not torch.equal(layer.rows.raw[3], raw)


@each_layer
def test_a_fresh_layer_takes_over_the_surgery_and_every_edit_can_be_undone(name, tmp_path):
    layer, fresh = _layer(name), _layer(name, seed=1)
    begin = _state(layer)
    layer.insert_signature(4, ROW, tag='"ä\n')
    layer.freeze_signature(0)
    layer.freeze_signature(0)  # it is: nothing happens
    layer.insert_signature(4, -ROW, freeze=False)
    save_file(layer.state_dict(), tmp_path / "layer.safetensors")
    fresh.load_state_dict(load_file(tmp_path / "layer.safetensors"))
    assert _same(_state(fresh), _state(layer))
    history = layer.get_surgery_history()
    assert [(e["operation"], e["tile_idx"], e["tag"]) for e in history] == [
        ("insert", 4, '"ä\n'),
        ("freeze", 0, ""),
        ("insert", 4, ""),
    ]
    assert fresh.get_surgery_history() == history
    assert fresh.get_signature_analysis(0) == layer.get_signature_analysis(0)
    assert fresh.undo_surgery() == history[-1]
    assert fresh.get_signature_analysis(4)["tag"] == '"ä\n'
    assert fresh.is_frozen(4)
    assert torch.equal(fresh.signatures[4], ROW)
    fresh.undo_surgery()
    fresh.undo_surgery()
    assert _same(_state(fresh), begin)
    assert len(layer.get_surgery_history()) == 3  # nothing is shared


def test_a_layer_with_frozen_rows_compiles_as_one_graph():
    layer, x = _layer(), torch.randn(4, DIM)
    layer.insert_signature(2, ROW)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), layer(x))
    layer.insert_signature(2, -ROW)
    torch.testing.assert_close(compiled(x), layer(x))


BAD: list[tuple[str, tuple, type[Exception], str]] = [
    ("insert_signature", (5, ROW), IndexError, "tile must be in 0 … 4, got 5"),
    ("insert_signature", (True, ROW), TypeError, "tile must be an integer, got True"),
    ("insert_signature", (0, ROW[:6]), ValueError, r"signature must have shape \[7\], got \[6\]"),
    ("insert_signature", (0, ROW * torch.nan), ValueError, r"−1, 0 and 1 alone, got \[nan"),
    ("insert_signature", (0, ROW / 0), ValueError, r"−1, 0 and 1 alone, got \[inf, -inf, nan"),
    ("insert_signature", (0, ROW * 0.5), ValueError, r"alone, got \[0\.5, -0\.5, 0\.5"),
    ("insert_signature", (0, ROW.tolist()), TypeError, "signature must be a Tensor, got a list"),
    ("insert_signature", (0, ROW, True, 3), TypeError, "tag must be a str, got a int"),
    ("freeze_signature", (5,), IndexError, "0 … 4, got 5"),
    ("unfreeze_signature", (-1,), IndexError, "0 … 4, got -1"),
    ("unfreeze_signature", (0,), ValueError, "expected a frozen tile, got 0, which is not"),
    ("is_frozen", (5,), IndexError, "0 … 4, got 5"),
    ("get_signature_analysis", (-1,), IndexError, "0 … 4, got -1"),
]


def test_bad_calls_are_named_and_leave_the_layer_as_it_was():
    layer = _layer()
    with pytest.raises(ValueError, match="expected an edit to undo, got none"):
        layer.undo_surgery()
    layer.insert_signature(3, ROW, tag="here")
    before = _state(layer)
    for method, arguments, kind, message in BAD:
        with pytest.raises(kind, match=message):
            getattr(layer, method)(*arguments)
        assert _same(_state(layer), before), (method, arguments)
