"""`SplineExplorer` on a page with no kernel, in a real browser, against `ternarize` and `lstsq`."""

import json
import re
from itertools import product

import numpy as np
import pytest
import torch

from tests.chromium import Visit
from tests.static_page import visit
from trix.address.ternary import row_scale, ternarize
from trix.show.widgets.spline_explorer import STEPS, SplineExplorer

pytestmark = pytest.mark.browser

LOW, HIGH = -3.0, 2.0
STORED = [("float", "cell", 16), ("ternary", "cell", 16), ("ternary", "all", 16)]
STORED += [("table", "cell", 16), ("table", "cell", 256)]


def curves(points: int) -> dict[str, torch.Tensor]:
    x = torch.linspace(LOW, HIGH, points, dtype=torch.float64)
    gelu = torch.nn.functional.gelu(x)
    return {"GELU": gelu, "sine": torch.sin(2 * x) + 0.2, "step": (x > 0.3).double()}


def explorer(points: int = 97, targets=None, **options) -> SplineExplorer:
    return SplineExplorer(targets or curves(points), LOW, HIGH, **options)


def address(i: int, n: int, cells: int, kind: str, levels: int) -> tuple[int, float]:
    """The cell that step i of n is read in, and its place there, by whole numbers."""
    if kind == "table":
        i, n = (2 * i * (levels - 1) + n) // (2 * n), levels - 1
    cell = min(i * cells // n, cells - 1)
    return cell, 2 * (i * cells - cell * n) / n - 1


def least_squares(values: torch.Tensor, cells: int, kind: str, levels: int) -> torch.Tensor:
    """The lines `[cells, 2]`; where all points of a cell have one place, flat."""
    places = [address(i, len(values) - 1, cells, kind, levels) for i in range(len(values))]
    lines = torch.zeros(cells, 2, dtype=torch.float64)
    for cell in range(cells):
        u = torch.tensor([place for at, place in places if at == cell], dtype=torch.float64)
        y = torch.stack([v for v, (at, _) in zip(values, places, strict=True) if at == cell])
        if u.max() == u.min():
            lines[cell, 0] = y.mean()
        else:
            plane = torch.stack([torch.ones_like(u), u], dim=1)
            lines[cell] = torch.linalg.lstsq(plane, y[:, None]).solution[:, 0]
    return lines


def effective(lines: torch.Tensor, kind: str, scale: str) -> torch.Tensor:
    """The lines that are read, by the library's own cut."""
    if kind != "ternary":
        return lines
    rows = lines if scale == "cell" else lines.reshape(1, -1)
    cut = ternarize(rows)
    return (row_scale(rows, cut) * cut).reshape(lines.shape)


def readings(lines: torch.Tensor, n: int, kind: str, levels: int) -> torch.Tensor:
    places = [address(i, n, len(lines), kind, levels) for i in range(n + 1)]
    return torch.stack([lines[cell, 0] + lines[cell, 1] * u for cell, u in places])


def figure(opened: Visit):
    return opened.page.locator(".trix-sp")


def numbers_of(opened: Visit) -> dict:
    return json.loads(figure(opened).get_attribute("data-numbers") or "")


def lines_of(opened: Visit) -> np.ndarray:
    return np.array(numbers_of(opened)["lines"])


def facts_of(opened: Visit) -> list[str]:
    return opened.texts(".trix-sp-facts dd")


def radio(opened: Visit, group: str, name: str):
    return opened.page.get_by_role("radiogroup", name=group).get_by_role(
        "radio", name=name, exact=True
    )


def choose(opened: Visit, target: str, cells: int, kind: str, scale: str, levels: int) -> None:
    """Click all choices, in one go: one by one takes a second."""
    figure(opened).evaluate(
        """(figure, [target, ...values]) => {
            const select = figure.querySelector("select");
            if (select.value !== target) {
                select.value = target;
                select.dispatchEvent(new Event("change"));
            }
            const groups = [...figure.querySelectorAll("[role=radiogroup]")];
            for (const [i, value] of values.entries()) {
                groups[i].querySelector(`input[value="${value}"]`).click();
            }
        }""",
        [target, cells, kind, scale, levels],
    )


def handle(opened: Visit, cell: int, side: str):
    return opened.page.get_by_role("slider", name=f"Cell {cell}, {side} end", exact=True)


def grip(opened: Visit, cell: int, side: str) -> tuple[float, float]:
    """Where on the window a handle is taken."""
    box = handle(opened, cell, side).locator(".trix-sp-half").bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def extent(opened: Visit) -> tuple[float, float]:
    ends = handle(opened, 0, "left")
    low, high = (ends.get_attribute(f"aria-value{end}") for end in ("min", "max"))
    return float(low or "nan"), float(high or "nan")


@pytest.mark.parametrize("points", [97, 61])
def test_fit_cut_and_errors_are_those_of_the_library(chromium, tmp_path, points):
    with visit(chromium, tmp_path, explorer(points)) as opened:
        for (name, values), cells in product(curves(points).items(), (2, 4, 8, 16)):
            for kind, scale, levels in STORED:
                choose(opened, name, cells, kind, scale, levels)
                shown = numbers_of(opened)
                lines = least_squares(values, cells, kind, levels)
                np.testing.assert_allclose(shown["lines"], lines, atol=1e-9)
                read = effective(lines, kind, scale)
                scales = np.array(shown["scales"])[:, None]
                np.testing.assert_allclose(scales * shown["pairs"], read, atol=1e-9)
                if kind == "ternary":
                    rows = lines if scale == "cell" else lines.reshape(1, -1)
                    assert shown["pairs"] == ternarize(rows).reshape(-1, 2).tolist()
                errors = (readings(read, points - 1, kind, levels) - values).abs()
                assert shown["squares"] == pytest.approx(float(errors.square().mean()), abs=1e-12)
                assert shown["worst"] == pytest.approx(float(errors.max()), abs=1e-9)
                ternary = 4 * cells + 32 * (cells if scale == "cell" else 1)
                bits = {"float": 64 * cells, "ternary": ternary, "table": 32 * levels}[kind]
                assert shown["bits"] == bits
                assert facts_of(opened)[0].startswith(f"{bits} bits (")
        opened.expect_quiet()


def test_what_is_read_at_an_input_is_told_step_by_step(chromium, tmp_path):
    values = curves(97)["sine"]
    with visit(chromium, tmp_path, explorer()) as opened:
        slider = opened.page.get_by_role("slider", name="x", exact=True)
        for (kind, scale, levels), step in product(STORED, (0, 49, 50, 263, STEPS)):
            choose(opened, "sine", 8, kind, scale, levels)
            slider.fill(str(step))
            lines = least_squares(values, 8, kind, levels)
            cell, u = address(step, STEPS, 8, kind, levels)
            base, slope = effective(lines, kind, scale)[cell].tolist()
            here = numbers_of(opened)["here"]
            assert here["cell"] == cell
            assert here["u"] == pytest.approx(u)
            assert here["read"] == pytest.approx(base + slope * u)
            at = np.interp(step / STEPS, np.linspace(0, 1, 97), values)
            assert here["target"] == pytest.approx(at)
            told = [text.replace("−", "-") for text in facts_of(opened)[4:]]
            heights = [float(n) for n in re.findall(r"-?\d+\.\d+", told[2])]
            assert heights[0 if kind == "table" else -1] == pytest.approx(
                base + slope * u, abs=6e-3
            )
            if kind == "table":
                level = round(step * (levels - 1) / STEPS)
                assert told[0].startswith(f"level {level} of 0")
                assert f"written from cell {cell}:" in told[1]
            else:
                assert told[0].startswith(f"cell {cell} of 0")
            shaded = opened.texts(".trix-sp-chosen")
            assert shaded == [str(cell)]


def test_a_dragged_end_moves_its_line_alone(chromium, tmp_path):
    line = {"line": torch.linspace(-1, 1, 81, dtype=torch.float64)}
    with visit(chromium, tmp_path, explorer(targets=line, cells=4)) as opened:
        before = lines_of(opened)
        np.testing.assert_allclose(before, [[-0.75 + 0.5 * i, 0.25] for i in range(4)])
        low, high = extent(opened)
        x, y = grip(opened, 2, "left")
        mouse = opened.page.mouse
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + 3, y - 20)
        mouse.move(x + 3, y - 40)
        mouse.up()
        mouse.move(x + 60, y + 30)  # let go: nothing more moves
        rise = 40 * (high - low) / 260
        after = lines_of(opened)
        np.testing.assert_allclose(after - before, [[0, 0], [0, 0], [rise / 2, -rise / 2], [0, 0]])
        assert facts_of(opened)[3] == "moved by hand"
        # the error falls from `rise` to 0 over the cell's 20 points
        squares = sum((rise * (1 - k / 20)) ** 2 for k in range(20)) / 81
        assert numbers_of(opened)["squares"] == pytest.approx(squares)
        assert numbers_of(opened)["worst"] == pytest.approx(rise)
        assert grip(opened, 2, "left") == pytest.approx((x, y - 40), abs=0.1)
        opened.page.get_by_role("button", name="Fit").click()
        np.testing.assert_allclose(lines_of(opened), before)
        assert facts_of(opened)[3] == "least squares"
    with visit(chromium, tmp_path, explorer(targets={"line": [1.0, 3.0]}, cells=4)) as opened:
        # the first and the last cell have a point each, the others take the target's own height
        np.testing.assert_allclose(lines_of(opened), [[1, 0], [1.75, 0], [2.25, 0], [3, 0]])
        assert numbers_of(opened)["squares"] == 0


