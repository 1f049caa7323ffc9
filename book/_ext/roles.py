"""Roles that put a value from a file or a function into the text.

`` {constant}`nano.context` `` shows a constant declared in `constants.toml`; hovering shows where
it comes from. Another such role is one function from a target to a `Shown` and one line in `setup`.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

CONSTANTS = Path(__file__).resolve().parent.parent / "constants.toml"


@dataclass(frozen=True)
class Shown:
    """What a role puts into the text."""

    text: str
    hover: str


def constant(target: str) -> Shown:
    """Return the constant that is declared as `group.name` in `constants.toml`.

    Raises:
        KeyError: there is none; the message names those that are declared.
    """
    declared = constants()
    if target not in declared:
        raise KeyError(f"expected a declared constant ({', '.join(declared)}), received {target!r}")
    return declared[target]


@cache
def constants() -> dict[str, Shown]:
    """Return every declared constant by its full name.

    Raises:
        ValueError: an entry lacks its value or its source.
    """
    return parse_constants(CONSTANTS.read_text())


def parse_constants(text: str) -> dict[str, Shown]:
    """Read constants from TOML: a table a group, in it `name = {value = …, source = "…"}`.

    A group's own `source` stands for those entries that are a bare value.

    Raises:
        ValueError: an entry has no value or no source.
    """
    declared = {}
    for group, entries in tomllib.loads(text).items():
        common = entries.get("source", "")
        for name, entry in entries.items():
            if name == "source":
                continue
            value, source = entry, common
            if isinstance(entry, dict):
                value, source = entry.get("value"), entry.get("source", common)
            if value is None or not source:
                raise ValueError(
                    f"constant {group}.{name}: expected a value and a source, received {entry!r}"
                )
            declared[f"{group}.{name}"] = Shown(show(value), source)
    return declared


def show(value: object) -> str:
    """Write a value as prose shows it: whole numbers from ten thousand on in groups of three."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10_000:
        return f"{value:,}"
    return str(value)


def role(resolve: Callable[[str], Shown]) -> Any:
    """Make a role that shows what `resolve` returns; a `KeyError` becomes a warning."""

    def run(name, rawtext, text, lineno, inliner, options=None, content=None):
        try:
            shown = resolve(text.strip())
        except KeyError as error:
            message = inliner.reporter.warning(f"{name}: {error.args[0]}", line=lineno)
            return [inliner.problematic(rawtext, rawtext, message)], [message]
        node = nodes.abbreviation(
            rawtext, shown.text, explanation=shown.hover, classes=[resolve.__name__]
        )
        return [node], []

    return run


def setup(app: "Sphinx") -> dict[str, bool]:
    """Register the roles."""
    # not `const`: that name is the Python domain's, which would come first
    app.add_role("constant", role(constant))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
