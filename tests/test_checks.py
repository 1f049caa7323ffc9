import math

import pytest
import torch
from torch import nn

from trix import checks

FINE = [
    (checks.at_least, 0, 0),
    (checks.at_most, 3, 3),
    (checks.place, 4, 5),
    (checks.between, 0.0, 0.0, 1.0),
    (checks.between, 1.0, 0.0, 1.0),
    (checks.fraction, 0.0),
    (checks.magnitude, 0.0, True),
    (checks.integers, torch.ones(1, dtype=torch.uint8)),
    (checks.shape, torch.ones(2, 3), "batch >= 2", 3),
    (checks.shape, torch.ones(0, 3), "batch", 3),
    (checks.tokens, torch.ones(0, 3), 3),
    (checks.indices, torch.tensor([0, 2]), 3),
    (checks.indices, torch.tensor([]).long(), 0),
]

REFUSED = [
    (checks.integer, ("n", "1"), TypeError, "n must be an integer, got '1'"),
    (checks.at_least, ("n", 1, 2), ValueError, "n must be at least 2, got 1"),
    (checks.at_least, ("n", True, 0), TypeError, "n must be an integer, got True"),
    (checks.positive, ("n", 0), ValueError, "n must be at least 1, got 0"),
    (checks.at_most, ("n", 4, 3), ValueError, "n must be at most the 3 tiles, got 4"),
    (checks.at_most, ("n", 4, 3, "slots"), ValueError, "n must be at most the 3 slots, got 4"),
    (checks.at_most, ("n", 0, 3), ValueError, "n must be at least 1, got 0"),
    (checks.place, ("n", 5, 5), IndexError, "n must be in 0 … 4, got 5"),
    (checks.place, ("n", -1, 5), IndexError, "n must be in 0 … 4, got -1"),
    (checks.place, ("n", 1.0, 5), TypeError, "n must be an integer, got 1.0"),
    (checks.between, ("n", 1.1, 0.0, 1.0), ValueError, "n must be in 0.0 … 1.0, got 1.1"),
    (checks.between, ("n", -0.1, 0, 1), ValueError, "n must be in 0 … 1, got -0.1"),
    (checks.between, ("n", math.nan, 0, 1), ValueError, "got nan"),
    (checks.fraction, ("n", 1.0), ValueError, "n must be in [0, 1), got 1.0"),
    (checks.fraction, ("n", -0.1), ValueError, "got -0.1"),
    (checks.fraction, ("n", math.nan), ValueError, "got nan"),
    (checks.magnitude, ("n", 0.0), ValueError, "n must be positive and finite, got 0.0"),
    (checks.magnitude, ("n", -1.0, True), ValueError, "n must be finite and not negative"),
    (checks.magnitude, ("n", math.inf, True), ValueError, "got inf"),
    (checks.magnitude, ("n", math.nan, True), ValueError, "got nan"),
    (checks.one_of, ("n", "c", ("b", "a")), ValueError, "n must be one of ['a', 'b'], got 'c'"),
    (checks.instance, ("n", 1, str), TypeError, "n must be a str, got a int"),
    (checks.typed, ("n", torch.ones(1), torch.int64), TypeError, "n must be int64, got torch.flo"),
    (checks.floating, ("n", torch.tensor([1])), TypeError, "n must be floating, got torch.int64"),
    (checks.integers, ("n", torch.ones(1)), TypeError, "n must be integers, got torch.float32"),
    (checks.integers, ("n", torch.ones(1) > 0), TypeError, "n must be integers, got torch.bool"),
    (checks.shape, ("n", torch.ones(1, 3), "batch >= 2", 3), ValueError, "[batch >= 2, 3], got [1"),
    (checks.shape, ("n", torch.ones(2, 4), "batch", 3), ValueError, "[batch, 3], got [2, 4]"),
    (checks.shape, ("n", torch.ones(4, 3), "batch", 3, 1), ValueError, "[batch, 3, 1], got [4, 3]"),
    (checks.shape, ("n", torch.ones(2), "batch", 3), ValueError, "got [2]"),
    (checks.shape, ("n", torch.ones(2, 3)), ValueError, "n must have shape [], got [2, 3]"),
    (checks.last_dim, ("n", torch.ones(3, 2), 3), ValueError, "shape [..., 3], got [3, 2]"),
    (checks.last_dim, ("n", torch.ones(()), 3), ValueError, "shape [..., 3], got []"),
    (checks.tokens, ("n", torch.ones(1, 2).long(), 2), TypeError, "n must be floating"),
    (checks.tokens, ("n", torch.ones(1, 3), 2), ValueError, "n must have shape [..., 2]"),
    (checks.finite, ("n", torch.tensor([1, math.inf])), ValueError, "n must be finite, got [inf]"),
    (checks.indices, ("n", torch.tensor([0, 3]), 3), IndexError, "n must be in 0 … 2, got 0 … 3"),
    (checks.indices, ("n", torch.tensor([-1]), 3, ValueError), ValueError, "got -1 … -1"),
]


def test_what_is_right_passes_and_one_value_is_returned():
    for guard, value, *more in FINE:
        assert guard("n", value, *more) in (None, value)


@pytest.mark.parametrize(("guard", "arguments", "error", "says"), REFUSED)
def test_what_is_wrong_is_refused_with_what_was_expected_and_received(
    guard, arguments, error, says
):
    with pytest.raises(error) as refusal:
        guard(*arguments)
    assert says in str(refusal.value)


def test_a_module_loads_what_was_saved_under_old_names_wherever_it_stands():
    class Renamed(nn.Module):
        def __init__(self):
            super().__init__()
            self.new = nn.Linear(1, 2, bias=False)
            self.old = nn.Parameter(torch.zeros(1))
            checks.renamed(self, {"before": "new"})

    part = Renamed()
    model = nn.Sequential(part)
    saved = {"0.before.weight": torch.ones(2, 1), "0.old": torch.ones(1)}
    model.load_state_dict(saved)
    assert part.new.weight.tolist() == [[1], [1]]
    assert part.old.item() == 1
    model.load_state_dict(model.state_dict())  # the new names still do