def test_a_finger_drags_an_end_and_the_pointer_chooses_an_input(chromium, tmp_path):
    with visit(chromium, tmp_path, explorer(cells=16), width=360, touch=True) as opened:
        before = lines_of(opened)
        low, high = extent(opened)
        x, y = grip(opened, 9, "right")
        session = opened.page.context.new_cdp_session(opened.page)

        def touch(kind: str, *points) -> None:
            at = [{"x": px, "y": py} for px, py in points]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

        touch("touchStart", (x, y))
        for k in range(1, 6):
            touch("touchMove", (x, y - 10 * k))
        touch("touchEnd")
        change = lines_of(opened) - before
        rise = 50 * (high - low) / 260
        np.testing.assert_allclose(change[9], [rise / 2, rise / 2], rtol=0.03)
        assert np.abs(np.delete(change, 9, axis=0)).max() == 0

        box = opened.page.locator(".trix-sp-picture").bounding_box()
        assert box is not None
        opened.page.touchscreen.tap(box["x"] + 0.5 * box["width"], box["y"] + 40)
        slider = opened.page.get_by_role("slider", name="x", exact=True)
        assert abs(int(slider.input_value()) - STEPS / 2) < 20
        opened.expect_quiet()


def test_the_keyboard_reaches_and_moves_every_end(chromium, tmp_path):
    with visit(chromium, tmp_path, explorer(cells=4)) as opened:
        keys = opened.page.keyboard
        low, high = extent(opened)
        start = lines_of(opened)
        handle(opened, 0, "left").focus()

        def focused() -> str:
            return opened.page.evaluate("document.activeElement.getAttribute('aria-label')")

        for key, name in (
            ("ArrowRight", "Cell 0, right end"), ("End", "Cell 3, right end"),
            ("ArrowRight", "Cell 3, right end"), ("Home", "Cell 0, left end"),
            ("ArrowRight", "Cell 0, right end"), ("ArrowRight", "Cell 1, left end"),
        ):  # fmt: skip
            keys.press(key)
            assert focused() == name
        end = start[1, 0] - start[1, 1]
        step = (high - low) / 60
        for key, steps in (("ArrowUp", 1), ("Shift+ArrowUp", 6), ("ArrowDown", 5), ("PageUp", 10)):
            keys.press(key)
            base, slope = lines_of(opened)[1]
            assert base - slope == pytest.approx(end + steps * step)
            assert base + slope == pytest.approx(start[1].sum())
        text = handle(opened, 1, "left").get_attribute("aria-valuetext") or ""
        assert float(text.replace("−", "-")) == pytest.approx(end + 10 * step, abs=6e-3)
        for _ in range(20):
            keys.press("PageUp")
        base, slope = lines_of(opened)[1]
        assert base - slope == pytest.approx(high)
        np.testing.assert_allclose(np.delete(lines_of(opened), 1, 0), np.delete(start, 1, 0))
        keys.press("Tab")
        assert opened.page.evaluate("document.activeElement.labels[0].textContent") == "x"
        keys.press("Shift+Tab")
        assert focused() == "Cell 1, left end"  # one of them is a stop


