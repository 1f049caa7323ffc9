"""Widgets in a real JupyterLab: they respond, and keep their keys to themselves."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest

from tests.browser.made import MAKERS, TOUCHES
from tests.chromium import Visit, open_page

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = ROOT / "notebooks" / "01-routing-is-addressing.ipynb"
TOKEN = "for-this-test-only"


def write_notebooks(folder: Path) -> None:
    """A chapter up to its last control (what follows only trains and draws), and all widgets."""
    content = nbformat.read(CHAPTER, as_version=4)
    controls = [i for i, cell in enumerate(content.cells) if "live(" in cell.source]
    content.cells = content.cells[: controls[-1] + 1]
    nbformat.write(content, folder / "chapter.ipynb")
    begin = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    begin += "from tests.browser.made import everything; made = everything()"
    sources = [begin, *(f"made[{name!r}]" for name in MAKERS)]
    content.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(content, folder / "widgets.ipynb")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a running JupyterLab."""
    folder, settings = (tmp_path_factory.mktemp(name) for name in ("work", "settings"))
    write_notebooks(folder)
    with jupyter_lab(folder, settings) as address:
        yield address


def run_all(visit: Visit, address: str, notebook: str) -> None:
    """Open a notebook and run its cells."""
    page = visit.page
    page.set_default_timeout(180_000)
    page.goto(f"{address}/lab/workspaces/{notebook[:-6]}/tree/{notebook}?token={TOKEN}")
    page.locator(".jp-Notebook").wait_for()
    page.locator(".jp-Toolbar-kernelStatus, .jp-Notebook-ExecutionIndicator").first.wait_for()
    page.get_by_text("| Idle").wait_for()  # the menus are not whole before
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


@pytest.fixture(scope="module")
def notebook(chromium, lab):
    """The notebook of all widgets, run."""
    with open_page(chromium, height=1400) as visit:
        run_all(visit, lab, "widgets.ipynb")
        for cell in range(1, len(MAKERS) + 1):
            visit.page.locator(".jp-Cell").nth(cell).scroll_into_view_if_needed()
            visit.page.locator(".jp-Cell").nth(cell).locator(".trix-kit").wait_for()
        yield visit


@pytest.mark.parametrize("name", MAKERS)
def test_keys_that_a_widget_hears_do_nothing_to_the_notebook(notebook, name):
    """In Jupyter `x` cuts a cell, `a` inserts one, `d d` deletes one; arrows go to another cell."""
    page = notebook.page
    cells, selector = page.locator(".jp-Cell"), TOUCHES[name][0]
    sources = "all => all.map((one) => one.textContent)"
    control = cells.nth(1 + list(MAKERS).index(name)).locator(f".trix-kit {selector}").first
    control.scroll_into_view_if_needed()
    control.focus()
    count = cells.count()
    written = page.locator(".jp-InputArea-editor").evaluate_all(sources)
    for key in ("x", "a", "d", "d", "ArrowDown"):
        page.keyboard.press(key)
    page.wait_for_timeout(300)
    assert cells.count() == count
    assert page.locator(".jp-InputArea-editor").evaluate_all(sources) == written
    focused = "document.activeElement.closest('.trix-kit')?.getAttribute('aria-label')"
    figure = cells.nth(1 + list(MAKERS).index(name)).locator(".trix-kit")
    assert page.evaluate(focused) == figure.get_attribute("aria-label")


@contextlib.contextmanager
def jupyter_lab(folder: Path, settings: Path):
    """Start JupyterLab on a free port; gives its address."""
    own = {
        "JUPYTER_CONFIG_DIR": str(settings / "config"),
        "JUPYTER_DATA_DIR": str(settings / "data"),
        "JUPYTER_RUNTIME_DIR": str(settings / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(settings / "lab"),
        "JUPYTERLAB_WORKSPACES_DIR": str(settings / "workspaces"),
        "JUPYTER_PREFER_ENV_PATH": "1",
    }
    port_file = settings / "runtime"
    log = (settings / "log.txt").open("w")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0",
        f"--IdentityProvider.token={TOKEN}",
    ]
    command += [f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    server = subprocess.Popen(
        command, env={**os.environ, **own}, stdout=log, stderr=subprocess.STDOUT, cwd=folder
    )
    try:
        yield _address(server, port_file, settings / "log.txt")
    finally:
        server.terminate()
        server.wait(20)
        log.close()


def _address(server: subprocess.Popen, runtime: Path, log: Path) -> str:
    """Wait until the server answers and return its address."""
    end = time.monotonic() + 240
    while time.monotonic() < end and server.poll() is None:
        for info in runtime.glob("jpserver-*.json"):
            with contextlib.suppress(ValueError, OSError):
                url = json.loads(info.read_text())["url"].rstrip("/")
                urllib.request.urlopen(f"{url}/api?token={TOKEN}", timeout=5)
                return url
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


def test_a_chapter_runs_and_its_widgets_respond(chromium, lab):
    with open_page(chromium) as visit:
        run_all(visit, lab, "chapter.ipynb")
        page = visit.page
        plane = page.locator(".trix-address-plane")
        plane.wait_for()
        arrow = plane.locator(".arrow").first
        arrow.scroll_into_view_if_needed()
        before = arrow.get_attribute("aria-valuetext")
        arrow.focus()
        for _ in range(3):
            page.keyboard.press("ArrowUp")
        assert arrow.get_attribute("aria-valuetext") != before

        after_keys = arrow.get_attribute("aria-valuetext")
        box = plane.locator(".arrow .disc").first.bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x - 30, y + 20)
        page.mouse.up()
        assert arrow.get_attribute("aria-valuetext") != after_keys

        # The control beside it asks the real layer, in the kernel.
        answer = page.get_by_text("is read by tile").last
        answer.scroll_into_view_if_needed()
        said = answer.inner_text()
        assert "score" in said
        slider = page.locator(".widget-slider [role=slider], .noUi-handle").last
        slider.focus()
        for _ in range(10):
            page.keyboard.press("ArrowRight")
        page.wait_for_function(
            "before => [...document.querySelectorAll('.jp-OutputArea')].some((area) =>"
            " area.innerText.includes('is read by tile') && !area.innerText.includes(before))",
            arg=said,
        )
        errors = page.locator("[data-mime-type='application/vnd.jupyter.error']")
        assert errors.all_inner_texts() == []
        assert visit.outside == []
