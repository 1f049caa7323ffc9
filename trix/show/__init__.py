"""Seeing it: colours, figures and widgets for the notebooks.

Needs the `book` extra. Nothing else in trix imports this room, save the command line.
"""

try:
    from trix.show import style
    from trix.show.context_lens import ContextLens
    from trix.show.funnel import Funnel, Squeezed
    from trix.show.island_plane import IslandPlane
    from trix.show.ledger import Ledger
    from trix.show.live import live
    from trix.show.memory_reader import MemoryReader
    from trix.show.mixture_lens import MixtureLens
    from trix.show.page import glue, provenance
    from trix.show.plot import figure_html, show
    from trix.show.route_tree import RouteTree
    from trix.show.soft_blend import SoftBlend
    from trix.show.spline_explorer import SplineExplorer
    from trix.show.surgery_table import SurgeryTable
    from trix.show.widget import AddressPlane
except ModuleNotFoundError as error:
    if (error.name or "").startswith("trix"):
        raise
    raise ModuleNotFoundError(
        f"trix.show needs {error.name}, which is not installed: "
        "pip install 'trix-routing[book]' brings it",
        name=error.name,
    ) from error

__all__ = [
    "AddressPlane",
    "ContextLens",
    "Funnel",
    "IslandPlane",
    "Ledger",
    "MemoryReader",
    "MixtureLens",
    "RouteTree",
    "SoftBlend",
    "SplineExplorer",
    "Squeezed",
    "SurgeryTable",
    "figure_html",
    "glue",
    "live",
    "provenance",
    "show",
    "style",
]
