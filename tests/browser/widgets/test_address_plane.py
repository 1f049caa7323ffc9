"""AddressPlane on a page with no kernel, in a real browser."""

import re

import pytest
import torch

from tests.chromium import Visit
from tests.static_page import visit
from trix.address.ternary import ternarize
from trix.show import AddressPlane
from trix.show.figures import style

pytestmark = pytest.mark.browser

SIGNATURES = torch.tensor([[1.0, 0.3], [-0.7, 0.9], [0.2, -1.1]])


def tokens(seed: int = 0) -> torch.Tensor:
    return torch.randn(97, 2, generator=torch.Generator().manual_seed(seed))


def plane(points=None, signatures=SIGNATURES, **options) -> AddressPlane:
    points = tokens() if points is None else points
    return AddressPlane(points, signatures, alt="Tokens in a plane.", **options)


def usage(opened: Visit, view: int = 0) -> torch.Tensor:
    """The shares that the bars of one view show."""
    rows = opened.page.locator(".trix-address-plane").nth(view).locator("[data-share]")
    return torch.tensor(
        rows.evaluate_all("rows => rows.map(row => Number(row.dataset.share))"),
        dtype=torch.float64,
    )


def winners(opened: Visit) -> list[int]:
    marks = opened.page.locator("[data-tile]")
    return marks.evaluate_all("marks => marks.map(mark => Number(mark.dataset.tile))")


def positions(opened: Visit) -> torch.Tensor:
    """Where the arrows point, as they say aloud, to two decimals."""
    said = [
        arrow.get_attribute("aria-valuetext") or ""
        for arrow in opened.page.get_by_role("slider", name="Signature of tile").all()
    ]
    pairs = [re.findall(r"[xy] (\S+),", text.replace("\u2212", "-")) for text in said]
    return torch.tensor([[float(x), float(y)] for x, y in pairs], dtype=torch.float64)


def expected_usage(points, signatures, temperature=None) -> torch.Tensor:
    scores = points.double() @ signatures.double().T
    if temperature is not None:
        return torch.softmax(scores / temperature, dim=-1).mean(dim=0)
    chosen = scores.argmax(dim=-1)
    return torch.bincount(chosen, minlength=len(signatures)).double() / len(points)


@pytest.mark.parametrize("tiles", [1, 5])
def test_winners_usage_and_colours_are_those_of_torch(chromium, tmp_path, tiles):
    points = tokens(tiles)
    signatures = torch.randn(tiles, 2, generator=torch.Generator().manual_seed(tiles + 7))
    with visit(chromium, tmp_path, plane(points, signatures), width=600) as opened:
        opened.page.emulate_media(reduced_motion="reduce")
        expected = (points.double() @ signatures.double().T).argmax(dim=-1).tolist()
        assert winners(opened) == expected
        torch.testing.assert_close(usage(opened), expected_usage(points, signatures))
        cells = opened.page.evaluate(
            """() => [...document.querySelectorAll("[data-tile]")].map((mark) => {
                const { e, f } = mark.transform.baseVal.getItem(0).matrix;
                const cells = [...document.querySelectorAll("polygon")];
                return cells.findIndex((cell) => cell.isPointInFill(new DOMPoint(e, f)));
            })"""
        )
        assert cells == expected
        bars = opened.page.locator("[data-share] .kit-fill").evaluate_all(
            "bars => bars.map(bar => bar.getBoundingClientRect().width"
            " / bar.parentElement.getBoundingClientRect().width)"
        )
        assert bars == pytest.approx(usage(opened).tolist(), abs=1e-3)
        opened.expect_quiet()


def test_ties_go_to_the_first_tile_as_in_torch(chromium, tmp_path):
    grid = torch.cartesian_prod(torch.arange(-3.0, 4), torch.arange(-3.0, 4))
    signatures = torch.tensor([[0.0, 1], [1, 0], [1, 0], [-1, 0], [0, -1], [0, 1]])
    with visit(chromium, tmp_path, plane(grid, signatures)) as opened:
        assert winners(opened) == (grid @ signatures.T).argmax(dim=-1).tolist()
        cells = opened.page.locator("polygon")
        corners = cells.evaluate_all("cells => cells.map(cell => cell.points.length)")
        assert [n >= 3 for n in corners] == [True, True, False, True, True, False]


