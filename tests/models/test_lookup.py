import dataclasses
import math
from operator import attrgetter
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests import reference
from tests.models.small import FOLDS, NETWORK, ORDER, VOCAB, chain, lookup_model
from trix.counts.context import ContextMemory
from trix.counts.match import REACH as HEARD
from trix.counts.words import ADDRESSES, REACH
from trix.experiments.lookup import weights
from trix.lab.evaluate import evaluate, model_log_probs
from trix.lab.optimize import TrainConfig, make_optimizers
from trix.lab.train import train
from trix.models.charlm import LMConfig
from trix.models.lookup import BlockDraw, LookupConfig, LookupLM, LookupRouted

KINDS: list[dict[str, Any]] = [
    {"network": NETWORK},
    {"network": None},
    {"network": NETWORK, "gate": "fixed"},
    {"network": None, "gate": "fixed", "order": 2},
    {"network": None, "order": 2},
    {"network": None, "order": 7},
    {"network": NETWORK, "words": True},
    {"network": None, "words": True, "order": 2},
    {"network": NETWORK, "echoes": True},
    {"network": None, "words": True, "echoes": True, "order": 2},
]


def _model(**changes):
    return lookup_model(chain(400), torch.float64, **changes)


def _tokens(batch, time, seed=0):
    text = torch.tensor(chain(400, seed=1))
    first = torch.randint(400 - time, (batch, 1), generator=torch.Generator().manual_seed(seed))
    return text[first + torch.arange(time)]


def _only(model, place):
    # a model that says what one place says: the others may not speak, and nothing is sharpened
    for other in range(model.gate.places):
        if other != place:
            model.gate.forbid(other)
    torch.nn.init.zeros_(model.gate.score.weight)
    torch.nn.init.zeros_(model.gate.score.bias)
    return model


def _reach(config):
    before = [config.order - 1, 3, (REACH - 1) * config.words, (HEARD - 1) * config.echoes]
    return max(before)


def _in_parts(model, tokens, chunks) -> list[LookupRouted]:
    parts = []
    for part in tokens.split(chunks, dim=1):
        parts.append(model.routed(part, parts[-1].state if parts else None))
    return parts


CHUNKS = ([1] * 13, [5, 1, 7], [12, 1], [2, 11])


@pytest.mark.parametrize("n", range(len(KINDS)))
def test_chunks_equal_one_pass_and_the_future_changes_nothing(n):
    model, tokens = _model(**KINDS[n]), _tokens(2, 13)
    whole, parts = model.routed(tokens), _in_parts(model, tokens, CHUNKS[n % 4])
    state = parts[-1].state
    assert torch.equal(torch.cat([p.gate.index for p in parts], dim=1), whole.gate.index)
    assert torch.equal(torch.cat([p.gate.path for p in parts], dim=1), whole.gate.path)
    for part in ("logits", "gate.weight", "gate.score", "inverse_temperature"):
        got = torch.cat([attrgetter(part)(p) for p in parts], dim=1)
        torch.testing.assert_close(got, attrgetter(part)(whole), rtol=0, atol=1e-10)
    for layer, route in enumerate(whole.routes):
        chosen = torch.cat([p.routes[layer].index for p in parts], dim=1)
        assert torch.equal(chosen, route.index)
    assert len(whole.routes) == len(model.routed_layers()) == (2 if model.network else 0)
    assert state.seen == whole.state.seen == 13
    assert torch.equal(state.recent, whole.state.recent)
    assert state.recent.shape[1] == min(13, _reach(model.config))  # it does not grow
    sums = whole.logits.exp().sum(dim=-1)
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-12)
    # the future changes neither outputs nor addresses nor routes
    changed, places = tokens.clone(), model.known(tokens)
    changed[:, 6:] = (changed[:, 6:] + 4) % VOCAB
    for other in (changed, tokens[:, :6]):
        got = model.routed(other)
        for mine, first in ((got.logits, whole.logits), (got.gate.weight, whole.gate.weight)):
            torch.testing.assert_close(mine[:, :6], first[:, :6], rtol=0, atol=1e-10)
        assert torch.equal(got.gate.index[:, :6], whole.gate.index[:, :6])
        assert torch.equal(model.known(other)[:, :6], places[:, :6])
        for route, expected in zip(got.routes, whole.routes, strict=True):
            assert torch.equal(route.index[:, :6], expected.index[:, :6])
    assert not torch.allclose(model(changed)[:, 6:], whole.logits[:, 6:])


