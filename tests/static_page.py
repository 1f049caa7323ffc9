"""A page of widgets with no kernel, made from their state in the script tags that MyST-NB writes.

So the widgets of the book are tested in a browser without building a book first. The page has the
theme's style sheets, which would restyle a widget that is not careful.
"""

import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import pydata_sphinx_theme
import sphinx_book_theme
from ipywidgets.embed import dependency_state

from tests.chromium import open_page, serve

BOOK = Path(__file__).parent.parent / "book"
VENDOR = BOOK / "_vendor"
STYLES = (
    Path(pydata_sphinx_theme.__file__).parent
    / "theme/pydata_sphinx_theme/static/styles/pydata-sphinx-theme.css",
    Path(sphinx_book_theme.__file__).parent
    / "theme/sphinx_book_theme/static/styles/sphinx-book-theme.css",
    BOOK / "_static" / "custom.css",
)
SCRIPTS = ("static-controls.js", "static-widgets.js")
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
THEME = """
html[data-theme=light] { --pst-color-text-base: #323232; --pst-color-background: #ffffff; }
html[data-theme=dark] { --pst-color-text-base: #ced6dd; --pst-color-background: #14181e; }
body { margin: 0.5rem; color: var(--pst-color-text-base); background: var(--pst-color-background); }
"""


def size_on_page(view) -> int:
    """The characters that a widget's state takes up in a page, its code aside."""
    entries = dependency_state([view], drop_defaults=False).values()
    (entry,) = [one for one in entries if "_esm" in one["state"]]
    state = {name: value for name, value in entry["state"].items() if name not in ("_esm", "_css")}
    return len(json.dumps({**entry, "state": state}))


def write_page(folder: Path, *views, state=None, extra: str = "") -> Path:
    """A page as MyST-NB makes it: the state in its head, a view where each widget was shown."""
    if state is None:
        state = dependency_state(views, drop_defaults=False)
    bundle = {"version_major": 2, "version_minor": 0, "state": state}

    def tag(kind, data):
        content = json.dumps(data).replace("</script>", r"<\/script>")
        return f'<script type="{kind}">{content}</script>'

    shown = [
        tag(VIEW, {"version_major": 2, "version_minor": 0, "model_id": view.model_id})
        for view in views
    ]
    for source in [*(VENDOR / name for name in SCRIPTS), *STYLES]:
        shutil.copy(source, folder / source.name)
    styles = "".join(f'<link rel="stylesheet" href="{source.name}">' for source in STYLES)
    cells = "".join(f'<div class="cell_output">{output}</div>' for output in [*shown, extra])
    scripts = "".join(f'<script defer src="{name}"></script>' for name in SCRIPTS)
    page = folder / "page.html"
    page.write_text(
        f"""<!doctype html><html lang="en" data-theme="light"><head>
        <meta charset="utf-8"><title>Widgets</title>
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <link rel="icon" href="data:,">{styles}<style>{THEME}</style>
        {tag(STATE, bundle)}{scripts}</head>
        <body class="bd-content"><h1>Widgets</h1>{cells}</body>
        </html>""",
        encoding="utf-8",
    )
    return page


@contextmanager
def visit(chromium, folder, *views, extra="", state=None, **window):
    """Open a page that shows these widgets, once all of them stand."""
    write_page(folder, *views, extra=extra, state=state)
    with serve(folder) as address, open_page(chromium, **window) as opened:
        opened.page.goto(f"{address}/page.html")
        opened.page.wait_for_selector("html[data-widgets=ready]")
        yield opened
