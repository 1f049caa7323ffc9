"""`trix sweep`: a grid of settings, trained and compared."""

from pathlib import Path
from typing import Annotated, Any

import typer

from trix.cli import common
from trix.cli.common import clear_errors, load_corpus
from trix.experiments.grid import grid, parse_settings, read_grid
from trix.ledger.run import run_missing
from trix.ledger.sweep import METRIC, summarize, sweep_runs, write_csv


@clear_errors()
def sweep(
    name: Annotated[
        str,
        typer.Argument(
            metavar="PROTOCOL",
            help="A protocol, as nano; or a TOML file with protocol and a table [set].",
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE,…",
            help="Values to try, as layers=2,4; once for each setting of LMConfig or TrainConfig. "
            "Single options have a dot: mixer_options.slots=16,64.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each combination.", min=1)] = 3,
    budget: Annotated[
        common.Budget, typer.Option(help="full: as the protocol says; quick: a few steps.")
    ] = "full",
    jobs: common.Jobs = None,
    backend: common.Backend = "loky",
    corpus: common.CorpusName = "tinyshakespeare",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for records, table and figure; runs/sweep-NAME if not given."),
    ] = None,
    as_json: common.Json = False,
) -> None:
    """Train every combination of some settings, going on where an earlier call stopped."""
    chosen = {}
    if name.endswith(".toml"):
        name, chosen = read_grid(file := Path(name))
        out = out or Path("runs") / f"sweep-{file.stem}"
    points = grid(name, chosen | parse_settings(settings or []))
    out = out or Path("runs") / f"sweep-{name}"
    text = load_corpus(corpus)
    typer.echo(f"{len(points)} combinations on {text.name}, {seeds} seeds: {out}", err=True)
    records, diverged = run_missing(
        sweep_runs(points, seeds), text, out, out / "work", budget, jobs, backend
    )
    rows = summarize(points, records)
    if as_json:
        common.print_json(rows)
    elif rows:
        common.print_rows(_shown(rows))
    if rows:
        write_csv(points, records, out / "sweep.csv")
        from trix.show.figures.sweep import plot

        common.save_figure(plot, rows, out / "sweep.svg")
    common.report_diverged(diverged)


def _shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # what is the same in every row is left out, and so is the list of runs; the figures that are
    # compared need more digits than others
    same = [key for key in rows[0] if all(row[key] == rows[0][key] for row in rows[1:])]
    hidden = {"runs", *(same if len(rows) > 1 else [])} - {"seeds", METRIC}
    return [
        {
            key: f"{value:.4f}" if key in (METRIC, "spread") and value is not None else value
            for key, value in row.items()
            if key not in hidden
        }
        for row in rows
    ]
