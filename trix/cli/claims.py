"""`trix claims`: the ledger, and the runs that a claim needs."""

from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from trix.cli import common
from trix.cli.common import clear_errors, coloured, console, load_corpus
from trix.experiments.table import EXPERIMENTS
from trix.files import write_text
from trix.lab.recipes import environment
from trix.ledger import claims as ledger
from trix.ledger import verify
from trix.ledger.records import read_all_records
from trix.ledger.run import run_experiment

HELP = "Print the claim ledger, or run what a claim needs."
app = typer.Typer(help=HELP, invoke_without_command=True)

BEGIN, END = "<!-- scoreboard -->", "<!-- /scoreboard -->"


@app.callback()
@clear_errors()
def list_claims(
    context: typer.Context,
    as_json: common.Json = False,
    update: Annotated[
        Path | None, typer.Option(help="Rewrite the scoreboard in this Markdown file instead.")
    ] = None,
) -> None:
    """Print a line for every claim: its id, the verdict so far, the statement."""
    if context.invoked_subcommand is not None:
        return
    rows = ledger.settle_all(ledger.find_ledger())
    if update is not None:
        update_scoreboard(update, rows)
        typer.echo(f"{update}: {len(rows)} claims")
    elif as_json:
        common.print_json([row.row() for row in rows])
    else:
        for row in rows:
            line = [f"{row.claim.id:4}", coloured(f"{row.verdict:15}"), row.claim.statement]
            console().print(Text.assemble(*line), no_wrap=True, overflow="ellipsis")
        typer.echo("all about one of them: trix claims show ID", err=True)


@app.command("show")
@clear_errors()
def show_claim(
    name: Annotated[str, typer.Argument(metavar="ID", help="The claim's id, as M1.")],
) -> None:
    """Print everything about a claim: both figures, the gains, the records, what repeats it."""
    folder = ledger.find_ledger()
    claim = ledger.find_claim(ledger.load_claims(folder), name)
    _print_claim(ledger.settle(claim, read_all_records(folder / "records")))


@app.command("run")
@clear_errors()
def run_claim(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="A claim, as M1; or an experiment, as sources-nano.")
    ],
    budget: Annotated[
        common.Budget,
        typer.Option(help="full: measure; quick: a few steps, kept apart, to see it work."),
    ] = "full",
    seeds: Annotated[int, typer.Option(help="Runs of each trained arm.", min=1)] = 5,
    corpus: common.CorpusName = "tinyshakespeare",
    work: Annotated[Path, typer.Option(help="Folder for checkpoints.")] = Path("runs"),
    records: Annotated[
        Path | None, typer.Option(help="Folder for records of another text; else the ledger's.")
    ] = None,
    jobs: common.Jobs = None,
    backend: common.Backend = "loky",
) -> None:
    """Run what a claim needs, going on where an earlier call stopped, and print the verdict."""
    folder = ledger.find_ledger()
    claims = ledger.load_claims(folder)
    if name in EXPERIMENTS:
        experiments = [name]
        claims = [claim for claim in claims if name in claim.rule.experiments()]
    else:
        claims = [ledger.find_claim(claims, name)]
        experiments = ledger.runnable(claims[0])
    text = load_corpus(corpus)
    if records is None:
        records = folder / "records" if budget == "full" else work / "quick-records"
    diverged, settings = [], (text, records, work, seeds, budget, jobs, backend)
    for experiment in experiments:
        typer.echo(f"{experiment} on {text.name}, {seeds} seeds, budget {budget}", err=True)
        diverged += run_experiment(experiment, *settings).diverged
    if budget == "quick":
        typer.echo("a few steps only: these figures settle nothing", err=True)
    found = read_all_records(records)
    typer.echo(f"{records}: {sum(r.experiment in experiments for r in found)} runs", err=True)
    for claim in claims:
        _print_claim(ledger.settle(claim, found))
    common.report_diverged(diverged)


