"""A book that asks nothing of other hosts.

MathJax comes out of an installed package, and a page that would load a script, style, font, frame
or image from elsewhere fails the build. Links to elsewhere are fine: following one is the reader's
own doing.
"""

import re
import shutil
from html.parser import HTMLParser
from importlib.metadata import PackagePath, distribution
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MATHJAX_PACKAGE = "django-static-mathjax"
MATHJAX_ROOT = "mathjax/static/mathjax/es5/"
# The component with all of TeX's extensions built in, and the fonts it looks for beside itself.
MATHJAX_FILES = ("tex-chtml-full.js", "output/chtml/fonts/woff-v2/")

LOADING_ATTRIBUTES = {
    "audio": ("src",),
    "embed": ("src",),
    "frame": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src", "srcset"),
    "input": ("src",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "track": ("src",),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
LOADING_RELATIONS = {
    "dns-prefetch",
    "icon",
    "manifest",
    "modulepreload",
    "preconnect",
    "prefetch",
    "preload",
    "stylesheet",
}
ELSEWHERE = re.compile(r"(?:https?:|wss?:)?//", re.I)
CSS_ADDRESS = re.compile(r"""(?:url\(\s*|@import\s+)['"]?((?:https?:)?//[^'")\s;]+)""", re.I)
SCRIPT_IMPORT = re.compile(r"""(?:\bfrom|\bimport)\s*\(?\s*['"]((?:https?:)?//[^'"]+)""")
CSS_COMMENT = re.compile(r"/\*.*?\*/", re.S)


class _Loads(HTMLParser):
    """Collects the addresses on other hosts that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        wanted = list(LOADING_ATTRIBUTES.get(tag, ()))
        if tag == "link" and LOADING_RELATIONS & set(given.get("rel", "").lower().split()):
            wanted.append("href")
        for name in wanted:
            for candidate in (
                given.get(name, "").split(",") if name == "srcset" else [given.get(name, "")]
            ):
                if ELSEWHERE.match(candidate.strip()):
                    self.addresses.append(candidate.split()[0])
        self.addresses += foreign_in_css(given.get("style", ""))
        if tag in ("style", "script"):
            self._inside = tag if given.get("type", "") in ("", "module", "text/css") else ""

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.addresses += foreign_in_css(data)
        elif self._inside == "script":
            self.addresses += SCRIPT_IMPORT.findall(data)


def foreign_in_html(html: str) -> list[str]:
    """List the addresses on other hosts that a page loads, not those it links to."""
    parser = _Loads()
    parser.feed(html)
    return parser.addresses


def foreign_in_css(css: str) -> list[str]:
    """List the addresses on other hosts that a style sheet loads."""
    return CSS_ADDRESS.findall(CSS_COMMENT.sub("", css))


def foreign(folder: Path) -> list[str]:
    """List what the pages and style sheets under a folder load from other hosts."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".html", ".css", ".svg"):
            text = path.read_text(encoding="utf-8", errors="replace")
            look = foreign_in_css if path.suffix == ".css" else foreign_in_html
            found += [f"{path.relative_to(folder)} loads {address}" for address in look(text)]
    return found


def mathjax_files() -> list[PackagePath]:
    """List the files of MathJax that a page needs, from the installed package.

    Raises:
        FileNotFoundError: the package holds none of them.
    """
    wanted = tuple(MATHJAX_ROOT + name for name in MATHJAX_FILES)
    files = distribution(MATHJAX_PACKAGE).files or []
    found = [file for file in files if str(file).startswith(wanted)]
    if not found:
        raise FileNotFoundError(f"{MATHJAX_PACKAGE}: expected {wanted}, found none of them")
    return found


def copy_mathjax(target: Path) -> None:
    """Copy MathJax out of its package."""
    for file in mathjax_files():
        path = target / str(file).removeprefix(MATHJAX_ROOT)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(file.locate()), path)


def finish(app: "Sphinx", exception: Exception | None) -> None:
    """Put MathJax into the built book."""
    if exception is None and app.builder.format == "html":
        copy_mathjax(Path(app.outdir) / "_static" / "mathjax")


def setup(app: "Sphinx") -> dict[str, bool]:
    """Connect the copying; `pages` looks through the result."""
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
