"""What Python checks and sends; what the reader does is tested in a browser."""

import numpy as np
import torch

from trix.address.ternary import ternarize
from trix.show import AddressPlane
from trix.show.figures import style

POINTS = torch.linspace(-1, 1, 14).reshape(7, 2)
SIGNATURES = [[1.0, 0.5], [-0.75, 0.25], [0.0, -1.0]]


def plane(points=POINTS, signatures=SIGNATURES, alt="Seven tokens.", **options) -> AddressPlane:
    return AddressPlane(points, signatures, alt=alt, **options)


def test_traits_carry_what_was_asked_for():
    made = plane(labels=list("ab c\nde"), classes=list("xxyyzzz"), soft=True, temperature=0.3)
    assert np.array_equal(np.frombuffer(made.points, "<f4").reshape(-1, 2), POINTS)
    assert made.labels == list("ab␣c↵de")
    assert made.classes == list("xxyyzzz")
    assert made.palette == list(style.PALETTE[:3])
    start = {"signatures": SIGNATURES, "soft": True, "temperature": 0.3, "ternary": False}
    assert made.start == start == {name: getattr(made, name) for name in start}
    rough = torch.tensor([[1.0, 0.4], [0.3, -0.9], [-0.2, -0.1], [0.0, 0.0], [2.0, 0.6]])
    made = plane(signatures=rough, ternary=True)
    assert made.start["signatures"] == made.signatures == ternarize(rough).tolist()
