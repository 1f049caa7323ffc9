"""Seeing it: colours, figures and widgets for the notebooks."""

try:
    from trix.show.figures import style as style
    from trix.show.figures.live import live as live
    from trix.show.figures.page import glue as glue
    from trix.show.figures.page import provenance as provenance
    from trix.show.figures.plot import figure_html as figure_html
    from trix.show.figures.plot import show as show
    from trix.show.widgets.address_plane import AddressPlane as AddressPlane
    from trix.show.widgets.context_lens import ContextLens as ContextLens
    from trix.show.widgets.funnel import Funnel as Funnel
    from trix.show.widgets.funnel import Squeezed as Squeezed
    from trix.show.widgets.island_plane import IslandPlane as IslandPlane
    from trix.show.widgets.ledger import Ledger as Ledger
    from trix.show.widgets.memory_reader import MemoryReader as MemoryReader
    from trix.show.widgets.mixture_lens import MixtureLens as MixtureLens
    from trix.show.widgets.route_tree import RouteTree as RouteTree
    from trix.show.widgets.soft_blend import SoftBlend as SoftBlend
    from trix.show.widgets.spline_explorer import SplineExplorer as SplineExplorer
    from trix.show.widgets.surgery_table import SurgeryTable as SurgeryTable
except ModuleNotFoundError as error:
    if (error.name or "trix").startswith("trix"):
        raise
    raise ModuleNotFoundError(
        f'trix.show needs {error.name}; in a clone of the repository: pip install ".[book]"',
        name=error.name,
    ) from error

__all__ = ["style"]  # a module
__all__ += [  # pyright: ignore[reportUnsupportedDunderAll]
    name for name, value in dict(vars()).items() if getattr(value, "__module__", "")[:5] == "trix."
]