def drag(opened: Visit, tile: int, right: float, down: float) -> None:
    opened.page.locator(".arrow").nth(tile).scroll_into_view_if_needed()
    box = opened.page.locator(".arrow .disc").nth(tile).bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2 - 2
    opened.page.mouse.move(x, y)
    opened.page.mouse.down()
    opened.page.mouse.move(x + right / 2, y + down / 2)
    opened.page.mouse.move(x + right, y + down)
    opened.page.mouse.up()


def test_the_pointer_drags_an_arrow_within_the_plane_and_the_usage_follows(chromium, tmp_path):
    points = tokens()
    with visit(chromium, tmp_path, plane(points)) as opened:
        before = positions(opened)
        width = opened.page.locator(".plane").evaluate("plane => plane.clientWidth")
        extent = float(points.abs().max().clamp(min=SIGNATURES.abs().max()))
        unit = extent * 400 / (178 * width)  # the plane's scale, from its drawing
        drag(opened, 1, right=60, down=90)
        moved = before + torch.tensor([[0, 0], [60 * unit, -90 * unit], [0, 0]])
        torch.testing.assert_close(positions(opened), moved, atol=0.011, rtol=0)
        opened.page.mouse.move(5, 5)  # without a press
        torch.testing.assert_close(positions(opened), moved, atol=0.011, rtol=0)
        said = opened.page.locator(".arrow").nth(1).get_attribute("aria-valuetext") or ""
        assert f"reads {round(100 * float(usage(opened)[1]))}\u00a0%" in said
        shares = expected_usage(points, moved)
        assert (usage(opened) - shares).abs().max() < 0.03  # two decimals of the position
        assert not torch.equal(usage(opened), expected_usage(points, SIGNATURES))
        opened.page.wait_for_function(
            "document.querySelector('.status').textContent.startsWith('Tile 1 now reads ')"
        )
        drag(opened, 0, right=3000, down=3000)
        corner = torch.tensor([extent, -extent]).double()
        torch.testing.assert_close(positions(opened)[0], corner, atol=0.006, rtol=0)
        opened.expect_quiet()


def test_keys_move_the_arrow_that_has_the_focus(chromium, tmp_path):
    points = tokens()
    step = float(points.abs().max()) / 50
    with visit(chromium, tmp_path, plane(points)) as opened:
        keys = opened.page.keyboard
        keys.press("Tab")
        keys.press("Tab")
        for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowDown", "ArrowLeft"):
            keys.press(key)
        moved = SIGNATURES.double() + torch.tensor([[0, 0], [step, -4 * step], [0, 0]])
        torch.testing.assert_close(positions(opened), moved, atol=0.0051, rtol=0)
        for _ in range(8):
            keys.press("Shift+ArrowRight")
        torch.testing.assert_close(
            usage(opened),
            expected_usage(points, moved + torch.tensor([[0, 0], [40 * step, 0], [0, 0]])),
        )
        assert opened.page.evaluate("scrollY") == 0
        opened.expect_quiet()


def test_soft_and_temperature_change_the_usage(chromium, tmp_path):
    points = tokens()
    with visit(chromium, tmp_path, plane(points)) as opened:
        heat = opened.page.get_by_role("slider", name="temperature")
        assert heat.is_disabled()
        opened.page.get_by_role("radio", name="soft").check()
        torch.testing.assert_close(usage(opened), expected_usage(points, SIGNATURES, 1.0))
        heat.focus()
        for _ in range(10):
            opened.page.keyboard.press("ArrowLeft")
        temperature = float(opened.page.locator(".degree").text_content() or "nan")
        assert temperature == pytest.approx(10**-0.5, abs=0.01)
        torch.testing.assert_close(usage(opened), expected_usage(points, SIGNATURES, temperature))
        opened.page.get_by_role("radio", name="hard").check()
        torch.testing.assert_close(usage(opened), expected_usage(points, SIGNATURES))
        opened.expect_quiet()


