"""`IslandPlane` on a page with no kernel, in a real browser, against trix and autograd."""

import json
import re

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.chromium import Visit
from tests.static_page import visit
from trix.address.losses import diversity, sparsity, ternary_pull
from trix.address.ternary import row_scale, ternarize, ternary_fraction
from trix.show.widgets.island_plane import IslandPlane

pytestmark = pytest.mark.browser

STEPS, RATE = 200, 0.075
DICE = np.random.default_rng(5)
ANGLES = DICE.choice([0.35, 1.3, 2.2, 3.6, 5.2], size=67) + DICE.normal(0, 0.15, size=67)
POINTS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1) * DICE.uniform(0.3, 2.5, size=(67, 1))
POINTS = POINTS.astype("f4").astype("f8")  # as they are sent
NO_POINTS = np.zeros((0, 2))
CASES = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.7, 0.2, 0.4)]


def island_plane(points=POINTS, **options) -> IslandPlane:
    return IslandPlane(points, **{"alt": "Six signatures, with tokens and without.", **options})


def latent_of(rows: Tensor) -> Tensor:
    return rows / row_scale(rows, ternarize(rows)).detach()


def cosines_of(rows: Tensor) -> Tensor:
    unit = F.normalize(rows, dim=-1)
    return (unit @ unit.T)[~torch.eye(len(rows), dtype=torch.bool)]


def losses_of(rows: Tensor, points: np.ndarray) -> list[Tensor]:
    """The task, ternary pull, sparsity, and diversity with its smooth gradient."""
    cosines = F.normalize(torch.from_numpy(points), dim=-1) @ F.normalize(rows, dim=-1).T
    task = -cosines.max(dim=-1).values.mean() if len(points) else rows.sum() * 0
    latent = latent_of(rows)
    return [task, ternary_pull(latent), sparsity(latent), cosines_of(rows).square().mean()]


def descend(start, points: np.ndarray, weights, taken: int) -> Tensor:
    rows = torch.tensor(start, dtype=torch.float64)
    for step in range(taken):
        rows.requires_grad_()
        task, *losses = losses_of(rows, points)
        total = task + sum(w * loss for w, loss in zip(weights, losses, strict=True))
        (gradient,) = torch.autograd.grad(total, rows)
        rows = rows.detach() - RATE * len(rows) * (1 - step / STEPS) * gradient
    return rows


def statistics_of(rows: Tensor) -> list[dict[str, float]]:
    """Before the cut and after it."""
    return [
        {
            "ternary": ternary_fraction(values, 0.1),
            "zeros": float((values.abs() <= near).double().mean()),
            "diversity": 1 - float(cosines_of(values).abs().mean()),
        }
        for values, near in ((latent_of(rows), 0.1), (ternarize(rows), 0.0))
    ]


def numbers_of(opened: Visit) -> dict:
    return json.loads(opened.page.locator(".trix-ip").get_attribute("data-numbers") or "")


def choose(opened: Visit, *weights: float) -> None:
    for name, weight in zip(("Ternary pull", "Sparsity", "Diversity"), weights, strict=True):
        opened.page.get_by_role("slider", name=name).fill(str(weight))


def cells_of(opened: Visit) -> list[list[list[str]]]:
    """The cells of each table, in rows."""
    return opened.page.locator(".trix-ip-table").evaluate_all(
        """tables => tables.map(table => [...table.tBodies[0].rows].map(row =>
            [...row.querySelectorAll("td")].map(cell => cell.textContent)))"""
    )


def in_module(opened: Visit, made: IslandPlane, call: str, **values):
    """What the widget's own module answers; `directions` are in its own flat form."""
    values["directions"] = F.normalize(torch.from_numpy(values.pop("points"))).flatten().tolist()
    return opened.page.evaluate(
        """async ([source, call, values]) => {
            const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
            const module = await import(address);
            const names = Object.keys(values);
            return new Function("module", ...names, `return ${call}`)(
                module, ...Object.values(values));
        }""",
        [str(made._esm), call, values],
    )


