"""`SoftBlend` on a page with no kernel, in a real browser, against `flat_route` and autograd."""

import json
import math
import re
from typing import NamedTuple

import numpy as np
import pytest
import torch

from tests.chromium import Visit
from tests.static_page import visit
from trix.address.route import flat_route
from trix.lab.metrics import normalized_entropy
from trix.show.widgets.soft_blend import HIGH, INPUTS, LOW, SoftBlend

pytestmark = pytest.mark.browser

SIGNATURES = [[-4.5, -2.45], [-1.5, 3.64], [1.5, 2.08], [4.5, -3.25]]
ANSWERS = [[-1.27, -2.68], [0.56, -0.29], [0.57, 0.3], [-1.27, 2.68]]
TILES = len(SIGNATURES)
GRID = torch.linspace(LOW, HIGH, INPUTS, dtype=torch.float64)
CASES = [(0.02, 4), (0.3, 4), (20.0, 4), (2.0, 3), (0.1, 2), (5.0, 2), (1.0, 1)]


def wave(x: float) -> float:
    return math.sin(1.5 * x)


def soft_blend(signatures=SIGNATURES, answers=ANSWERS, target=wave, **options) -> SoftBlend:
    settings = {"alt": "Four lines blended into a wave.", **options}
    return SoftBlend(signatures, answers, target, **settings)


class Measured(NamedTuple):
    loss: float
    signatures: list[list[float]]
    temperature: float
    reads: float
    usage: list[float]
    evenness: float


def blend(x: torch.Tensor, signatures, answers, temperature, top_k: int):
    """The output `[n]` and the weights of all tiles `[n, tiles]`, by the library's own route."""
    plane = torch.stack([x, torch.ones_like(x)], dim=1)
    route = flat_route(plane, signatures, top_k, temperature)
    heights = (plane @ torch.tensor(answers, dtype=torch.float64).T).gather(1, route.index)
    weights = torch.zeros(len(x), len(answers), dtype=torch.float64)
    return (route.weight * heights).sum(1), weights.scatter(1, route.index, route.weight)


def measure(temperature: float, top_k: int, signatures=SIGNATURES, answers=ANSWERS) -> Measured:
    addresses = torch.tensor(signatures, dtype=torch.float64, requires_grad=True)
    heat = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    output, weights = blend(GRID, addresses, answers, heat, top_k)
    target = torch.tensor([wave(float(x)) for x in GRID], dtype=torch.float64)
    loss = ((output - target) ** 2 / 2).mean()
    on_signatures, on_heat = torch.autograd.grad(loss, [addresses, heat])
    weights = weights.detach()
    reads = (-torch.special.xlogy(weights, weights).sum(1)).exp().mean()
    usage = weights.mean(0)
    return Measured(
        float(loss.detach()),
        on_signatures.tolist(),
        float(on_heat),
        float(reads),
        usage.tolist(),
        normalized_entropy(usage),
    )


def figure(opened: Visit):
    return opened.page.locator(".trix-sb")


def numbers_of(opened: Visit) -> dict:
    return json.loads(figure(opened).get_attribute("data-numbers") or "")


def verdict_of(opened: Visit) -> str:
    return figure(opened).locator(".trix-sb-verdict").text_content() or ""


def choose(opened: Visit, temperature: float, top_k: int) -> float:
    """Move the slider next to a temperature; gives the one that it shows."""
    step = round(300 * math.log(temperature / 0.02) / math.log(1000))
    opened.page.get_by_role("slider", name="Temperature").fill(str(step))
    opened.page.get_by_role("radio", name=str(top_k), exact=True).check()
    return float(opened.said(".trix-sb-heat strong"))


def values_of(opened: Visit) -> list[str]:
    return opened.texts(".trix-sb-value")


def points_of(path: str) -> list[list[list[float]]]:
    """The points of each stretch of a path."""
    stretches = [re.findall(r"(-?[\d.]+) (-?[\d.]+)", part) for part in path.split("M")[1:]]
    return [[[float(x), float(y)] for x, y in stretch] for stretch in stretches]


def test_loss_gradients_and_usage_are_those_of_autograd(chromium, tmp_path):
    with visit(chromium, tmp_path, soft_blend()) as opened:
        for wanted, top_k in CASES:
            temperature = choose(opened, wanted, top_k)
            assert temperature == pytest.approx(wanted, rel=0.015)
            shown, expected = numbers_of(opened), measure(temperature, top_k)
            for name, value in expected._asdict().items():
                assert np.array(shown[name]) == pytest.approx(np.array(value), rel=1e-6, abs=1e-14)
            sizes = [math.hypot(*pair) for pair in expected.signatures]
            assert f"Temperature {temperature:g}: each input reads {expected.reads:.1f} tile" in (
                verdict_of(opened)
            )
            assert f"usage entropy {expected.evenness:.2f}." in verdict_of(opened)
            reached = sum(size >= 1e-5 for size in sizes)
            assert f"Gradient reaches {reached} of 4 tiles" in verdict_of(opened)
            bars = opened.page.locator(".kit-fill").evaluate_all(
                "bars => bars.map(bar => bar.getBoundingClientRect().width"
                " / bar.parentElement.getBoundingClientRect().width)"
            )
            for bar, size in zip(bars, [*sizes, abs(expected.temperature)], strict=True):
                place = 1 + math.log10(size) / 5 if size else 0
                assert bar == pytest.approx(min(1, max(0, place)), abs=0.01)
        opened.expect_quiet()


