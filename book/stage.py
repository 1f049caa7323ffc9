"""Lay out the folder that Jupyter Book reads: settings, pages, executed notebooks, tables."""

import json
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

import keys
import nbformat
import yaml
from execute import Run, write

# Below this the seconds of a notebook are not worth a remark.
LIMIT_SECONDS = {"quick": 40.0}


def book(root: Path, executed: Path, runs: list[Run], budget: str) -> dict[str, bytes]:
    """Return everything that the book is made of, by its path in the staged folder."""
    files = {
        "_config.yml": config((root / "_config.yml").read_text()).encode(),
        "_toc.yml": (root / "_toc.yml").read_bytes(),
    }
    pages = root / "book"
    for path in keys.files_under(pages):
        inside = path.relative_to(pages)
        # The scripts that build the book and the records it is made from are not part of it.
        if inside.parts[0] != "claims" and not (path.suffix == ".py" and path.parent == pages):
            files[str(path.relative_to(root))] = path.read_bytes()
    for run in runs:
        files[f"notebooks/{run.source.name}"] = notebook(executed / run.source.name)
    for name, text in tables(root, runs, budget).items():
        files[f"book/_generated/{name}.md"] = text.encode()
    for path in sorted((pages / "claims" / "records").glob("*.jsonl")):
        files[f"book/_static/records/{path.name}"] = path.read_bytes()  # the ledger links to them
    return files


def config(text: str) -> str:
    """Return `_config.yml` as the build needs it.

    Without an address of the repository there is nothing that a launch or repository button could
    point to, so the settings of those buttons are dropped.
    """
    settings = yaml.safe_load(text)
    if not settings["repository"]["url"]:
        del settings["repository"]
        settings.pop("launch_buttons", None)
        for name in ("use_repository_button", "use_issues_button", "use_edit_page_button"):
            settings["html"].pop(name, None)
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def notebook(path: Path) -> bytes:
    """Return an executed notebook as the page shows it.

    The cell of injected parameters is hidden, and papermill's time stamps go: with them, equal
    results would differ from one run to the next.
    """
    content = nbformat.read(path, as_version=4)
    content.metadata.pop("papermill", None)
    for cell in content.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            cell.metadata["tags"] = [*tags, "remove-cell"]
    return nbformat.writes(content).encode()


def tables(root: Path, runs: list[Run], budget: str) -> dict[str, str]:
    """Return the generated parts of pages, by name: Markdown that pages include."""
    makers: Mapping[str, Callable[[], str]] = {
        "api": lambda: api(root / "trix"),
        "execution": lambda: seconds_table(runs, budget),
    }
    return {name: maker() for name, maker in makers.items()}


def seconds_table(runs: list[Run], budget: str) -> str:
    """Return the seconds of each notebook as a Markdown table."""
    rows = [f"| [](../notebooks/{run.source.name}) | {run.seconds:.1f} |" for run in runs]
    total = sum(run.seconds for run in runs)
    return "\n".join(
        [
            f"At the `{budget}` budget:",
            "",
            "| chapter | seconds |",
            "| --- | ---: |",
            *rows,
            f"| all, one after the other | {total:.1f} |",
            "",
        ]
    )


SPACES = {
    "trix": ("what a model is made of", ("address", "tiles", "memory", "counts", "surgery")),
    "trix.lab": ("data, models and training", ("models", "lab")),
    "trix.ledger": ("experiments, records and claims", ("experiments", "ledger")),
    "trix.show": ("figures and widgets", ("show",)),
}
"""The public namespaces, each with its purpose and the rooms that its names come from."""


def api(package: Path) -> str:
    """Return the reference: the names of each namespace, then the modules they come from."""
    lines = []
    for space, (purpose, rooms) in SPACES.items():
        names = import_module(space)
        public = {name: getattr(names, name) for name in names.__all__}
        homes = {name: getattr(value, "__module__", space) for name, value in public.items()}
        lines += [f"## {space}: {purpose}", "", "| name | what it is |", "| --- | --- |"]
        for name in sorted(public, key=str.lower):
            is_module = isinstance(public[name], ModuleType)
            target = public[name].__name__ if is_module else f"{homes[name]}.{name}"
            what = _first_sentence(public[name])
            lines.append(f"| {{py:obj}}`{name} <{target}>` | {what} |")
        lines.append("")
        for module in (module for room in rooms for module in _modules(package, room)):
            # what the core rooms share among themselves is not part of the reference
            if space != "trix" or module in homes.values():
                lines += _automodule(module)
    lines += ["## trix.cli: the command", ""]
    for module in _modules(package, "cli"):
        lines += _automodule(module)
    return "\n".join(lines)


def _automodule(name: str) -> list[str]:
    return [
        f"### {name}",
        "",
        "```{eval-rst}",
        f".. automodule:: {name}",
        "   :members:",
        "```",
        "",
    ]


def _modules(package: Path, room: str) -> list[str]:
    single = package / f"{room}.py"
    files = [single] if single.is_file() else sorted((package / room).rglob("*.py"))
    return [
        ".".join(path.relative_to(package.parent).with_suffix("").parts)
        for path in files
        if not path.name.startswith("_")
    ]


def _first_sentence(value: object) -> str:
    paragraph = (value.__doc__ or "").strip().split("\n\n")[0]
    words = " ".join(paragraph.split()).replace("``", "`").replace("|", "\\|")
    return re.sub(r":\w+:`~?\.?([^`]*)`", r"`\1`", words)


def sync(folder: Path, files: dict[str, bytes]) -> None:
    """Make a folder hold exactly these files; those that are right already are not touched."""
    for name, data in files.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != data:
            write(path, data)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif str(path.relative_to(folder)) not in files:
            path.unlink()


def missing_from_toc(root: Path) -> list[str]:
    """Name the chapters and pages that exist and are not in `_toc.yml`, and the other way round."""
    listed = set(toc_files(yaml.safe_load((root / "_toc.yml").read_text())))
    there = {
        str(path.relative_to(root).with_suffix(""))
        for pattern in ("notebooks/*.ipynb", "book/*.md")
        for path in root.glob(pattern)
    }
    return [f"{name} is not in _toc.yml" for name in sorted(there - listed)] + [
        f"{name} is in _toc.yml and does not exist" for name in sorted(listed - there)
    ]


def toc_files(toc: object) -> list[str]:
    """List the files of a table of contents in their order."""
    if isinstance(toc, list):
        return [name for item in toc for name in toc_files(item)]
    if not isinstance(toc, dict):
        return []
    own = [toc[key] for key in ("root", "file") if key in toc]
    return own + [name for value in toc.values() for name in toc_files(value)]


def dumps(value: object) -> str:
    """Return JSON with sorted keys, the same text for the same value."""
    return json.dumps(value, sort_keys=True)
