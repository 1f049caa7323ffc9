"""Surgery on every layer with rows of its own: what is promised, and that nothing else happens."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import trix
from trix.lab.optimize import TrainConfig
from trix.lab.train import train
from trix.models.charlm import CharLM

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


def _bits(row):
    return row.detach().contiguous().view(torch.int32).tolist()


def _learn(layer, optimizer, steps):
    """Take training steps as the trainer does, and return the losses."""
    generator = torch.Generator().manual_seed(3)
    x, losses = torch.randn(40, DIM, generator=generator), []
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
def test_an_inserted_signature_is_there_frozen_and_said_to_be(name):
    layer = _layer(name)
    before = layer.signatures.clone()
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
    for tile in (1, 2, 4):
        row, found = before[tile].tolist(), layer.get_signature_analysis(tile)
        assert found["positive_dims"] == [d for d in range(DIM) if row[d] == 1]
        assert found["negative_dims"] == [d for d in range(DIM) if row[d] == -1]
        assert found["zero_count"] == sum(value == 0 for value in row)


@each_layer
def test_tokens_go_where_they_are_told(name):
    layer, x = _layer(name), 5 * ROW + 0.01 * torch.randn(9, DIM)
    layer.insert_signature(2, ROW)
    layer.insert_signature(4, -ROW)
    assert (layer.routed(x).route.index[:, 0] == 2).all()
    assert (layer.routed(-x).route.index[:, 0] == 4).all()


@each_layer
def test_history_tells_every_edit_that_stands_and_undo_takes_the_latest(name):
    layer = _layer(name)
    begin, rows = _state(layer), layer.signatures.tolist()
    layer.insert_signature(1, ROW, tag="first")
    layer.freeze_signature(1)  # it is: nothing happens
    layer.unfreeze_signature(1)
    layer.freeze_signature(0)
    layer.insert_signature(1, -ROW, freeze=False)
    row = ROW.tolist()
    told = [("insert", 1, "first"), ("thaw", 1, "first"), ("freeze", 0, ""), ("insert", 1, "")]
    was = [(rows[1], False, ""), (row, True, "first"), (rows[0], False, ""), (row, False, "first")]
    history = layer.get_surgery_history()
    assert history == [
        {
            "operation": operation,
            "tile_idx": tile,
            "tag": tag,
            "before": {"signature": signature, "frozen": frozen, "tag": name},
        }
        for (operation, tile, tag), (signature, frozen, name) in zip(told, was, strict=True)
    ]
    history[0]["before"]["signature"][0] = 9  # a copy: what is told cannot be spoilt
    history.pop()
    assert len(layer.get_surgery_history()) == 4
    assert layer.get_surgery_history()[0]["before"]["signature"] == rows[1]
    for left in (3, 2, 1, 0):
        expected = layer.get_surgery_history()[-1]
        assert layer.undo_surgery() == expected
        assert len(layer.get_surgery_history()) == left
    assert _same(_state(layer), begin)
    with pytest.raises(ValueError, match="expected an edit to undo, got none"):
        layer.undo_surgery()


@each_layer
def test_frozen_rows_keep_every_bit_through_a_thousand_steps(name):
    layer = _layer(name)
    optimizer = _adamw(layer)
    _learn(layer, optimizer, 30)  # the moments are warm
    layer.freeze_signature(0)
    layer.insert_signature(3, ROW, tag="kept")
    kept, begin = _bits(layer.signatures[[0, 3]]), _state(layer)
    losses = []
    for _ in range(10):
        losses += _learn(layer, optimizer, 100)
        assert _bits(layer.signatures[[0, 3]]) == kept
    assert losses[-1] < 0.9 * losses[0]  # the rest goes on learning
    end = _state(layer)
    moved = {key for key in end if not torch.equal(end[key], begin[key])}
    assert any(key.endswith("raw") for key in moved)
    assert not any(key.endswith(("frozen_rows", "is_frozen", "_extra_state")) for key in moved)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, lr=0.02, weight_decay=0.1, amsgrad=True),
        lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.Adagrad(p, lr=0.1, weight_decay=0.1),
    ],
    ids=["sgd", "adam", "rmsprop", "adagrad"],
)
def test_no_optimizer_moves_a_frozen_row_and_each_moves_it_once_thawed(optimizer):
    layer = _layer()
    optimizer = optimizer(layer.parameters())
    _learn(layer, optimizer, 20)
    layer.insert_signature(1, ROW)
    others = layer.rows.raw[[0, 2, 3, 4]].detach().clone()
    _learn(layer, optimizer, 200)
    assert _bits(layer.signatures[1]) == _bits(ROW)
    assert (layer.rows.raw[[0, 2, 3, 4]] != others).any(dim=1).all()
    layer.unfreeze_signature(1)
    assert _bits(layer.signatures[1]) == _bits(ROW)
    start = layer.rows.raw[1].detach().clone()
    torch.testing.assert_close(start, ROW / DIM**0.5)
    _learn(layer, optimizer, 3)
    assert not torch.equal(layer.rows.raw[1], start)


@each_layer
def test_what_is_thawed_learns_and_loses_its_row(name):
    layer = _layer(name)
    layer.insert_signature(1, ROW)
    optimizer = _adamw(layer)
    _learn(layer, optimizer, 20)
    layer.unfreeze_signature(1)
    assert torch.equal(layer.signatures[1], ROW)
    if name == "ema":  # learns from what reads it alone, which here is nothing near
        layer.reads[1] = 0
    _learn(layer, optimizer, 300)
    assert not torch.equal(layer.signatures[1], ROW)


@each_layer
def test_inserting_without_freezing_thaws(name):
    layer = _layer(name)
    layer.insert_signature(2, ROW, tag="old")
    layer.insert_signature(2, -ROW, freeze=False, tag="new")
    assert not layer.is_frozen(2)
    assert torch.equal(layer.signatures[2], -ROW)
    assert layer.get_signature_analysis(2)["tag"] == "new"
    layer.undo_surgery()
    assert layer.is_frozen(2)
    assert layer.get_signature_analysis(2)["tag"] == "old"
    assert torch.equal(layer.signatures[2], ROW)


@each_layer
@pytest.mark.parametrize("through", ["state_dict", "safetensors"])
def test_a_fresh_layer_takes_over_rows_tags_and_history_and_can_undo(name, through, tmp_path):
    layer, fresh = _layer(name), _layer(name, seed=1)
    begin = _state(layer)
    layer.insert_signature(4, ROW, tag='"ä\n')
    layer.freeze_signature(0)
    layer.insert_signature(4, -ROW, freeze=False)
    state = layer.state_dict()
    if through == "safetensors":
        save_file(state, tmp_path / "layer.safetensors")
        state = load_file(tmp_path / "layer.safetensors")
    fresh.load_state_dict(state)
    assert _same(_state(fresh), _state(layer))
    assert fresh.get_surgery_history() == layer.get_surgery_history()
    assert fresh.get_signature_analysis(0) == layer.get_signature_analysis(0)
    fresh.undo_surgery()
    assert fresh.get_signature_analysis(4)["tag"] == '"ä\n'
    assert fresh.is_frozen(4)
    assert torch.equal(fresh.signatures[4], ROW)
    fresh.undo_surgery()
    fresh.undo_surgery()
    assert _same(_state(fresh), begin)
    assert len(layer.get_surgery_history()) == 3  # nothing is shared


def test_checkpoint_and_resume_keep_the_surgery(tmp_path, monkeypatch):
    config = trix.lab.LMConfig(
        vocab_size=9, dim=8, layers=2, positions=6, mixer_options={"heads": 2}, ffn="lookup"
    )
    data = torch.randint(9, (200,), generator=torch.Generator().manual_seed(0))
    settings = TrainConfig(steps=12, batch=2, context=5, warmup=1, lr=3e-3, weight_decay=0.5)

    def run(model, name):
        train(model, data, settings, 0, folder=tmp_path / name, save_every=3, progress=False)

    row = torch.tensor([1.0, -1, 0, 0, 1, -1, 1, 0])

    def fresh(operate) -> CharLM:
        torch.manual_seed(0)
        model = CharLM(config)
        if operate:
            layer: Any = model.routed_layers()[1]
            layer.insert_signature(5, row, tag="kept")
            layer.freeze_signature(9)
        return model

    whole = fresh(True)
    run(whole, "whole")
    step, taken = loop._step, []

    def killed(*arguments):
        taken.append(1)
        if len(taken) == 8:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(loop, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        run(fresh(True), "killed")
    resumed = fresh(False)  # the checkpoint alone knows of the surgery
    run(resumed, "killed")
    assert len(taken) == 8 + 6
    assert _same(_state(resumed), _state(whole))
    layer: Any = resumed.routed_layers()[1]
    begin: Any = fresh(False).routed_layers()[1]
    assert _bits(layer.signatures[5]) == _bits(row)
    assert _bits(layer.signatures[9]) == _bits(begin.signatures[9])
    assert not torch.equal(layer.rows.raw, begin.rows.raw)
    assert [(e["operation"], e["tag"]) for e in layer.get_surgery_history()] == [
        ("insert", "kept"),
        ("freeze", ""),
    ]
    layer.undo_surgery()
    layer.undo_surgery()
    assert torch.equal(layer.rows.raw[5], begin.rows.raw[5])


def test_a_layer_with_frozen_rows_compiles_as_one_graph():
    layer, x = _layer(), torch.randn(4, DIM)
    layer.insert_signature(2, ROW)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), layer(x))
    layer.insert_signature(2, -ROW)
    torch.testing.assert_close(compiled(x), layer(x))


loop: Any = sys.modules["trix.lab.train"]
BAD: list[tuple[str, tuple, type[Exception], str]] = [
    ("insert_signature", (5, ROW), IndexError, "tile must be in 0 … 4, got 5"),
    ("insert_signature", (-1, ROW), IndexError, "tile must be in 0 … 4, got -1"),
    ("insert_signature", (True, ROW), TypeError, "tile must be an integer, got True"),
    ("insert_signature", (0, ROW[:6]), ValueError, r"shape \[7\], got \[6\]"),
    ("insert_signature", (0, ROW[None]), ValueError, r"shape \[7\], got \[1, 7\]"),
    ("insert_signature", (0, ROW * torch.nan), ValueError, r"−1, 0 and 1 alone, got \[nan"),
    ("insert_signature", (0, ROW / 0), ValueError, r"−1, 0 and 1 alone, got \[inf, -inf, nan"),
    ("insert_signature", (0, ROW * 0.5), ValueError, r"alone, got \[0\.5, -0\.5, 0\.5"),
    ("insert_signature", (0, ROW.tolist()), TypeError, "signature must be a Tensor, got a list"),
    ("insert_signature", (0, ROW, True, 3), TypeError, "tag must be a str, got a int"),
    ("freeze_signature", (5,), IndexError, "0 … 4, got 5"),
    ("freeze_signature", (1.0,), TypeError, r"integer, got 1\.0"),
    ("unfreeze_signature", (-1,), IndexError, "0 … 4, got -1"),
    ("unfreeze_signature", (0,), ValueError, "expected a frozen tile, got 0, which is not"),
    ("is_frozen", (5,), IndexError, "0 … 4, got 5"),
    ("is_frozen", (-1,), IndexError, "0 … 4, got -1"),
    ("get_signature_analysis", (-1,), IndexError, "0 … 4, got -1"),
    ("get_signature_analysis", ("a",), TypeError, "integer, got 'a'"),
]


@each_layer
def test_bad_calls_are_named_and_leave_the_layer_as_it_was(name):
    layer = _layer(name)
    layer.insert_signature(3, ROW, tag="here")
    before = _state(layer)
    for method, arguments, kind, message in BAD:
        with pytest.raises(kind, match=message):
            getattr(layer, method)(*arguments)
        assert _same(_state(layer), before), (method, arguments)
    assert len(layer.get_surgery_history()) == 1


def test_only_a_source_with_rows_of_its_own_can_be_edited():
    for source, kind in (("weights", "WeightSource"), ("frozen-random", "FrozenRandom")):
        layer = trix.TiledFFN(DIM, TILES, source=source)
        before = _state(layer)
        for edit in (
            lambda layer=layer: layer.insert_signature(0, ROW),
            lambda layer=layer: layer.freeze_signature(0),
            layer.get_surgery_history,
            layer.undo_surgery,
        ):
            with pytest.raises(ValueError, match=f"source with learned rows, got {kind}"):
                edit()
        assert _same(_state(layer), before)


UNDER_O = """
import torch, trix
from trix.surgery import Claims
from trix.surgery import compile_dispatch
if __debug__:
    raise SystemExit("not under -O")
