"""What every finished page must have, and must not.

One heading of the first rank, words for each picture, and nothing that comes from another host.
"""

from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import offline

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class _Page(HTMLParser):
    """Counts first-rank headings and collects pictures that say nothing to who cannot see them."""

    def __init__(self) -> None:
        super().__init__()
        self.headings = 0
        self.silent: list[str] = []
        self.redirects = False
        self._svg: str | None = None  # an svg that is open and has not been named yet
        self._depth = 0
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "h1":
            self.headings += 1
        elif tag == "meta" and given.get("http-equiv", "").lower() == "refresh":
            self.redirects = True
        elif tag == "img" and not _named(given) and not given.get("alt", "").strip():
            if not _hidden(given):
                self.silent.append(f"<img src={given.get('src', '')[:60]!r}> has no alt text")
        elif tag == "svg":
            self._depth += 1
            if self._depth == 1 and not _hidden(given):
                role = given.get("role", "") in ("img", "graphics-document", "application", "group")
                self._svg = (
                    None if role and _named(given) else (self.get_starttag_text() or "")[:80]
                )
        elif tag == "title" and self._depth:
            self._in_title = True

    def handle_data(self, data: str) -> None:
        if self._in_title and data.strip():
            self._svg = None

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        elif tag == "svg" and self._depth:
            self._depth -= 1
            if self._depth == 0 and self._svg is not None:
                self.silent.append(f"{self._svg} has no role and label, and no title")
                self._svg = None


def _named(given: dict[str, str]) -> bool:
    return bool(given.get("aria-label", "").strip() or given.get("aria-labelledby", "").strip())


def _hidden(given: dict[str, str]) -> bool:
    return given.get("aria-hidden") == "true" or given.get("role") in ("presentation", "none")


def problems(html: str) -> list[str]:
    """Say what a page lacks.

    Args:
        html: the page; one that only sends the reader on to another is not looked at.

    Returns:
        A sentence for each problem, none for a good page.
    """
    page = _Page()
    page.feed(html)
    if page.redirects:
        return []
    count = [] if page.headings == 1 else [f"expected one <h1>, found {page.headings}"]
    return count + page.silent


def in_book(folder: Path) -> list[str]:
    """Say what the pages of a built book lack, and what they load from other hosts."""
    found = [
        f"{path.relative_to(folder)}: {problem}"
        for path in sorted(folder.rglob("*.html"))
        if "_static" not in path.relative_to(folder).parts
        for problem in problems(path.read_text(encoding="utf-8"))
    ]
    return found + offline.foreign(folder)


def finish(app: "Sphinx", exception: Exception | None) -> None:
    """Look through the built book; the first problem fails it, and all are reported."""
    from sphinx.errors import ExtensionError
    from sphinx.util import logging

    if exception is not None or app.builder.format != "html":
        return
    if found := in_book(Path(app.outdir)):
        for problem in found:
            logging.getLogger(__name__).error(problem)
        raise ExtensionError(f"{len(found)} problems in the finished pages")


def setup(app: "Sphinx") -> dict[str, bool]:
    """Connect the check."""
    app.connect("build-finished", finish, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
