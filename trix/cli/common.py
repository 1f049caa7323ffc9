"""What the commands share: errors in one line, the corpus, tables and figures."""

import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trix.files import atomic_path
from trix.lab import corpus
from trix.lab.corpus import Corpus
from trix.lab.texts import Unavailable


class Budget(enum.StrEnum):
    """How much a run may compute."""

    quick = "quick"
    full = "full"


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn what a user can mend into one line and an exit code, without a traceback."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        typer.echo(f"trix: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        typer.echo("trix: interrupted; the same command goes on from here", err=True)
        raise typer.Exit(130) from error


def load_corpus(name: str) -> Corpus:
    """Return a corpus by name or path.

    Raises:
        Unavailable: it needs a network that is not there; the message says what does not.
    """
    try:
        return corpus.load_corpus(name)
    except Unavailable as error:
        raise Unavailable(
            f"{error}. Set $TRIX_DATA to a copy of the file, or measure on a text that needs no "
            "network: --corpus plays"
        ) from error


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print rows, at least one, as a table: a column a key of the first."""
    table = Table()
    for column, value in rows[0].items():
        table.add_column(column, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*(escape(_figure(value)) for value in row.values()))
    Console().print(table)


def save_figure(draw: Callable[[Any], Any], rows: list[dict[str, Any]], path: Path) -> None:
    """Draw rows in the book's colours and write the figure as the file's ending says."""
    from trix.show import style  # isort: skip (says which extra brings what is missing)
    import matplotlib as mpl

    with mpl.rc_context(), atomic_path(path) as temporary:
        style.use()
        draw(rows).savefig(temporary, format=path.suffix[1:], facecolor="white")
    typer.echo(f"figure: {path}", err=True)


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