@pytest.mark.parametrize(("place", "block"), [(0, None), (1, 0), (2, 2), (3, None), (3, 2)])
def test_what_is_looked_up_is_what_the_loop_counted(place, block):
    model = _only(_model(), place)
    tokens, text = _tokens(2, 13), chain(400)
    left_out = None if block is None else torch.tensor([block, 1])
    got = model.routed(tokens, None, left_out).logits
    counts = [reference.grams(text, n) for n in range(1, ORDER + 1)]
    taken = [reference.chen_goodman(c) for c in reference.continuations(counts)]
    for b, gone in enumerate((-1, -1) if block is None else (block, 1)):
        kept = [reference.grams(text, n, FOLDS, gone) for n in range(1, ORDER + 1)]
        tables = reference.continuations(kept)
        for t in range(13):
            row = tokens[b, : t + 1].tolist()
            p = reference.kneser_ney(tables, taken, row, VOCAB)[place]
            assert got[b, t].exp().tolist() == pytest.approx(p, abs=1e-9)


def test_the_network_is_told_what_the_tables_say():
    model = _only(_model(network=NETWORK), ORDER)
    tokens = _tokens(2, 7)
    reading = model.memory.read(model.memory.addresses(tokens))
    given = []
    model.told.register_forward_hook(lambda _module, inputs, _told: given.append(inputs[0]))
    before = model(tokens)
    expected = torch.cat(
        [reading.probabilities.sqrt().flatten(-2), 0.2 * reading.evidence.flatten(-2)], dim=-1
    )
    torch.testing.assert_close(given[0], expected)
    assert model.network is not None
    told = model.told(expected)
    features, _, _ = model.network.features(tokens, None, told)
    torch.testing.assert_close(before, F.log_softmax(model.network.head(features), dim=-1))
    # only what is told differs
    model.memory = ContextMemory(torch.tensor(chain(400, seed=9)), ORDER, VOCAB, 0, torch.float64)
    assert not torch.allclose(model(tokens), before)
    torch.nn.init.zeros_(model.told.weight)
    torch.testing.assert_close(model(tokens), F.log_softmax(model.network(tokens), dim=-1))


def test_a_gate_without_a_network_knows_the_latest_three_characters():
    model = _model(order=2)
    tokens = _tokens(1, 13)
    whole = model.routed(tokens).gate.weight
    for back, same in ((0, False), (1, False), (2, False), (3, True)):
        changed = tokens.clone()
        changed[:, 8 - back] = (changed[:, 8 - back] + 3) % VOCAB
        weight = model.routed(changed).gate.weight
        assert torch.equal(weight[:, 8], whole[:, 8]) == same
    # before the first there is none, which is no character
    with torch.no_grad():
        model.latest.weight[VOCAB] += 1
    moved = (model.routed(tokens).gate.weight != whole).any(dim=-1)
    assert moved[0].tolist() == [True, True] + [False] * 11


