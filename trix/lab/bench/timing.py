"""Clocks: what is compared runs in one process, turn by turn, so that ratios mean something."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from trix.checks import positive


def side_by_side(cases: dict[str, Callable[[], Any]], rounds: int = 7) -> dict[str, float]:
    """Return the median seconds of each case, after a call of each; a round runs all, in turn.

    So whatever slows the machine down slows all cases alike, and ratios of the medians mean
    something where the medians themselves do not.
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

    What a computation must move, divided by this, is a time that it can hardly beat, unless `size`
    bytes fit in a cache.
    """
    source = torch.zeros(positive("size", size), dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * size / side_by_side({"copy": lambda: target.copy_(source)}, rounds)["copy"]


def row(what: str, size: Any, seconds: float, against: str, other: float) -> dict[str, Any]:
    """Return a row of a bench: `ratio` says how often the seconds go into those of the other."""
    found = {"what": what, "size": size, "seconds": seconds}
    return found | {"against": against, "against_seconds": other, "ratio": other / seconds}


@contextmanager
def one_thread() -> Iterator[None]:
    """Set torch to one thread for as long as the block runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
