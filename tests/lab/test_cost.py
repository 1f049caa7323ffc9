"""What a layer costs: counts that follow from the shapes, and laws that are known."""

import pytest
import torch
from torch import nn

from trix.lab import cost
from trix.memory.attention import AttentionState


@pytest.mark.parametrize("n", [1, 5, 13, 64])
def test_attention_is_charged_for_what_its_mask_lets_through(n):
    dim = 24
    pairs = n * (n + 1) // 2
    assert cost.multiply_adds("attention", n, dim, 4) == 4 * n * dim * dim + 2 * pairs * dim


@pytest.mark.parametrize(
    ("slots", "chunk", "chunks"), [(64, 64, 1), (16, 16, 3), (5, 16, 8), (256, 64, 3)]
)
def test_routed_memory_costs_the_same_for_every_token(slots, chunk, chunks):
    dim, heads, width = 24, 4, 4
    n = chunk * chunks
    each = 4 * dim * dim + heads * dim + width * dim  # projections, decay, convolution
    each += 2 * slots * dim  # two addresses
    each += chunk * (heads * slots + dim)  # within a chunk
    each += 2 * slots * dim  # what is added to the slots and read from their start
    assert cost.multiply_adds("routed-memory", n, dim, heads, slots=slots) == n * each


def test_kept_bytes_of_known_calls():
    x = torch.randn(5, 7, requires_grad=True)
    layer = nn.Linear(7, 3, bias=False)
    assert cost.kept_bytes(layer, lambda: layer(x)) == 4 * 35  # the tokens, not the weight
    assert cost.kept_bytes(layer, lambda: x.exp()) == 4 * 35  # its result
    assert cost.kept_bytes(layer, lambda: (x * x).sum()) == 4 * 35  # shared by both factors
    assert cost.kept_bytes(layer, lambda: x[:2] * x[2:4]) == 4 * 35  # two views of one memory
    with torch.no_grad():
        assert cost.kept_bytes(layer, lambda: layer(x).exp()) == 0


def test_a_training_step_reaches_all_and_leaves_no_gradient():
    layer = cost.make_layer("routed-memory", 8, 2)
    seen = {}
    for name, parameter in layer.named_parameters():
        parameter.register_hook(lambda g, name=name: seen.update({name: g.abs().sum().item()}))
    x = torch.randn(1, 7, 8, requires_grad=True)
    x.register_hook(lambda g: seen.update(x=g.abs().sum().item()))
    cost.train_step(layer, x)
    assert set(seen) == {"x", *(name for name, _ in layer.named_parameters())}
    assert min(seen.values()) > 0
    assert x.grad is None
    assert all(p.grad is None for p in layer.parameters())


def test_a_routed_memory_is_brought_to_its_state_piece_by_piece(monkeypatch):
    layer = cost.make_layer("routed-memory", 8, 2)
    read = []
    layer.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    monkeypatch.setattr(cost, "PIECE", 5)
    torch.manual_seed(0)
    state = cost.state_after(layer, 13)
    assert [piece.shape[1] for piece in read] == [5, 5, 3]
    with torch.no_grad():
        whole = layer(torch.cat(read, dim=1))[1]
    torch.testing.assert_close(state.slots, whole.slots)  # pyright: ignore[reportAttributeAccessIssue]
    torch.testing.assert_close(state.past, whole.past)  # pyright: ignore[reportAttributeAccessIssue]


def test_what_is_timed_reads_the_whole_past(monkeypatch):
    layer = cost.make_layer("attention", 8, 2)
    state = cost.state_after(layer, 13)
    assert isinstance(state, AttentionState)
    assert state.keys.shape == state.values.shape == (1, 2, 13, 4)
    given = []
    layer.register_forward_hook(lambda _, args, result: given.append((args, result[1])))
    cost.decoder(layer, state, steps=3)()
    assert [args[0].shape for args, _ in given] == [(1, 1, 8)] * 3
    assert all(args[1] is state for args, _ in given)
    assert all(after.keys.shape[2] == 14 for _, after in given)
    assert not given[0][1].keys.requires_grad

    reads = []

    def look(query, keys, values):
        reads.append((query.shape, keys is state.keys, values is state.values))

    monkeypatch.setattr(cost.F, "scaled_dot_product_attention", look)
    cost.reader(state, steps=2)()
    assert reads == [((1, 2, 1, 4), True, True)] * 2


def test_exponent_of_known_laws():
    sizes = (64, 256, 1024)
    assert cost.exponent({n: 3 * n**0.5 for n in sizes}) == pytest.approx(0.5)
    assert cost.exponent(dict.fromkeys(sizes, 7.0)) == pytest.approx(0.0)
    for bad in ({64: 1.0}, {64: 0.0, 256: 1.0}, {0: 1.0, 2: 1.0}):
        with pytest.raises(ValueError, match="positive sizes and costs"):
            cost.exponent(bad)
