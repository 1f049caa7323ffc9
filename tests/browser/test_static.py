"""The scripts that bring widgets and plain controls to life on a page with no kernel."""

import json

import anywidget
import ipywidgets
import pytest
import torch
import traitlets
from ipywidgets.embed import dependency_state

from tests.chromium import open_page
from tests.static_page import visit, write_page
from trix.show import AddressPlane, live

pytestmark = pytest.mark.browser

POINTS = torch.tensor([[1.0, 0.5], [-1.0, 0.25], [0.5, -1.0], [0.75, 1.0]])


def plane() -> AddressPlane:
    return AddressPlane(POINTS, [[1, 0], [-1, 0]], alt="Four tokens.")


def shares(opened) -> list[str]:
    """What the bars of an AddressPlane say: three of four tokens lie on the right."""
    return opened.texts(".share")


class Odd(anywidget.AnyWidget):
    """Everything that state may hold: bytes, bytes within lists, markup, other alphabets."""

    _esm = """
    let started = 0;
    export default async () => ({
      initialize({ model }) {
        started += 1;
        model.set("started", started);
      },
      async render({ model, el }) {
        const nested = model.get("nested");
        const friend = await model.widget_manager.get_model(model.get("friend"));
        const show = () => {
          el.textContent = JSON.stringify({
            direct: model.get("direct").getUint8(1),
            nested: nested.list[1].getUint8(0),
            markup: model.get("markup"),
            started: model.get("started"),
            friend: friend.get("value"),
            clicks: model.get("clicks"),
          });
        };
        model.on("change:clicks", show);
        show();
        el.onclick = () => { model.set("clicks", model.get("clicks") + 1); model.save_changes(); };
      },
    });
    """
    _css = ".odd { color: red } /* </style> is only text here */"

    direct = traitlets.Bytes(b"\x01\xff\x02").tag(sync=True)
    nested = traitlets.Dict().tag(sync=True)
    markup = traitlets.Unicode("</script><b>é → 字 𝔘</b>").tag(sync=True)
    started = traitlets.Int(0).tag(sync=True)
    clicks = traitlets.Int(0).tag(sync=True)
    friend = traitlets.Unicode().tag(sync=True)


def odd() -> tuple[Odd, ipywidgets.IntSlider]:
    friend = ipywidgets.IntSlider(value=42, max=50)
    made = Odd(nested={"list": [b"\x05", b"\x06"], "é": 1}, friend=f"IPY_MODEL_{friend.model_id}")
    return made, friend


def test_state_arrives_whole_and_two_views_share_one_model(chromium, tmp_path):
    widget, friend = odd()
    state = dependency_state([widget, friend], drop_defaults=False)
    expected = {"direct": 255, "nested": 6, "markup": widget.markup, "started": 1, "friend": 42}
    with visit(chromium, tmp_path, widget, widget, friend, state=state) as opened:
        views = opened.page.locator(".trix-widget")
        for clicks in (0, 2):
            for view in (0, 1):
                told = json.loads(views.nth(view).text_content() or "")
                assert told == {**expected, "clicks": clicks}
            views.nth(1).click()
            views.nth(0).click()
        assert opened.page.locator("style[data-widget]").count() == 1
        opened.expect_quiet()


@pytest.mark.parametrize("broken", [False, True])
def test_it_works_from_a_file_in_a_subfolder_and_broken_state_is_told(chromium, tmp_path, broken):
    folder = tmp_path / "a folder" / "é"
    folder.mkdir(parents=True)
    page = write_page(folder, plane())
    if broken:
        begin = '"version_major": 2, "version_minor": 0, "state"'
        page.write_text(page.read_text().replace(begin, "!"))
    with open_page(chromium) as opened:
        opened.page.goto(page.as_uri())
        opened.page.wait_for_selector("html[data-widgets=ready]")
        if broken:
            said = opened.page.get_by_role("alert").text_content() or ""
            assert said.startswith("This widget cannot be shown: ")
            assert "JSON" in said
        else:
            assert shares(opened) == ["75\u00a0%", "25\u00a0%"]
            opened.expect_quiet()


