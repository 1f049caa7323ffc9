"""What all widgets share: how their code is put together, their one trait, and their checks.

Python checks and packs what a page needs; what the reader does is handled in JavaScript, so a
widget works the same with a kernel and with none. A check raises a TypeError or ValueError that
names the argument, what was expected and what was received.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import torch
import traitlets
from numpy.typing import ArrayLike

_HERE = Path(__file__).parent
_FLOAT32 = float(np.finfo(np.float32).max)
_VISIBLE = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥"})

Numbers = ArrayLike | torch.Tensor
"""What can be read as an array of numbers: an array, a tensor, a nested list."""

Axis = int | str | range
"""Of an array: its length, a name where every length will do, or what its length may be."""


def _texts(ending: str, folder: str, shared: Sequence[str], own: str) -> str:
    paths = [_HERE / "kit" / f"{name}.{ending}" for name in ("kit", *shared)]
    return "\n".join(p.read_text("utf-8") for p in [*paths, _HERE / folder / f"{own}.{ending}"])


def script(own: str, *shared: str) -> str:
    """Return a widget's module: the kit, further shared scripts, its own."""
    return _texts("js", "scripts", shared, own)


def style(own: str, *shared: str) -> str:
    """Return a widget's style sheet, put together in the same way."""
    return _texts("css", "styles", shared, own)


class Widget(anywidget.AnyWidget):
    """A widget that says what it shows.

    Numbers may be arrays, tensors or nested lists. What the reader chooses stands in traits, which
    follow the reader where a kernel runs. A trait with the name of an argument holds it in the form
    that the page reads; `palette` and `colours` are what is painted with, and `start` is what the
    reset button goes back to.

    Attributes:
        alt: what the figure shows, in a sentence or two, for whoever cannot see it.

    Raises:
        TypeError: an argument of a widget is of another kind than described.
        ValueError: a shape, a length, a number or a text is not as described.
    """

    alt = traitlets.Unicode().tag(sync=True)

    def __init__(self, *, alt: str, **traits: Any) -> None:
        """Say what there is to see, in a sentence or two."""
        if not isinstance(alt, str) or not alt.strip():
            raise ValueError(f"alt: expected a description of the figure, received {alt!r}")
        super().__init__(alt=alt, **traits)

    def __repr__(self) -> str:
        """Where no widget can be shown, its description stands in its place."""
        return f"{type(self).__name__}: {self.alt}"


def synced(kind: Callable[[], Any], count: int) -> list[Any]:
    """Return traits of one kind that the page shares, for as many names."""
    return [kind().tag(sync=True) for _ in range(count)]


def checked(trait: str, check: Callable[..., Any], *bounds: Any) -> Any:
    """Let `check(trait, value, *bounds)` return a trait's new value or refuse it.

    A bound that can be called is asked for with the widget: it depends on other traits.
    """

    def validate(widget: Widget, proposal: Any) -> Any:
        known = [bound(widget) if callable(bound) else bound for bound in bounds]
        return check(trait, proposal["value"], *known)

    return traitlets.validate(trait)(validate)


def index(trait: str, of: str) -> Any:
    """Keep a trait within the indices of another one."""
    return checked(trait, whole, lambda widget: range(len(getattr(widget, of))))


def named(name: str, value: str) -> str:
    """Ask for a name that says something."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}: expected names, received {value!r}")
    return value


def text(name: str, value: str, least: int, most: int) -> str:
    """Ask for so many characters."""
    if not isinstance(value, str) or not least <= len(value) <= most:
        received = len(value) if isinstance(value, str) else repr(value)
        count = most if least == most else f"{least} to {most}"
        raise ValueError(f"{name}: expected {count} characters, received {received}")
    return value


def labels(values: Sequence[str], count: int, most: int) -> list[str]:
    """Ask for none or `count` texts of 1 to `most` characters; blanks are made visible."""
    if len(values) not in (0, count):
        raise ValueError(f"labels: expected none or {count}, received {len(values)}")
    return [text("labels", value, 1, most).translate(_VISIBLE) for value in values]


def whole(name: str, value: int, allowed: Sequence[int]) -> int:
    """Ask for an integer among those that are allowed."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected an int, received {value!r}")
    if value not in allowed:
        ends = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) and allowed else ""
        raise ValueError(f"{name}: expected {ends or f'one of {list(allowed)}'}, received {value}")
    return int(value)


def number(name: str, value: float, low: float, high: float) -> float:
    """Ask for a number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, received {value!r}")
    if not low <= value <= high:  # NaN lies nowhere
        raise ValueError(f"{name}: expected a number from {low:g} to {high:g}, received {value!r}")
    return float(value)


def array(
    name: str, values: Numbers, axes: Sequence[Axis], low: float = -np.inf, high: float = np.inf
) -> np.ndarray:
    """Ask for finite numbers from `low` to `high` in an array with these axes; float64."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().double().numpy()
    wanted = ", ".join(f"{a[0]} … {a[-1]}" if isinstance(a, range) else str(a) for a in axes)
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as e:
        raise ValueError(f"{name}: expected numbers of shape [{wanted}], received {e}") from e
    lengths = zip(found.shape, axes, strict=False)
    fits = [n in a if isinstance(a, range) else isinstance(a, str) or n == a for n, a in lengths]
    if found.ndim != len(axes) or not all(fits):
        raise ValueError(f"{name}: expected shape [{wanted}], received {list(found.shape)}")
    wrong = found[~(np.isfinite(found) & (found >= low) & (found <= high))]
    if wrong.size:
        bounds = f" from {low:g} to {high:g}" if low > -_FLOAT32 else ""
        raise ValueError(f"{name}: expected finite numbers{bounds}, received {wrong[:5]}")
    return found


def floats(name: str, values: Numbers, axes: Sequence[Axis]) -> np.ndarray:
    """Ask for numbers that fit float32, in an array with these axes; little-endian float32."""
    return array(name, values, axes, -_FLOAT32, _FLOAT32).astype("<f4")


def integers(name: str, values: Numbers, axes: Sequence[Axis], allowed: Sequence[int]) -> list[Any]:
    """Ask for whole numbers among those that are allowed, in an array with these axes."""
    found = array(name, values, axes)
    wrong = found[~np.isin(found, allowed)]
    if wrong.size:
        ends = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else list(allowed)
        raise ValueError(f"{name}: expected whole numbers, {ends}, received {wrong.ravel()[:5]}")
    return found.astype(np.int64).tolist()


def packed(values: Numbers, kind: str = "<f4") -> bytes:
    """Return numbers as bytes of one kind, little-endian, the last axis fastest."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    return np.ascontiguousarray(np.asarray(values).astype(kind)).tobytes()
