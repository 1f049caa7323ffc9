"""The command `trix`.

Exit codes: 0 all went well; 1 the input or a file is wrong, and the message says how; 2 the command
line is wrong; 130 interrupted, and the same command goes on from there.
"""

import enum
import importlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
except ModuleNotFoundError as error:
    raise SystemExit(
        f'trix: {error.name} is missing; install it with: pip install "trix-routing[lab]"'
    ) from error

from trix.lab import claims as ledger
from trix.lab.corpus import Corpus, load
from trix.lab.experiments import EXPERIMENTS, run_experiment
from trix.lab.files import atomic_path, write_text
from trix.lab.records import read_all_records
from trix.lab.tinyshakespeare import Unavailable

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Don't compute what you can look up.",
)
claims_app = typer.Typer(
    help="Print the claim ledger, or run what a claim needs.", invoke_without_command=True
)
app.add_typer(claims_app, name="claims")

BEGIN, END = "<!-- scoreboard -->", "<!-- /scoreboard -->"
STYLES = {
    "holds": "green",
    "exceeded": "bold green",
    "explained away": "yellow",
    "refuted": "red",
    "open": "dim",
}


class Budget(enum.StrEnum):
    """How much a run may compute."""

    quick = "quick"
    full = "full"


class Bench(enum.StrEnum):
    """What can be timed: each has a module `trix.lab.bench_…`."""

    dispatch = "dispatch"
    ffn = "ffn"
    memory = "memory"
    routing = "routing"
    table = "table"
    ternary = "ternary"


@app.callback()
def main() -> None:
    """Don't compute what you can look up."""


@claims_app.callback()
def show_claims(
    context: typer.Context,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list, one object a claim.")
    ] = False,
    update: Annotated[
        Path | None, typer.Option(help="Rewrite the scoreboard in this Markdown file instead.")
    ] = None,
) -> None:
    """Print every claim with the source's figure, ours, the control and the verdict so far."""
    if context.invoked_subcommand is not None:
        return
    with _clear_errors():
        rows = ledger.settle_all(ledger.find_ledger())
        if update is not None:
            update_scoreboard(update, rows)
            typer.echo(f"{update}: {len(rows)} claims")
        elif as_json:
            typer.echo(json.dumps([row.row() for row in rows], indent=1, ensure_ascii=False))
        else:
            _print_table(rows)


@claims_app.command("run")
def run_claim(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="The claim's id, as M1; or an experiment's name, as sources-nano."
        ),
    ],
    budget: Annotated[
        Budget, typer.Option(help="full: measure; quick: a few steps, kept apart, to see it work.")
    ] = Budget.full,
    seeds: Annotated[int, typer.Option(help="Runs of each trained arm.", min=1)] = 5,
    corpus: Annotated[str, typer.Option(help="Text to measure on.")] = "tinyshakespeare",
    work: Annotated[Path, typer.Option(help="Folder for checkpoints.")] = Path("runs"),
    records: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the records, as for another text; the ledger's if not given."
        ),
    ] = None,
) -> None:
    """Run what a claim needs, going on where an earlier call stopped, and print the verdict."""
    with _clear_errors():
        folder = ledger.find_ledger()
        claims = ledger.load_claims(folder)
        if name in EXPERIMENTS:
            experiments = [name]
            claims = [claim for claim in claims if name in claim.rule.experiments()]
        else:
            claims = [ledger.find_claim(claims, name)]
            experiments = ledger.runnable(claims[0])
        text = _load(corpus)
        if records is None:
            records = folder / "records" if budget is Budget.full else work / "quick-records"
        for experiment in experiments:
            typer.echo(
                f"{experiment} on {text.name}, {seeds} seeds, budget {budget.value}", err=True
            )
            run_experiment(experiment, text, records, work, seeds, budget.value)
        if budget is Budget.quick:
            typer.echo("a few steps only: these figures settle nothing", err=True)
        found = read_all_records(records)
        typer.echo(f"{records}: {sum(r.experiment in experiments for r in found)} runs", err=True)
        if claims:
            _print_table([ledger.settle(claim, found) for claim in claims])


@app.command("bench")
def bench(
    name: Annotated[
        Bench,
        typer.Argument(
            metavar="NAME",
            help="dispatch: a compiled table beside live routing; ffn: lookup beside dense layers; "
            "memory: routed memory beside attention; "
            "routing: trees beside the flat search; table: compiled tables beside splines; "
            "ternary: packed beside dense products.",
        ),
    ],
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes, to see it work.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list, one object a row.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where memory's figure goes, .svg or .png; runs/bench-memory.svg if not given.",
        ),
    ] = None,
) -> None:
    """Time something beside what it replaces, turn by turn, and print the rows."""
    with _clear_errors():
        module = importlib.import_module(f"trix.lab.bench_{name.value}")
        draw = getattr(module, "plot", None)
        if plot is not None and (draw is None or plot.suffix not in (".svg", ".png")):
            raise typer.BadParameter(
                f"expected memory and a .svg or .png, got {name.value} and {plot}",
                param_hint="--plot",
            )
        rows = module.run(quick=quick)
        if as_json:
            typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        else:
            _print_rows(rows)
        if draw is not None:
            _save_figure(draw, rows, plot or Path("runs") / f"bench-{name.value}.svg")


def update_scoreboard(path: Path, rows: list[ledger.Settled]) -> None:
    """Replace what stands between the scoreboard markers of a Markdown file.

    Raises:
        ValueError: the file has no markers.
    """
    text = path.read_text(encoding="utf-8")
    if END not in text.partition(BEGIN)[2]:
        raise ValueError(f"{path} must hold {BEGIN} and, after it, {END}")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    write_text(path, f"{before}{BEGIN}\n{ledger.ledger_table(rows)}\n{END}{after}")


def _load(name: str) -> Corpus:
    try:
        return load(name)
    except Unavailable as error:
        raise Unavailable(
            f"{error}. Set $TRIX_DATA to a copy of the file, or measure on a text that needs no "
            "network: --corpus plays"
        ) from error


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _print_rows(rows: list[dict[str, Any]]) -> None:
    table = Table()
    for column, value in rows[0].items():
        table.add_column(column, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*(escape(_figure(value)) for value in row.values()))
    Console().print(table)


def _save_figure(draw: Callable[[Any], Any], rows: list[dict[str, Any]], path: Path) -> None:
    from trix.show import style  # isort: skip (says which extra brings what is missing)
    import matplotlib as mpl

    with mpl.rc_context(), atomic_path(path) as temporary:
        style.use()
        draw(rows).savefig(temporary, format=path.suffix[1:], facecolor="white")
    typer.echo(f"figure: {path}", err=True)


def _print_table(rows: list[ledger.Settled]) -> None:
    table = Table(show_lines=True)
    for column in ("claim", "statement", "source's figure", "ours", "control", "verdict"):
        table.add_column(column, overflow="fold")
    for row in rows:
        style = STYLES[row.verdict]
        cells = row.row()
        table.add_row(
            *(escape(str(cells[key])) for key in ("id", "statement", "seed", "ours", "control")),
            f"[{style}]{row.verdict}[/]",
        )
    Console().print(table)


@contextmanager
def _clear_errors() -> Iterator[None]:
    # what a user can mend is one line, not a traceback
    try:
        yield
    except (ValueError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        typer.echo(f"trix: {error}", err=True)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        typer.echo("trix: interrupted; the same command goes on from here", err=True)
        raise typer.Exit(130) from error
