"""`trix explain`: who foresaw each character of a text."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trix.cli import common
from trix.cli.common import PICTURES, clear_errors, console
from trix.lab.corpus import load_corpus
from trix.models import explain as lab
from trix.models.storage import Stored, load_model

# as the picture's, which is cividis; the first few are pale enough for black letters
_SCALE = "#F3DB42 #D3C05F #B5A86F #979177 #7C7B78 #646770 #49536C #293F6E #002B62"
_NETWORK, _WORDS = "#D47C17", "#8E84EF"


@clear_errors()
def explain(
    checkpoint: common.Checkpoint,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="Two characters or more; - reads standard input.")
    ],
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it as well, .svg or .png.")
    ] = None,
    table: Annotated[
        bool, typer.Option("--table/--no-table", help="A line for each character.")
    ] = True,
    as_json: common.Json = False,
) -> None:
    """Say for each character of a text which table led, and which tile and slots were read.

    Order n is the table of the last n − 1 characters; N is the network.
    Where there are others, W is that of the word so far, P of it and the word before,
    A of it and the word before that one, L of the last three characters and the column,
    E and R of what came after the last two or four characters earlier in this text.
    The first character has nothing before it.
    """
    if picture is not None and picture.suffix not in PICTURES:
        raise typer.BadParameter(f"expected a .svg or .png, got {picture}", param_hint="--picture")
    stored = load_model(checkpoint)
    text = sys.stdin.read() if text == "-" else text
    found = lab.explain(stored, text)
    if _counted(stored, text):
        source = f"the training part of {stored.about['corpus']['name']}"
        common.tell(f"this text stands in {source}, so the tables recall it")
    if as_json:
        told = {"places": found.places, "nats": found.nats, "led": found.led()}
        common.print_json({**told, "rows": [row._asdict() for row in found.rows]})
    else:
        _print_text(console(), found)
        if table:
            _print_table(console(), found)
    if picture is not None:
        from trix.show.figures.explained import alt, explained

        common.save_figure(explained, found, picture)
        typer.echo(alt(found), err=True)


def style(found: lab.Explanation, place: int | None) -> str:
    """Return a place's colour: paler the shorter its address; words and network have their own."""
    if place is None:
        return ""
    depth = found.depth(place)
    if depth is None:
        return f"black on {_NETWORK if found.places[place] == 'network' else _WORDS}"
    scale = _SCALE.split()
    step = round(depth * (len(scale) - 1))
    return f"{'black' if step < 5 else 'white'} on {scale[step]}"


def _counted(stored: Stored, text: str) -> bool:
    # no where the text that the model was trained on is not here any more
    try:
        corpus = load_corpus(stored.about["corpus"]["name"])
    except (ValueError, OSError, ModuleNotFoundError):
        return False
    return corpus.sha256 == stored.about["corpus"]["sha256"] and text in corpus.train_text


def _print_text(console: Console, found: lab.Explanation) -> None:
    # a line of the text in colour, and below it which place that colour is
    shown, marks = Text(no_wrap=True), Text(no_wrap=True, style="dim")
    for i, row in enumerate(found.rows, 1):
        shown.append(lab.visible(row.character), style(found, row.leader))
        marks.append(found.mark(row.leader))
        if row.character == "\n" or len(shown) == console.width or i == len(found.rows):
            console.print(shown)
            console.print(marks)
            shown, marks = shown.blank_copy(), marks.blank_copy()
    legend = Text()
    for i, name in enumerate(found.places):
        if n := found.led().get(name):
            named = f" {name}: {n}".replace(" ", "\N{NO-BREAK SPACE}")
            legend.append(f"\N{NO-BREAK SPACE}{found.mark(i)}\N{NO-BREAK SPACE}", style(found, i))
            legend.append(f"{named}  ")
    console.print(legend)
    console.print(f"{found.nats:.4f} nats a character after the first")


def _print_table(console: Console, found: lab.Explanation) -> None:
    first = found.rows[1]
    more = ["tile"] * bool(first.tiles) + ["slots"] * bool(first.slots)
    table = Table("", "led by", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ["weight", "given", "likeliest", *more]:
        table.add_column(name, justify="right")
    for row in found.rows:
        if row.leader is None or row.probability is None or row.likeliest is None:
            table.add_row(lab.visible(row.character), "nothing before it")
            continue
        table.add_row(
            lab.visible(row.character),
            Text(found.places[row.leader], style(found, row.leader)),
            f"{row.weights[row.leader]:.2f}",
            f"{row.probability:.3f}",
            lab.visible(row.likeliest),
            *(str(tile) for tile in row.tiles[-1:]),
            *([" ".join(map(str, row.slots))] if row.slots else []),
        )
    console.print(table)
