"""Clocks: what is compared runs in one process, turn by turn, so that ratios mean something."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from trix.checks import positive


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
    source = torch.zeros(positive("size", size), dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * size / side_by_side({"copy": lambda: target.copy_(source)}, rounds)["copy"]


def row(what: str, size: Any, seconds: float, against: str, other: float) -> dict[str, Any]:
    """Return a row of a bench: `ratio` says how often the seconds go into those of the other."""
    return {
        "what": what,
        "size": size,
        "seconds": seconds,
        "against": against,
        "against_seconds": other,
        "ratio": other / seconds,
    }


@contextmanager
def one_thread() -> Iterator[None]:
    """Set torch to one thread for as long as the block runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
