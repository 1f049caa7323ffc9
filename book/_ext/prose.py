"""No number is typed into prose.

A measured number is glued from a cell or a record, a size that a protocol fixes is declared in
`constants.toml`. This extension reads every page as its author wrote it and warns about each digit
outside code, maths, links, roles and directive options. Warnings fail the build.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# The same as in _config.yml.
SYNTAX = {"amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath", "smartquotes"}

NUMBER = re.compile(r"[\w.,/×-]*[\d¼½¾⅓⅔⅛⅜⅝⅞][\w.,/×%-]*")
# The name of a claim, as A1, is no number.
NAME = re.compile(r"[A-Z]\d{1,2}")
DIRECTIVE = re.compile(r"^\{(?P<name>[^}]+)\}\s*(?P<argument>.*)$")
OPTION = re.compile(r"^:[\w-]+:")

# Directives whose body is not prose.
CODE_DIRECTIVES = {
    "bibliography",
    "code",
    "code-block",
    "code-cell",
    "eval-rst",
    "image",
    "include",
    "literalinclude",
    "math",
    "raw",
    "sourcecode",
    "tableofcontents",
    "toctree",
}
# Directives whose argument is a path or a layout, while their body is prose.
BARE_ARGUMENT_DIRECTIVES = {"figure", "grid", "grid-item"}

# Stretches of raw HTML that show no prose, and then every tag.
SILENT = r"(svg|style|script|code|pre)\b"
HTML_SILENT = re.compile(rf"<!--.*?-->|<{SILENT}.*?</\1\s*>|<[^>]*>", re.S | re.I)
HTML_OPENS = re.compile(rf"<{SILENT}[^>]*(?<!/)>$", re.I)
HTML_CLOSES = re.compile(rf"</{SILENT}", re.I)


@dataclass(frozen=True)
class TypedNumber:
    """A number that somebody typed into prose."""

    line: int
    number: str
    context: str

    def __str__(self) -> str:
        """Say what was found, where, and what to do about it."""
        return (
            f"typed number {self.number!r} in prose: {self.context!r} "
            "(glue it from a cell or a record, or declare it in book/constants.toml)"
        )


def typed_numbers(markdown: str) -> list[TypedNumber]:
    """Find the numbers typed into the prose of a MyST Markdown text.

    Args:
        markdown: the text.

    Returns:
        What was found, in order; `line` counts from 1.
    """
    return _in_tokens(_parser().parse(markdown), 1)


def typed_numbers_in_notebook(text: str) -> list[tuple[int, TypedNumber]]:
    """Find typed numbers in the Markdown cells and figure captions of a notebook.

    Args:
        text: the notebook's JSON.

    Returns:
        Pairs of the cell's position, counted from 1, and what was found in it. Cells tagged
        `remove-cell` are not looked at: nobody reads them.
    """
    found = []
    position = 0
    for cell in json.loads(text)["cells"]:
        metadata = cell.get("metadata", {})
        tags = metadata.get("tags", [])
        # papermill's own cell is not counted: the author's notebook has none.
        position += "injected-parameters" not in tags
        if "remove-cell" in tags:
            continue
        if cell["cell_type"] == "markdown":
            prose = "".join(cell["source"])
        else:
            prose = metadata.get("mystnb", {}).get("figure", {}).get("caption", "")
        found += [(position, number) for number in typed_numbers(prose)]
    return found


@cache
def _parser() -> MarkdownIt:
    return create_md_parser(
        MdParserConfig(enable_extensions=SYNTAX, dmath_double_inline=True), RendererHTML
    )


def _in_tokens(tokens: list[Token], first_line: int) -> list[TypedNumber]:
    found = []
    for token in tokens:
        line = first_line + (token.map[0] if token.map else 0)
        if token.type == "inline":
            found += _in_inline(token.children or [], line)
        elif token.type == "html_block":
            found += _in_html(token.content, line)
        elif token.type in ("fence", "colon_fence"):
            found += _in_directive(token, line)
    return found


def _in_inline(tokens: list[Token], line: int) -> list[TypedNumber]:
    """Look at running text: what stands in code, maths, roles, links and tags is passed over."""
    found: list[TypedNumber] = []
    silent = 0  # links and silent HTML elements that are open
    text = ""
    for token in tokens:
        if token.type == "link_open" or HTML_OPENS.match(token.content):
            silent += 1
        elif token.type == "link_close" or HTML_CLOSES.match(token.content):
            silent -= 1
        elif token.type in ("softbreak", "hardbreak"):
            found += _in_text(text, line)
            text, line = "", line + 1
        elif token.type == "text" and not silent:
            text += token.content
        elif token.type == "image":
            found += _in_inline(token.children or [], line)
        elif token.content:
            # Another piece of the line: it may be math, code or a role.
            text += " … "
            line += token.content.count("\n")
    return found + _in_text(text, line)


def _in_directive(token: Token, line: int) -> list[TypedNumber]:
    match = DIRECTIVE.match(token.info.strip())
    if match is None or match["name"].startswith("glue") or match["name"] in CODE_DIRECTIVES:
        return []
    found = []
    if match["name"] not in BARE_ARGUMENT_DIRECTIVES:
        found += _in_tokens(_parser().parse(match["argument"]), line)
    body = token.content.split("\n")
    options = _option_lines(body)
    return found + _in_tokens(_parser().parse("\n".join(body[options:])), line + 1 + options)


def _option_lines(body: list[str]) -> int:
    """Count the lines at the start of a directive's body that are options."""
    if body and body[0].strip() == "---":
        for position, line in enumerate(body[1:], start=1):
            if line.strip() == "---":
                return position + 1
    count = 0
    while count < len(body) and OPTION.match(body[count].strip()):
        count += 1
    return count


def _in_html(html: str, line: int) -> list[TypedNumber]:
    # What is taken out leaves its line ends behind, so that lines still count.
    prose = HTML_SILENT.sub(lambda match: "\n" * match[0].count("\n") + " ", html)
    return [
        number
        for offset, text in enumerate(prose.split("\n"))
        for number in _in_text(text, line + offset)
    ]


def _in_text(text: str, line: int) -> list[TypedNumber]:
    found = []
    for match in NUMBER.finditer(text):
        number = match[0].strip(".,-/")
        if not NAME.fullmatch(number):
            around = text[max(0, match.start() - 30) : match.end() + 30]
            found.append(TypedNumber(line, number, " ".join(around.split())))
    return found


def check_page(app: "Sphinx", docname: str, source: list[str]) -> None:
    """Warn about each typed number of a page that is about to be read."""
    from sphinx.util import logging

    logger = logging.getLogger(__name__)
    if str(app.env.doc2path(docname)).endswith(".ipynb"):
        for cell, number in typed_numbers_in_notebook(source[0]):
            logger.warning("cell %d, line %d: %s", cell, number.line, number, location=docname)
    else:
        for number in typed_numbers(source[0]):
            logger.warning("%s", number, location=(docname, number.line))


def setup(app: "Sphinx") -> dict[str, bool]:
    """Connect the check."""
    app.connect("source-read", check_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
