"""Speed, as ratios: `trix bench NAME` calls `BENCHES[NAME](quick)` and prints its rows.

With `quick` sizes are small and rounds few, to see that it works. A row says `what` was timed at
which `size`, its `seconds`, those of what it stands `against`, and their `ratio`.
"""

from collections.abc import Callable
from typing import Any

from trix.lab.bench.layers import dispatch, ffn, routing, table, ternary
from trix.lab.bench.memory import memory
from trix.lab.bench.sample import sample
from trix.lab.bench.timing import bandwidth as bandwidth
from trix.lab.bench.timing import side_by_side as side_by_side

_ALL = (dispatch, ffn, memory, routing, sample, table, ternary)
BENCHES: dict[str, Callable[[bool], list[dict[str, Any]]]] = {b.__name__: b for b in _ALL}
