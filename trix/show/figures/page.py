"""What a notebook tells the page that is made of it: values for its prose, and where they are from.

Both functions also work where no book is being built: in JupyterLab and in Colab.
"""

from __future__ import annotations

import html
import importlib.metadata
import importlib.util
import platform
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from IPython.display import HTML

from trix.lab.corpus import Corpus

_BOX = (
    "display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.15em 1em;margin:1em 0;"
    "padding:.8em 1em;border:1px solid var(--pst-color-border,var(--jp-border-color2,#8884));"
    "border-radius:.4em;font-size:.85em;line-height:1.5"
)
_TERM = "margin:0;font-weight:600"
_VALUE = "margin:0;overflow-wrap:anywhere"


def glue(name: str, value: Any) -> None:
    """Keep a value under a name, for the page's prose to show with `{glue:}`.

    Nothing is displayed, and where MyST-NB is not installed nothing is done. The name is unique
    within the book (an empty one is a ValueError); how the value prints is how it reads.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"name: expected a name to find the value by, received {name!r}")
    if importlib.util.find_spec("myst_nb") is None:
        return
    from myst_nb import glue as keep

    keep(name, value, display=False)


def provenance(*, corpus: Corpus | None, seeds: Sequence[int], budget: str, started: float) -> HTML:
    """A box that says how the numbers of a notebook came about; display it in the last cell.

    `corpus` is the text that was used, or None where there was none, `seeds` every seed, `budget`
    "quick" or "full", and `started` is `time.perf_counter()`, read in the first cell. A ValueError
    if there is no seed, the budget is unknown, or `started` lies in the future.
    """
    if budget not in ("quick", "full"):
        raise ValueError(f"budget: expected 'quick' or 'full', received {budget!r}")
    if not seeds:
        raise ValueError("seeds: expected at least one seed, received none")
    seconds = time.perf_counter() - started
    if seconds < 0:
        raise ValueError(f"started: expected an earlier reading of the clock, received {started!r}")
    text = corpus and f"{corpus.name} (SHA-256 {corpus.sha256[:8]}…), from {corpus.source}"
    facts = {
        "budget": budget,
        "seeds": ", ".join(map(str, seeds)),
        "corpus": text or "none",
        "versions": (
            f"trix {importlib.metadata.version('trix-routing')}, "
            f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}"
        ),
        "device": f"CPU, {platform.machine()}",
        "threads": str(torch.get_num_threads()),
        "seconds": f"{seconds:.0f} so far (wall clock)",
    }
    rows = "".join(
        f'<dt style="{_TERM}">{term}</dt><dd style="{_VALUE}">{html.escape(value)}</dd>'
        for term, value in facts.items()
    )
    return HTML(f'<dl class="trix-provenance" style="{_BOX}">{rows}</dl>')
