"""trix: layers that work out an address and read what stands there.

The core (addresses, tiles, memories) needs torch, numpy and safetensors. What measures it
(`trix.lab`) and what shows it (`trix.show`) are imported when first asked for, and need the extras
`lab` and `book`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from trix.address.anneal import annealed, straight_through_weights
from trix.address.calibrate import ScoreGate
from trix.address.control import (
    FrozenRandom,
    LinearRouter,
    Shuffled,
    TokenHash,
    UniformRandom,
)
from trix.address.editable import EditableSignatures
from trix.address.nested import NestedRouter
from trix.address.packed import PackedTernary, pack, unpack
from trix.address.regularize import diversity, load_balance, sparsity, ternary_pull
from trix.address.route import Route, Routed, RoutedLayer, blend_weights, flat_route
from trix.address.rows import SignatureRows
from trix.address.signature import weight_signatures
from trix.address.source import (
    BottleneckSource,
    DataSource,
    LearnedSource,
    Source,
    SplineSource,
    TileParts,
    WeightSource,
)
from trix.address.ternary import row_scale, straight_through, ternarize, ternary_fraction
from trix.address.tree import Level, TreeRouter
from trix.memory.attention import AttentionState, CausalAttention
from trix.memory.content import SlotKeys
from trix.memory.context import CountTables
from trix.memory.context_gate import Blended, ContextGate
from trix.memory.context_memory import ContextMemory, OrderCounts
from trix.memory.convolved import (
    Convolved,
    ConvolvedAttention,
    ConvolvedState,
    ConvolvedStatic,
)
from trix.memory.count_rows import ContextReading
from trix.memory.echo import Echo, echoes
from trix.memory.hybrid import HybridHeads, HybridMixer, HybridState
from trix.memory.parts import (
    Fading,
    OutputGate,
    Rotation,
    ShortConvolution,
    Strength,
    slot_shares,
)
from trix.memory.reading import MemoryReading, memory_reading
from trix.memory.recurrence import delta_scan, slot_scan
from trix.memory.slots import MemoryState, RoutedMemory
from trix.memory.static import StaticMemory
from trix.memory.window import WindowAttention, WindowState
from trix.memory.word_keys import letters_of
from trix.memory.word_memory import AddressCounts, WordMemory
from trix.surgery.claims import Claims
from trix.surgery.compiled import Dispatch, DispatchCheck, compile_dispatch
from trix.surgery.plan import (
    EditableLayer,
    Insertion,
    Preview,
    SurgeryPlan,
    signature_from_examples,
    signature_from_features,
    signature_from_tile,
)
from trix.tiles.adaptive import AdaptiveKANFFN
from trix.tiles.baselines import MixtureFFN, ProductKeyFFN
from trix.tiles.bend import ContentCells
from trix.tiles.bodies import SplineBodies, TernaryBodies
from trix.tiles.codebook import CodebookFFN, CodebookTable
from trix.tiles.ffn import DenseFFN, TriXFFN, WideDenseFFN
from trix.tiles.fractal import BinnedFFN, FractalFFN, RandomFractalFFN
from trix.tiles.funnel import FunnelFFN, FunnelStages
from trix.tiles.lookup import SparseLookupFFN
from trix.tiles.packed_lookup import PackedLookup
from trix.tiles.spline import CellSpline, KnotSpline
from trix.tiles.table import LookupTable, ProductTable, Quantizer, compile_table
from trix.tiles.ternary_spline import TernarySpline
from trix.tiles.tiled import TiledFFN
from trix.tiles.two_level import FixedRoutingFFN, HierarchicalTriXFFN, HybridKANFFN, TwoLevelFFN

if TYPE_CHECKING:
    from trix.lab.block_draw import BlockDraw as BlockDraw
    from trix.lab.budget import check_parameters as check_parameters
    from trix.lab.budget import choose as choose
    from trix.lab.charlm import CharLM as CharLM
    from trix.lab.charlm import LMConfig as LMConfig
    from trix.lab.charlm import LMRouted as LMRouted
    from trix.lab.charlm import LMState as LMState
    from trix.lab.claims import find_claim as find_claim
    from trix.lab.claims import find_ledger as find_ledger
    from trix.lab.claims import load_claims as load_claims
    from trix.lab.claims import settle as settle
    from trix.lab.claims import settle_all as settle_all
    from trix.lab.corpus import Corpus as Corpus
    from trix.lab.corpus import load as load
    from trix.lab.evaluate import Evaluation as Evaluation
    from trix.lab.evaluate import evaluate as evaluate
    from trix.lab.evaluate import evaluate_streaming as evaluate_streaming
    from trix.lab.evaluate import model_log_probs as model_log_probs
    from trix.lab.evaluate import table_log_probs as table_log_probs
    from trix.lab.experiments import run_experiment as run_experiment
    from trix.lab.generate import characters as characters
    from trix.lab.generate import generate as generate
    from trix.lab.information import Information as Information
    from trix.lab.information import explained_variance as explained_variance
    from trix.lab.information import information as information
    from trix.lab.lookup_arms import evaluate_dynamic as evaluate_dynamic
    from trix.lab.lookup_config import LookupConfig as LookupConfig
    from trix.lab.lookup_lm import LookupLM as LookupLM
    from trix.lab.lookup_lm import LookupRouted as LookupRouted
    from trix.lab.lookup_lm import LookupState as LookupState
    from trix.lab.lookup_lm import Memories as Memories
    from trix.lab.metrics import churn as churn
    from trix.lab.metrics import mutual_information as mutual_information
    from trix.lab.metrics import normalized_entropy as normalized_entropy
    from trix.lab.metrics import purity as purity
    from trix.lab.metrics import usage as usage
    from trix.lab.optimize import TrainConfig as TrainConfig
    from trix.lab.optimize import learning_rate as learning_rate
    from trix.lab.optimize import make_optimizers as make_optimizers
    from trix.lab.overlapping import isotropic as isotropic
    from trix.lab.overlapping import overlapping_clusters as overlapping_clusters
    from trix.lab.overlapping import recall as recall
    from trix.lab.packing import load_packed as load_packed
    from trix.lab.packing import save_packed as save_packed
    from trix.lab.presets import Preset as Preset
    from trix.lab.presets import preset as preset
    from trix.lab.protocols import protocol as protocol
    from trix.lab.records import read_all_records as read_all_records
    from trix.lab.records import read_records as read_records
    from trix.lab.storage import Stored as Stored
    from trix.lab.storage import load_model as load_model
    from trix.lab.storage import save_model as save_model
    from trix.lab.train import TrainResult as TrainResult
    from trix.lab.train import train as train
    from trix.lab.verdict import verdict as verdict
    from trix.show import AddressPlane as AddressPlane
    from trix.show import ContextLens as ContextLens
    from trix.show import Funnel as Funnel
    from trix.show import IslandPlane as IslandPlane
    from trix.show import MemoryReader as MemoryReader
    from trix.show import RouteTree as RouteTree
    from trix.show import SoftBlend as SoftBlend
    from trix.show import SplineExplorer as SplineExplorer
    from trix.show import Squeezed as Squeezed
    from trix.show import SurgeryTable as SurgeryTable
    from trix.show import figure_html as figure_html
    from trix.show import glue as glue
    from trix.show import live as live
    from trix.show import provenance as provenance
    from trix.show.ledger import Ledger as Ledger
    from trix.show.mixture_lens import MixtureLens as MixtureLens

_LATER = {
    "AddressPlane": "trix.show",
    "BlockDraw": "trix.lab.block_draw",
    "CharLM": "trix.lab.charlm",
    "ContextLens": "trix.show",
    "Corpus": "trix.lab.corpus",
    "Evaluation": "trix.lab.evaluate",
    "Funnel": "trix.show",
    "Information": "trix.lab.information",
    "IslandPlane": "trix.show",
    "LMConfig": "trix.lab.charlm",
    "LMRouted": "trix.lab.charlm",
    "LMState": "trix.lab.charlm",
    "Ledger": "trix.show.ledger",
    "LookupConfig": "trix.lab.lookup_config",
    "LookupLM": "trix.lab.lookup_lm",
    "LookupRouted": "trix.lab.lookup_lm",
    "LookupState": "trix.lab.lookup_lm",
    "Memories": "trix.lab.lookup_lm",
    "MemoryReader": "trix.show",
    "MixtureLens": "trix.show.mixture_lens",
    "Preset": "trix.lab.presets",
    "RouteTree": "trix.show",
    "SoftBlend": "trix.show",
    "SplineExplorer": "trix.show",
    "Squeezed": "trix.show",
    "Stored": "trix.lab.storage",
    "SurgeryTable": "trix.show",
    "TrainConfig": "trix.lab.optimize",
    "TrainResult": "trix.lab.train",
    "characters": "trix.lab.generate",
    "check_parameters": "trix.lab.budget",
    "choose": "trix.lab.budget",
    "churn": "trix.lab.metrics",
    "evaluate": "trix.lab.evaluate",
    "evaluate_dynamic": "trix.lab.lookup_arms",
    "evaluate_streaming": "trix.lab.evaluate",
    "explained_variance": "trix.lab.information",
    "figure_html": "trix.show",
    "find_claim": "trix.lab.claims",
    "find_ledger": "trix.lab.claims",
    "generate": "trix.lab.generate",
    "glue": "trix.show",
    "information": "trix.lab.information",
    "isotropic": "trix.lab.overlapping",
    "learning_rate": "trix.lab.optimize",
    "live": "trix.show",
    "load": "trix.lab.corpus",
    "load_claims": "trix.lab.claims",
    "load_model": "trix.lab.storage",
    "load_packed": "trix.lab.packing",
    "make_optimizers": "trix.lab.optimize",
    "model_log_probs": "trix.lab.evaluate",
    "mutual_information": "trix.lab.metrics",
    "normalized_entropy": "trix.lab.metrics",
    "overlapping_clusters": "trix.lab.overlapping",
    "preset": "trix.lab.presets",
    "protocol": "trix.lab.protocols",
    "provenance": "trix.show",
    "purity": "trix.lab.metrics",
    "read_all_records": "trix.lab.records",
    "read_records": "trix.lab.records",
    "recall": "trix.lab.overlapping",
    "run_experiment": "trix.lab.experiments",
    "save_model": "trix.lab.storage",
    "save_packed": "trix.lab.packing",
    "settle": "trix.lab.claims",
    "settle_all": "trix.lab.claims",
    "table_log_probs": "trix.lab.evaluate",
    "train": "trix.lab.train",
    "usage": "trix.lab.metrics",
    "verdict": "trix.lab.verdict",
}
__all__ = [
    "AdaptiveKANFFN",
    "AddressCounts",
    "AddressPlane",
    "AttentionState",
    "BinnedFFN",
    "Blended",
    "BlockDraw",
    "BottleneckSource",
    "CausalAttention",
    "CellSpline",
    "CharLM",
    "Claims",
    "CodebookFFN",
    "CodebookTable",
    "ContentCells",
    "ContextGate",
    "ContextLens",
    "ContextMemory",
    "ContextReading",
    "Convolved",
    "ConvolvedAttention",
    "ConvolvedState",
    "ConvolvedStatic",
    "Corpus",
    "CountTables",
    "DataSource",
    "DenseFFN",
    "Dispatch",
    "DispatchCheck",
    "Echo",
    "EditableLayer",
    "EditableSignatures",
    "Evaluation",
    "Fading",
    "FixedRoutingFFN",
    "FractalFFN",
    "FrozenRandom",
    "Funnel",
    "FunnelFFN",
    "FunnelStages",
    "HierarchicalTriXFFN",
    "HybridHeads",
    "HybridKANFFN",
    "HybridMixer",
    "HybridState",
    "Information",
    "Insertion",
    "IslandPlane",
    "KnotSpline",
    "LMConfig",
    "LMRouted",
    "LMState",
    "LearnedSource",
    "Ledger",
    "Level",
    "LinearRouter",
    "LookupConfig",
    "LookupLM",
    "LookupRouted",
    "LookupState",
    "LookupTable",
    "Memories",
    "MemoryReader",
    "MemoryReading",
    "MemoryState",
    "MixtureFFN",
    "MixtureLens",
    "NestedRouter",
    "OrderCounts",
    "OutputGate",
    "PackedLookup",
    "PackedTernary",
    "Preset",
    "Preview",
    "ProductKeyFFN",
    "ProductTable",
    "Quantizer",
    "RandomFractalFFN",
    "Rotation",
    "Route",
    "RouteTree",
    "Routed",
    "RoutedLayer",
    "RoutedMemory",
    "ScoreGate",
    "ShortConvolution",
    "Shuffled",
    "SignatureRows",
    "SlotKeys",
    "SoftBlend",
    "Source",
    "SparseLookupFFN",
    "SplineBodies",
    "SplineExplorer",
    "SplineSource",
    "Squeezed",
    "StaticMemory",
    "Stored",
    "Strength",
    "SurgeryPlan",
    "SurgeryTable",
    "TernaryBodies",
    "TernarySpline",
    "TileParts",
    "TiledFFN",
    "TokenHash",
    "TrainConfig",
    "TrainResult",
    "TreeRouter",
    "TriXFFN",
    "TwoLevelFFN",
    "UniformRandom",
    "WeightSource",
    "WideDenseFFN",
    "WindowAttention",
    "WindowState",
    "WordMemory",
    "annealed",
    "blend_weights",
    "characters",
    "check_parameters",
    "choose",
    "churn",
    "compile_dispatch",
    "compile_table",
    "delta_scan",
    "diversity",
    "echoes",
    "evaluate",
    "evaluate_dynamic",
    "evaluate_streaming",
    "explained_variance",
    "figure_html",
    "find_claim",
    "find_ledger",
    "flat_route",
    "generate",
    "glue",
    "information",
    "isotropic",
    "learning_rate",
    "letters_of",
    "live",
    "load",
    "load_balance",
    "load_claims",
    "load_model",
    "load_packed",
    "make_optimizers",
    "memory_reading",
    "model_log_probs",
    "mutual_information",
    "normalized_entropy",
    "overlapping_clusters",
    "pack",
    "preset",
    "protocol",
    "provenance",
    "purity",
    "read_all_records",
    "read_records",
    "recall",
    "row_scale",
    "run_experiment",
    "save_model",
    "save_packed",
    "settle",
    "settle_all",
    "signature_from_examples",
    "signature_from_features",
    "signature_from_tile",
    "slot_scan",
    "slot_shares",
    "sparsity",
    "straight_through",
    "straight_through_weights",
    "table_log_probs",
    "ternarize",
    "ternary_fraction",
    "ternary_pull",
    "train",
    "unpack",
    "usage",
    "verdict",
    "weight_signatures",
]


def __getattr__(name: str) -> Any:
    """Import a name of `trix.lab` or `trix.show` when it is first asked for."""
    if name not in _LATER:
        raise AttributeError(f"module 'trix' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_LATER[name]), name)
    except ModuleNotFoundError as error:
        extra = "book" if _LATER[name].startswith("trix.show") else "lab"
        raise ModuleNotFoundError(
            f"trix.{name} needs {error.name}: pip install 'trix-routing[{extra}]'", name=error.name
        ) from error


def __dir__() -> list[str]:
    """Return the public names, so that completion finds those not imported yet."""
    return sorted(__all__)