layer = trix.SparseLookupFFN(4, 3, None, None)
x, row = torch.randn(300, 4), torch.tensor([1.0, -1, 0, 1])
claims, other = Claims(layer), trix.SparseLookupFFN(4, 3, None, None)
kinds = layer.route(x).index[:, 0]
claims.track_claims(layer.route(x), kinds, 3)
table = compile_dispatch(layer, claims)
before = {k: v.clone() for k, v in layer.state_dict().items()}
calls = [
    lambda: layer.insert_signature(3, row),
    lambda: layer.insert_signature(-1, row),
    lambda: layer.insert_signature(0, row[:3]),
    lambda: layer.insert_signature(0, row * torch.nan),
    lambda: layer.insert_signature(0, row / 0),
    lambda: layer.insert_signature(0, row / 2),
    lambda: layer.freeze_signature(3),
    lambda: layer.unfreeze_signature(0),
    lambda: layer.undo_surgery(),
    lambda: claims.track_claims(layer.route(x), kinds[1:], 3),
    lambda: claims.track_claims(layer.route(x), kinds, 1),
    lambda: claims.get_claim_rate(0, 3),
    lambda: claims.get_tile_purity(-1),
    lambda: table.route(layer, x, kinds + 3),
    lambda: table.route(layer, x, kinds[1:]),
    lambda: table.verify(other),
    lambda: trix.Dispatch.from_json(table.to_json(), other),
]
for number, call in enumerate(calls):
    try:
        call()
    except (IndexError, TypeError, ValueError) as error:
        print(number, type(error).__name__, error)
    else:
        raise SystemExit(f"call {number} was not refused")
