import math

import pytest
import torch

from trix.counts.gate import ContextGate
from trix.counts.rows import ContextReading

ORDER, STATE, VOCAB = 5, 7, 13


def _gate(**options):
    torch.manual_seed(3)
    gate = ContextGate(**{"tables": ORDER, "state_dim": STATE, "hidden": 11, **options}).double()
    with torch.no_grad():  # as after training: no place, and no unit, that is like another
        for parameter in gate.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return gate


def _asked(shape=(2, 3), seed=0, network=True, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)

    def randn(*size):
        return torch.randn(*shape, *size, generator=draw, dtype=dtype)

    probabilities = torch.softmax(2 * randn(ORDER, VOCAB), dim=-1)
    reading = ContextReading(probabilities, randn(ORDER, 3).abs())
    return reading, randn(STATE), randn(VOCAB) if network else None


def _slow(gate, reading, state, own, forbidden=()):
    # one position: log-probabilities, weights in the places' order, scores, inverse temperature
    said = list(reading.probabilities.log())
    undecided = [(p * p.log()).sum()[None] for p in reading.probabilities]
    pairs = zip(reading.evidence, undecided, strict=True)
    seen = torch.cat([0.3 * part for pair in pairs for part in pair] + [state])
    if own is not None:
        said.append(own - own.exp().sum().log())
    for layer in (gate.read, gate.think):
        units = layer.weight @ seen + layer.bias
        seen = 0.5 * units * (1 + torch.erf(units / math.sqrt(2)))
    *scores, loud = gate.score.bias if gate.fixed else gate.score.weight @ seen + gate.score.bias
    powers = [0.0 if i in forbidden else math.exp(s) for i, s in enumerate(scores)]
    weights = [power / sum(powers) for power in powers]
    blend = loud.exp() * sum(w * logs for w, logs in zip(weights, said, strict=True))
    return blend - blend.exp().sum().log(), weights, scores, math.exp(loud)


@torch.no_grad()
@pytest.mark.parametrize(
    ("fixed", "network", "forbidden"),
    [(False, True, ()), (False, False, (1,)), (True, True, (0, 2, 4)), (False, True, (1, 5))],
)
def test_the_blend_equals_the_loop(fixed, network, forbidden):
    gate = _gate(fixed=fixed, network=network)
    for place in forbidden:
        gate.forbid(place)
    reading, state, own = _asked(network=network)
    got = gate(reading, state, own)
    weights = torch.zeros_like(got.route.weight)
    weights.scatter_(-1, got.route.index, got.route.weight)  # in the places' order
    for b in range(2):
        for t in range(3):
            asked = ContextReading(reading.probabilities[b, t], reading.evidence[b, t])
            alone = None if own is None else own[b, t]
            logs, weight, scores, power = _slow(gate, asked, state[b, t], alone, forbidden)
            torch.testing.assert_close(got.log_probabilities[b, t], logs)
            assert weights[b, t].tolist() == pytest.approx(weight, abs=1e-9)
            assert got.inverse_temperature[b, t].item() == pytest.approx(power)
            places, found = (x[b, t].tolist() for x in (got.route.index, got.route.score))
            for place, score in zip(places, found, strict=True):
                expected = -math.inf if place in forbidden else float(scores[place])
                assert score == pytest.approx(expected, abs=1e-9)
    assert (got.route.weight.diff(dim=-1) <= 0).all()  # best first
    assert torch.equal(got.route.path, got.route.index.unsqueeze(-1))


def test_a_forbidden_place_is_not_read_until_it_is_allowed_again():
    gate, (reading, state, own) = _gate(), _asked()
    before = gate(reading, state, own)
    gate.forbid(2)
    gate.forbid(5)
    after = gate(reading, state, own)
    assert own is not None
    other = gate(reading, state, own.flip(-1))
    assert torch.equal(other.log_probabilities, after.log_probabilities)
    gate.allow(5)
    assert gate.forbidden.tolist() == [False, False, True, False, False, False]
    gate.allow(2)
    restored = gate(reading, state, own)
    assert torch.equal(restored.log_probabilities, before.log_probabilities)
    assert torch.equal(restored.route.weight, before.route.weight)


def test_the_last_place_cannot_be_forbidden():
    gate = _gate(network=False)
    for place in (0, 1, 3, 4):
        gate.forbid(place)
        gate.forbid(place)  # twice is once
    with pytest.raises(ValueError, match="got 2, the last one"):
        gate.forbid(2)
    assert gate.forbidden.tolist() == [True, True, False, True, True]
    reading, state, _ = _asked(network=False)
    got = gate(reading, state)
    assert (got.route.weight[..., 0] == 1).all()
    blend = got.inverse_temperature.unsqueeze(-1) * reading.probabilities[..., 2, :].log()
    torch.testing.assert_close(got.log_probabilities, blend.log_softmax(dim=-1))


def test_it_begins_with_the_orders_blended_evenly_and_the_network_beside_them():
    reading, state, own = _asked()
    evenly = reading.probabilities.log().mean(dim=-2)
    got = ContextGate(ORDER, STATE, network=False).double()(reading, state)
    torch.testing.assert_close(got.log_probabilities, evenly.log_softmax(dim=-1))
    torch.testing.assert_close(got.route.weight, torch.full_like(got.route.weight, 0.2))
    assert own is not None
    got = ContextGate(ORDER, STATE).double()(reading, state, own)
    # a new network that says nothing leaves what the tables say as it is
    expected = (evenly + own).log_softmax(dim=-1)
    torch.testing.assert_close(got.log_probabilities, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("fixed", [False, True])
def test_gradients_reach_what_is_learned(fixed):
    gate = _gate(fixed=fixed)
    reading, state, own = _asked()
    assert own is not None
    state.requires_grad_(True)
    own.requires_grad_(True)
    gate(reading, state, own).log_probabilities[..., 0].sum().backward()
    moved = {name for name, p in gate.named_parameters() if p.grad is not None and p.grad.any()}
    every = {name for name, _ in gate.named_parameters()}
    assert moved == ({"score.bias"} if fixed else every)
    assert own.grad is not None
    assert own.grad.any()
    assert fixed == (state.grad is None)


def test_a_probability_of_zero_stays_finite():
    reading, state, own = _asked()
    reading.probabilities[..., 0] = 0.0
    got = ContextGate(ORDER, STATE).double()(reading, state, own)
    assert got.log_probabilities.isfinite().all()
    assert (got.log_probabilities[..., 0] < -10).all()  # as five of six say


def test_forward_writes_nothing_and_is_one_graph():
    gate, asked = _gate(), _asked()
    gate.forbid(3)
    before = {name: value.clone() for name, value in gate.state_dict().items()}
    expected = gate(*asked)
    compiled = torch.compile(gate, fullgraph=True, backend="eager")(*asked)
    assert torch.equal(compiled.log_probabilities, expected.log_probabilities)
    for name, value in gate.state_dict().items():
        assert torch.equal(value, before[name]), name
    fresh = ContextGate(ORDER, STATE, hidden=11).double()
    fresh.load_state_dict(before)  # what is forbidden is saved with the rest
    assert torch.equal(fresh(*asked).log_probabilities, expected.log_probabilities)
    assert fresh.forbidden.tolist() == [False, False, False, True, False, False]
