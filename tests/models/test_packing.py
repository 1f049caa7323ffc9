import dataclasses
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import reference
from tests.models.small import first_edition, stirred
from trix.experiments.arm import trained
from trix.lab.corpus import Corpus
from trix.lab.evaluate import evaluate, model_log_probs
from trix.lab.optimize import TrainConfig
from trix.lab.recipes import PROTOCOLS, Protocol
from trix.models.charlm import CharLM, LMConfig
from trix.models.packing import load_packed, save_packed, ternary_names

# 13 features: rows that fill no byte evenly
BASE = LMConfig(vocab_size=11, dim=13, layers=2, positions=7, mixer_options={"heads": 1})
TOKENS = torch.randint(11, (5, 7), generator=torch.Generator().manual_seed(0))
FFNS = {
    "hierarchical-trix": {"tiles": 6, "tiles_per_cluster": 3},
    "lookup": {"tiles": 12, "tiles_per_cluster": 4, "cells": 4},
    "random-lookup": {"tiles": 12, "tiles_per_cluster": None, "cells": None, "top_k": 3},
    "codebook": {"entries": 12},
    "trix": {"tiles": 4, "hidden": 5},
    "funnel": {"tiles": 6, "tiles_per_cluster": 3, "levels": 4},
    "fixed-routing": {"reading": "trix", "tiles": 6, "tiles_per_cluster": 3},
}


def _model(ffn="hierarchical-trix", seed=0, **changes):
    torch.manual_seed(seed)
    config = dataclasses.replace(BASE, ffn=ffn, ffn_options=FFNS[ffn], **changes)
    return CharLM(config).eval()


def _keys(model) -> list[Any]:
    return [block.ffn.keys for block in model.blocks]


@torch.no_grad()
def _rounded(model):
    # all but what is read through its cut in bfloat16
    twin = CharLM(model.config).eval()
    twin.load_state_dict(model.state_dict())
    for name, value in twin.state_dict().items():
        if not value.is_floating_point():
            continue
        if name.endswith((".bodies.up", ".bodies.down", ".ffn.up", ".ffn.down")):
            rows = reference.scaled_ternary(value.flatten(0, 1)).view_as(value)
            value.copy_(rows.to(torch.bfloat16))  # the scales
        elif not name.endswith((".keys.raw", ".keys.frozen_rows")):
            value.copy_(value.to(torch.bfloat16))
    return twin


@pytest.mark.parametrize("ffn", FFNS)
def test_what_comes_back_routes_and_speaks_as_the_rounded_model(tmp_path, ffn):
    tied = ffn != "trix"
    model, other = _model(ffn, tied=tied), _model(ffn, seed=1, tied=tied)
    save_packed(model, tmp_path / "m.safetensors")
    load_packed(other, tmp_path / "m.safetensors")
    expected, got = _rounded(model).routed(TOKENS), other.routed(TOKENS)
    for mine, theirs in zip(got.routes, expected.routes, strict=True):
        assert torch.equal(mine.index, theirs.index)
    torch.testing.assert_close(got.logits, expected.logits, rtol=0, atol=1e-6)
    assert not torch.allclose(got.logits, _model(ffn, seed=1, tied=tied)(TOKENS), atol=1e-3)
    for mine, theirs in zip(other.routed_layers(), model.routed_layers(), strict=True):
        assert torch.equal(mine.signatures, theirs.signatures)


def test_a_packed_model_is_still_one_that_trains_and_is_packed_again(tmp_path):
    model, again = _model("lookup"), _model("lookup", seed=2)
    save_packed(_model("lookup", seed=1), tmp_path / "m")
    load_packed(model, tmp_path / "m")
    model(TOKENS).square().mean().backward()
    assert model.head.weight is model.embed.weight
    assert _keys(model)[0].raw.grad.abs().sum() > 0
    save_packed(model, tmp_path / "m")
    load_packed(again, tmp_path / "m")
    for name, value in again.state_dict().items():
        assert name.endswith("_extra_state") or torch.equal(value, model.state_dict()[name]), name