after = layer.state_dict()
if not all(torch.equal(before[k], after[k]) for k in before):
    raise SystemExit("the layer changed")
"""


def test_bad_calls_are_refused_by_an_optimized_python_too():
    command = [sys.executable, "-O", "-c", UNDER_O]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 17
    assert said[0] == "0 IndexError tile must be in 0 … 2, got 3"
    assert "got" in said[-1]


# Any sequence of edits, beside a model of plain lists


class Lists:
    """What a layer's surgery must do, in lists: rows beneath, rows that are frozen, tags, edits."""

    def __init__(self, rows):
        self.under, self.frozen = [list(row) for row in rows], [None] * len(rows)
        self.tags, self.edits = [""] * len(rows), []

    def rows(self):
        return [f if f is not None else u for u, f in zip(self.under, self.frozen, strict=True)]

    def edit(self, operation, tile, row, freeze, tag):
        before = (self.under[tile], self.frozen[tile], self.tags[tile], self.rows()[tile])
        self.edits.append((operation, tile, tag, before))
        self.under[tile], self.frozen[tile] = row, row if freeze else None
        self.tags[tile] = tag

    def insert(self, tile, row, freeze, tag):
        self.edit("insert", tile, row, freeze, tag)

    def freeze(self, tile):
        if self.frozen[tile] is None:
            under = self.under[tile]
            self.edit("freeze", tile, under, True, self.tags[tile])

    def thaw(self, tile):
        self.edit("thaw", tile, self.frozen[tile], False, self.tags[tile])

    def undo(self):
        _, tile, _, (self.under[tile], self.frozen[tile], self.tags[tile], _) = self.edits.pop()

    def learn(self):  # what is not frozen changes its sign
        self.under = [[-value for value in row] for row in self.under]

    def history(self):
        return [
            {
                "operation": operation,
                "tile_idx": tile,
                "tag": tag,
                "before": {"signature": row, "frozen": frozen is not None, "tag": name},
            }
            for operation, tile, tag, (_, frozen, name, row) in self.edits
        ]


