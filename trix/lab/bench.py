"""Speed, as ratios: what is compared runs in one process, turn by turn."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


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


def bandwidth(size: int = 64 * 2**20, rounds: int = 7) -> float:
    """Return the bytes a second that a copy moves, reads and writes counted, on torch's threads.

    What a computation must move, divided by this, is a time that it can hardly beat from memory. It
    can from a cache.

    Args:
        size: bytes to copy; more than the caches hold.
        rounds: the median of so many counts.

    Raises:
        ValueError: fewer bytes or rounds than one.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    source = torch.zeros(size, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * size / side_by_side({"copy": lambda: target.copy_(source)}, rounds)["copy"]
