"""What Python checks and sends; what the reader does is tested in a browser."""

import numpy as np
import pytest
import torch

from trix.address.ternary import ternarize
from trix.show import AddressPlane
from trix.show.figures import style

POINTS = torch.linspace(-1, 1, 14).reshape(7, 2)
SIGNATURES = [[1.0, 0.5], [-0.75, 0.25], [0.0, -1.0]]


def plane(points=POINTS, signatures=SIGNATURES, alt="Seven tokens.", **options) -> AddressPlane:
    return AddressPlane(points, signatures, alt=alt, **options)


@pytest.mark.parametrize(
    "points",
    [POINTS, POINTS.double().requires_grad_(), POINTS.bfloat16(), POINTS.numpy(), POINTS.tolist()],
)
def test_points_travel_as_float32(points):
    expected = torch.as_tensor(points).detach().float().numpy()
    received = np.frombuffer(plane(points).points, "<f4").reshape(-1, 2)
    assert np.array_equal(received, expected)


def test_traits_carry_what_was_asked_for():
    made = plane(labels=list("ab c\nde"), classes=list("xxyyzzz"), soft=True, temperature=0.3)
    assert made.labels == list("ab␣c↵de")
    assert made.classes == list("xxyyzzz")
    assert made.soft
    assert made.temperature == 0.3
    assert made.signatures == SIGNATURES
    assert made.palette == list(style.PALETTE[:3])
    assert made.start == {
        "signatures": SIGNATURES,
        "soft": True,
        "temperature": 0.3,
        "ternary": False,
    }


def test_ternary_signatures_are_those_of_the_library():
    rough = torch.tensor([[1.0, 0.4], [0.3, -0.9], [-0.2, -0.1], [0.0, 0.0], [2.0, 0.6]])
    made = plane(signatures=rough, ternary=True)
    assert made.signatures == ternarize(rough).tolist()
    assert made.start["signatures"] == made.signatures
