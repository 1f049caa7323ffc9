import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.small import ALPHABET, NETWORK, VOCAB, lookup_model, network, phrases
from trix.counts.context import ContextMemory
from trix.models.generate import characters, fastest, generate, torch_reader, written
from trix.models.lookup import LookupConfig, LookupLM
from trix.models.sampler.sampler import Sampler

KINDS: dict[str, dict[str, Any]] = {
    "network": {},
    "no network": {"network": None},
    "no network, fixed": {"network": None, "gate": "fixed"},
    "fixed": {"gate": "fixed"},
    "the GELU": {"network": network(ffn={"cells": None})},
    "all tiles": {"network": network(ffn={"top_k": 7})},
    "one tile": {"network": network(ffn={"top_k": 1})},
    "head of its own": {"network": network(tied=False)},
    "wide heads": {"network": network({"width": 7})},
    "no convolution": {"network": network({"parts": ("decay", "gate")})},
    "no decay": {"network": network({"parts": ("convolution", "gate")})},
    "no gate": {"network": network({"parts": ("convolution", "decay")})},
    "top_k of all": {"network": network({"top_k": 5})},
    "one order": {"order": 1},
    "long": {"order": 7, "network": None},
    "words": {"words": True},
    "words, no network": {"words": True, "network": None, "order": 2},
    "echoes": {"words": True, "echoes": True},
    "echoes, no network": {"echoes": True, "network": None, "order": 6},
}


def _model(**changes):
    return lookup_model(**{"network": network(ffn={"tiles": 13, "top_k": 4}), **changes})


def _blocks(model) -> list[Any]:
    return list(model.network.blocks)


@torch.no_grad()
def _said(model, tokens):
    return model(tokens[None])[0].numpy()


def _close(sampler, model, tokens):
    mine = np.stack([sampler.step(token) for token in tokens.tolist()])
    theirs = _said(model, tokens)
    assert mine.dtype == np.float32
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)
    assert np.abs(np.diff(theirs, axis=0)).max() > 0.1 or model.config.order == 1


@pytest.mark.parametrize("kind", KINDS)
def test_steps_say_what_the_model_says_of_the_whole_text(kind):
    model = _model(**KINDS[kind])
    _close(Sampler(model), model, phrases(600 if model.config.echoes else 300, seed=1))


def test_saturated_scores_activate_and_decay_as_the_layers_do():
    # beyond the splines' ends, below the least that is kept, under the floor of logarithms
    model = _model()
    with torch.no_grad():
        for layer in _blocks(model):
            layer.ffn_norm.weight.mul_(6)
            layer.ffn.values.mul_(0.3)
            layer.mixer.decay.bias.copy_(torch.tensor([-30.0, 1.0, 40.0]))
            layer.mixer.gate.weight.mul_(60)
        model.memory.share.clamp_(max=0.5)
        model.memory.backoff_mass.mul_(1e-4)
    _close(Sampler(model), model, phrases(200, seed=1))


def test_quiet_answers_are_brought_to_size_with_the_layers_margin():
    model = _model()
    assert model.network is not None
    with torch.no_grad():
        for layer in _blocks(model):
            layer.mixer.value.mul_(1e-3)
        model.network.embed.weight.mul_(1e-3)
        model.told.weight.mul_(1e-3)
    _close(Sampler(model), model, phrases(100, seed=1))


def test_frozen_signatures_are_read():
    model = _model()
    layer = _blocks(model)[0]
    layer.ffn.keys.insert(2, torch.ones(12), freeze=True)
    layer.mixer.write_rows.insert(1, torch.ones(4), freeze=True)
    with torch.no_grad():
        layer.ffn.keys.raw.neg_()
        layer.mixer.write_rows.raw.neg_()
    _close(Sampler(model), model, phrases(100, seed=1))


def test_what_lies_out_of_reach_is_not_known():
    model = _model(words=True, network=None)
    counted, space = phrases(500), ALPHABET.index(" ")
    for at in (counted == space).nonzero().flatten().tolist()[2:12]:
        # the same words as in the tables, but further apart than an address reaches
        gap = torch.full((90,), space)
        wide = torch.cat([counted[at - 9 : at], gap, counted[at + 1 : at + 20]])
        _close(Sampler(model), model, wide)


@pytest.mark.parametrize("table", ["order 1", "order 3", "order 4", "word", "line", "echo"])
def test_dropped_tables_are_not_asked(table):
    inner = NETWORK if table in ("order 3", "line") else None
    model = _model(network=inner, words=True, echoes=True)
    before = Sampler(model)
    model.drop(table)
    _close(Sampler(model), model, phrases(200, seed=1))
    tokens = phrases(50, seed=1)
    mine = np.stack([before.step(token) for token in tokens.tolist()])
    assert np.abs(mine - _said(model, tokens)).max() > 0.01
    model.restore(table)
    np.testing.assert_allclose(mine, _said(model, tokens), rtol=1e-4, atol=1e-4)


