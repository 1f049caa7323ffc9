"""Keep the notebooks' first cell in step with the repository's address in `_config.yml`.

Colab opens a notebook as it is stored in the repository, on a machine that has neither the package
nor the records of the claims, so the address must stand in the notebook itself. Run this after
changing `repository.url`; `make test` says when it is needed.

    .venv/bin/python book/colab.py
"""

import sys
from pathlib import Path

import nbformat
import yaml
from execute import write

ROOT = Path(__file__).resolve().parent.parent
CELL_ID = "colab"
TEMPLATE = """\
# Opened in Colab, this fetches the package and the records; anywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    %cd -q /content
    !git clone -q --depth 1 --branch {branch} {url} trix-book
    %pip install -q "./trix-book[lab]" anywidget
    %cd -q trix-book/notebooks"""


def repository(root: Path) -> tuple[str, str]:
    """Return the address and the branch of the repository; the address is '' while unset."""
    settings = yaml.safe_load((root / "_config.yml").read_text())["repository"]
    return settings["url"] or "", settings["branch"]


def first_cell(url: str, branch: str) -> str:
    """Return the source of the cell, '' where there is no address."""
    return TEMPLATE.format(url=url, branch=branch) if url else ""


def present(notebook: nbformat.NotebookNode) -> str:
    """Return the source of a notebook's Colab cell, '' where it has none."""
    first = notebook.cells[0] if notebook.cells else None
    return first.source if first is not None and first.get("id") == CELL_ID else ""


def put(notebook: nbformat.NotebookNode, source: str) -> None:
    """Make the Colab cell of a notebook hold `source`; with '' it has none."""
    if present(notebook):
        del notebook.cells[0]
    if source:
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["remove-cell"]})
        cell["id"] = CELL_ID
        notebook.cells.insert(0, cell)


def outdated(root: Path) -> list[Path]:
    """List the notebooks whose first cell does not agree with `_config.yml`."""
    wanted = first_cell(*repository(root))
    return [
        path
        for path in sorted((root / "notebooks").glob("*.ipynb"))
        if present(nbformat.read(path, as_version=4)) != wanted
    ]


def main() -> int:
    """Rewrite the notebooks that are out of step and name them."""
    wanted = first_cell(*repository(ROOT))
    for path in outdated(ROOT):
        notebook = nbformat.read(path, as_version=4)
        put(notebook, wanted)
        write(path, (nbformat.writes(notebook).rstrip("\n") + "\n").encode())
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
