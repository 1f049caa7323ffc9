"""The sampler says what the model says, character by character, and draws as it draws."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from trix.counts.context import ContextMemory
from trix.models.charlm import LMConfig
from trix.models.generate import characters
from trix.models.lookup import LookupConfig, LookupLM, count
from trix.models.sampler.sampler import Sampler

VOCAB = 11
ALPHABET = "\n ,ABEabden"
NETWORK = LMConfig(
    vocab_size=VOCAB,
    dim=12,
    layers=2,
    positions=0,
    mixer="routed-memory",
    mixer_options={"heads": 3, "slots": 5},
    ffn="lookup",
    ffn_options={"tiles": 13, "tiles_per_cluster": None, "cells": 6, "top_k": 4},
)


def _network(mixer: dict[str, Any] | None = None, ffn: dict[str, Any] | None = None, **changes):
    return replace(
        NETWORK,
        mixer_options=NETWORK.mixer_options | (mixer or {}),
        ffn_options=NETWORK.ffn_options | (ffn or {}),
        **changes,
    )


KINDS: dict[str, dict[str, Any]] = {
    "network": {},
    "no network": {"network": None},
    "no network, fixed": {"network": None, "gate": "fixed"},
    "fixed": {"gate": "fixed"},
    "the GELU": {"network": _network(ffn={"cells": None})},
    "all tiles": {"network": _network(ffn={"top_k": 13})},
    "one tile": {"network": _network(ffn={"top_k": 1})},
    "head of its own": {"network": _network(tied=False)},
    "wide heads": {"network": _network({"width": 7})},
    "no convolution": {"network": _network({"parts": ("decay", "gate")})},
    "no decay": {"network": _network({"parts": ("convolution", "gate")})},
    "no gate": {"network": _network({"parts": ("convolution", "decay")})},
    "top_k of all": {"network": _network({"top_k": 5})},
    "one order": {"order": 1},
    "long": {"order": 7, "network": None},
    "words": {"words": True},
    "words, no network": {"words": True, "network": None, "order": 2},
    "echoes": {"words": True, "echoes": True},
    "echoes, no network": {"echoes": True, "network": None, "order": 6},
}


def _text(length, seed=0):
    # a walk with a few repeated phrases, so that long addresses are found as well
    draw = np.random.default_rng(seed)
    phrases = np.random.default_rng(99).integers(0, VOCAB, (6, 9))
    text = []
    while len(text) < length:
        text += phrases[draw.integers(6)].tolist() + draw.integers(0, VOCAB, 2).tolist()
    return torch.tensor(text[:length])


def _model(folds=2, **changes):
    config = LookupConfig(
        **{"vocab_size": VOCAB, "order": 4, "folds": folds, "hidden": 13, "network": NETWORK}
        | changes
    )
    torch.manual_seed(3)
    model = LookupLM(config, *count(config, _text(500), ALPHABET)).eval()
    with torch.no_grad():  # as after training: no scale so small that an error could hide in it
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


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
    _close(Sampler(model), model, _text(600 if model.config.echoes else 300, seed=1))


@pytest.mark.parametrize("top_k", [4, 13])
def test_saturated_scores_bend_and_fade_as_the_layers_do(top_k):
    # beyond the splines' ends, below the least that is kept, under the floor of logarithms
    model = _model(network=_network(ffn={"top_k": top_k}))
    assert model.network is not None
    with torch.no_grad():
        for block in model.network.blocks:
            layer: Any = block
            layer.ffn_norm.weight.mul_(6)
            layer.ffn.values.mul_(0.3)
            layer.mixer.decay.bias.copy_(torch.tensor([-30.0, 1.0, 40.0]))
            layer.mixer.gate.weight.mul_(60)
        model.memory.share.clamp_(max=0.5)
        model.memory.back.mul_(1e-4)
    _close(Sampler(model), model, _text(200, seed=1))


def test_quiet_answers_are_brought_to_size_with_the_layers_margin():
    model = _model()
    assert model.network is not None
    with torch.no_grad():
        for block in model.network.blocks:
            layer: Any = block
            layer.mixer.value.mul_(1e-3)
        model.network.embed.weight.mul_(1e-3)
        model.told.weight.mul_(1e-3)
    _close(Sampler(model), model, _text(100, seed=1))


def test_frozen_signatures_are_read():
    model = _model()
    assert model.network is not None
    layer: Any = model.network.blocks[0]
    layer.ffn.keys.insert(2, torch.ones(12), freeze=True)
    layer.mixer.write_rows.insert(1, torch.ones(4), freeze=True)
    with torch.no_grad():
        layer.ffn.keys.raw.neg_()
        layer.mixer.write_rows.raw.neg_()
    _close(Sampler(model), model, _text(100, seed=1))


def test_what_lies_out_of_reach_is_not_known():
    model = _model(words=True, network=None)
    counted, space = _text(500), ALPHABET.index(" ")
    for at in (counted == space).nonzero().flatten().tolist()[2:12]:
        # the same words as in the tables, but further apart than an address reaches
        wide = torch.cat(
            [counted[at - 9 : at], torch.full((90,), space), counted[at + 1 : at + 20]]
        )
        _close(Sampler(model), model, wide)


@pytest.mark.parametrize("network", [NETWORK, None])
@pytest.mark.parametrize("table", ["order 1", "order 3", "order 4", "word", "pair", "line"])
def test_dropped_tables_are_not_asked(network, table):
    model = _model(network=network, words=True)
    before = Sampler(model)
    model.drop(table)
    _close(Sampler(model), model, _text(200, seed=1))
    tokens = _text(50, seed=1)
    mine = np.stack([before.step(token) for token in tokens.tolist()])
    assert np.abs(mine - _said(model, tokens)).max() > 0.01
    model.restore(table)
    np.testing.assert_allclose(mine, _said(model, tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("place", [0, 2, 4])
def test_forbidden_places_do_not_speak(place):
    model = _model()
    model.gate.forbid(place)
    _close(Sampler(model), model, _text(100, seed=1))


def test_only_the_column_of_all_blocks_is_read():
    tokens = _text(100)  # from the text that was counted, where leaving a block out matters most
    for folds in (0, 2, 3):
        model = _model(folds, network=None)
        _close(Sampler(model), model, tokens)


def test_characters_that_were_not_read_stand_in_no_address():
    # the address of "0 0 0" is the number 0, as is that of nothing read
    text = torch.tensor([0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10] * 20)
    config = LookupConfig(VOCAB, 4, 0, 13)
    torch.manual_seed(0)
    model = LookupLM(config, ContextMemory(text, 4, VOCAB, 0)).eval()
    _close(Sampler(model), model, torch.tensor([0, 0, 0, 0, 0, 1]))


def test_addresses_past_the_last_one_are_not_known():
    text = torch.tensor([0, 1, 2, 3] * 20)
    model = LookupLM(LookupConfig(VOCAB, 3, 0, 13), ContextMemory(text, 3, VOCAB, 0)).eval()
    _close(Sampler(model), model, torch.tensor([10, 10, 10, 1, 2]))


def test_the_state_goes_on_and_is_forgotten():
    model, tokens = _model(), _text(90, seed=2)
    sampler, state, mine = Sampler(model), None, np.empty(0)
    for piece in tokens.split([1, 30, 2, 57]):
        mine = sampler.prime(piece.tolist())
        with torch.no_grad():
            routed = model.routed(piece[None], state)
        state = routed.state
        np.testing.assert_allclose(mine, routed.logits[0, -1].numpy(), rtol=0, atol=1e-4)
    again = Sampler(model)
    again.prime([5, 6])
    again.reset()
    np.testing.assert_array_equal(again.prime(tokens.tolist()), mine)


@pytest.mark.parametrize("network", [NETWORK, None])
def test_what_was_said_stays_as_it_was_said(network):
    sampler = Sampler(_model(network=network))
    first = sampler.step(3)
    kept = first.copy()
    sampler.step(4)
    np.testing.assert_array_equal(first, kept)
    assert np.exp(first).sum() == pytest.approx(1, abs=1e-5)


def test_two_samplers_share_no_state():
    model, tokens = _model(), _text(40, seed=1)
    one, other = Sampler(model), Sampler(model)
    for token in tokens.tolist():
        one.step(token)
        other.step((token + 1) % VOCAB)
    alone = Sampler(model).prime([*tokens.tolist(), 2])
    np.testing.assert_array_equal(one.step(2), alone)


def test_the_model_may_change_afterwards():
    model, tokens = _model(), _text(40, seed=1)
    sampler, before = Sampler(model), _said(model, tokens)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    mine = np.stack([sampler.step(token) for token in tokens.tolist()])
    np.testing.assert_allclose(mine, before, rtol=0, atol=1e-4)


@pytest.mark.parametrize("network", [NETWORK, None])
@pytest.mark.parametrize("temperature", [0, 0.7, 1.0])
def test_the_text_is_the_one_that_the_model_writes(network, temperature):
    model, prompt = _model(network=network), _text(5, seed=4)[None]
    mine, theirs = (
        [int(c) for c in itertools.islice(more, 200)]
        for more in (
            Sampler(model).characters(prompt, temperature, torch.Generator().manual_seed(1)),
            characters(model, prompt, temperature, torch.Generator().manual_seed(1)),
        )
    )
    assert mine == theirs
    assert len(set(mine)) > 1 or temperature == 0


def test_a_prompt_begins_a_new_text():
    sampler, prompt = Sampler(_model()), torch.tensor([[1, 2, 3]])
    first, again = (
        list(itertools.islice(sampler.characters(prompt, 1, torch.Generator().manual_seed(1)), 60))
        for _ in range(2)
    )
    assert first[0].shape == (1, 1)
    assert first == again
    assert len({int(token) for token in first}) > 1


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (_network(positions=64), "positions"),
        (_network(bias=True), "biases"),
        (replace(NETWORK, mixer="attention", mixer_options={"heads": 3}), "CausalAttention"),
        (replace(NETWORK, mixer="none", mixer_options={}), "NoneType"),
        (replace(NETWORK, ffn="dense", ffn_options={}), "DenseFFN"),
        (_network(ffn={"tiles_per_cluster": 5}), "NestedRouter"),
        (_network({"top_k": 2}), "top_k 2 of 5"),
        (_network({"parts": ("convolution", "rotation"), "slots": 4}), "rotation"),
        (_network({"parts": ("decay", "delta")}), "delta"),
        (_network({"parts": ("gate", "content")}), "content"),
    ],
)
def test_what_it_cannot_do_is_named(network, named):
    with pytest.raises(ValueError, match=named):
        Sampler(_model(network=network))


def test_bad_arguments_are_refused():
    sampler = Sampler(_model(network=None))
    for token in (-1, VOCAB):
        with pytest.raises(ValueError, match=f"0 … 10, got {token}"):
            sampler.step(token)
    with pytest.raises(ValueError, match="at least one token"):
        sampler.prime([])
    for prompt in (torch.zeros(1, 0).long(), torch.zeros(2, 3).long(), torch.zeros(3).long()):
        with pytest.raises(ValueError, match="prompt must be"):
            next(sampler.characters(prompt))
    with pytest.raises(ValueError, match="temperature must not be negative, got -1"):
        next(sampler.characters(torch.tensor([[1]]), -1))