def test_a_widget_that_cannot_be_shown_says_so_and_the_rest_lives(chromium, tmp_path):
    codes = {
        "export default { render() { throw new Error('a <b>bad</b> day') } }": "a <b>bad</b> day",
        "export default { initialize() { throw 'no' }, render() {} }": "no",
        "export default {": "Unexpected end of input",
        "export default async () => { throw new Error('late') }": "late",
    }
    broken = [type("Broken", (anywidget.AnyWidget,), {"_esm": code})() for code in codes]
    unknown, alive = ipywidgets.ColorPicker(), plane()
    state = dependency_state([*broken, unknown, alive], drop_defaults=False)
    views = [*broken, ipywidgets.IntSlider(), unknown, alive]
    with visit(chromium, tmp_path, *views, state=state) as opened:
        reasons = [
            *codes.values(),
            "its state is not in the page",
            "a ColorPickerModel needs a running notebook",
        ]
        said = opened.page.get_by_role("alert").all_text_contents()
        assert said == [f"This widget cannot be shown: {reason}" for reason in reasons]
        assert shares(opened) == ["75\u00a0%", "25\u00a0%"]
        opened.expect_quiet()


def test_a_control_that_needs_a_kernel_is_off_and_says_why(chromium, tmp_path):
    control = live(lambda x: f"twice is {2 * x}", value=3, low=0, high=9, step=1, label="amount")
    free = ipywidgets.IntSlider(value=2, description="free")
    with visit(chromium, tmp_path, control, free) as opened:
        assert opened.page.get_by_role("slider", name="amount").is_disabled()
        assert opened.page.get_by_role("slider", name="free").is_enabled()
        assert opened.page.get_by_text("twice is 6").is_visible()
        assert opened.page.get_by_text("This control calls Python").is_visible()
        opened.expect_quiet()


def test_linked_controls_move_together(chromium, tmp_path):
    whole = ipywidgets.IntSlider(value=2, max=9, description="whole")
    follower = ipywidgets.BoundedIntText(value=0, max=5, description="follower")
    copy = ipywidgets.FloatText(value=0, description="copy")
    links = [
        ipywidgets.jslink((whole, "value"), (follower, "value")),
        ipywidgets.jsdlink((whole, "value"), (copy, "value")),
    ]
    box = ipywidgets.VBox([whole, ipywidgets.HBox([follower, copy])])
    state = dependency_state([box, *links], drop_defaults=False)
    with visit(chromium, tmp_path, box, state=state) as opened:
        slider = opened.page.get_by_role("slider", name="whole")
        numbers = [opened.page.get_by_role("spinbutton", name=n) for n in ("follower", "copy")]
        assert [number.input_value() for number in numbers] == ["2", "2"]
        slider.focus()
        opened.page.keyboard.press("ArrowRight")
        assert [number.input_value() for number in numbers] == ["3", "3"]
        numbers[0].fill("77")
        numbers[0].press("Enter")
        assert slider.input_value() == "5"  # the field's own bound
        numbers[1].fill("1")
        numbers[1].press("Enter")
        assert slider.input_value() == "5"  # one way only
        opened.expect_quiet()


def test_each_kind_of_control_shows_and_changes_its_value(chromium, tmp_path):
    sources = [
        ipywidgets.FloatSlider(value=0.25, max=1, step=0.05, description="share"),
        ipywidgets.FloatLogSlider(value=100, base=10, min=0, max=3, description="rate"),
        ipywidgets.Checkbox(value=True, description="tick"),
        ipywidgets.Dropdown(options=["one", "two"], value="two", description="pick"),
        ipywidgets.Text(value="abc", description="word"),
    ]
    echo = ipywidgets.Label()
    link = ipywidgets.jsdlink((sources[4], "value"), (echo, "value"))
    state = dependency_state([*sources, echo, link], drop_defaults=False)
    with visit(chromium, tmp_path, *sources, echo, state=state) as opened:
        page = opened.page
        share, rate = (page.get_by_role("slider", name=name) for name in ("share", "rate"))
        assert [share.input_value(), rate.input_value()] == ["0.25", "2"]
        assert page.locator("output").all_text_contents() == ["0.25", "100"]
        rate.press("ArrowRight")
        share.press("ArrowLeft")
        assert page.locator("output").all_text_contents() == ["0.20", "126"]
        assert page.get_by_role("checkbox", name="tick").is_checked()
        pick = page.get_by_role("combobox", name="pick")
        assert pick.evaluate("select => select.selectedOptions[0].text") == "two"
        page.get_by_role("textbox", name="word").fill("<i>xyz</i>")
        assert page.get_by_text("<i>xyz</i>").is_visible()
        opened.expect_quiet()