@pytest.mark.parametrize(
    ("table", "below", "kind"),
    [
        ("order 3", "order 2", {"network": NETWORK}),
        ("order 4", "order 3", {"words": True}),
        ("pair", "word", {"network": NETWORK, "words": True}),
        ("pair", "word", {"words": True}),
        ("echo", "order 5", {"network": NETWORK, "echoes": True, "order": 6}),
        ("refrain", "echo", {"echoes": True, "order": 6}),
    ],
)
def test_a_table_that_is_dropped_says_what_the_one_that_it_asks_says(table, below, kind):
    model = _model(**kind)
    tokens, tables = _tokens(2, 60), list(model.config.tables)
    place, lower = tables.index(table), tables.index(below)
    assert model.config.lower(place) == lower
    before, whole = model.routed(tokens), model.read(tokens)
    assert not torch.equal(whole.probabilities[..., place, :], whole.probabilities[..., lower, :])
    model.drop(table)
    assert model.dropped == {table}
    after, routed = model.read(tokens), model.routed(tokens)
    assert torch.equal(after.probabilities[..., place, :], after.probabilities[..., lower, :])
    assert not after.evidence[..., place, :].any()
    assert (model.known(tokens)[..., place] == -1).all()
    others = list(range(place))
    assert torch.equal(after.probabilities[..., others, :], whole.probabilities[..., others, :])
    assert torch.equal(after.evidence[..., others, :], whole.evidence[..., others, :])
    weight = torch.zeros_like(routed.gate.weight)
    weight.scatter_(-1, routed.gate.index, routed.gate.weight)
    assert not weight[..., place].any()
    assert not torch.allclose(routed.logits, before.logits)
    model.restore(table)
    restored = model.routed(tokens)
    assert torch.equal(restored.logits, before.logits)
    assert torch.equal(restored.gate.index, before.gate.index)
    assert model.dropped == frozenset()


def test_a_model_with_echoes_reads_them_off_the_text_itself():
    model = _only(_model(words=True, echoes=True), ORDER + 4 + 1)
    tokens = torch.tensor([chain(700, seed=1)])
    got, places = model(tokens)[0].exp(), model.known(tokens)[0, :, -2:]
    lower = model.read(tokens).probabilities[0, :, ORDER - 1]  # of four orders, the longest
    for t in range(0, 700, 7):
        heard = reference.echo(tokens[0, : t + 1].tolist(), VOCAB, lower[t].tolist())
        assert places[t].tolist() == [place for place, _, _ in heard]
        assert got[t].tolist() == pytest.approx(heard[1][1], abs=1e-9)


def test_muon_turns_the_gate_too():
    model = _model(hidden=35, words=True)
    _, muon = make_optimizers(model, TrainConfig(muon=0.1))
    # what it scores with has fewer rows than that, and the latest characters are no matrix
    turned = [p for group in muon.param_groups for p in group["params"]]
    assert list(map(id, turned)) == [id(model.gate.read.weight), id(model.gate.think.weight)]


def test_places_are_the_tables_and_the_network():
    orders = ("order 1", "order 2")
    assert LookupConfig(order=2, echoes=True).places == (*orders, "echo", "refrain")
    heard = LookupConfig(order=9, words=True, echoes=True)
    assert heard.tables[9:] == (*ADDRESSES, "echo", "refrain")
    assert [heard.tables[heard.lower(n)] for n in range(11, 15)] == [
        "word", "order 4", "order 5", "echo",
    ]  # fmt: skip
    assert LookupConfig(order=3, echoes=True).lower(3) == 2
    assert LookupConfig(order=2).places == orders
    both = LookupConfig(order=6, network=LMConfig(vocab_size=65), words=True)
    assert both.places == (*(f"order {n}" for n in range(1, 7)), *ADDRESSES, "network")
    assert [both.places[both.lower(n)] for n in range(1, 10)] == [
        *(f"order {n}" for n in range(1, 6)), "order 5", "word", "word", "order 4",
    ]  # fmt: skip
    assert LookupConfig(order=2, words=True).lower(2) == 1


