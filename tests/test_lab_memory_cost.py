"""What reading the past costs: counts that follow from the shapes, and laws that are known."""

import json
import math
from typing import Any

import pytest
import torch
from torch import nn

from trix.experiments import cost as memory_cost
from trix.experiments.cost import MemoryCost
from trix.experiments.table import EXPERIMENTS
from trix.lab import cost as layer_cost
from trix.lab.corpus import Corpus
from trix.lab.cost import (
    decoder,
    exponent,
    kept_bytes,
    make_layer,
    multiply_adds,
    reader,
    state_after,
    train_step,
)
from trix.memory.attention import AttentionState

CORPUS = Corpus("small", "made up", "abc " * 30)


@pytest.mark.parametrize("n", [1, 5, 13, 64])
def test_attention_is_charged_for_what_its_mask_lets_through(n):
    dim = 24
    pairs = n * (n + 1) // 2
    assert multiply_adds("attention", n, dim, 4) == 4 * n * dim * dim + 2 * pairs * dim


@pytest.mark.parametrize(("slots", "chunk"), [(64, 64), (16, 16), (5, 16), (256, 64)])
@pytest.mark.parametrize("chunks", [1, 3, 8])
def test_routed_memory_costs_the_same_for_every_token(chunks, slots, chunk):
    dim, heads, width = 24, 4, 4
    n = chunk * chunks
    each = 4 * dim * dim + heads * dim + width * dim  # projections, decay, convolution
    each += 2 * slots * dim  # two addresses
    each += chunk * (heads * slots + dim)  # within a chunk
    each += 2 * slots * dim  # what is added to the slots and read from their start
    assert multiply_adds("routed-memory", n, dim, heads, slots=slots) == n * each


def test_kept_bytes_of_known_calls():
    x = torch.randn(5, 7, requires_grad=True)
    layer = nn.Linear(7, 3, bias=False)
    assert kept_bytes(layer, lambda: layer(x)) == 4 * 35  # the tokens, not the weight
    assert kept_bytes(layer, lambda: x.exp()) == 4 * 35  # its result
    assert kept_bytes(layer, lambda: (x * x).sum()) == 4 * 35  # shared by both factors
    assert kept_bytes(layer, lambda: x[:2] * x[2:4]) == 4 * 35  # two views of one memory
    with torch.no_grad():
        assert kept_bytes(layer, lambda: layer(x).exp()) == 0


def test_a_training_step_reaches_all_and_leaves_no_gradient():
    layer = make_layer("routed-memory", 8, 2)
    seen = {}
    for name, parameter in layer.named_parameters():
        parameter.register_hook(lambda g, name=name: seen.update({name: g.abs().sum().item()}))
    x = torch.randn(1, 7, 8, requires_grad=True)
    x.register_hook(lambda g: seen.update(x=g.abs().sum().item()))
    train_step(layer, x)
    assert set(seen) == {"x", *(name for name, _ in layer.named_parameters())}
    assert min(seen.values()) > 0
    assert x.grad is None
    assert all(p.grad is None for p in layer.parameters())


def test_a_routed_memory_is_brought_to_its_state_piece_by_piece(monkeypatch):
    layer = make_layer("routed-memory", 8, 2)
    read = []
    layer.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    monkeypatch.setattr(memory_cost, "PIECE", 5)
    torch.manual_seed(0)
    state = state_after(layer, 13)
    assert [piece.shape[1] for piece in read] == [5, 5, 3]
    with torch.no_grad():
        whole = layer(torch.cat(read, dim=1))[1]
    torch.testing.assert_close(state.slots, whole.slots)  # pyright: ignore[reportAttributeAccessIssue]
    torch.testing.assert_close(state.past, whole.past)  # pyright: ignore[reportAttributeAccessIssue]


def test_what_is_timed_reads_the_whole_past(monkeypatch):
    layer = make_layer("attention", 8, 2)
    state = state_after(layer, 13)
    assert isinstance(state, AttentionState)
    assert state.keys.shape == state.values.shape == (1, 2, 13, 4)
    given = []
    layer.register_forward_hook(lambda _, args, result: given.append((args, result[1])))
    decoder(layer, state, steps=3)()
    assert [args[0].shape for args, _ in given] == [(1, 1, 8)] * 3
    assert all(args[1] is state for args, _ in given)
    assert all(after.keys.shape[2] == 14 for _, after in given)
    assert not given[0][1].keys.requires_grad

    reads = []

    def look(query, keys, values):
        reads.append((query.shape, keys is state.keys, values is state.values))

    monkeypatch.setattr(layer_cost.F, "scaled_dot_product_attention", look)
    reader(state, steps=2)()
    assert reads == [((1, 2, 1, 4), True, True)] * 2


