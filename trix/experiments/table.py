"""The table of experiments: what can be run, arm by arm."""

from trix.experiments.arm import Arm
from trix.experiments.cost import COST
from trix.experiments.counts import COUNTS
from trix.experiments.islands import ISLANDS
from trix.experiments.lookup import LOOKUP
from trix.experiments.memory import MEMORY
from trix.experiments.recall import RECALL
from trix.experiments.speed import speed_arms
from trix.experiments.surgery import SURGERY
from trix.experiments.tiles import SOURCES, TILES

EXPERIMENTS: dict[str, dict[str, Arm]] = SOURCES | TILES | SURGERY | ISLANDS | MEMORY | RECALL
EXPERIMENTS |= LOOKUP | COST | COUNTS
EXPERIMENTS["speed"] = speed_arms(EXPERIMENTS)