TERNARY = [[n // 3**d % 3 - 1 for d in range(4)] for n in range(81)]
torch.manual_seed(0)
# both are used over and over: making one takes longer than a whole sequence of edits
SMALL: Any = [trix.SparseLookupFFN(4, 3, None, None) for _ in range(2)]
START = _state(SMALL[0])
FAULTS: list[Any] = [
    lambda layer: layer.insert_signature(3, torch.ones(4)),
    lambda layer: layer.insert_signature(-1, torch.ones(4)),
    lambda layer: layer.insert_signature(0, torch.ones(5)),
    lambda layer: layer.insert_signature(1, torch.tensor([1.0, 0.5, 0, 0])),
    lambda layer: layer.insert_signature(2, torch.tensor([1.0, torch.nan, 0, 0])),
    lambda layer: layer.insert_signature(0, torch.ones(4), tag=None),
    lambda layer: layer.freeze_signature(7),
    lambda layer: layer.unfreeze_signature(-2),
]


def _told(layer):
    # all that surgery can change, faster than by `state_dict`
    rows = layer.rows
    tensors = [t.tolist() for t in (rows.raw, rows.frozen_rows, rows.is_frozen)]
    return tensors, dict(rows.tags), layer.get_surgery_history()


def _refused(layer, call):
    before = _told(layer)
    try:
        call(layer)
    except (IndexError, TypeError, ValueError):
        assert _told(layer) == before
    else:
        pytest.fail("a bad call was not refused")


def _step(layer, lists, number):
    """Do what a number says, to the layer and to the lists; return the layer to go on with."""
    number, operation = divmod(number, 8)
    number, tile = divmod(number, 3)
    if operation < 3:
        row, freeze, tag = TERNARY[number % 81], operation > 0, ("", "a", "b")[number % 3]
        layer.insert_signature(tile, torch.tensor(row, dtype=torch.float32), freeze, tag)
        lists.insert(tile, row, freeze, tag)
    elif operation == 3:
        layer.freeze_signature(tile)
        lists.freeze(tile)
    elif operation == 4:
        if lists.frozen[tile] is None:
            _refused(layer, lambda layer: layer.unfreeze_signature(tile))
        else:
            layer.unfreeze_signature(tile)
            lists.thaw(tile)
    elif operation == 5:
        if lists.edits:
            layer.undo_surgery()
            lists.undo()
        else:
            _refused(layer, lambda layer: layer.undo_surgery())
    elif operation == 6:
        _refused(layer, FAULTS[number % len(FAULTS)])
    elif number % 2:
        layer.rows.raw.neg_()
        lists.learn()
    else:
        fresh = SMALL[layer is SMALL[0]]
        fresh.load_state_dict(layer.state_dict())
        return fresh
    return layer


@pytest.mark.timeout(900)  # ten thousand take long where other processes run as well
@settings(max_examples=10_000, derandomize=True, database=None)
@given(st.lists(st.integers(0, 8 * 3 * 81 - 1), max_size=6))
@torch.no_grad()
def test_any_sequence_of_edits_does_what_lists_do(numbers):
    layer = SMALL[0]
    layer.load_state_dict(START)
    lists = Lists(layer.signatures.tolist())
    learnt = False
    for number in numbers:
        layer = _step(layer, lists, number)
        learnt |= number % 8 == 7 and number // 24 % 2 == 1
    assert layer.signatures.tolist() == lists.rows()
    assert layer.get_surgery_history() == lists.history()
    assert layer.rows.tags == {tile: tag for tile, tag in enumerate(lists.tags) if tag}
    assert layer.rows.is_frozen.tolist() == [row is not None for row in lists.frozen]
    while lists.edits:
        layer.undo_surgery()
        lists.undo()
    assert layer.signatures.tolist() == lists.rows()
    assert learnt or _same(_state(layer), START)
