"""What `SplineExplorer` checks and sends; the spline itself is tested in a browser."""

import math

import pytest
import torch

from trix.show.widgets.spline_explorer import MOST_POINTS, SplineExplorer

SINE = torch.sin(torch.linspace(-1, 1, 13, dtype=torch.float64))
TARGETS = {"sine": SINE, "10": SINE.square(), "2": -SINE}


def explorer(targets=TARGETS, **options) -> SplineExplorer:
    return SplineExplorer(targets, **options)


def test_curves_are_sent_in_order_and_as_given():
    made = explorer(low=0, high=2.5)
    assert made.names == ["sine", "10", "2"]
    assert made.curves == [SINE.tolist(), SINE.square().tolist(), (-SINE).tolist()]
    assert made.bounds == [0.0, 2.5]
    assert {"_esm", "_css", "target", "lines", "start"} <= made.get_state().keys()


@pytest.mark.parametrize(
    "change",
    [torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.clone, torch.Tensor.requires_grad_],
)
def test_tensors_arrays_and_lists_are_the_same(change):
    assert explorer({"sine": change(SINE.clone())}).curves == [SINE.tolist()]


def test_the_choices_are_those_asked_for():
    made = explorer(low=-3, high=1, cells=16, kind="ternary", alt="A sine.")
    assert (made.target, made.cells, made.kind, made.alt) == ("sine", 16, "ternary", "A sine.")
    assert (made.scale, made.levels, made.lines) == ("cell", 16, [])
    assert made.x == pytest.approx(-0.4)
    assert made.start == {name: getattr(made, name) for name in made.start}
    assert set(made.start) == {"target", "cells", "kind", "scale", "levels", "x", "lines"}
    plain = explorer()
    assert (plain.bounds, plain.cells, plain.kind) == ([-1, 1], 8, "float")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": {}}, "targets: expected at least one, received none"),
        ({"targets": {" ": SINE}}, "targets: expected a name a curve, received ' '"),
        ({"targets": {3: SINE}}, "targets: expected a name a curve, received 3"),
        ({"targets": {"a": [1.0]}}, rf"\['a'\]: .* 2 to {MOST_POINTS}, received \[1\]"),
        ({"targets": {"a": torch.zeros(MOST_POINTS + 1)}}, r"received \[4097\]"),
        ({"targets": {"a": torch.zeros(3, 2)}}, r"expected shape \[n\], .* received \[3, 2\]"),
        ({"targets": {"a": "high"}}, r"expected numbers of shape \[n\], received"),
        ({"targets": {"a": [0, math.nan, 1]}}, r"from -1000 to 1000, received \[nan\]"),
        ({"targets": {"a": [0, math.inf, -2000]}}, r"received \[ *inf -2000"),
        ({"targets": {"a": SINE, "b": SINE[1:]}}, r"\['b'\]: expected 13 points.*received 12"),
        ({"low": 1}, "expected -1000 <= low < high <= 1000, received 1 and 1.0"),
        ({"high": math.inf}, "low < high .* received -1.0 and inf"),
        ({"low": math.nan}, "received nan and 1.0"),
        ({"cells": 3}, "cells: expected one of 2, 4, 8, 16, received 3"),
        ({"kind": "cubic"}, "kind: expected one of float, ternary, table, received 'cubic'"),
        ({"alt": " "}, "alt: expected a description of the figure, received ' '"),
        ({"alt": None}, "alt: expected .* received None"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        explorer(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": [SINE]}, "targets: expected a mapping of name to heights, received"),
        ({"low": "0"}, "low: expected a number, received '0'"),
        ({"high": True}, "high: expected a number, received True"),
        ({"cells": 8.0}, r"cells: expected int, received 8\.0"),
        ({"cells": True}, "cells: expected int, received True"),
        ({"kind": 2}, "kind: expected str, received 2"),
    ],
)
def test_arguments_of_another_type_are_named(options, message):
    with pytest.raises(TypeError, match=message):
        explorer(**options)


def test_what_is_set_later_is_checked_too():
    made = explorer()
    made.target, made.cells, made.kind, made.scale, made.levels = "2", 2, "table", "all", 256
    made.x = -1
    for name, value in (
        ("target", "cosine"),
        ("cells", 5),
        ("kind", "cubic"),
        ("scale", "tile"),
        ("levels", 17),
        ("x", 1.25),
    ):
        before = getattr(made, name)
        with pytest.raises(ValueError, match=f"{name}: expected .*, received {value!r}"):
            setattr(made, name, value)
        assert getattr(made, name) == before
