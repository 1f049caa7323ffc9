"""What the commands share: errors and warnings in one line, JSON, the corpus, tables, figures."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trix.files import atomic_path
from trix.lab import corpus
from trix.lab.corpus import Corpus
from trix.lab.texts import Unavailable

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead, for another program.")]
CorpusName = Annotated[str, typer.Option(help="Text to measure on.")]
PICTURES = (".svg", ".png")
STYLES = {
    **dict.fromkeys(("ok", "holds", "same", "within"), "green"),
    **dict.fromkeys(("warn", "explained away"), "yellow"),
    **dict.fromkeys(("refuted", "off"), "red"),
    **{"fail": "bold red", "exceeded": "bold green", "open": "dim"},
}
Budget = Literal["quick", "full"]
FOLDER = "Folder of a model from trix train."
Checkpoint = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help=FOLDER)]
Jobs = Annotated[
    int | None,
    typer.Option(help="Runs at a time; one a core if not given. What is timed runs alone.", min=1),
]
Backend = Annotated[
    str,
    typer.Option(
        help="loky: processes on this machine; dask: workers of a cluster, that of "
        "$DASK_SCHEDULER_ADDRESS if it is set."
    ),
]


def report_diverged(lines: list[str]) -> None:
    """Say which runs diverged, and exit with 1, if any did."""
    for line in lines:
        tell(line)
    if lines:
        raise typer.Exit(1)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn what a user can mend into one line and an exit code, and warnings into such lines."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: tell(message)
        try:
            yield
        except (ValueError, OSError, FloatingPointError, ModuleNotFoundError) as error:
            tell(error)
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            tell("interrupted; the same command goes on from here")
            raise typer.Exit(130) from error


def tell(message: object) -> None:
    """Say something about the call on standard error, as every error and warning is said."""
    typer.echo(f"trix: {message}", err=True)


def print_json(value: object) -> None:
    """Print a value as JSON."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def load_corpus(name: str) -> Corpus:
    """Return a corpus by name or path; without a network, say which text needs none."""
    try:
        return corpus.load_corpus(name)
    except Unavailable as error:
        raise Unavailable(
            f"{error}. Set $TRIX_DATA to a copy of the file, or measure on a text that needs no "
            "network: --corpus plays"
        ) from error


def console() -> Console:
    """Return where tables are printed: what stands in brackets is text, not markup."""
    return Console(markup=False, highlight=False)


def coloured(word: str) -> Text:
    """Return a verdict or a status in its colour."""
    return Text(word, STYLES[word.strip()])


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print rows, at least one, as a table: a column a key of the first, every cell whole."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column, value in rows[0].items():
        justify = "left" if isinstance(value, str | Text) else "right"
        table.add_column(column, justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    console().print(table)


def save_figure(draw: Callable[[Any], Any], found: Any, path: Path) -> None:
    """Draw what was found in the book's colours, and write it as the file's ending says."""
    from trix.show import style  # isort: skip (says which extra brings what is missing)
    import matplotlib as mpl

    with mpl.rc_context(), atomic_path(path) as temporary:
        style.use()
        draw(found).savefig(temporary, format=path.suffix[1:], facecolor="white")
    typer.echo(f"figure: {path}", err=True)


def _cell(value: Any) -> str | Text:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, Text) else str(value)
