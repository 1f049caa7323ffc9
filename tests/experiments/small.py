"""What the tests of experiments and of the ledger are made of: a text, a protocol, an arm."""

from trix.experiments.arm import Arm
from trix.lab.corpus import Corpus
from trix.lab.optimize import TrainConfig
from trix.lab.recipes import Protocol
from trix.models.charlm import CharLM, LMConfig
from trix.models.storage import load_checkpoint

BLOCK = 6
CORPUS = Corpus(
    "small", "made up", "the cat sat on the mat; " * 30 + "a cat that sat on a hat. " * 9
)
TINY = Protocol(
    LMConfig(dim=8, layers=2, positions=BLOCK, mixer_options={"heads": 2}),
    TrainConfig(steps=40, batch=2, context=5, warmup=1, lr=0.01),
    block=BLOCK,
)
FEW = 4
"""Optimizer steps of a training at the quick budget, in these tests."""


def noting(calls: list, seeded: bool = True, **options) -> Arm:

    def measure(run):
        calls.append((run.corpus.name, run.seed, run.budget, run.work.name))
        run.parameters = 3
        return {"val_nats": 2.0 + run.seed}

    settings = lambda corpus, budget: {"budget": budget}  # noqa: E731
    return Arm(None, (measure,), settings, seeded=seeded, **options)


def saved(folder, recipe) -> CharLM:
    checkpoint = load_checkpoint(folder)
    assert checkpoint is not None
    model = CharLM(recipe.model_config(CORPUS))
    start = "model."
    model.load_state_dict(
        {k.removeprefix(start): v for k, v in checkpoint.tensors.items() if k.startswith(start)}
    )
    return model.eval()
