"""`trix bench`: what replaces something, timed beside it."""

import enum
import json
from pathlib import Path
from typing import Annotated

import typer

from trix.cli.common import clear_errors, print_rows, save_figure


class Bench(enum.StrEnum):
    """What can be timed."""

    dispatch = "dispatch"
    ffn = "ffn"
    memory = "memory"
    routing = "routing"
    sample = "sample"
    table = "table"
    ternary = "ternary"


def bench(
    name: Annotated[
        Bench,
        typer.Argument(
            metavar="NAME",
            help="dispatch: a compiled table beside live routing; ffn: lookup beside dense layers; "
            "memory: routed memory beside attention; "
            "routing: trees beside the flat search; "
            "sample: a look-it-up model beside attention, a character at a time; "
            "table: compiled tables beside splines; "
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
    with clear_errors():
        from trix.lab import bench, bench_memory, bench_sample

        own = {"memory": bench_memory.run, "sample": bench_sample.run}
        run = own.get(name.value) or getattr(bench, f"bench_{name.value}")
        draw = bench_memory.plot if name is Bench.memory else None
        if plot is not None and (draw is None or plot.suffix not in (".svg", ".png")):
            raise typer.BadParameter(
                f"expected memory and a .svg or .png, got {name.value} and {plot}",
                param_hint="--plot",
            )
        rows = run(quick=quick)
        if as_json:
            typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        else:
            print_rows(rows)
        if draw is not None:
            save_figure(draw, rows, plot or Path("runs") / f"bench-{name.value}.svg")
