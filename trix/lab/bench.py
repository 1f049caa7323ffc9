"""Speed, as ratios: what is compared runs in one process, turn by turn."""

import statistics
import time
from collections.abc import Callable
from typing import Any


def side_by_side(cases: dict[str, Callable[[], Any]], rounds: int = 7) -> dict[str, float]:
    """Return the median seconds of each case; every round runs all of them once, in turn.

    Taking turns lets whatever slows the machine down slow all cases alike, so that ratios of the
    medians mean something where the medians themselves do not.

    Args:
        cases: what to call, by name. Each is called once before the first round.
        rounds: how often each is timed.

    Raises:
        ValueError: no cases, or fewer rounds than one.
    """
    if not cases or rounds < 1:
        raise ValueError(f"expected cases and rounds of at least 1, got {list(cases)} and {rounds}")
    for call in cases.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, call in cases.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}
