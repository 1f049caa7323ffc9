import math

import pytest
import torch

from tests import reference
from trix.counts.ngram import CountTables
from trix.lab.evaluate import Evaluation, evaluate, model_log_probs, table_log_probs
from trix.models.charlm import CharLM, LMConfig


def _data(length, seed=0):
    return torch.randint(7, (length,), generator=torch.Generator().manual_seed(seed))


def _model(positions=64, dropout=0.0):
    torch.manual_seed(3)
    model = CharLM(
        LMConfig(7, 8, 1, positions, mixer_options={"heads": 2}, tied=False, dropout=dropout)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def _context(data, i, block):
    """The characters of i's block before it."""
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


@pytest.mark.parametrize("smoothing", ["witten-bell", "add-one"])
@pytest.mark.parametrize("block", [1, 5, 13, 40])
def test_a_table_character_by_character(smoothing, block):
    seen, data = _data(150, 1), _data(29, 2)
    slow = reference.witten_bell if smoothing == "witten-bell" else reference.add_one
    total = 0.0
    for i in range(1, 29):
        context = _context(data, i, block).tolist()
        total -= math.log(slow(seen.tolist(), context, 3, 7)[int(data[i])])
    score = evaluate(table_log_probs(CountTables(seen, 4, 7), 3, smoothing), data, block, 2)
    assert score.nats == pytest.approx(total / 28, abs=1e-12)


def test_a_block_sees_nothing_of_the_one_before():
    model, block = _model().eval(), 6
    measure = model_log_probs(model)
    rest = evaluate(measure, _data(20), block)
    for seed in (1, 2):
        # the text differs before the second block, which begins with the same character
        data = torch.cat([_data(block, seed), _data(20)])
        first = evaluate(measure, data[: block + 1], block)
        whole = evaluate(measure, data, block)
        assert whole.nats * 25 == pytest.approx(first.nats * 6 + rest.nats * 19, abs=1e-4)
    uncut = evaluate(measure, data, 25)
    assert abs(uncut.nats - whole.nats) > 1e-3


def test_dropout_is_off_and_the_mode_is_kept():
    model, data = _model(dropout=0.5), _data(29)
    expected = evaluate(model_log_probs(model.eval()), data, 7)
    model.train()
    assert evaluate(model_log_probs(model), data, 7) == expected
    assert model.training


def test_units():
    score = Evaluation(math.log(8), 1)
    assert score.perplexity == pytest.approx(8)
    assert score.bits == pytest.approx(3)


@pytest.mark.parametrize(
    ("data", "sizes", "message"),
    [
        (torch.zeros(1).long(), (5,), "length >= 2"),
        (torch.zeros(2, 5).long(), (5,), "length >= 2"),
        (_data(9), (0,), "block must be at least 1, got 0"),
        (_data(9), (4, -3), "batch must be at least 1, got -3"),
    ],
)
def test_what_cannot_be_measured_is_refused(data, sizes, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model_log_probs(_model()), data, *sizes)
