"""What `SplineExplorer` checks and sends; the spline itself is tested in a browser."""

import pytest
import torch

from trix.show.widgets.spline_explorer import SplineExplorer

SINE = torch.sin(torch.linspace(-1, 1, 13, dtype=torch.float64))
TARGETS = {"sine": SINE, "10": SINE.square(), "2": -SINE}


def explorer(targets=TARGETS, **options) -> SplineExplorer:
    return SplineExplorer(targets, **options)


def test_what_is_sent_is_what_was_asked_for():
    made = explorer(low=-3, high=1, cells=16, kind="ternary", alt="A sine.")
    assert made.names == ["sine", "10", "2"]
    assert made.curves == [SINE.tolist(), SINE.square().tolist(), (-SINE).tolist()]
    assert (made.target, made.cells, made.kind, made.alt) == ("sine", 16, "ternary", "A sine.")
    assert (made.scale, made.levels, made.lines, made.bounds) == ("cell", 16, [], [-3.0, 1.0])
    assert made.x == pytest.approx(-0.4)
    assert made.start == {name: getattr(made, name) for name in made.start}
    assert set(made.start) == {"target", "cells", "kind", "scale", "levels", "x", "lines"}
    plain = explorer()
    assert (plain.bounds, plain.cells, plain.kind) == ([-1, 1], 8, "float")
