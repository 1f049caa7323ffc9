"""`trix sample`: text from a trained model, as it comes."""

import itertools
import os
import sys
from typing import Annotated

import torch
import typer

from trix.cli.common import Checkpoint, Json, clear_errors, print_json
from trix.models.generate import characters
from trix.models.storage import load_model


@clear_errors()
def sample(
    checkpoint: Checkpoint,
    prompt: Annotated[
        str, typer.Option(help="What the text begins with; - reads it from standard input.")
    ] = "ROMEO:",
    length: Annotated[int, typer.Option(help="Characters to add.", min=0)] = 500,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest character; 1 draws as predicted.", min=0)
    ] = 0.8,
    seed: Annotated[int, typer.Option(help="Decides what is drawn.", min=0, max=2**63 - 1)] = 0,
    as_json: Json = False,
) -> None:
    """Continue a prompt, character by character, and print each as it comes."""
    stored = load_model(checkpoint)
    start = sys.stdin.read() if prompt == "-" else prompt
    tokens = stored.encode(start)
    more = characters(stored.model, tokens, temperature, torch.Generator().manual_seed(seed))
    drawn = (stored.decode(token) for token in itertools.islice(more, length))
    if as_json:
        told = {"prompt": start, "seed": seed, "temperature": temperature}
        print_json({**told, "text": start + "".join(drawn)})
        return
    try:
        for text in itertools.chain([start], drawn):
            typer.echo(text, nl=False)
            sys.stdout.flush()
        typer.echo()
    except KeyboardInterrupt as error:
        typer.echo()
        raise typer.Exit(130) from error
    except BrokenPipeError:
        # whoever read has enough, as head does; nothing may be written any more, on exit too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
