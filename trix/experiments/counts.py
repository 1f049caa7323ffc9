"""Arms that count: tables of characters that follow, of every order."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trix.counts.ngram import CountTables
from trix.experiments.arm import Arm, Run
from trix.lab.corpus import Corpus
from trix.lab.evaluate import evaluate, table_log_probs
from trix.lab.train import TrainResult


@dataclass(frozen=True)
class Counting:
    """Count tables of one order and smoothing: nothing is trained, nothing is random."""

    order: int
    smoothing: str
    block: int = 64
    shared: str = ""

    def config(self, corpus: Corpus, budget: str) -> dict[str, Any]:
        return {"order": self.order, "smoothing": self.smoothing}

    def make(self, run: Run, folder: Path) -> None:
        began = time.perf_counter()
        run.model = CountTables(run.corpus.train, self.order, run.corpus.vocab_size)
        run.result = TrainResult([], time.perf_counter() - began)
        run.parameters = sum(len(table.count) for table in run.model.tables)


def _in_three_blocks(run: Run) -> dict[str, float]:
    log_probs = table_log_probs(run.model, run.recipe.order, run.recipe.smoothing)
    metrics = {}
    for name, block in (("", 64), ("_block256", 256), ("_uncut", len(run.corpus.val))):
        score = evaluate(log_probs, run.corpus.val, block)
        metrics |= {f"val_nats{name}": score.nats, f"val_perplexity{name}": score.perplexity}
    return metrics


def counted(order: int, smoothing: str) -> Arm:
    """Return the arm that counts, and judges in blocks of 64, of 256, and in one uncut pass."""
    return Arm(Counting(order, smoothing), (_in_three_blocks,), seeded=False)


COUNTS: dict[str, dict[str, Arm]] = {
    "counts": {
        f"{smoothing}-{order}": counted(order, smoothing)
        for smoothing in ("witten-bell", "add-one")
        for order in range(1, 9)
    }
}
