"""Data, models and training, and what is measured of them."""

from trix.lab.corpus import Corpus as Corpus
from trix.lab.corpus import load_corpus as load_corpus
from trix.lab.evaluate import evaluate as evaluate
from trix.lab.evaluate import evaluate_dynamic as evaluate_dynamic
from trix.lab.evaluate import model_log_probs as model_log_probs
from trix.lab.evaluate import table_log_probs as table_log_probs
from trix.lab.metrics import explained_variance as explained_variance
from trix.lab.metrics import information as information
from trix.lab.metrics import mutual_information as mutual_information
from trix.lab.metrics import normalized_entropy as normalized_entropy
from trix.lab.metrics import purity as purity
from trix.lab.metrics import usage as usage
from trix.lab.optimize import TrainConfig as TrainConfig
from trix.lab.recipes import check_parameters as check_parameters
from trix.lab.recipes import choose as choose
from trix.lab.recipes import preset as preset
from trix.lab.recipes import protocol as protocol
from trix.lab.tasks import overlapping_clusters as overlapping_clusters
from trix.lab.tasks import recall as recall
from trix.lab.train import train as train
from trix.models.charlm import CharLM as CharLM
from trix.models.charlm import LMConfig as LMConfig
from trix.models.generate import generate as generate
from trix.models.lookup import LookupConfig as LookupConfig
from trix.models.lookup import LookupLM as LookupLM
from trix.models.packing import load_packed as load_packed
from trix.models.packing import save_packed as save_packed
from trix.models.storage import load_model as load_model
from trix.models.storage import save_model as save_model

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    name for name, value in dict(vars()).items() if getattr(value, "__module__", "")[:5] == "trix."
]
