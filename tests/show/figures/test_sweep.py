"""The figure of a sweep: which setting lies along the axis, and where the runs stand."""

import numpy as np
from matplotlib.figure import Figure

from trix.show.figures.sweep import plot


def _row(runs, **settings):
    measured = {"seeds": len(runs), "val_nats": sum(runs) / len(runs), "spread": None, "runs": runs}
    return {**settings, **measured, "parameters": 1, "seconds": 0.5}


def _drawn(figure: Figure):
    (axes,) = figure.axes
    legend = axes.get_legend()
    dots = {
        (round(float(x), 3), float(y))
        for line in axes.lines
        if str(line.get_marker()) in "os^"
        for x, y in np.asarray(line.get_xydata())
    }
    ticks = [text.get_text() for text in axes.get_xticklabels()]
    labels = [text.get_text() for text in legend.get_texts()] if legend else []
    return axes.get_xlabel(), ticks, labels, dots


def test_one_setting_is_drawn_along_the_axis():
    rows = [_row([2.0, 3.0], mixer=m, lr=0.1) for m in ("attention", "none")]
    figure = plot(rows)
    dots = {(0.0, 2.0), (0.0, 3.0), (1.0, 2.0), (1.0, 3.0)}
    assert _drawn(figure) == ("mixer", ["attention", "none"], [], dots)
    assert figure.axes[0].get_title() == "lr 0.1"
    means = [line for line in figure.axes[0].lines if line.get_marker() == "_"]
    assert [np.asarray(line.get_ydata()).tolist() for line in means] == [[2.5, 2.5]]
    assert _drawn(plot([_row([2.0], layers=3)])) == ("layers", ["3"], [], {(0.0, 2.0)})


def test_of_two_settings_the_numbers_go_along_the_axis():
    rows = [_row([len(m) + n], mixer=m, layers=n) for m in ("a", "bb", "ccc") for n in (2.0, 4.0)]
    along, ticks, labels, dots = _drawn(plot(rows))
    assert (along, ticks) == ("layers", ["2.0", "4.0"])
    assert labels == ["mixer a", "mixer bb", "mixer ccc"]
    assert {(round(x), y) for x, y in dots} == {
        (i, k + n) for i, n in ((0, 2), (1, 4)) for k in (1, 2, 3)
    }
    assert len({x for x, _ in dots}) == 6  # side by side, none upon another
