"""The command `trix`: a module of this package for each group of commands.

Exit codes: 0 all went well; 1 the input or a file is wrong, and the message says how; 2 the command
line is wrong; 130 interrupted, and the same command goes on from there.
"""

try:
    import rich as rich
    import typer
except ModuleNotFoundError as error:
    raise SystemExit(
        f"trix: {error.name} is missing; in a clone of the repository, install it with: "
        'pip install ".[lab]"'
    ) from error

from trix.cli import bench, claims, doctor, explain, sample, sweep, train

EXIT_CODES = "Exit codes: 0 done, 1 a clear error, 2 wrong usage, 130 interrupted."

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Don't compute what you can look up.",
    epilog=EXIT_CODES,
)
app.add_typer(claims.app, name="claims", epilog=EXIT_CODES)
for command in train.train, sample.sample, explain.explain, bench.bench, sweep.sweep, doctor.doctor:
    app.command()(command)
for listed in app.registered_commands + claims.app.registered_commands:
    listed.epilog = EXIT_CODES
