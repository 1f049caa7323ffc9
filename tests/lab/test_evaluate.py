"""Every measure of a loss is that of a loop, one prediction at a time."""

import importlib
import math
from collections import Counter

import pytest
import torch

from tests import reference
from tests.models.small import ORDER, VOCAB, chain, lookup_model
from trix.counts.ngram import CountTables
from trix.lab import evaluate, evaluate_dynamic, model_log_probs, table_log_probs
from trix.lab.evaluate import Evaluation
from trix.models.charlm import CharLM, LMConfig


def _data(length, seed=0):
    return torch.randint(7, (length,), generator=torch.Generator().manual_seed(seed))


def _model(dropout=0.0):
    torch.manual_seed(3)
    model = CharLM(LMConfig(7, 8, 1, mixer_options={"heads": 2}, tied=False, dropout=dropout))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def _context(data, i, block):
    # the characters of i's block before it
    return data[(i - 1) // block * block : i]


@pytest.mark.parametrize(
    ("length", "block", "batch"), [(2, 5, 3), (6, 5, 3), (29, 7, 2), (36, 5, 7), (31, 64, 1)]
)
def test_a_model_character_by_character(length, block, batch):
    model, data = _model().eval(), _data(length)
    total = 0.0
    for i in range(1, length):
        logits = model(_context(data, i, block)[None])[0, -1].detach().double()
        total -= float(torch.log_softmax(logits, -1)[data[i]])
    score = evaluate(model_log_probs(model), data, block, batch)
    assert score.tokens == length - 1
    assert score.nats == pytest.approx(total / (length - 1), abs=1e-5)


@pytest.mark.parametrize(
    ("smoothing", "block"),
    [("witten-bell", 1), ("add-one", 5), ("witten-bell", 13), ("add-one", 40)],
)
def test_a_table_character_by_character(smoothing, block):
    seen, data = _data(150, 1), _data(29, 2)
    slow = reference.witten_bell if smoothing == "witten-bell" else reference.add_one
    total = 0.0
    for i in range(1, 29):
        context = _context(data, i, block).tolist()
        total -= math.log(slow(seen.tolist(), context, 3, 7)[int(data[i])])
    score = evaluate(table_log_probs(CountTables(seen, 4, 7), 3, smoothing), data, block, 2)
    assert score.nats == pytest.approx(total / 28, abs=1e-12)


def test_dropout_is_off_and_the_mode_is_kept_and_units():
    model, data = _model(dropout=0.5), _data(29)
    expected = evaluate(model_log_probs(model.eval()), data, 7)
    model.train()
    assert evaluate(model_log_probs(model), data, 7) == expected
    assert model.training

    score = Evaluation(math.log(8), 1)
    assert (score.perplexity, score.bits) == pytest.approx((8, 3))


def _measured(*arguments):
    return evaluate(model_log_probs(_model()), *arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _measured(torch.zeros(1).long(), 5), "length >= 2"),
        (lambda: _measured(torch.zeros(2, 5).long(), 5), "length >= 2"),
        (lambda: _measured(_data(9), 0), "block must be at least 1, got 0"),
        (lambda: _measured(_data(9), 4, -3), "batch must be at least 1, got -3"),
        (lambda: evaluate_dynamic(lookup_model(), _data(1), 7), "length >= 2"),
        (lambda: evaluate_dynamic(lookup_model(), _data(40), 0), "block must be .*, got 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


module = importlib.import_module("trix.lab.evaluate")  # the package has a function of that name


@pytest.mark.parametrize(("counted", "block", "length"), [(20, 7, 100), (5, 7, 22), (21, 7, 64)])
def test_dynamic_evaluation_counts_what_it_has_read_and_no_more(
    counted, block, length, monkeypatch
):
    monkeypatch.setattr(module, "_COUNTED", counted)
    seen, text = chain(400), chain(length, seed=7)
    # a model that says what the longest address says
    model = lookup_model(seen, torch.float64)
    torch.nn.init.zeros_(model.gate.score.weight)
    torch.nn.init.zeros_(model.gate.score.bias)
    for place in range(ORDER - 1):
        model.gate.forbid(place)
    memory = model.memory
    part = {20: 21, 5: 7, 21: 21}[counted]  # whole blocks
    total = 0.0
    for t in range(length - 1):
        read = [text[first : first + part] for first in range(0, t // part * part, part)]
        counts = [
            sum((reference.grams(piece, n) for piece in [seen, *read]), Counter())
            for n in range(1, ORDER + 1)
        ]
        tables = reference.continuations(counts)
        taken = [reference.chen_goodman(table) for table in tables]
        row = text[t // block * block : t + 1]
        p = reference.kneser_ney(tables, taken, row, VOCAB)[-1]
        total -= math.log(p[text[t + 1]])
    got = evaluate_dynamic(model, torch.tensor(text), block)
    assert got.nats == pytest.approx(total / (length - 1), abs=1e-6)
    assert got.tokens == length - 1
    assert model.memory is memory
    plain = evaluate(model_log_probs(model), torch.tensor(text), block).nats
    assert got.nats < plain
    monkeypatch.undo()  # too short a text to go on counting
    assert evaluate_dynamic(model, torch.tensor(text), block).nats == pytest.approx(plain)


def test_words_are_counted_on_as_well_and_memories_are_put_back(monkeypatch):
    model, text = lookup_model(words=True), torch.tensor(chain(150, seed=3))
    model.memory.with_text = lambda tokens: model.memory  # n-grams stay as they are
    kept, calls = (model.memory, model.words), []
    plain = evaluate(model_log_probs(model), text, 13).nats
    monkeypatch.setattr(module, "_COUNTED", 26)
    assert evaluate_dynamic(model, text, 13).nats != pytest.approx(plain, abs=1e-4)
    assert (model.memory, model.words) == kept

    def fail(*_):  # also when it breaks off, once words were counted
        calls.append(model.words)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return Evaluation(1.0, 7)

    monkeypatch.setattr(module, "evaluate", fail)
    with pytest.raises(KeyboardInterrupt):
        evaluate_dynamic(model, text, 13)
    assert calls[0] is not calls[1]
    assert (model.memory, model.words) == kept
