"""What `SoftBlend` checks and sends; the blend itself is tested in a browser."""

import math

import numpy as np
import pytest
import torch

from trix.show.figures import style
from trix.show.widgets.soft_blend import COLDEST, HIGH, HOTTEST, INPUTS, LOW, SoftBlend

SIGNATURES = torch.tensor([[-2.0, 0.5], [0.25, 1.0], [1.5, -0.75]])
ANSWERS = torch.tensor([[1.0, 0.0], [-0.5, 2.0], [0.0, -1.0]])
GRID = np.linspace(LOW, HIGH, INPUTS)


def soft_blend(signatures=SIGNATURES, answers=ANSWERS, target=math.sin, **options) -> SoftBlend:
    return SoftBlend(signatures, answers, target, **{"alt": "Three lines.", **options})


def test_lines_and_target_are_sent_as_given():
    made = soft_blend(target=lambda x: 2 * x)
    assert made.signatures == SIGNATURES.tolist()
    assert made.answers == ANSWERS.tolist()
    assert made.target == [2 * x for x in GRID.tolist()]
    assert made.bounds == {"x": [-3, 3], "temperature": [0.02, 20]}
    assert made.palette == list(style.PALETTE[:3])
    assert {"_esm", "_css", "temperature", "top_k", "start"} <= made.get_state().keys()


@pytest.mark.parametrize(
    "change",
    [torch.Tensor.double, torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.requires_grad_],
)
def test_tensors_arrays_and_lists_are_the_same(change):
    made = soft_blend(change(SIGNATURES.clone()), change(ANSWERS.clone()))
    assert made.signatures == SIGNATURES.tolist()
    assert made.answers == ANSWERS.tolist()


@pytest.mark.parametrize(
    "target", [np.sin, np.sin(GRID), np.sin(GRID).tolist(), torch.from_numpy(np.sin(GRID))]
)
def test_a_target_is_a_function_or_its_values(target):
    assert soft_blend(target=target).target == np.sin(GRID).tolist()


def test_the_choices_are_those_asked_for():
    made = soft_blend(temperature=2, top_k=1)
    assert (made.temperature, made.top_k) == (2.0, 1)
    assert made.start == {"temperature": 2.0, "top_k": 1}
    plain = soft_blend()
    assert (plain.temperature, plain.top_k) == (1.0, 3)
    for end in (COLDEST, HOTTEST):
        assert soft_blend(temperature=end).temperature == end


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"signatures": SIGNATURES[:1]}, r"signatures: .* 2 to 6 tiles, received \[1, 2\]"),
        ({"signatures": torch.zeros(7, 2)}, r"signatures: .* 2 to 6 tiles, received \[7, 2\]"),
        ({"signatures": torch.zeros(3, 3)}, r"signatures: .* received \[3, 3\]"),
        ({"signatures": "lines"}, "signatures: expected numbers of shape"),
        ({"signatures": [[0, 1], [2]]}, "signatures: expected numbers of shape"),
        ({"signatures": [[0, 1], [2, math.nan]]}, r"from -1000 to 1000, received \[nan\]"),
        ({"answers": ANSWERS[:2]}, "answers: expected 3, one a signature, received 2"),
        ({"answers": [[0, 1], [2, math.inf], [0, -2000]]}, r"answers: .* received \[ *inf -2000"),
        ({"target": GRID[:-1]}, r"target: .* 121 numbers, .* received shape \[120\]"),
        ({"target": lambda x: [x, x]}, r"target: .* received shape \[121, 2\]"),
        ({"target": lambda x: math.nan}, "target: expected numbers from -1000 to 1000"),
        ({"target": lambda x: "high"}, r"target: expected numbers of shape \[121\], received"),
        ({"temperature": 0.019}, r"temperature: expected a number from 0.02 to 20, received 0.019"),
        ({"temperature": 21}, "temperature: .* received 21"),
        ({"temperature": math.nan}, "temperature: .* received nan"),
        ({"top_k": 0}, "top_k: expected 1 to 3, received 0"),
        ({"top_k": 4}, "top_k: expected 1 to 3, received 4"),
        ({"alt": " "}, "alt: expected a description of the figure, received ' '"),
        ({"alt": None}, "alt: expected .* received None"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        soft_blend(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": "1"}, "temperature: expected a number, received '1'"),
        ({"temperature": True}, "temperature: expected a number, received True"),
        ({"top_k": 2.0}, r"top_k: expected an int, received 2\.0"),
        ({"top_k": True}, "top_k: expected an int, received True"),
    ],
)
def test_choices_are_numbers(options, message):
    with pytest.raises(TypeError, match=message):
        soft_blend(**options)


def test_what_is_set_later_is_checked_too():
    made = soft_blend()
    made.temperature, made.top_k = 0.5, 2
    with pytest.raises(ValueError, match=r"temperature: expected .* received 0"):
        made.temperature = 0
    with pytest.raises(ValueError, match="top_k: expected 1 to 3, received 4"):
        made.top_k = 4
    assert (made.temperature, made.top_k) == (0.5, 2)
