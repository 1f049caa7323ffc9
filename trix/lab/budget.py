"""How much a notebook may compute: `quick` for reading along, `full` for the record."""

from typing import TypeVar

Value = TypeVar("Value")
BUDGETS = ("quick", "full")


def check_parameters(budget: str, seed: int) -> None:
    """Check a notebook's parameters before it computes anything.

    Raises:
        TypeError: the seed is not an integer.
        ValueError: the budget is unknown, or the seed is negative.
    """
    if budget not in BUDGETS:
        raise ValueError(f"budget must be one of {BUDGETS}, got {budget!r}")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be an integer, got {seed!r}")
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")


def choose(budget: str, *, quick: Value, full: Value) -> Value:
    """Return the value that belongs to a budget.

    Raises:
        ValueError: the budget is neither "quick" nor "full".
    """
    check_parameters(budget, seed=0)
    return quick if budget == "quick" else full
