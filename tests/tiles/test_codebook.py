import math

import pytest
import torch

import trix
from tests import reference
from tests.tiles.helpers import agree, tokens
from trix.tiles.codebook import KEEP, STARVED

DIM, ENTRIES = 13, 7
SHAPES = [(1, 1), (3, 1), (1, 2), (3, 2), (7, 1)]
"""Entries blended, and groups."""


def _layer(top_k=1, groups=1, learn="gradient", **options):
    torch.manual_seed(3)
    return trix.CodebookFFN(DIM, ENTRIES, top_k, groups, learn, **options).double()


def _loop(layer, x):
    rows, values, chosen, out = layer.signatures, layer.values, [], []
    temperature = float(layer.temperature) * math.sqrt(DIM)
    for token in x:
        hard = torch.zeros(DIM, dtype=x.dtype)
        soft = torch.zeros(DIM, dtype=x.dtype)
        chosen.append([])
        for g in range(layer.groups):
            own = list(range(g * ENTRIES, (g + 1) * ENTRIES))
            best = reference.best_tiles(token.detach(), rows[own].detach(), layer.top_k)
            scores = torch.stack([token @ rows[e] for e in own])
            share = (scores.detach()[best] / temperature).exp()
            for e, w in zip(best, (share / share.sum()).tolist(), strict=True):
                hard = hard + w * values[own[e]].detach()
                chosen[-1].append(own[e])
            grow = (scores / temperature).exp()
            for e, w in zip(own, grow / grow.sum(), strict=True):
                soft = soft + w * values[e]
        out.append(hard + soft - soft.detach())
    return chosen, torch.stack(out)


@pytest.mark.parametrize(("top_k", "groups"), SHAPES)
def test_routes_outputs_and_gradients_equal_the_loop(top_k, groups):
    layer, x = _layer(top_k, groups, temperature=0.3), tokens(13).requires_grad_()
    output, route = layer.routed(x)
    chosen, slow = _loop(layer, x)
    assert route.index.tolist() == chosen
    agree(output, slow, [x, layer.keys.raw, layer.values])


def test_a_small_temperature_is_the_choice_and_is_saved():
    layer, hard, x = _layer(ENTRIES, temperature=1.0), _layer(1), tokens(40)
    assert torch.equal(hard(x), hard.values[hard.routed(x).route.index[:, 0]])
    scores = (x @ layer.signatures.T).topk(2).values
    clear = scores[:, 0] - scores[:, 1] > 0.1
    assert (layer(x) - hard(x))[clear].abs().max() > 1e-3
    layer.set_temperature(0.001)
    torch.testing.assert_close(layer(x)[clear], hard(x)[clear], rtol=0, atol=1e-9)
    fresh = _layer(ENTRIES)
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(x), layer(x))


@pytest.mark.parametrize(
    ("top_k", "groups", "dtype"),
    [(1, 1, torch.bfloat16), (3, 1, torch.float32), (3, 2, torch.float64), (7, 2, torch.bfloat16)],
)
def test_the_exported_table_is_the_layer_bit_for_bit(top_k, groups, dtype):
    layer, x = _layer(top_k, groups).to(dtype), tokens(4, 5).to(dtype)
    table, other = layer.export_table(), _layer(top_k, groups, temperature=1.0).export_table()
    expected, route = layer.routed(x)
    with torch.no_grad():
        layer.values.add_(1)
        layer.keys.raw.neg_()
    assert torch.equal(table(x), expected)
    address = table.address(x)
    assert torch.equal(address.index, route.index)
    assert torch.equal(table.read(address), expected)
    assert table(x[:0]).shape == x[:0].shape
    assert not list(table.parameters())
    other.to(dtype).load_state_dict(table.state_dict())
    assert torch.equal(other(x), expected)
    assert repr(table) == f"CodebookTable(dim=13, tiles={groups * ENTRIES}, top_k={top_k})"
    torch.compiler.reset()
    assert torch.equal(torch.compile(table, fullgraph=True, backend="eager")(x), expected)


def test_an_update_counts_what_was_read():
    layer, x = _layer(3, 2), tokens(50)
    route = layer.routed(x).route
    before = layer.reads.clone()
    layer.update(route)
    counts = torch.zeros(2 * ENTRIES, dtype=torch.float64)
    for n in range(50):
        for place in (0, 3):  # the best entry of each group
            counts[route.index[n, place]] += 1 / 50
    torch.testing.assert_close(layer.reads, KEEP * before + (1 - KEEP) * counts)
    torch.testing.assert_close(layer.reads.view(2, -1).sum(dim=1), torch.ones(2).double())


@pytest.mark.parametrize("groups", [1, 2])
def test_ema_signatures_go_a_step_towards_the_mean_of_their_readers(groups):
    layer, x = _layer(groups=groups, learn="ema"), tokens(50)
    layer.keys.freeze(1)
    route, before = layer.routed(x).route, layer.keys.raw.clone()
    layer.update(route)
    for entry in range(groups * ENTRIES):
        readers = x[(route.index == entry).any(dim=-1)]
        expected = before[entry]
        if len(readers) and entry != 1:
            mean = readers.mean(dim=0) / math.sqrt(DIM)
            expected = KEEP * before[entry] + (1 - KEEP) * mean
            assert not torch.equal(expected, before[entry])
        torch.testing.assert_close(layer.keys.raw[entry], expected)


def test_a_dead_entry_starts_again_at_the_token_that_was_served_worst():
    layer, x = _layer(), tokens(20)
    with torch.no_grad():
        layer.reads[[2, 5]] = 0.0
    layer.keys.freeze(5)  # frozen rows stay, dead or not
    x = x[(layer.routed(x).route.index[:, 0] != 2)]
    route, before = layer.routed(x).route, layer.keys.raw.clone()
    layer.update(route)
    worst = route.score[:, 0].argmin()
    torch.testing.assert_close(layer.keys.raw[2], x[worst] / math.sqrt(DIM))
    others = [0, 1, 3, 4, 5, 6]
    assert torch.equal(layer.keys.raw[others], before[others])
    assert layer.reads[2] == pytest.approx(1 / ENTRIES)
    assert layer.reads[5] < STARVED / ENTRIES
    assert layer.routed(x[worst]).route.index.item() == 2


def test_entries_that_are_dead_at_once_start_again_in_turn_each_at_a_token_of_its_own():
    layer, x = _layer(groups=2), tokens(5)
    layer.reads.zero_()
    for first in (0, 5):
        route, before = layer.routed(x).route, layer.keys.raw.detach().clone()
        layer.update(route)
        moved = (layer.keys.raw != before).any(dim=-1)
        assert moved.nonzero().flatten().tolist() == list(range(first, first + 5))
        worst = x[route.score[:, 0].argsort()] / math.sqrt(DIM)
        torch.testing.assert_close(layer.keys.raw.detach()[moved], worst)


def test_a_nan_teaches_nothing():
    layer, again, x = _layer(learn="ema"), _layer(learn="ema"), tokens(21)
    clean = layer.routed(x[1:]).route
    layer.update(clean)
    x[0, 3] = float("nan")
    again.update(again.routed(x).route)
    for key, number in layer.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], number)
    again.update(again.routed(x[:1]).route)
    again.update(again.routed(x[:0]).route)
    for key, number in layer.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], number)