@pytest.mark.parametrize("points", [POINTS, NO_POINTS], ids=["data", "none"])
def test_losses_gradients_and_steps_are_those_of_trix(chromium, tmp_path, points):
    made = island_plane()
    with visit(chromium, tmp_path, made) as opened:
        for count in (2, 5, 7):
            rows = torch.from_numpy(np.random.default_rng(count).normal(0, 0.8, size=(count, 2)))
            call = "module.measure(rows, directions)"
            got = in_module(opened, made, call, rows=rows.tolist(), points=points)
            assert got[3]["value"] == pytest.approx(float(diversity(rows)), abs=1e-12)
            rows.requires_grad_()
            for shown, loss in zip(got, losses_of(rows, points), strict=True):
                (gradient,) = torch.autograd.grad(loss, rows, retain_graph=True)
                assert shown["value"] == pytest.approx(float(loss.detach()), abs=1e-12)
                assert np.array(shown["gradient"]) == pytest.approx(gradient.numpy(), abs=1e-12)
        start = numbers_of(opened)["start"]
        call = "module.descend(start, directions, weights, 7)"
        for weights in CASES:
            got = in_module(opened, made, call, start=start, points=points, weights=weights)
            expected = descend(start, points, weights, 7).numpy()
            assert np.array(got) == pytest.approx(expected, abs=1e-9)
        call = "module.randomRows(999, seed)"
        starts = [in_module(opened, made, call, seed=seed, points=points) for seed in (7, 7, 8)]
    rows, again, other = map(np.array, starts)
    assert (rows == again).all()
    assert not (rows == other).any()
    lengths = np.hypot(*rows.T)
    assert 0.6 <= lengths.min() < 0.61
    assert 1.19 < lengths.max() <= 1.2
    turns = np.histogram(np.arctan2(rows[:, 1], rows[:, 0]), bins=9, range=(-np.pi, np.pi))[0]
    assert 75 < turns.min() <= turns.max() < 150  # of 111


def test_both_planes_start_alike_and_end_where_autograd_ends(chromium, tmp_path):
    weights = (0.4, 0.0, 0.3)  # no kink is crossed over and over
    with visit(chromium, tmp_path, island_plane(weights=weights, seed=2)) as opened:
        numbers = numbers_of(opened)
        for result, points in zip(numbers["results"], (POINTS, NO_POINTS), strict=True):
            rows = descend(numbers["start"], points, weights, STEPS)
            assert np.array(result["rows"]) == pytest.approx(rows.numpy(), abs=1e-6)
            values = [float(loss) for loss in losses_of(rows, points)]
            assert result["losses"] == pytest.approx(values, abs=1e-6)
        opened.expect_quiet()


def test_the_tables_hold_the_statistics(chromium, tmp_path):
    with visit(chromium, tmp_path, island_plane(signatures=5)) as opened:
        for weights in CASES:
            choose(opened, *weights)
            numbers = numbers_of(opened)
            start = torch.tensor(numbers["start"], dtype=torch.float64)
            if not any(weights):
                data, none = numbers["results"]
                assert none["rows"] == numbers["start"]
                assert data["losses"][0] < float(losses_of(start, POINTS)[0]) - 0.02
            for table, result in zip(cells_of(opened), numbers["results"], strict=True):
                trained = statistics_of(torch.tensor(result["rows"], dtype=torch.float64))
                shown = [*result["trained"], *numbers["untrained"]]
                for got, expected in zip(shown, [*trained, *statistics_of(start)], strict=True):
                    assert got == pytest.approx(expected, abs=1e-12)
                for row, name in zip(table, ("ternary", "zeros", "diversity"), strict=True):
                    for cell, column in zip(row, shown, strict=True):
                        percent = f"{np.floor(100 * column[name] + 0.5):.0f}\u00a0%"
                        assert cell == (f"{column[name]:.2f}" if name == "diversity" else percent)
                assert table[0][1] == table[0][3] == "100\u00a0%"


def test_the_losses_do_what_they_say_with_no_data_at_all(chromium, tmp_path):
    with visit(chromium, tmp_path, island_plane()) as opened:
        for seed in range(3):
            start = torch.tensor(numbers_of(opened)["start"], dtype=torch.float64)
            before = [float(loss) for loss in losses_of(start, NO_POINTS)]
            for loss in (1, 2, 3):
                choose(opened, *(float(n == loss) for n in (1, 2, 3)))
                assert numbers_of(opened)["results"][1]["losses"][loss] < before[loss], seed
            choose(opened, 1, 0, 0)
            assert numbers_of(opened)["results"][1]["trained"][0]["ternary"] == 1
            choose(opened, 0, 1, 0)
            assert numbers_of(opened)["results"][1]["trained"][0]["zeros"] == 0.5
            opened.page.get_by_role("button", name="New random start").click()


