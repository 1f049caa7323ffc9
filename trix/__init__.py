"""trix: layers that work out an address and read what stands there.

This namespace (addresses, tiles, memories, counts, surgery) needs torch, numpy and safetensors.
`trix.lab` and `trix.ledger`, which train and judge models, and `trix.show`, which draws them, are
imported when first asked for.
"""

import importlib
import importlib.metadata
from typing import Any

from trix.address.gate import ScoreGate as ScoreGate
from trix.address.losses import annealed as annealed
from trix.address.losses import diversity as diversity
from trix.address.losses import load_balance as load_balance
from trix.address.losses import sparsity as sparsity
from trix.address.losses import ternary_pull as ternary_pull
from trix.address.nested import NestedRouter as NestedRouter
from trix.address.packed import PackedTernary as PackedTernary
from trix.address.packed import pack as pack
from trix.address.packed import unpack as unpack
from trix.address.route import Route as Route
from trix.address.route import Routed as Routed
from trix.address.signatures import SignatureRows as SignatureRows
from trix.address.ternary import ternarize as ternarize
from trix.address.ternary import ternary_fraction as ternary_fraction
from trix.address.ternary import weight_signatures as weight_signatures
from trix.address.tree import TreeRouter as TreeRouter
from trix.counts.context import ContextMemory as ContextMemory
from trix.counts.gate import ContextGate as ContextGate
from trix.counts.match import echoes as echoes
from trix.counts.ngram import CountTables as CountTables
from trix.counts.words import WordMemory as WordMemory
from trix.memory.attention import CausalAttention as CausalAttention
from trix.memory.attention import WindowAttention as WindowAttention
from trix.memory.controls import ConvolvedAttention as ConvolvedAttention
from trix.memory.controls import HybridMixer as HybridMixer
from trix.memory.controls import StaticMemory as StaticMemory
from trix.memory.slots import RoutedMemory as RoutedMemory
from trix.memory.slots import memory_reading as memory_reading
from trix.surgery import Claims as Claims
from trix.surgery import Dispatch as Dispatch
from trix.surgery import Insertion as Insertion
from trix.surgery import SurgeryPlan as SurgeryPlan
from trix.surgery import compile_dispatch as compile_dispatch
from trix.surgery import signature_from_examples as signature_from_examples
from trix.tiles.codebook import CodebookFFN as CodebookFFN
from trix.tiles.codebook import CodebookTable as CodebookTable
from trix.tiles.ffn import DenseFFN as DenseFFN
from trix.tiles.ffn import ProductKeyFFN as ProductKeyFFN
from trix.tiles.ffn import TriXFFN as TriXFFN
from trix.tiles.ffn import WideDenseFFN as WideDenseFFN
from trix.tiles.fractal import FractalFFN as FractalFFN
from trix.tiles.funnel import FunnelFFN as FunnelFFN
from trix.tiles.lookup import SparseLookupFFN as SparseLookupFFN
from trix.tiles.packed_lookup import PackedLookup as PackedLookup
from trix.tiles.spline import CellSpline as CellSpline
from trix.tiles.spline import KnotSpline as KnotSpline
from trix.tiles.spline import TernarySpline as TernarySpline
from trix.tiles.table import LookupTable as LookupTable
from trix.tiles.table import Quantizer as Quantizer
from trix.tiles.table import compile_table as compile_table
from trix.tiles.tiled import TiledFFN as TiledFFN
from trix.tiles.two_level import AdaptiveKANFFN as AdaptiveKANFFN
from trix.tiles.two_level import HierarchicalTriXFFN as HierarchicalTriXFFN
from trix.tiles.two_level import HybridKANFFN as HybridKANFFN

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    name for name, value in dict(vars()).items() if getattr(value, "__module__", "")[:5] == "trix."
]

__version__ = importlib.metadata.version("trix-routing")

_LATER = {"lab": "lab", "ledger": "lab", "show": "book"}
"""Namespaces that are imported when first asked for, and the extra that brings what they need."""


def __getattr__(name: str) -> Any:
    """Import `trix.lab`, `trix.ledger` or `trix.show` when it is first asked for."""
    if name not in _LATER:
        raise AttributeError(f"module 'trix' has no attribute {name!r}")
    try:
        return importlib.import_module(f"trix.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("trix"):
            raise
        raise ModuleNotFoundError(
            f"trix.{name} needs {error.name}; in a clone of the repository: "
            f'pip install ".[{_LATER[name]}]"',
            name=error.name,
        ) from error
