"""A table of all widgets, each made of something small."""

import math
from collections.abc import Callable

import numpy as np
import torch

from tests.show.widgets.test_ledger import claim, planted
from trix.counts.ngram import CountTables
from trix.ledger.claims import settle
from trix.models.lookup import LookupConfig, LookupLM, count
from trix.show.widgets.address_plane import AddressPlane
from trix.show.widgets.base import Widget
from trix.show.widgets.context_lens import ContextLens
from trix.show.widgets.funnel import Funnel, Squeezed
from trix.show.widgets.island_plane import IslandPlane
from trix.show.widgets.ledger import Ledger
from trix.show.widgets.memory_reader import MemoryReader
from trix.show.widgets.mixture_lens import MixtureLens
from trix.show.widgets.route_tree import RouteTree
from trix.show.widgets.soft_blend import SoftBlend
from trix.show.widgets.spline_explorer import SplineExplorer
from trix.show.widgets.surgery_table import SurgeryTable

TEXT = "the then that,\nthe hat the heat then; the cheat, the tenth"
ALPHABET = "".join(sorted(set(TEXT)))
N = len(TEXT)
RANDOM = np.random.default_rng(0)
POINTS = RANDOM.normal(size=(61, 2))
TOKENS = torch.tensor([ALPHABET.index(c) for c in TEXT])


def _funnel() -> Funnel:
    inputs, scores = RANDOM.normal(size=(N - 1, 13)), RANDOM.normal(size=(N - 1, 5))
    made = [Squeezed(RANDOM.uniform(-1, 1, (N - 1, 2)), inputs, inputs + 0.1) for _ in range(2)]
    return Funnel(TEXT, inputs, scores.argmax(1), *made, alt="A text in a funnel.", scores=scores)


def _memory() -> MemoryReader:
    write, read = (RANDOM.dirichlet(np.full(19, 0.3), (2, 2, N)) for _ in range(2))
    return MemoryReader(TEXT, write, read, np.tril(read @ write.swapaxes(-1, -2)), alt="A memory.")


def _mixture() -> MixtureLens:
    torch.manual_seed(3)
    config = LookupConfig(len(ALPHABET), 4, 0, 8, network=None, words=True, echoes=True)
    model = LookupLM(config, *count(config, TOKENS, ALPHABET))
    return MixtureLens(model, ALPHABET, [TEXT[:40], TEXT[20:]], alt="Lines about a hat.")


def _tree() -> RouteTree:
    inputs, tiles, groups = (RANDOM.normal(size=(n, 5)) for n in (7, 23, 5))
    flat = [(np.zeros(23, int), tiles)]
    deep = [(np.zeros(5, int), groups), (np.arange(23) % 5, tiles)]
    return RouteTree(inputs, [flat, deep], alt="A tree of 23 tiles.", beam=2)


def _ledger() -> Ledger:
    rows = [settle(claim(name), planted(old=1.8 + i / 10)) for i, name in enumerate(("A1", "M1"))]
    return Ledger(rows, alt="Two claims.")


def _table() -> SurgeryTable:
    signatures = RANDOM.integers(-1, 2, size=(6, 13))
    vowels = {"vowels": np.array([c in "aeiou" for c in TEXT])}
    designs = {"nothing": np.zeros(13, int)}
    tokens = RANDOM.normal(size=(N, 13))
    return SurgeryTable(TEXT, tokens, signatures, alt="Tiles.", classes=vowels, designs=designs)


def _spline() -> SplineExplorer:
    curve = np.sin(np.linspace(-3, 3, 61))
    return SplineExplorer({"sine": curve, "line": np.linspace(-1, 1, 61)}, alt="Two curves.")


MAKERS: dict[str, Callable[[], Widget]] = {
    "address-plane": lambda: AddressPlane(POINTS, [[1, 0.3], [-0.7, 0.9]], alt="Two arrows."),
    "context-lens": lambda: ContextLens(
        CountTables(TOKENS, 4, len(ALPHABET)), ALPHABET, TEXT, alt="A passage."
    ),
    "funnel": _funnel,
    "island-plane": lambda: IslandPlane(POINTS, alt="Two planes."),
    "ledger": _ledger,
    "memory-reader": _memory,
    "mixture-lens": _mixture,
    "route-tree": _tree,
    "soft-blend": lambda: SoftBlend([[-2, 1], [2, 1]], [[1, 0], [-1, 0]], math.sin, alt="A wave."),
    "spline-explorer": _spline,
    "surgery-table": _table,
}
"""By name, how each is made."""

TOUCHES = {
    "address-plane": (".arrow", "Shift+ArrowLeft"),
    "context-lens": (".passage", "ArrowRight"),
    "funnel": ("input[type=range]", "ArrowLeft"),
    "island-plane": ("input[type=range]", "End"),
    "ledger": (".trix-lg-filter", "Enter"),
    "memory-reader": (".passage", "ArrowLeft"),
    "mixture-lens": (".passage", "ArrowRight"),
    "route-tree": ("input[type=range]", "ArrowRight"),
    "soft-blend": ("input[type=range]", "ArrowLeft"),
    "spline-explorer": ("[data-handle='0']", "PageUp"),
    "surgery-table": (".trix-st-cell", "Enter"),
}
"""By name, a control and a key that it answers to."""


def everything() -> dict[str, Widget]:
    """All of them, by name."""
    return {name: make() for name, make in MAKERS.items()}
