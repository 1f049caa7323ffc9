"""What Python checks and sends; what the reader does is tested in a browser."""

import numpy as np
import pytest
import torch

from trix.address.ternary import ternarize
from trix.show import AddressPlane, live
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
    assert {"_esm", "_css", "points", "signatures", "start"} <= made.get_state().keys()


def test_ternary_signatures_are_those_of_the_library():
    rough = torch.tensor([[1.0, 0.4], [0.3, -0.9], [-0.2, -0.1], [0.0, 0.0], [2.0, 0.6]])
    made = plane(signatures=rough, ternary=True)
    assert made.signatures == ternarize(rough).tolist()
    assert made.start["signatures"] == made.signatures


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": torch.zeros(5, 3)}, r"points: expected shape \[n, 2\].*received \[5, 3\]"),
        ({"points": torch.zeros(5)}, r"points: expected shape .* received \[5\]"),
        ({"points": torch.zeros(0, 2)}, r"n from 1 to 5000, received \[0, 2\]"),
        ({"points": torch.zeros(5001, 2)}, r"n from 1 to 5000, received \[5001, 2\]"),
        ({"points": [[0.0, float("nan")]]}, r"points: expected finite numbers, received \[nan\]"),
        ({"points": "abc"}, "points: expected numbers"),
        ({"points": [[1, 2], [3]]}, "points: expected numbers"),
        ({"signatures": torch.zeros(9, 2)}, r"signatures: .* n from 1 to 8, received \[9, 2\]"),
        ({"signatures": [[float("inf"), 0]]}, "signatures: expected finite"),
        ({"temperature": 0.0}, "temperature: expected a number from 0.05 to 10, received 0.0"),
        ({"temperature": float("nan")}, "temperature: .* received nan"),
        ({"labels": ["a"]}, "labels: expected none or 7, received 1"),
        ({"labels": ["ab"] * 7}, "labels: expected single characters, received 'ab'"),
        ({"classes": ["a"] * 6}, "classes: expected none or 7, received 6"),
        ({"classes": list("abcdeab")}, "classes: expected at most 4 different"),
        ({"classes": [""] * 7}, "classes: expected names, received ''"),
        ({"alt": " "}, "alt: expected a description"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        plane(**options)


def test_signatures_stay_whole_when_set_later():
    made = plane()
    made.signatures = [[0.5, 0.5], [0, 1], [1, 0]]
    assert made.signatures == [[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]]
    with pytest.raises(ValueError, match="signatures: expected 3, one a tile, received 2"):
        made.signatures = [[0, 1], [1, 0]]
    with pytest.raises(ValueError, match="temperature"):
        made.temperature = -1
    assert made.signatures == [[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]]


def parts(box):
    slider, answer, note = box.children
    return slider, answer, note


def test_live_calls_python_for_each_value():
    asked = []

    def square(x):
        asked.append(x)
        return f"<{x * x}>"

    slider, answer, _ = parts(live(square, value=3, low=0, high=9, step=2, label="x"))
    assert "&lt;9&gt;" in answer.value
    slider.value = 4
    assert "&lt;16&gt;" in answer.value
    assert asked == [3, 4]
    assert all(isinstance(x, int) for x in asked)
    assert slider.step == 2


def test_live_shows_html_of_what_can_show_itself():
    class Table:
        def _repr_html_(self):
            return "<table></table>"

    _, answer, _ = parts(live(lambda x: Table(), value=0.5, low=0, high=1, step=0.1, label="x"))
    assert "<table></table>" in answer.value


def test_live_tells_the_reader_what_went_wrong():
    def inverse(x):
        return 1 / x

    slider, answer, _ = parts(live(inverse, value=1.0, low=0, high=1, step=0.5, label="x"))
    slider.value = 0.0
    assert "ZeroDivisionError: " in answer.value
    slider.value = 0.5
    assert "2.0" in answer.value
    with pytest.raises(ZeroDivisionError):
        live(inverse, value=0, low=0, high=1, step=1, label="x")


def test_live_hides_its_note_where_a_kernel_runs():
    slider, _, note = parts(live(str, value=1, low=0, high=2, step=1, label="x"))
    assert "trix-live" in slider._dom_classes
    assert 'class="trix-no-kernel"' in note.value
    assert " hidden>" in note.value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": 3}, "expected low <= value <= high, received 0, 3, 2"),
        ({"low": 2, "value": 2}, "received 2, 2, 2"),
        ({"step": 0}, "step: expected a positive number"),
        ({"label": ""}, "label: expected a name"),
    ],
)
def test_live_refuses_what_no_slider_can_be(changes, message):
    arguments = {"value": 1, "low": 0, "high": 2, "step": 1, "label": "x"} | changes
    with pytest.raises(ValueError, match=message):
        live(str, **arguments)