def test_of_equal_scores_the_lower_tile_is_read(chromium, tmp_path):
    signatures, answers = [[0, 0], [0, 1], [0, 1], [0, 1]], [[0, 1], [0, 2], [0, 3], [0, 4]]
    with visit(chromium, tmp_path, soft_blend(signatures, answers)) as opened:
        for k, usage in ((1, [0, 1, 0, 0]), (2, [0, 0.5, 0.5, 0])):
            choose(opened, 1, k)
            assert numbers_of(opened)["usage"] == pytest.approx(usage)
            expected = measure(1.0, k, signatures, answers).loss
            assert numbers_of(opened)["loss"] == pytest.approx(expected)


def test_what_is_said_and_labelled(chromium, tmp_path):
    with visit(chromium, tmp_path, soft_blend(top_k=1)) as opened:
        # one tile leaves no gradient
        assert values_of(opened) == ["0"] * (TILES + 1)
        assert "Gradient reaches 0 of 4 tiles: a single tile has the weight 1" in verdict_of(opened)
        losses = {numbers_of(opened)["loss"]}
        for temperature in (0.02, 20):
            choose(opened, temperature, 1)
            losses.add(numbers_of(opened)["loss"])
        assert len(losses) == 1
        choose(opened, 1, 2)
        assert "0" not in values_of(opened)
        assert "Gradient reaches 4 of 4 tiles." in verdict_of(opened)
        slider = opened.page.get_by_role("slider", name="Temperature")
        for key, text in (("ArrowRight", "1.03"), ("Home", "0.02"), ("End", "20")):
            slider.press(key)
            assert slider.get_attribute("aria-valuetext") == text
            assert f"Temperature {text}:" in verdict_of(opened)
        # every line and area carries its number, a number in an area stands on that area
        for temperature, top_k in ((1, 4), (20, 4), (0.1, 4), (2, 2), (1, 1)):
            choose(opened, temperature, top_k)
            lines = opened.texts(".trix-sb-curves .trix-sb-number")
            assert lines == ["0", "1", "2", "3"]
            areas = opened.texts(".trix-sb-bands .trix-sb-number")
            assert areas == (["0", "1", "1", "2", "2", "3"] if top_k == 2 else lines)
            assert opened.page.locator(".trix-sb-bands .trix-sb-number").evaluate_all(
                """numbers => numbers.every(number => {
                    const { x, y, width, height } = number.getBoundingClientRect();
                    const at = document.elementsFromPoint(x + width / 2, y + height / 2);
                    const area = at.find(part => part.matches(".trix-sb-area"));
                    return area?.dataset.tile === number.textContent;
                })"""
            )
        # it is said once the reader comes to rest
        opened.page.wait_for_function(
            "text => document.querySelector('[aria-live]').textContent === text",
            arg=verdict_of(opened),
        )
        opened.expect_quiet()


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 4), (2.0, 2), (1.0, 1)])
def test_curve_and_areas_are_drawn_where_they_belong(chromium, tmp_path, temperature, top_k):
    made = soft_blend(temperature=temperature, top_k=top_k)
    with visit(chromium, tmp_path, made) as opened:
        picture = opened.page.locator(".trix-sb-curves")
        width = picture.evaluate("picture => picture.getBoundingClientRect().width")
        paths = figure(opened).evaluate(
            """figure => ["output", "target", "area"].map(kind =>
                [...figure.querySelectorAll(`.trix-sb-picture .trix-sb-${kind}`)]
                    .map(path => path.getAttribute("d")))"""
        )
        [output], [target], areas = paths

    def x_of(px: float) -> float:
        return -3 + 6 * (px - 34) / (width - 44)

    # the scale of heights, from the target
    drawn = np.array(points_of(target)[0])
    true = np.array([wave(x_of(px)) for px in drawn[:, 0]])
    slope, start = np.polyfit(drawn[:, 1], true, 1)
    signatures = torch.tensor(SIGNATURES, dtype=torch.float64)

    def expected_at(px):
        x = torch.tensor([x_of(p) for p in px], dtype=torch.float64)
        return blend(x, signatures, ANSWERS, temperature, top_k)

    stretches = points_of(output)
    assert len(stretches) == {4: 1, 2: 3, 1: 4}[top_k]  # apart where the chosen tiles change
    for stretch in stretches:
        inside = np.array(stretch[2:-2])
        outputs, _ = expected_at(inside[:, 0])
        assert slope * inside[:, 1] + start == pytest.approx(outputs.numpy(), abs=1e-3)

    heights = np.zeros((TILES, INPUTS))
    middles = np.linspace(40, width - 16, INPUTS)
    for tile, area in enumerate(areas):
        for stretch in points_of(area):
            half = len(stretch) // 2
            upper, lower = np.array(stretch[:half]), np.array(stretch[half:][::-1])
            assert upper[:, 0] == pytest.approx(lower[:, 0])
            here = (middles >= upper[0, 0]) & (middles <= upper[-1, 0])
            band = np.interp(middles, lower[:, 0], lower[:, 1] - upper[:, 1])
            heights[tile, here] = band[here] / 116
    _, weights = expected_at(middles)
    np.testing.assert_allclose(heights.T, weights.numpy(), atol=3e-3)
