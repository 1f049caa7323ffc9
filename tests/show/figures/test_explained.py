"""The picture of an explanation says what the explanation says."""

import io

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from tests.models.test_explain import ORDER, TEXT, stored
from trix.models.explain import explain
from trix.show.figures.explained import COLUMNS, alt, explained, laid_out, tint
from trix.show.figures.style import contrast


@pytest.fixture(params=[True, False])
def found(request):
    yield explain(stored(words=request.param), TEXT)
    plt.close("all")


def test_every_character_stands_in_a_cell_of_its_leaders_colour(found):
    figure = explained(found)
    (ax,), (legend,) = figure.axes, figure.legends
    written = [(text.get_text(), text.get_position()) for text in ax.texts]
    cells = [p for p in ax.patches if isinstance(p, Rectangle) and p.get_gid() is None]
    letters = [text for text in ax.texts if text.get_fontsize() == 10]
    assert len(cells) == len(TEXT)
    for cell, row, letter in zip(cells, found.rows, letters, strict=True):
        ground = to_hex(cell.get_facecolor())
        assert ground.upper() == tint(found, row.leader).upper()
        assert contrast(to_hex(letter.get_color()), ground) > 4.5
        inside = [
            text
            for text, (x, y) in written
            if cell.get_x() < x < cell.get_x() + 0.94 and cell.get_y() < y < cell.get_y() + 0.94
        ]
        character = {" ": "␣", "\n": "↵"}.get(row.character, row.character)
        assert inside == [character, *([] if row.leader is None else [found.mark(row.leader)])]
    widths = [
        p.get_width() for p in ax.patches
        if isinstance(p, Rectangle) and p.get_gid() == "probability"
    ]  # fmt: skip
    assert widths == pytest.approx([0.8 * (row.probability or 0) for row in found.rows[1:]])

    tints = [tint(found, place) for place in (None, *range(len(found.places)))]
    words = tints[1 + ORDER : -1]
    assert len(set(words)) == (1 if "word" in found.places else 0)
    assert len(set(tints)) == len(tints) - max(0, len(words) - 1)
    for ground in tints:
        assert max(contrast(ink, ground) for ink in ("#000000", "#FFFFFF")) > 4.5

    led = found.led()
    assert [text.get_text() for text in legend.get_texts()] == [
        f"{found.mark(found.places.index(name))}  {name} ({n})" for name, n in led.items()
    ]
    assert ("word" if "word" in found.places else "network") in led
    for said in (f"{len(TEXT)} characters", *(f"{name}: {n}" for name, n in led.items())):
        assert said in alt(found)


def test_lines_end_where_the_text_ends_them_and_at_the_width():
    found = explain(stored(), TEXT)
    lengths = [5, 3, 5, 5, 5]  # the second one ends where the text says so
    assert [(line, column) for line, column, _ in laid_out(found, 5)] == [
        (line, column) for line, length in enumerate(lengths) for column in range(length)
    ]
    assert [line for line, _, _ in laid_out(explain(stored(), TEXT[:8]), 8)] == [0] * 8
    assert COLUMNS > 40


@pytest.mark.parametrize("text", ["t", TEXT * 3])
def test_cells_keep_their_size_whatever_the_legend_needs(text, monkeypatch):
    found = explain(stored(), TEXT)  # with 25 places, of which all have led
    places = [*found.places, *(f"another place {i}" for i in range(25 - len(found.places)))]
    monkeypatch.setattr(type(found), "led", lambda self: dict.fromkeys(places, 1))
    found = found._replace(places=places, rows=(found.rows * 9)[: len(text)])
    for constrained in (False, True):
        with plt.rc_context({"figure.constrained_layout.use": constrained}):
            figure = explained(found)
        figure.draw_without_rendering()
        (ax,), (legend,) = figure.axes, figure.legends
        assert len(legend.get_texts()) == 25
        for cell in ax.patches:
            if isinstance(cell, Rectangle) and cell.get_gid() is None:
                box = cell.get_window_extent()
                assert min(box.width, box.height) / figure.dpi > 0.15
        whole, text_box, key = figure.bbox, ax.get_window_extent(), legend.get_window_extent()
        assert 0 <= key.x0 < key.x1 <= whole.x1
        assert 0 <= key.y0 < key.y1 <= text_box.y0 < text_box.y1 <= whole.y1


def test_signs_that_matplotlib_would_read_are_written_as_they_are():
    one = stored()
    dollars = one._replace(alphabet=one.alphabet.replace("z", "$"))
    figure = explained(explain(dollars, "t$a$t"))
    figure.savefig(io.BytesIO(), format="svg")
    assert [text.get_text() for text in figure.axes[0].texts].count("$") == 2
    plt.close(figure)
