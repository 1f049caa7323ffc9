"""How much a notebook may compute: `quick` for reading along, `full` for the record."""

from typing import TypeVar

Value = TypeVar("Value")


def choose(budget: str, *, quick: Value, full: Value) -> Value:
    """Return the value that belongs to a budget.

    Raises:
        ValueError: the budget is neither "quick" nor "full".
    """
    if budget not in ("quick", "full"):
        raise ValueError(f"budget must be quick or full, got {budget!r}")
    return quick if budget == "quick" else full
