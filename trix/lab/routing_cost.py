"""What routing costs as tiles grow: comparisons counted, seconds measured, recall beside them."""

import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trix.address.tree import TreeRouter
from trix.lab.arms import Outcome
from trix.lab.bench import side_by_side
from trix.lab.corpus import Corpus
from trix.lab.overlapping import overlapping_clusters, recall

TILES, QUICK_TILES = (64, 256, 1024, 4096, 16384), (16, 64, 256)
DIM, TOKENS, QUICK_TOKENS = 256, 4096, 256


@dataclass(frozen=True)
class RoutingCost:
    """One way of routing, among more and more tiles; the seed draws the overlapping clusters.

    Attributes:
        router: "flat", "hierarchical" (two levels) or "fractal" (three).
        beam: nodes kept at each level.
    """

    router: str
    beam: int = 4
    seeded: bool = True

    def __post_init__(self) -> None:
        """Check the name."""
        if self.router not in ("flat", "hierarchical", "fractal"):
            raise ValueError(f"router must be flat, hierarchical or fractal, got {self.router!r}")

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        """Return the router, the beam and the sizes."""
        return {"router": self.router, "beam": self.beam, **_sizes(budget)}

    def run(self, corpus: Corpus, seed: int, budget: str, work: Path) -> Outcome:
        """Count, time and check every size; the text plays no part.

        The metrics are, for each number of tiles, `comparisons_…` and `seconds_…` and `recall_…`,
        and over all of them `cost_exponent` and `time_exponent`: the slopes of the logarithms
        of comparisons and seconds against that of the tiles.
        """
        began = time.perf_counter()
        sizes = _sizes(budget)
        metrics: dict[str, float] = {}
        for tiles in sizes["tiles"]:
            data = overlapping_clusters(tiles, sizes["dim"], sizes["tokens"], seed)
            router = self._router(tiles, sizes["dim"])
            router.rebuild(data.signatures)
            with torch.no_grad():
                seconds = side_by_side(
                    {self.router: lambda: router(data.tokens, data.signatures)}  # noqa: B023
                )
            metrics[f"comparisons_{tiles}"] = router.comparisons
            metrics[f"seconds_{tiles}"] = seconds[self.router]
            metrics[f"recall_{tiles}"] = recall(router, data.tokens, data.signatures)
        for name, measured in (("cost_exponent", "comparisons"), ("time_exponent", "seconds")):
            metrics[name] = exponent(
                {tiles: metrics[f"{measured}_{tiles}"] for tiles in sizes["tiles"]}
            )
        return Outcome(time.perf_counter() - began, 0, metrics, [], "cpu")

    def _router(self, tiles: int, dim: int) -> TreeRouter:
        if self.router == "flat":
            return TreeRouter(tiles, dim, (tiles,), self.beam)
        if self.router == "hierarchical":
            return TreeRouter.hierarchical(tiles, dim, beam=self.beam)
        return TreeRouter.fractal(tiles, dim, beam=self.beam)


def exponent(cost: dict[int, float]) -> float:
    """Return b of the law cost = a·nᵇ that fits the logarithms best, from costs by n.

    Raises:
        ValueError: fewer than two sizes, or a size or cost that is not positive.
    """
    if len(cost) < 2 or min(*cost, *cost.values()) <= 0:
        raise ValueError(f"expected two or more positive sizes and costs, got {cost}")
    sizes, costs = [math.log(n) for n in cost], [math.log(value) for value in cost.values()]
    return statistics.linear_regression(sizes, costs).slope


def _sizes(budget: str) -> dict[str, Any]:
    if budget == "quick":
        return {"tiles": QUICK_TILES, "dim": DIM, "tokens": QUICK_TOKENS}
    return {"tiles": TILES, "dim": DIM, "tokens": TOKENS}