@pytest.mark.parametrize("echoes", [False, True])
def test_a_long_text_in_pieces_knows_what_one_pass_knows(echoes):
    model = _model(network=None, words=True, echoes=echoes)
    tokens = torch.tensor([chain(700, seed=n) for n in (1, 2, 3)])
    whole = model.routed(tokens)
    parts = _in_parts(model, tokens, [1, 90, 3, 77, 85, 257, 100, 87])
    assert parts[-1].state.recent.shape[1] == _reach(model.config)
    joined = torch.cat([p.logits for p in parts], dim=1)
    torch.testing.assert_close(joined, whole.logits, rtol=0, atol=1e-10)
    words = model.known(tokens)[..., ORDER:]
    assert (words >= 0).any(dim=1).all()
    assert (words < 0).any(dim=1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_all_that_is_learned_and_forward_writes_nothing(kind):
    model = _model(**kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    out = model.routed(_tokens(3, 13), None, torch.tensor([0, 1, 2]))
    F.nll_loss(out.logits.flatten(0, 1), _tokens(3, 13, seed=1).flatten()).backward()
    for name, parameter in model.named_parameters():
        idle = kind.get("gate") == "fixed" and name.startswith(("gate.", "latest."))
        expected = not idle or name == "gate.score.bias"
        assert (parameter.grad is not None and bool(parameter.grad.any())) == expected, name
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_fresh_network_is_not_told_anything_and_tables_are_no_parameters():
    config = LookupConfig(VOCAB, ORDER, 0, network=NETWORK)
    memory = ContextMemory(torch.tensor(chain(400)), ORDER, VOCAB, 0)
    torch.manual_seed(0)
    model = LookupLM(config, memory).eval()
    assert not model.told.weight.any()
    assert model.network is not None
    told = ORDER * (VOCAB + 3) * 12
    gate = (4 * ORDER + 12 + 1) * 64 + 65 * 64 + 65 * (ORDER + 2)
    assert model.parameter_count() == model.network.parameter_count() + told + gate
    assert all("memory" not in name for name in model.state_dict())
    alone = LookupLM(dataclasses.replace(config, network=None), memory)
    gate = (4 * ORDER + 3 * 12 + 1) * 64 + 65 * 64 + 65 * (ORDER + 1)
    assert alone.parameter_count() == 12 * (VOCAB + 1) + gate
    assert alone.routed_layers() == []


def test_without_leaving_one_out_the_router_trusts_the_longest_order_too_much():
    text = torch.tensor(chain(5000, 13, seed=4))
    seen, unseen = text[:4000], text[4000:]
    config = TrainConfig(steps=120, batch=16, context=32, lr=1e-2, warmup=10)
    found = {}
    for folds in (8, 0):
        torch.manual_seed(0)
        memory = ContextMemory(seen, 6, 13, folds)
        model: Any = LookupLM(LookupConfig(13, 6, folds, 16), memory)
        result = train(model, BlockDraw(seen, folds), config, progress=False)
        loss = evaluate(model_log_probs(model), unseen, 256).nats
        found[folds] = (model, result.curve[-1][1], loss, weights(model, unseen))
    model, learned, loss, weight = found[8]
    _, learned_cheating, loss_cheating, weight_cheating = found[0]
    assert weight_cheating["weight_6"] > 2 * weight["weight_6"]
    # it looked better on the text that it had counted, and is worse on any other
    assert learned_cheating < learned - 0.2
    assert loss_cheating > loss + 0.2
    # a gate that learned is better than any one order
    assert loss < math.log(13) - 0.5
    rows, targets = unseen[:-1].view(-1, 27), unseen[1:].view(-1, 27)
    said = model.memory.read(model.memory.addresses(rows)).probabilities
    index = targets[..., None, None].expand(*targets.shape, 6, 1)
    alone = -said.gather(-1, index).log().mean(dim=(0, 1)).squeeze(-1)
    model.eval()
    mixed = F.nll_loss(model(rows).flatten(0, 1), targets.flatten())
    assert mixed.item() < alone.min().item()
