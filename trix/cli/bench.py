"""`trix bench`: what replaces something, timed beside it."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from trix.cli.common import PICTURES, Json, clear_errors, print_json, print_rows, save_figure


@clear_errors()
def bench(
    name: Annotated[
        Literal["dispatch", "ffn", "memory", "routing", "sample", "table", "ternary"],
        typer.Argument(
            metavar="NAME",
            help="dispatch: a compiled table beside live routing; ffn: lookup beside dense layers; "
            "memory: routed memory beside attention; routing: trees beside the flat search; "
            "sample: a look-it-up model beside attention, a character at a time; "
            "table: compiled tables beside splines; ternary: packed beside dense products.",
        ),
    ],
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes, to see it work.")] = False,
    as_json: Json = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where memory's figure goes, .svg or .png; runs/bench-memory.svg if not given.",
        ),
    ] = None,
) -> None:
    """Time something beside what it replaces, turn by turn, and print the rows."""
    from trix.lab.bench import BENCHES

    if plot is not None and (name != "memory" or plot.suffix not in PICTURES):
        raise typer.BadParameter(
            f"expected memory and a .svg or .png, got {name} and {plot}", param_hint="--plot"
        )
    rows = BENCHES[name](quick)
    (print_json if as_json else print_rows)(rows)
    if name == "memory":
        from trix.show.figures.costs import memory_costs

        save_figure(memory_costs, rows, plot or Path("runs/bench-memory.svg"))