@pytest.mark.parametrize(("ffn", "tied"), [("hierarchical-trix", True), ("random-lookup", False)])
def test_bytes_are_two_bits_a_weight_and_add_up_to_the_file(tmp_path, ffn, tied):
    model = _model(ffn, tied=tied)
    path = tmp_path / "m.safetensors"
    got = save_packed(model, path)
    state = model.state_dict()
    rows = {n: v.numel() // 13 for n, v in state.items() if n in ternary_names(model)}
    # 13 weights take 4 bytes
    assert got["ternary"] == 4 * sum(rows.values())
    scaled = sum(count for name, count in rows.items() if ".bodies." in name)
    assert got["scales"] == 2 * scaled
    shared = {"head.weight"} if tied else set()
    rest = [v for n, v in state.items() if n not in {*rows, *shared}]
    assert got["bfloat16"] == 2 * sum(v.numel() for v in rest if v.is_floating_point())
    assert got["other"] == sum(v.numel() for v in rest if v.dtype == torch.bool)
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    assert got["file"] == path.stat().st_size
    assert got["file"] == header + sum(got[n] for n in ("ternary", "scales", "bfloat16", "other"))


def test_a_file_that_was_saved_under_old_names_is_read(tmp_path):
    options = {"mixer": "routed-memory", "mixer_options": {"heads": 1, "slots": 3}}
    model, other = stirred(_model(**options)), _model(seed=1, **options)
    save_packed(model, tmp_path / "new")
    save_file(first_edition(load_file(tmp_path / "new")), tmp_path / "old")
    load_packed(other, tmp_path / "old")
    torch.testing.assert_close(other(TOKENS), _rounded(model)(TOKENS), rtol=0, atol=1e-6)


def test_frozen_rows_survive(tmp_path):
    model, other = _model("lookup"), _model("lookup", seed=1)
    for number, keys in enumerate(_keys(model)):
        keys.insert(3, torch.ones(13), freeze=True)
        keys.insert(5, torch.zeros(13), freeze=True)
        keys.freeze(7 + number)
        with torch.no_grad():
            keys.raw[3] = -1.0  # what is under a frozen row is not read
    save_packed(model, tmp_path / "m")
    load_packed(other, tmp_path / "m")
    for number, (mine, theirs) in enumerate(zip(_keys(other), _keys(model), strict=True)):
        assert mine.is_frozen.nonzero().flatten().tolist() == [3, 5, 7 + number]
        assert torch.equal(mine(), theirs())
        assert mine()[3].tolist() == [1.0] * 13
        assert mine()[5].tolist() == [0.0] * 13


def test_what_is_read_through_its_cut_is_named():
    names = ternary_names(_model())
    assert names == {f"blocks.{b}.ffn.bodies.{w}": True for b in (0, 1) for w in ("up", "down")}
    keys = ternary_names(_model("codebook"))
    assert keys == {
        f"blocks.{b}.ffn.keys.{w}": False for b in (0, 1) for w in ("raw", "frozen_rows")
    }
    assert ternary_names(CharLM(BASE)) == {}


def _refused(path, message):
    model, before = _model(), _model().state_dict()
    with pytest.raises(ValueError, match=message):
        load_packed(model, path)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_file_of_another_model_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    save_packed(_model("codebook"), path)
    _refused(path, r"m.safetensors must hold .*keys.raw.* too many and .*up.* too few")
    save_packed(_model(layers=1), path)
    _refused(path, r"got \[\] too many and \['blocks.1.ffn.bodies.down:packed'")
    save_packed(_model(vocab_size=12), path)
    _refused(path, r"embed.weight must be \[11, 13\] of torch.bfloat16, got \[12, 13\]")
    # one tile takes as many tensors; it is not to be spread over six
    model = CharLM(dataclasses.replace(_model().config, ffn_options={"tiles": 1}))
    save_packed(model, path)
    _refused(path, r"up:packed must be \[6, 8, 4\] of torch.uint8, got \[1, 52, 4\]")


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    save_packed(_model(), path)
    whole = path.read_bytes()
    for broken in (b"", whole[:5], whole[:-7], b"{" + whole[1:]):
        path.write_bytes(broken)
        _refused(path, f"corrupt packed model {path}: ")
    path.write_bytes(whole)
    tensors = load_file(path)
    for name in ("blocks.0.ffn.bodies.up:scale", "norm.weight"):
        save_file({n: t for n, t in tensors.items() if n != name}, path)
        _refused(path, rf"got \[\] too many and \['{name}'\] too few")
        save_file({**tensors, name: tensors[name].float()}, path)
        _refused(path, f"{name} must be .* of torch.bfloat16, got .* of torch.float32")
    tensors["blocks.1.ffn.bodies.up:packed"][2, 3, 1] = 0b00_10_00_00  # stands for no value
    save_file(tensors, path)
    _refused(path, r"corrupt packed model .*blocks.1.ffn.bodies.up: packed must hold")


def test_a_failed_write_leaves_no_file(tmp_path):
    model = _model()
    with torch.no_grad():
        model.blocks[0].ffn.bodies.up[0, 0, 0] = float("nan")  # pyright: ignore
    with pytest.raises(ValueError, match="ternary must hold only"):
        save_packed(model, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


CORPUS = Corpus(
    "small", "made up", "the cat sat on the mat; " * 30 + "a cat that sat on a hat. " * 9
)
TINY = Protocol(
    LMConfig(dim=8, layers=2, positions=6, mixer_options={"heads": 2}, dropout=0.3),
    TrainConfig(steps=20, batch=2, context=5, warmup=3),
    block=6,
)


def test_a_trained_arm_weighs_itself_and_is_judged_as_packed(tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    changes = {"ffn": "hierarchical-trix", "ffn_options": {"tiles": 4}}
    arm, config = trained("tiny", changes), TINY.with_model(vocab_size=CORPUS.vocab_size, **changes)
    metrics = arm.run(CORPUS, 0, "full", tmp_path / "work").metrics
    names = sorted(path.name.split("-")[0] for path in (tmp_path / "work").iterdir())
    assert names == ["checkpoint.json", "tensors"]
    # the checkpoint holds the trained model; what is packed of it must measure the same
    (saved,) = (tmp_path / "work").glob("tensors-*")
    model, other = CharLM(config), CharLM(config)
    model.load_state_dict(
        {n.removeprefix("model."): t for n, t in load_file(saved).items() if n[:6] == "model."}
    )
    sizes = save_packed(model, tmp_path / "m")
    load_packed(other, tmp_path / "m")
    for name, size in sizes.items():
        assert metrics[f"bytes_{name}"] == size
    assert metrics["bytes_float32"] == 4 * sum(p.numel() for p in model.parameters())
    packed = evaluate(model_log_probs(other), CORPUS.val, 6).nats
    assert metrics["val_nats_packed"] == packed
    assert packed != metrics["val_nats"] == evaluate(model_log_probs(model), CORPUS.val, 6).nats
    assert packed == pytest.approx(metrics["val_nats"], abs=0.02)
    dense = trained("tiny").run(CORPUS, 0, "full", tmp_path / "dense")
    assert set(dense.metrics) == {"val_nats", "val_perplexity"}
