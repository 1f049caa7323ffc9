"""`live`: a slider that calls a Python function and shows what it answers."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import ipywidgets

_NO_KERNEL = (
    '<p class="trix-no-kernel" style="font-size:.9em" hidden>This control calls Python: '
    "it moves where the notebook runs. "
    "The answer shown was computed when this page was made.</p>"
)


def live(
    function: Callable[..., Any], *, value: float, low: float, high: float, step: float, label: str
) -> ipywidgets.VBox:
    """A slider that asks `function` for an answer at every value, where there is a kernel.

    On a page with no kernel the slider is switched off, a note says so, and the answer to `value`
    still stands there. The slider, of which `label` says what is being changed, starts at `value`
    and goes from `low` to `high` in steps of `step`: a ValueError unless low <= value <= high,
    low < high and step > 0, and there is a label.

    `function` takes the slider's value: an int where all four numbers are ints, else a float. What
    it returns is shown as HTML if it can show itself so (`_repr_html_`), else as the plain text of
    `str`. What it raises for a later value than the first is shown too.
    """
    if not low <= value <= high or low == high:
        raise ValueError(f"expected low <= value <= high, received {low}, {value}, {high}")
    if step <= 0:
        raise ValueError(f"step: expected a positive number, received {step}")
    if not label.strip():
        raise ValueError(f"label: expected a name for what is being changed, received {label!r}")
    whole = all(isinstance(number, int) for number in (value, low, high, step))
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    look = {"description": label, "style": {"description_width": "initial"}}
    slider = kind(value=value, min=low, max=high, step=step, **look)
    slider.add_class("trix-live")
    answer = ipywidgets.HTML(_shown(function(slider.value)))

    def ask(change: dict[str, Any]) -> None:
        # A callback has nobody above it to hear an exception: the reader is told instead.
        try:
            answer.value = _shown(function(change["new"]))
        except Exception as error:
            answer.value = _shown(f"{type(error).__name__}: {error}")

    slider.observe(ask, names="value")
    return ipywidgets.VBox([slider, answer, ipywidgets.HTML(_NO_KERNEL)])


def _shown(result: Any) -> str:
    """What a function returned, as HTML; spoken aloud by screen readers when it changes."""
    show = getattr(result, "_repr_html_", None)
    content = show() if callable(show) else None
    if content is None:
        content = f'<div style="white-space:pre-wrap">{html.escape(str(result))}</div>'
    return f'<div aria-live="polite">{content}</div>'
