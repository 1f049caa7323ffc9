"""What `SoftBlend` checks and sends; the blend itself is tested in a browser."""

import math

import numpy as np
import torch

from trix.show.figures import style
from trix.show.widgets.soft_blend import COLDEST, HIGH, HOTTEST, INPUTS, LOW, SoftBlend

SIGNATURES = torch.tensor([[-2.0, 0.5], [0.25, 1.0], [1.5, -0.75]])
ANSWERS = torch.tensor([[1.0, 0.0], [-0.5, 2.0], [0.0, -1.0]])
GRID = np.linspace(LOW, HIGH, INPUTS)


def soft_blend(signatures=SIGNATURES, answers=ANSWERS, target=math.sin, **options) -> SoftBlend:
    return SoftBlend(signatures, answers, target, **{"alt": "Three lines.", **options})


def test_what_is_sent_is_what_was_asked_for():
    made = soft_blend(target=lambda x: 2 * x, temperature=2, top_k=1)
    assert made.signatures == SIGNATURES.tolist()
    assert made.answers == ANSWERS.tolist()
    assert made.target == [2 * x for x in GRID.tolist()]
    assert made.bounds == {"x": [-3, 3], "temperature": [0.02, 20]}
    assert made.palette == list(style.PALETTE[:3])
    assert (made.temperature, made.top_k) == (2.0, 1)
    assert made.start == {"temperature": 2.0, "top_k": 1}
    values = np.sin(GRID)
    for target in (np.sin, values, values.tolist(), torch.from_numpy(values)):
        assert soft_blend(target=target).target == values.tolist()
    plain = soft_blend()
    assert (plain.temperature, plain.top_k) == (1.0, 3)
    for end in (COLDEST, HOTTEST):
        assert soft_blend(temperature=end).temperature == end