def test_forbidden_places_do_not_speak():
    for place in (0, 2, 4):
        model = _model()
        model.gate.forbid(place)
        _close(Sampler(model), model, phrases(100, seed=1))


def test_only_the_column_of_all_blocks_is_read():
    tokens = phrases(100)  # from the text that was counted, where leaving a block out matters most
    for folds in (0, 2, 3):
        model = _model(folds=folds, network=None)
        _close(Sampler(model), model, tokens)


@pytest.mark.parametrize(
    ("counted", "order", "tokens"),
    [
        # the address of "0 0 0" is the number 0, as is that of nothing read
        ([0, 0, 0, *range(11)], 4, [0, 0, 0, 0, 0, 1]),
        ([0, 1, 2, 3], 3, [10, 10, 10, 1, 2]),  # past the last address
    ],
)
def test_what_was_not_counted_or_read_is_not_known(counted, order, tokens):
    torch.manual_seed(0)
    memory = ContextMemory(torch.tensor(counted * 20), order, VOCAB, 0)
    model = LookupLM(LookupConfig(VOCAB, order, 0, 13), memory).eval()
    _close(Sampler(model), model, torch.tensor(tokens))


def test_it_reads_on_in_pieces_and_what_was_said_stays():
    model, tokens = _model(), phrases(90, seed=2)
    sampler, state, kept = Sampler(model), None, []
    for piece in tokens.split([1, 30, 2, 57]):
        mine = sampler.read(piece[None])
        with torch.no_grad():
            routed = model.routed(piece[None], state)
        state = routed.state
        torch.testing.assert_close(mine, routed.logits[:, -1], rtol=0, atol=1e-4)
        kept.append((mine, mine.clone()))
    assert all(torch.equal(then, now) for now, then in kept)
    assert kept[-1][0].exp().sum() == pytest.approx(1, abs=1e-5)


def test_two_samplers_share_no_state_and_the_model_may_change_afterwards():
    model, tokens = _model(words=True, echoes=True), phrases(40, seed=1)
    one, other = Sampler(model), Sampler(model)
    expected = _said(model, tokens)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    for token, said in zip(tokens.tolist(), expected, strict=True):
        np.testing.assert_allclose(one.step(token), said, rtol=0, atol=1e-4)
        other.step((token + 1) % VOCAB)


@pytest.mark.parametrize(("inner", "temperature"), [(NETWORK, 0.7), (None, 0.7), (NETWORK, 0)])
def test_the_text_is_the_one_that_torch_writes(inner, temperature):
    model, prompt = _model(network=inner), phrases(5, seed=4)[None]
    assert getattr(fastest(model, 1), "__func__", None) is Sampler.read
    mine, theirs = (
        [int(c) for c in itertools.islice(more, 150)]
        for more in (
            characters(model, prompt, temperature, torch.Generator().manual_seed(1)),
            written(torch_reader(model), prompt, temperature, torch.Generator().manual_seed(1)),
        )
    )
    assert mine == theirs
    assert len(set(mine)) > 1 or temperature == 0


UNKNOWN: list[tuple[Any, str]] = [
    (network(positions=64), "positions"),
    (network(bias=True), "biases"),
    (replace(NETWORK, mixer="attention", mixer_options={"heads": 3}), "CausalAttention"),
    (replace(NETWORK, mixer="none", mixer_options={}), "NoneType"),
    (replace(NETWORK, ffn="dense", ffn_options={}), "DenseFFN"),
    (network(ffn={"tiles_per_cluster": 4}), "NestedRouter"),
    (network({"top_k": 2}), "top_k 2 of 5"),
    (network({"parts": ("convolution", "rotation"), "slots": 4}), "rotation"),
    (network({"parts": ("decay", "delta")}), "delta"),
    (network({"parts": ("gate", "content")}), "content"),
]


@pytest.mark.parametrize(("inner", "named"), UNKNOWN)
def test_what_it_cannot_read_is_named_and_written_by_torch(inner, named):
    model, prompt = _model(network=inner), torch.tensor([[3, 1]])
    with pytest.raises(ValueError, match=named):
        Sampler(model)
    found = generate(model, prompt, 5, temperature=0)
    for at in range(2, 7):
        assert found[0, at] == model(found[:, :at])[0, -1].argmax()


def test_other_models_other_dtypes_and_many_texts_are_left_to_torch():
    assert generate(_model(), torch.zeros(3, 2).long(), 4).shape == (3, 6)
    wide = fastest(lookup_model(dtype=torch.float64), 1)
    assert wide(torch.tensor([[3]])).dtype == torch.float64
