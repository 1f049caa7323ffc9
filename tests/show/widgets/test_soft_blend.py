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
