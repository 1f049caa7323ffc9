"""Records of experiments, and the claims that they settle."""

from trix.ledger.claims import find_claim as find_claim
from trix.ledger.claims import find_ledger as find_ledger
from trix.ledger.claims import load_claims as load_claims
from trix.ledger.claims import settle as settle
from trix.ledger.claims import settle_all as settle_all
from trix.ledger.records import read_all_records as read_all_records
from trix.ledger.records import read_records as read_records
from trix.ledger.run import run_experiment as run_experiment

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    name for name, value in dict(vars()).items() if getattr(value, "__module__", "")[:5] == "trix."
]