def test_arrows_points_and_numbers_stand_where_they_belong(chromium, tmp_path):
    made = island_plane(signatures=8, weights=(1.0, 1.0, 0.2))
    with visit(chromium, tmp_path, made) as opened:
        numbers = numbers_of(opened)
        drawn = opened.page.locator(".trix-ip-plane").evaluate_all(
            """planes => planes.map(plane => Object.fromEntries(
                ["points", "start", "end"].map(kind => [kind,
                    [...plane.querySelectorAll(`.trix-ip-${kind}`)]
                        .map(path => path.getAttribute("d") ?? "")])))"""
        )
        unit = 160 / 1.9

        def pairs(path: str) -> np.ndarray:
            found = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)
            return np.array(found, dtype=float).reshape(-1, 2) * [1, -1] / unit

        start = torch.tensor(numbers["start"], dtype=torch.float64)
        for plane, result in zip(drawn, numbers["results"], strict=True):
            rows = torch.tensor(result["rows"], dtype=torch.float64)
            for kind, expected in (("start", latent_of(start)), ("end", latent_of(rows))):
                tips = np.array([pairs(path)[1] for path in plane[kind]])
                assert tips == pytest.approx(expected.numpy(), abs=2e-4)
        rows = F.normalize(torch.tensor(numbers["results"][0]["rows"], dtype=torch.float64))
        readers = (torch.from_numpy(POINTS) @ rows.T).argmax(dim=1).numpy()
        scaled = POINTS * 1.7 / np.abs(POINTS).max()
        for i, path in enumerate(drawn[0]["points"]):
            assert pairs(path) == pytest.approx(scaled[readers == i], abs=2e-4)
        assert set(drawn[1]["points"]) == {""}
        discs = """(({ x, y, width, height }) => [x + width / 2, y + height / 2, width])(
            one.getBoundingClientRect())"""
        both = np.array(opened.each(".trix-ip-plane .trix-ip-disc", discs)).reshape(2, 8, 3)
        for places in both:  # no number hides another
            apart = np.hypot(*(places[:, None, :2] - places[None, :, :2]).transpose(2, 0, 1))
            assert apart[~np.eye(8, dtype=bool)].min() >= places[0, 2] - 0.1
        assert opened.page.locator(".trix-ip-plane .trix-ip-target").count() == 2 * 9
        # sectors are shaded that the cut takes to a diagonal
        sectors = """Array.from({ length: 72 }, (_, i) => {
            const { x, y, width } = one.getBoundingClientRect();
            const angle = (2 * Math.PI * (i + 0.5)) / 72;
            const at = [x + width * (0.5 + 0.47 * Math.cos(angle)),
                        y + width * (0.5 - 0.47 * Math.sin(angle))];
            return document.elementFromPoint(...at).classList.contains("trix-ip-sector");
        })"""
        shaded = opened.each(".trix-ip-plane", sectors)[1]
    angles = 2 * np.pi * (torch.arange(72, dtype=torch.float64) + 0.5) / 72
    cut = ternarize(torch.stack([angles.cos(), angles.sin()], dim=1))
    assert shaded == (cut.abs().sum(dim=1) == 2).tolist()


def test_sliders_and_buttons_choose_weights_and_starts(chromium, tmp_path):
    with visit(chromium, tmp_path, island_plane()) as opened:
        for i, name in enumerate(("Ternary pull", "Sparsity", "Diversity")):
            slider = opened.page.get_by_role("slider", name=name)
            before = numbers_of(opened)["results"]
            for key, text in (("End", "1.00"), ("ArrowLeft", "0.99"), ("Home", "0.00")):
                slider.press(key)
                assert slider.get_attribute("aria-valuetext") == text
                assert opened.page.locator(".trix-ip-field strong").nth(i).text_content() == text
                assert (numbers_of(opened)["results"] == before) == (text == "0.00")
        start = numbers_of(opened)["start"]
        for button, seed in (("New random start", "1"), ("Reset", "0")):
            opened.page.get_by_role("button", name=button).press("Enter")
            assert opened.page.locator(".trix-ip-buttons strong").text_content() == seed
            assert (numbers_of(opened)["start"] == start) == (seed == "0")
        opened.expect_quiet()


def test_what_the_reader_comes_to_rest_at_is_said_once(chromium, tmp_path):
    with visit(chromium, tmp_path, island_plane()) as opened:
        status = opened.page.locator(".trix-ip [aria-live=polite]")
        opened.page.clock.install(time=0)
        opened.page.clock.pause_at(1_000_000)
        choose(opened, 1, 0.5, 0.5)
        opened.page.clock.run_for(300)
        assert status.text_content() == ""  # not while the hand may still move
        opened.page.clock.run_for(200)
        (ternary, *_), (zeros, *_), (spread, *_) = cells_of(opened)[1]
        said = f"No data, before the cut: {ternary} ternary, {zeros} zeros, diversity {spread}."
        assert (status.text_content() or "").endswith(said)
        assert opened.page.get_by_role("group", name=re.compile("^Six signatures")).count() == 1
        assert opened.page.get_by_role("table", name="Statistics, no data").count() == 1
        assert opened.page.get_by_role("columnheader", name="before the cut").count() == 4
        cuts = ternarize(torch.tensor(numbers_of(opened)["results"][1]["rows"])).int()
        label = opened.page.get_by_role("img").nth(1).get_attribute("aria-label") or ""
        shown = re.findall(r"\d to ([−\d]+) ([−\d]+)", label)
        assert [[int(n.replace("−", "-")) for n in pair] for pair in shown] == cuts.tolist()