@pytest.fixture
def clock(monkeypatch):
    """A clock that obeys a law: what is long takes the cube of its tokens, what is not, 1."""

    def seconds(call, tokens, rounds):
        call()
        return float(tokens**3) if tokens >= 64 else 1.0

    monkeypatch.setattr(memory_cost, "QUICK_LENGTHS", (13, 64, 128, 192))
    monkeypatch.setattr(memory_cost, "LONG", 64)
    monkeypatch.setattr(memory_cost, "LONGEST_TRAINED", {"attention": 128, "routed-memory": 192})
    monkeypatch.setattr(memory_cost, "_seconds", seconds)


def test_every_length_is_measured(clock, tmp_path):
    arm = MemoryCost("routed-memory")
    metrics = arm.run(CORPUS, 1, "quick", tmp_path).metrics
    for n in (13, 64, 128, 192):
        assert metrics[f"multiply_adds_{n}"] == multiply_adds("routed-memory", n)
        spent = n**3 if n >= 64 else 1
        assert metrics[f"forward_seconds_{n}"] == metrics[f"train_seconds_{n}"] == spent
        assert metrics[f"decode_seconds_{n}"] == 1
        assert metrics[f"state_bytes_{n}"] == metrics["state_bytes_13"] < 2**20
        assert f"read_seconds_{n}" not in metrics
    assert metrics["kept_bytes_128"] > 1.9 * metrics["kept_bytes_64"]
    assert metrics["cost_exponent"] == pytest.approx(1, abs=0.05)
    assert metrics["time_exponent"] == pytest.approx(3)
    again, other = (arm.run(CORPUS, seed, "quick", tmp_path).metrics for seed in (1, 2))
    assert metrics == again == other  # what is counted does not depend on the seed


def test_attention_is_trained_as_far_as_is_said(clock, tmp_path):
    outcome = MemoryCost("attention").run(CORPUS, 0, "quick", tmp_path)
    metrics = outcome.metrics
    assert {name for name in metrics if name.startswith(("train", "kept"))} == {
        f"{what}_{n}" for what in ("train_seconds", "kept_bytes") for n in (13, 64, 128)
    }
    for n in (13, 64, 128, 192):
        assert metrics[f"forward_seconds_{n}"] > 0
        assert metrics[f"read_seconds_{n}"] == 1
        assert metrics[f"state_bytes_{n}"] == pytest.approx(8 * 256 * n, abs=64)
    laws = {n: float(n * (1024 + n + 1)) for n in (13, 64, 128, 192)}
    assert metrics["cost_exponent"] == pytest.approx(exponent(laws))
    assert metrics["time_exponent"] == pytest.approx(3)
    assert outcome.parameters == 4 * 256 * 256
    assert all(math.isfinite(value) for value in metrics.values())


def test_the_seed_draws_weights_and_tokens(clock, tmp_path, monkeypatch):
    drawn = []

    def look(layer, call):
        drawn.append(
            [
                float(call()[0].detach().sum()),
                *(float(p.detach().sum()) for p in layer.parameters()),
            ]
        )
        return 1

    monkeypatch.setattr(memory_cost, "kept_bytes", look)
    for seed in (0, 0, 1):
        MemoryCost("attention").run(CORPUS, seed, "quick", tmp_path)
    first, again, other = drawn[::3]
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_the_median_of_fewer_rounds_where_texts_are_longer(monkeypatch):
    ticks = iter([0, 9, 10, 11, 20, 22])
    monkeypatch.setattr(memory_cost.time, "perf_counter", lambda: next(ticks))
    assert memory_cost._seconds(lambda: None, 20000, 51) == 2  # of 9, 1 and 2
    ticks = iter([0, 7])
    assert memory_cost._seconds(lambda: None, 65536, 51) == 7
    ticks = iter([0, 7, 10, 12, 20, 21, 30, 31])
    assert memory_cost._seconds(lambda: None, 1, 2) == 4.5


def test_the_experiment_has_both_and_its_configuration_is_plain():
    arms: dict[str, Any] = EXPERIMENTS["memory-cost"]
    assert {(arm.mixer, arm.options.get("slots")) for arm in arms.values()} == {
        ("attention", None),
        *(("routed-memory", slots) for slots in (16, 64, 256)),
    }
    for arm in arms.values():
        config = arm.config(CORPUS, "full")
        assert json.loads(json.dumps(config))["lengths"] == [256, 1024, 4096, 16384, 65536]
        assert set(config["trained"]) <= set(config["lengths"])
        assert arm.seeded


def test_an_unknown_mixer_is_named():
    with pytest.raises(ValueError, match="got 'none'"):
        MemoryCost("none")
