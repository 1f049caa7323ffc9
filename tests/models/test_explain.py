import math
from typing import Any

import pytest
import torch

from tests.models import small
from trix.models.explain import explain, visible
from trix.models.lookup import LookupConfig, LookupLM, count
from trix.models.storage import Stored

COUNTED = "the cat sat on the mat, the hat sat on the cat and that was that. "
ALPHABET = "".join(sorted(set(COUNTED + "z\n")))
TEXT = "the cat\nzat on that mat"
ORDER = 4


def stored(network=True, order=ORDER, words=False) -> Stored:
    torch.manual_seed(12)
    lm = small.network(vocab_size=len(ALPHABET), layers=3, ffn={"cells": 4})
    inner = lm if network else None
    config = LookupConfig(len(ALPHABET), order, 0, 8, network=inner, words=words, echoes=words)
    numbers = torch.tensor([ALPHABET.index(c) for c in COUNTED])
    model = LookupLM(config, *count(config, numbers, ALPHABET)).eval()
    small.stirred(model, 0.5)
    with torch.no_grad():
        model.gate.score.bias.zero_()
        model.gate.score.weight.mul_(0.3)
        if words:
            model.gate.score.bias[order : order + 6] += 1
    return Stored(model, ALPHABET, {})


def _known(before, place, tables):
    # whether the table of a place knows the end of a text; of words and echoes the model says it
    if place >= ORDER:
        return tables[place] >= 0
    # whether the counted text holds the last `place` characters, and something after them
    last = before[len(before) - place :] if place else ""
    return len(last) == place and last in COUNTED[:-1]


@pytest.mark.parametrize(("network", "words"), [(True, True), (False, False)])
def test_every_row_is_what_the_model_says_of_the_text_before_it(network, words):
    one = stored(network, words=words)
    model, found = one.model, explain(one, TEXT)
    asked = [None, 0, 1, 2, *[3, 4, 4, 3, 3, 8][: 6 * words]]
    assert [row.character for row in found.rows] == list(TEXT)
    assert found.rows[0][1:] == (None, None, None, (), (), ())
    leaders = set()
    for at, row in enumerate(found.rows[1:], start=1):
        before = TEXT[:at]
        tokens = one.encode(before)
        with torch.no_grad():
            said, tables = model.routed(tokens), model.known(tokens)[0, -1].tolist()
        given = said.logits[0, -1].double().exp()
        assert row.probability == pytest.approx(float(given[ALPHABET.index(TEXT[at])]), rel=1e-4)
        assert row.likeliest == ALPHABET[int(given.argmax())]
        places, raw = said.gate.index[0, -1].tolist(), said.gate.weight[0, -1].tolist()
        weights = [0.0] * len(raw)
        for place, weight in zip(places, raw, strict=True):
            while place < len(asked) and asked[place] is not None:
                if _known(before, place, tables):
                    break
                place = asked[place]
            weights[place] += weight
        assert row.weights == pytest.approx(weights, abs=1e-5)
        assert row.leader == max(range(len(weights)), key=lambda i: weights[i])
        assert row.tiles == tuple(int(route.index[0, -1, 0]) for route in said.routes)
        leaders.add(row.leader)
    assert len(leaders) > 2
    assert any(ORDER <= leader < ORDER + 6 for leader in leaders) or not words
    assert len(found.rows[1].tiles) == (3 if network else 0)
    losses = [-math.log(row.probability) for row in found.rows[1:] if row.probability]
    assert len(losses) == len(TEXT) - 1
    assert found.nats == pytest.approx(sum(losses) / len(losses))


def test_the_slots_are_the_last_memorys_and_read_most():
    model = stored().model
    tokens = stored().encode(TEXT)[:, :-1]
    network: Any = model.network
    with torch.no_grad():
        x = network.embed(tokens) + model._told(model.memory.read(model.memory.addresses(tokens)))
        for block in network.blocks[:-1]:
            x, _, _ = block(x)
        memory = network.blocks[-1].mixer
        seen = network.blocks[-1].mixer_norm(x)
        seen, _ = memory.convolution(seen, memory.convolution.initial_state(1))
        query = (seen[0] @ memory.query.T).view(len(tokens[0]), 3, 4)
        rows = memory.read_rows().view(3, 5, 4)
    found = explain(stored(), TEXT).rows[1:]
    for t, row in enumerate(found):
        assert row.slots == tuple(int((rows[h] @ query[t, h]).argmax()) for h in range(3))
    assert len({row.slots for row in found}) > 2


@pytest.mark.parametrize(("table", "place"), [("order 3", 2), ("word", ORDER)])
def test_a_table_that_was_taken_away_does_not_lead(table, place):
    one = stored(False, words=table == "word")
    rows = explain(one, TEXT).rows
    assert any(row.leader == place for row in rows)
    assert all(row.slots == () == row.tiles for row in rows)  # there is no network
    one.model.drop(table)
    for row in explain(one, TEXT).rows[1:]:
        assert row.weights[place] == 0
        assert row.leader != place
        assert sum(row.weights) == pytest.approx(1)


def test_what_later_characters_are_changes_nothing_before_them():
    one = stored()
    first, second = explain(one, TEXT + "the").rows, explain(one, TEXT + "zzz").rows
    assert not any(m._forward_pre_hooks for m in one.model.modules())
    for a, b in zip(first[: len(TEXT)], second, strict=False):
        assert (a.leader, a.tiles, a.slots) == (b.leader, b.tiles, b.slots)
        assert a.weights == pytest.approx(b.weights, abs=1e-6)


def test_places_have_names_marks_and_depths():
    assert "".join(map(visible, "a \n\té\x07")) == "a␣↵⇥é�"
    found = explain(stored(), TEXT)
    assert found.places == ("order 1", "order 2", "order 3", "order 4", "network")
    assert [found.mark(i) for i in (None, 0, 3, 4)] == ["·", "1", "4", "N"]
    assert [found.depth(i) for i in range(5)] == [0, 1 / 3, 2 / 3, 1, None]
    assert sum(found.led().values()) == len(TEXT) - 1
    short = explain(stored(False, order=1), "the")
    assert (short.places, short.depth(0)) == (("order 1",), 0)
    assert explain(stored(False), "the").places == found.places[:-1]
    long = found._replace(places=tuple(f"order {n}" for n in range(1, 41)))
    assert [long.mark(i) for i in (9, 10, 39)] == ["a", "b", "+"]
    worded = explain(stored(order=2, words=True), TEXT)
    others = ("word", "pair", "apart", "line", "echo", "refrain", "network")
    assert worded.places == ("order 1", "order 2", *others)
    assert [worded.mark(i) for i in range(9)] == [*"12WPALERN"]
    assert [worded.depth(i) for i in range(9)] == [0, 1, *[None] * 7]


def test_bad_texts_are_refused():
    for text, message in [
        ("", "at least one character"),
        ("t", "at least two characters, got 't'"),
        ("the Cat", "character 'C' at 4 is not among the 16"),
    ]:
        with pytest.raises(ValueError, match=message):
            explain(stored(), text)
