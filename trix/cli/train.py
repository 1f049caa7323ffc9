"""`trix train`: a look-it-up model from a text."""

import errno
import shlex
from pathlib import Path
from typing import Annotated

import typer

from trix.cli.common import Json, clear_errors, load_corpus, print_json, tell
from trix.lab import fit as lab
from trix.lab.recipes import PRESETS, preset


@clear_errors()
def train(
    name: Annotated[
        str,
        typer.Argument(
            metavar="PRESET", help=". ".join(f"{k}: {p.about}" for k, p in PRESETS.items()) + "."
        ),
    ],
    corpus: Annotated[
        str, typer.Option(help="Text: auto, tinyshakespeare, plays, all-plays, or a text file.")
    ] = "auto",
    minutes: Annotated[
        float | None,
        typer.Option(
            help="How long all of it may take: as many steps are trained as fit on this machine.",
            min=0.01,
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of training; the preset's if not given.", min=1)
    ] = None,
    order: Annotated[
        int | None, typer.Option(help="Longest n-gram counted; the preset's if not given.", min=1)
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Decides weights, windows and dropout.", min=0, max=2**63 - 1)
    ] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the model; runs/PRESET if not given.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Remove what was trained in that folder and begin anew.")
    ] = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress, no messages.")] = False,
) -> None:
    """Count a text, train a gate (and a network) on it, evaluate, and save the model in a folder.

    Ctrl-C saves the step reached; the same command then goes on and ends in the same model.
    """
    if minutes is not None and steps is not None:
        raise typer.BadParameter("expected one of --minutes and --steps, got both")
    try:
        preset(name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="PRESET") from error
    folder = out or Path("runs") / name

    def say(line: str) -> None:
        if not quiet:
            typer.echo(line, err=True)

    try:
        request = lab.TrainRequest(name, load_corpus(corpus), seed, steps, minutes, order)
        about = lab.fit(request, folder, force, not quiet, say)
    except KeyboardInterrupt as error:
        given = {"corpus": corpus, "minutes": minutes, "steps": steps, "order": order}
        given |= {"seed": seed, "out": folder}
        options = [f"--{k}={v}" for k, v in given.items() if v is not None]
        again = shlex.join(["trix", "train", name, *options])
        tell(f"interrupted; what was trained is saved, and this goes on:\n{again}")
        raise typer.Exit(130) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(
            f"the disk is full ({error.strerror}). What was saved in {folder} before still "
            "stands: make room, and the same command goes on from there"
        ) from error
    if as_json:
        print_json({"model": str(folder), **about})
        return
    loss = f"{about['val_nats']:.4f} nats a character (perplexity {about['val_perplexity']:.3f})"
    trained = f"{about['steps']} steps in {about['seconds']:.0f} s"
    text = f"the validation text of {about['corpus']['name']}"
    typer.echo(f"{folder}: {loss} on {text}, after {trained}")
