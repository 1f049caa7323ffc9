"""A slider that calls Python."""

import pytest

from trix.show import live


def test_live_calls_python_for_each_value():
    asked = []

    def square(x):
        asked.append(x)
        return f"<{x * x}>"

    slider, answer, note = live(square, value=3, low=0, high=9, step=2, label="x").children
    assert "&lt;9&gt;" in answer.value
    slider.value = 4
    assert "&lt;16&gt;" in answer.value
    assert asked == [3, 4]
    assert all(isinstance(x, int) for x in asked)
    assert slider.step == 2
    assert "trix-live" in slider._dom_classes
    assert 'class="trix-no-kernel"' in note.value
    assert " hidden>" in note.value


def test_live_shows_html_or_what_went_wrong():
    class Table:
        def _repr_html_(self):
            return "<table></table>"

    def inverse(x):
        return 1 / x if x < 1 else Table()

    slider, answer, _ = live(inverse, value=1.0, low=0, high=1, step=0.5, label="x").children
    assert "<table></table>" in answer.value
    slider.value = 0.0
    assert "ZeroDivisionError: " in answer.value
    slider.value = 0.5
    assert "2.0" in answer.value
    with pytest.raises(ZeroDivisionError):
        live(inverse, value=0, low=0, high=1, step=1, label="x")