def test_other_cells_and_curves_begin_fitted_and_another_kind_keeps_the_lines(chromium, tmp_path):
    with visit(chromium, tmp_path, explorer(cells=4)) as opened:
        handle(opened, 1, "left").press("PageUp")
        moved = lines_of(opened)
        radio(opened, "Kind", "ternary").check()
        np.testing.assert_array_equal(lines_of(opened), moved)
        assert facts_of(opened)[3] == "moved by hand"
        for cells in ("2", "4"):
            radio(opened, "Cells", cells).check()
            assert facts_of(opened)[3] == "least squares"
        handle(opened, 1, "left").press("PageUp")
        opened.page.get_by_label("Target", exact=True).select_option("step")
        assert facts_of(opened)[3] == "least squares"
        opened.page.get_by_role("button", name="Reset").click()
        radio(opened, "Kind", "table").check()
        opened.page.get_by_role("slider", name="x", exact=True).fill("0")
        facts = facts_of(opened)
        opened.page.wait_for_function(
            "said => document.querySelector('[aria-live]').textContent.startsWith(said)",
            arg=f"512 bits. Mean squared error {facts[1]}, largest error ",
        )
        said = opened.said("[aria-live]")
        assert f"At x = −3.00: level 0 of 0\u2009…\u200915; {facts[5]}; read {facts[6]}." in said