@app.command("verify")
@clear_errors()
def verify_records(
    sample: Annotated[int, typer.Option(help="How many stored runs to repeat.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Decides which.")] = 0,
    everything: Annotated[bool, typer.Option("--all", help="Repeat all of them.")] = False,
    as_json: common.Json = False,
    store: Annotated[
        bool, typer.Option("--store", help="Run and store what is missing instead.")
    ] = False,
    work: Annotated[Path, typer.Option(help="Folder for checkpoints of --store.")] = Path("runs"),
    jobs: common.Jobs = None,
    backend: common.Backend = "loky",
) -> None:
    """Repeat a few stored quick runs; exit with 1 if one does not come out as it did.

    A metric may differ from its record by the prediction interval of the other seeds. Times are not
    compared. The text is plays, which needs no network.
    """
    folder = ledger.find_ledger() / "quick"
    text = load_corpus(verify.CORPUS)
    if store:
        found = verify.store(text, folder, work, jobs=jobs, backend=backend)
        typer.echo(f"{folder}: {len(found)} runs", err=True)
        return
    stored = verify.stored_runs(text, folder)
    chosen = verify.choose(stored, len(stored) if everything else sample, seed)
    checks = verify.verify(text, chosen, stored, jobs=jobs, backend=backend)
    if as_json:
        common.print_json([check._asdict() for check in checks])
    else:
        _print_checks(checks)
    off = sum(check.verdict == "off" for check in checks)
    repeated = f"{len(chosen)} of {len(stored)} runs repeated on {text.name}"
    typer.echo(f"{repeated}: {off} of {len(checks)} metrics off", err=True)
    if off:
        here = environment()
        then = {key: getattr(chosen[0], key) for key in here}
        typer.echo(f"stored with {then}\nrepeated with {here}", err=True)
        raise typer.Exit(1)


def update_scoreboard(path: Path, rows: list[ledger.Settled]) -> None:
    """Replace what stands between the scoreboard markers of a Markdown file."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{path} must hold {BEGIN} and, after it, {END}")
    write_text(path, f"{before}{begin}\n{ledger.ledger_table(rows)}\n{end}{after}")


def _print_claim(row: ledger.Settled) -> None:
    claim = row.claim
    told = {
        claim.id: claim.statement,
        "verdict": row.verdict + (f": {row.reason}" if row.reason else ""),
        "source's figure": f"{claim.seed} ({claim.source})",
        "ours": row.ours,
        "control": claim.control,
        "gains": "\n".join(str(one).removeprefix("gain ") for one in row.compared),
        "protocol": claim.protocol,
        "chapter": claim.chapter,
        "records": ", ".join(row.records),
        "command": row.command,
    }
    table = Table.grid(padding=(0, 2), pad_edge=False)
    for what, text in told.items():
        table.add_row(what, Text(text or "–", overflow="fold"))
    console().print(table)


def _print_checks(checks: list[verify.Check]) -> None:
    # what is the same to the last bit fills one line a run, everything else a line of its own
    rows = []
    for run, mine in groupby(checks, key=lambda check: (check.experiment, check.arm, check.seed)):
        mine = list(mine)
        told = [check for check in mine if check.verdict != "same"]
        lines = [[f"{len(mine) - len(told)} metrics", "", "", "", "same"]] * (len(told) < len(mine))
        for check in told:
            figures = check.stored, check.low, check.high, check.received
            stored, low, high, received = ("–" if x is None else f"{x:.6g}" for x in figures)
            lines.append([check.metric, stored, f"{low} … {high}", received, check.verdict])
        for *cells, verdict in lines:
            cells = [f"{run[0]}/{run[1]}", "–" if run[2] is None else str(run[2]), *cells]
            rows.append([*cells, coloured(verdict)])
    heads = ("arm", "seed", "metric", "stored", "may lie in", "received", "verdict")
    common.print_rows([dict(zip(heads, row, strict=True)) for row in rows])
