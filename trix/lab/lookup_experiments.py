"""Experiments about looking it up: tables, a gate, and a network that reads the tables."""

from dataclasses import replace
from typing import Any

from trix.lab.arms import Arm, TrainedLM
from trix.lab.lookup_arms import Looked, short
from trix.lab.presets import PRESETS

_TABLES = PRESETS["tables"].model.tables
_SHORT = {"steps": 750, "batch": 16, "context": 64}  # so that five arms times five seeds are quick
_ORDERS = {"words": False}  # n-grams alone: these were run before there were words


def _network(**changes: Any) -> dict[str, Any]:
    network = PRESETS["small"].model.network
    return {} if network is None else {"network": replace(network, **changes)}


def _alone() -> TrainedLM:
    # the network of `small` by itself, trained as it is there, judged in the same blocks
    small = PRESETS["small"]
    network = vars(small.model.network) if small.model.network else {}
    changes = {k: v for k, v in network.items() if k != "vocab_size"}
    return TrainedLM("lookup-network", changes, {**vars(small.train), **_SHORT})


LOOKUP: dict[str, dict[str, Arm]] = {
    "lookup-tables": {
        "routed": Looked("tables", closely=True),
        "fixed-gate": Looked("tables", changes={"gate": "fixed"}),
        "nothing-left-out": Looked("tables", changes={"folds": 0}),
        "orders-alone": Looked("tables", changes={"words": False}),
        **{f"without-{short(name)}": Looked("tables", without=name) for name in _TABLES},
    },
    # tables and a gate by themselves, in blocks as short as the attention model's
    "lookup-model": {"lookup": Looked("tables", block=64)},
    "lookup-small": {"three-minutes": Looked("small", closely=True)},
    # more passes over the same text, with more dropout: what another seven minutes bring
    "lookup-long": {
        "ten-minutes": Looked("small", _network(dropout=0.2) | _ORDERS, {"steps": 2200})
    },
    "lookup-base": {"base": Looked("base", _ORDERS)},
    "lookup-parts": {
        "all": Looked("small", _ORDERS, _SHORT),
        "fixed-gate": Looked("small", {"gate": "fixed"} | _ORDERS, _SHORT),
        "nothing-left-out": Looked("small", {"folds": 0} | _ORDERS, _SHORT),
        "no-routed-memory": Looked(
            "small", _network(mixer="none", mixer_options={}) | _ORDERS, _SHORT
        ),
        "no-tables": _alone(),
    },
}
