"""The experiments about surgery: claims, islands, gates, compiled dispatch."""

from trix.lab.arms import Arm
from trix.lab.gate_arms import Gated
from trix.lab.island_arms import Islands
from trix.lab.surgery_arms import Compiled, Surgery

# The notes do not give theirs. With these the losses alone, without any text, leave signatures
# about as sparse as the notes found them; pull and sparsity work against each other, and a little
# more of either wins.
PULL = {"ternary-pull": 0.13}
SPARSE = {"sparsity": 0.3}
DIVERSE = {"diversity": 0.3}
ALL = PULL | SPARSE | DIVERSE

SURGERY: dict[str, dict[str, Arm]] = {
    "surgery": {kind: Surgery(kind) for kind in ("designed", "random", "untouched")},
    "dispatch": {
        "designed": Compiled(designed=True),
        "plain": Compiled(designed=False),
        "plain-trained-on": Compiled(designed=False, trained_on=True),
    },
    "islands": {
        "on": Islands(ALL),
        "off": Islands(),
        "pull": Islands(PULL),
        "sparsity": Islands(SPARSE),
        "diversity": Islands(DIVERSE),
        "no-pull": Islands(SPARSE | DIVERSE),
        "no-sparsity": Islands(PULL | DIVERSE),
        "no-diversity": Islands(PULL | SPARSE),
        "no-data": Islands(ALL, data="none"),
        "start": Islands(data="start"),
        "random": Islands(data="random"),
    },
    "calibration": {gate: Gated(gate) for gate in ("spline", "none", "sigmoid")},
}