def test_soft_colours_the_plane_by_the_blend(chromium, tmp_path):
    far = 40 * tokens()  # scores so large that a careless softmax overflows
    both = plane(soft=True, temperature=0.5), plane(far, soft=True, temperature=0.05)
    with visit(chromium, tmp_path, *both) as opened:
        torch.testing.assert_close(usage(opened, 1), expected_usage(far, SIGNATURES, 0.05))
        red, green, blue, _ = opened.page.evaluate(
            "[...document.querySelector('canvas').getContext('2d').getImageData(70, 20, 1, 1).data]"
        )
        half = float(tokens().abs().max()) * 200 / 178
        at = torch.tensor([(70.5 / 80 - 0.5) * 2 * half, (0.5 - 20.5 / 80) * 2 * half])
        weights = torch.softmax(SIGNATURES @ at / 0.5, dim=0)
        colours = torch.tensor([list(bytes.fromhex(c[1:])) for c in style.PALETTE[:3]]).float()
        # The canvas keeps colours multiplied by their opacity, in bytes: a few units are lost.
        assert (torch.tensor([red, green, blue]) - weights @ colours).abs().max() <= 4


def test_ternary_snaps_as_the_library_does_and_keys_walk_its_grid(chromium, tmp_path):
    rough = torch.tensor([[1.0, 0.2], [-0.7, 0.9], [0.3, -1.1], [0.5, 0.17]])
    with visit(chromium, tmp_path, plane(signatures=rough)) as opened:
        opened.page.get_by_label("ternary signatures").check()
        assert torch.equal(positions(opened), ternarize(rough).double())
        opened.page.locator(".arrow").first.focus()
        opened.page.keyboard.press("ArrowLeft")
        assert positions(opened)[0].tolist() == [0, 0]
        opened.page.keyboard.press("Shift+ArrowUp")
        opened.page.keyboard.press("ArrowLeft")
        assert positions(opened)[0].tolist() == [-1, 1]
        drag(opened, 1, right=40, down=20)
        assert set(positions(opened).flatten().tolist()) <= {-1.0, 0.0, 1.0}


def test_a_finger_can_drag_an_arrow(chromium, tmp_path):
    with visit(chromium, tmp_path, plane(), width=375, touch=True) as opened:
        tip = opened.page.locator(".arrow .tip").nth(2)
        for part, action in ((tip, "none"), (opened.page.locator(".plane"), "auto")):
            assert part.evaluate("part => getComputedStyle(part).touchAction") == action
        grasp = opened.page.locator(".grasp").first.bounding_box()
        assert grasp
        assert min(grasp["width"], grasp["height"]) >= 24
        before = positions(opened)
        box = tip.locator(".disc").bounding_box()
        assert box
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        devtools = opened.page.context.new_cdp_session(opened.page)
        for kind, at in (("touchStart", 0), ("touchMove", 30), ("touchMove", 60), ("touchEnd", 60)):
            touches = [] if kind == "touchEnd" else [{"x": x + at, "y": y - at}]
            devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
        assert (positions(opened) - before)[2].min() > 0.1


def test_labels_and_classes_are_drawn(chromium, tmp_path):
    letters = plane(
        tokens()[:4], labels=["a", " ", "<", "é"], classes=["vowel", "other", "other", "vowel"]
    )
    with visit(chromium, tmp_path, letters) as opened:
        assert opened.texts(".token text") == ["a", "␣", "<", "é"]
        assert opened.texts(".legend .kit-key") == ["vowel", "other"]
        shapes = opened.each(".token path", "one.getAttribute('d')")
        assert shapes[0] == shapes[3] != shapes[1] == shapes[2]
        assert opened.page.get_by_role("group", name="Tokens in a plane.").count() == 1
