"""The reference as autodoc reads it, with what its rules get wrong put right."""

import re
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class AsWritten:
    """Keeps napoleon from reading "The map: even steps" as a type and its meaning.

    It does so for attributes, properties and constants; their docstrings are put back as they were.
    """

    def __init__(self) -> None:
        """Start with nothing set aside."""
        self.lines: dict[str, list[str]] = {}

    def set_aside(self, app, what: str, name: str, value, options, lines: list[str]) -> None:
        """Remember the lines, ahead of napoleon."""
        if what in ("attribute", "data", "property"):
            self.lines[name] = list(lines)

    def put_back(self, app, what: str, name: str, value, options, lines: list[str]) -> None:
        """Restore the lines, after napoleon."""
        if name in self.lines:
            lines[:] = self.lines.pop(name)


def join_names(app, what: str, name: str, value, options, lines: list[str]) -> None:
    """Write `a, b: text` of a section as `a/b: text`, ahead of napoleon.

    A field's name is one word to Sphinx: of two it takes the first for the type of the second.
    """
    inside = False
    for i, line in enumerate(lines):
        if line and not line.startswith(" "):
            inside = line in ("Args:", "Attributes:")
        elif inside and (found := re.match(r"    (\w+(?:, \w+)+): ", line)):
            lines[i] = line.replace(found[1], found[1].replace(", ", "/"), 1)


def skip(app: object, what: str, name: str, value: object, skipped: bool, options: object):
    """Leave out the fields of a NamedTuple: the class names them under its attributes."""
    if (getattr(value, "__doc__", None) or "").startswith("Alias for field number"):
        return True
    return None


def leave_what_has_no_place(app, env, node, contnode):
    """Show a name of the library that the reference leaves out, or a type variable, as it is."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    if module.startswith("trix.") and _member(module, name) is not None:
        return contnode
    return None


def _member(module: str, name: str) -> object:
    try:
        return getattr(import_module(module), name, None)
    except ImportError:
        return None


def setup(app: "Sphinx") -> dict[str, bool]:
    """Connect the corrections."""
    as_written = AsWritten()
    app.connect("autodoc-process-docstring", as_written.set_aside, priority=400)
    app.connect("autodoc-process-docstring", as_written.put_back, priority=600)
    app.connect("autodoc-process-docstring", join_names, priority=400)
    app.connect("autodoc-skip-member", skip)
    app.connect("missing-reference", leave_what_has_no_place)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