def numbers_in(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.?\d*", path)]


def test_what_is_drawn_is_what_is_read(chromium, tmp_path):
    values = curves(97)["sine"]
    with visit(chromium, tmp_path, explorer()) as opened:
        picture = opened.page.locator(".trix-sp-picture")
        for kind, scale, levels in STORED:
            choose(opened, "sine", 8, kind, scale, levels)
            low, high = extent(opened)
            drawn, target, raw = (
                picture.locator(f".trix-sp-{name}").get_attribute("d") or ""
                for name in ("read", "target", "raw")
            )
            assert (raw == "") == (kind == "float")

            points = np.array(numbers_in(target)).reshape(-1, 2)
            left, right = points[[0, -1], 0]
            unit = (high - low) / 260
            np.testing.assert_allclose(high - (points[:, 1] - 20) * unit, values, atol=unit / 50)
            read = effective(least_squares(values, 8, kind, levels), kind, scale)
            stretches = [numbers_in(stretch) for stretch in drawn.split("M")[1:]]
            assert len(stretches) == (levels if kind == "table" else 8)
            for i, (x0, y0, x1, y1) in enumerate(stretches):
                if kind == "table":
                    cell, u = address(i, levels - 1, 8, "float", levels)
                    heights = [float(read[cell, 0] + read[cell, 1] * u)] * 2
                    shares = [max(0, i - 0.5) / (levels - 1), min(1, (i + 0.5) / (levels - 1))]
                else:
                    heights = [float(read[i, 0] - read[i, 1]), float(read[i].sum())]
                    shares = [i / 8, (i + 1) / 8]
                assert [high - (y - 20) * unit for y in (y0, y1)] == pytest.approx(
                    heights, abs=unit / 50
                )
                assert [x0, x1] == pytest.approx(
                    [left + share * (right - left) for share in shares], abs=0.02
                )


def test_no_label_overlaps(chromium, tmp_path):
    x = torch.linspace(-1, 1, 97)
    targets = {"a trained tile’s spline, by a rather long name": x / 500, "high": 1000 * x}
    with visit(chromium, tmp_path, explorer(targets=targets, cells=16), width=320) as opened:
        for name, (kind, scale, levels) in product(targets, STORED):
            choose(opened, name, 16, kind, scale, levels)
            boxes = opened.page.locator(".trix-sp-picture text").evaluate_all(
                """parts => parts.map(part => part.getBoundingClientRect())
                    .map(({ left, right, top, bottom }) => [left, right, top, bottom])"""
            )
            for i, (left, right, top, bottom) in enumerate(boxes):
                for other in boxes[:i]:
                    apart = left >= other[1] or right <= other[0]
                    assert apart or top >= other[3] or bottom <= other[2], (boxes[i], other)
