"""Experiments about looking it up: tables, a gate, and a network that reads the tables."""

from dataclasses import replace
from typing import Any

from trix.lab.arms import Arm, TrainedLM
from trix.lab.lookup_arms import Looked, short
from trix.lab.presets import PRESETS

_TABLES = PRESETS["tables"].model.tables
_SILENT: dict[str, Any] = {"echoes": False}
_ORDERS: dict[str, Any] = {"words": False, "echoes": False}
_ADAMW: dict[str, Any] = {"muon": None}
# so that six arms times five seeds are quick
_HALF = {"steps": PRESETS["small"].train.steps // 2}
# as `small` was trained when it knew n-grams alone
_BEFORE: dict[str, Any] = {"batch": 16, "context": 128} | _ADAMW


def _network(**changes: Any) -> dict[str, Any]:
    network = PRESETS["small"].model.network
    return {} if network is None else {"network": replace(network, **changes)}


def _alone() -> TrainedLM:
    # the network of `small` by itself, trained as it is there, judged in the same blocks
    small = PRESETS["small"]
    network = vars(small.model.network) if small.model.network else {}
    changes = {k: v for k, v in network.items() if k != "vocab_size"}
    return TrainedLM("lookup-network", changes, {**vars(small.train), **_HALF})


LOOKUP: dict[str, dict[str, Arm]] = {
    "lookup-tables": {
        "routed": Looked("tables", closely=True),
        "fixed-gate": Looked("tables", changes={"gate": "fixed"}),
        "nothing-left-out": Looked("tables", changes={"folds": 0}),
        "no-echoes": Looked("tables", changes=_SILENT),
        "orders-alone": Looked("tables", changes=_ORDERS),
        "adamw": Looked("tables", training=_ADAMW),
        **{f"without-{short(name)}": Looked("tables", without=name) for name in _TABLES},
    },
    # tables and a gate by themselves, in blocks as short as the attention model's
    "lookup-model": {
        "lookup": Looked("tables", block=64),
        "adamw": Looked("tables", training=_ADAMW, block=64),
    },
    "lookup-small": {
        "three-minutes": Looked("small", closely=True),
        "no-echoes": Looked("small", _SILENT),
    },
    # what is left when a part is missing, after half as many steps
    "lookup-parts": {
        "all": Looked("small", training=_HALF),
        "adamw": Looked("small", training=_HALF | _ADAMW),
        "fixed-gate": Looked("small", {"gate": "fixed"}, _HALF),
        "nothing-left-out": Looked("small", {"folds": 0}, _HALF),
        "no-routed-memory": Looked("small", _network(mixer="none", mixer_options={}), _HALF),
        "no-tables": _alone(),
    },
    # n-grams alone: more passes over the same text with more dropout, and more numbers, on a GPU
    "lookup-long": {
        "ten-minutes": Looked("small", _network(dropout=0.2) | _ORDERS, _BEFORE | {"steps": 2200})
    },
    "lookup-base": {"base": Looked("base", _ORDERS, _ADAMW)},
}
