"""trix: layers that work out an address and read what stands there.

The core (addresses, tiles, memories) needs torch, numpy and safetensors. What measures it
(`trix.lab`) and what shows it (`trix.show`) are imported when first asked for, and need the extras
`lab` and `book`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from trix.address.regularize import diversity
from trix.address.route import Route, Routed, RoutedLayer, blend_weights, flat_route
from trix.address.signature import weight_signatures
from trix.address.ternary import row_scale, straight_through, ternarize, ternary_fraction
from trix.memory.attention import AttentionState, CausalAttention
from trix.memory.context import CountTables
from trix.tiles.ffn import DenseFFN, TriXFFN

if TYPE_CHECKING:
    from trix.lab.charlm import CharLM as CharLM
    from trix.lab.charlm import LMConfig as LMConfig
    from trix.lab.charlm import LMRouted as LMRouted
    from trix.lab.charlm import LMState as LMState
    from trix.lab.corpus import Corpus as Corpus
    from trix.lab.corpus import load as load
    from trix.lab.evaluate import Evaluation as Evaluation
    from trix.lab.evaluate import evaluate as evaluate
    from trix.lab.evaluate import evaluate_streaming as evaluate_streaming
    from trix.lab.evaluate import model_log_probs as model_log_probs
    from trix.lab.evaluate import table_log_probs as table_log_probs
    from trix.lab.metrics import mutual_information as mutual_information
    from trix.lab.metrics import normalized_entropy as normalized_entropy
    from trix.lab.metrics import usage as usage
    from trix.lab.protocols import protocol as protocol
    from trix.lab.train import TrainConfig as TrainConfig
    from trix.lab.train import TrainResult as TrainResult
    from trix.lab.train import train as train
    from trix.show import AddressPlane as AddressPlane
    from trix.show import ContextLens as ContextLens

_LATER = {
    "AddressPlane": "trix.show",
    "CharLM": "trix.lab.charlm",
    "ContextLens": "trix.show",
    "Corpus": "trix.lab.corpus",
    "Evaluation": "trix.lab.evaluate",
    "LMConfig": "trix.lab.charlm",
    "LMRouted": "trix.lab.charlm",
    "LMState": "trix.lab.charlm",
    "TrainConfig": "trix.lab.train",
    "TrainResult": "trix.lab.train",
    "evaluate": "trix.lab.evaluate",
    "evaluate_streaming": "trix.lab.evaluate",
    "load": "trix.lab.corpus",
    "model_log_probs": "trix.lab.evaluate",
    "mutual_information": "trix.lab.metrics",
    "normalized_entropy": "trix.lab.metrics",
    "protocol": "trix.lab.protocols",
    "table_log_probs": "trix.lab.evaluate",
    "train": "trix.lab.train",
    "usage": "trix.lab.metrics",
}
__all__ = [
    "AddressPlane",
    "AttentionState",
    "CausalAttention",
    "CharLM",
    "ContextLens",
    "Corpus",
    "CountTables",
    "DenseFFN",
    "Evaluation",
    "LMConfig",
    "LMRouted",
    "LMState",
    "Route",
    "Routed",
    "RoutedLayer",
    "TrainConfig",
    "TrainResult",
    "TriXFFN",
    "blend_weights",
    "diversity",
    "evaluate",
    "evaluate_streaming",
    "flat_route",
    "load",
    "model_log_probs",
    "mutual_information",
    "normalized_entropy",
    "protocol",
    "row_scale",
    "straight_through",
    "table_log_probs",
    "ternarize",
    "ternary_fraction",
    "train",
    "usage",
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
