import dataclasses
import math
from dataclasses import dataclass, field

import pytest
import torch

import trix.lab.train
from tests import reference
from trix.experiments.arm import QUICK_STEPS, Counted, Outcome, TrainedLM
from trix.experiments.table import EXPERIMENTS
from trix.files import locked
from trix.lab.corpus import Corpus
from trix.lab.evaluate import evaluate, model_log_probs
from trix.lab.optimize import TrainConfig
from trix.lab.recipes import PROTOCOLS, Protocol
from trix.lab.train import train
from trix.ledger.records import read_records
from trix.ledger.run import run_experiment
from trix.models.charlm import CharLM, LMConfig

CORPUS = Corpus(
    "small", "made up", "the cat sat on the mat; " * 30 + "a cat that sat on a hat. " * 5
)
TINY = Protocol(
    LMConfig(dim=8, layers=1, positions=6, mixer_options={"heads": 2}, dropout=0.1),
    TrainConfig(steps=130, batch=2, context=5, warmup=3),
    block=6,
)


@dataclass
class Noted:
    """An arm that notes how it was run."""

    seeded: bool = True
    calls: list = field(default_factory=list)

    def config(self, corpus, budget):
        return {"budget": budget}

    def run(self, corpus, seed, budget, work):
        self.calls.append((corpus.name, seed, budget, work.name))
        return Outcome(0.5, 3, {"val_nats": 2.0 + seed}, [[1, 3.0]], "cpu")


@pytest.fixture
def noted(monkeypatch):
    arms = {"learned": Noted(), "table": Noted(seeded=False)}
    monkeypatch.setitem(EXPERIMENTS, "trial", arms)
    return arms


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    monkeypatch.setitem(EXPERIMENTS, "trial", {"tiny": TrainedLM("tiny")})


def _run(tmp_path, **changes):
    settings = {"seeds": 3, "budget": "full", **changes}
    return run_experiment("trial", CORPUS, tmp_path / "records", tmp_path / "work", **settings)


def test_a_record_of_another_configuration_is_refused_and_left(tmp_path, noted):
    _run(tmp_path)
    before = (tmp_path / "records" / "trial.jsonl").read_bytes()
    with pytest.raises(
        ValueError, match=r"learned with seed 0 was run with .*full.*expected .*quick"
    ):
        _run(tmp_path, budget="quick")
    assert (tmp_path / "records" / "trial.jsonl").read_bytes() == before


def test_every_arm_and_seed_is_run_once(tmp_path, noted):
    records = _run(tmp_path)
    runs = [("learned", 0), ("learned", 1), ("learned", 2), ("table", None)]
    assert [(r.arm, r.seed) for r in records] == runs
    assert [r.metrics["val_nats"] for r in records] == [2.0, 3.0, 4.0, 2.0]
    assert records[0].corpus == CORPUS.provenance()
    assert [call[1] for call in noted["learned"].calls] == [0, 1, 2]
    assert records == read_records(tmp_path / "records" / "trial.jsonl")


def test_what_has_a_record_is_not_repeated(tmp_path, noted):
    first = _run(tmp_path, seeds=2)
    assert _run(tmp_path, seeds=2) == first
    assert len(noted["learned"].calls) == 2
    more = _run(tmp_path, seeds=4)
    assert [call[1] for call in noted["learned"].calls] == [0, 1, 2, 3]
    assert len(noted["table"].calls) == 1
    assert more[:3] == first
    assert _run(tmp_path, seeds=1) == more


def test_no_two_runs_share_a_work_folder(tmp_path, noted):
    _run(tmp_path)
    _run(tmp_path / "quick", budget="quick")
    places = [call[3] for arm in noted.values() for call in arm.calls]
    assert len(places) == len(set(places)) == 8


def test_records_of_another_text_are_refused_and_left(tmp_path, noted):
    _run(tmp_path)
    before = (tmp_path / "records" / "trial.jsonl").read_bytes()
    other = Corpus("other", "made up", CORPUS.text[:-1] + "!")
    with pytest.raises(
        ValueError, match=f"trial.jsonl was measured on small .*{CORPUS.sha256}.*got other"
    ):
        run_experiment("trial", other, tmp_path / "records", tmp_path / "work", seeds=9)
    assert (tmp_path / "records" / "trial.jsonl").read_bytes() == before
    assert len(noted["learned"].calls) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"budget": "half"}, "budget must be quick or full, got 'half'"),
    ],
)
def test_bad_arguments_are_refused(tmp_path, noted, change, message):
    with pytest.raises(ValueError, match=message):
        _run(tmp_path, **change)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_experiment_is_named_with_the_known(tmp_path):
    with pytest.raises(ValueError, match=r"must be one of .*'counts'.*, got 'count'"):
        run_experiment("count", CORPUS, tmp_path, tmp_path)


def test_corrupt_records_stop_it_before_anything_is_run(tmp_path, noted):
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "trial.jsonl").write_text("{\n")
    with pytest.raises(ValueError, match=r"corrupt record in trial.jsonl, line 1"):
        _run(tmp_path)
    assert noted["learned"].calls == []


def test_a_run_that_another_process_is_at_is_refused(tmp_path, noted):
    _run(tmp_path)
    place = tmp_path / "work" / noted["learned"].calls[0][3].replace("seed0", "seed3")
    with locked(place), pytest.raises(BlockingIOError, match=f"{place} is in use"):
        _run(tmp_path, seeds=4)
    assert len(_run(tmp_path, seeds=4)) == 5


def test_a_trained_arm_is_the_protocol_evaluated_in_its_blocks(tmp_path, tiny):
    (record,) = _run(tmp_path, seeds=1)
    torch.manual_seed(0)
    model = CharLM(dataclasses.replace(TINY.model, vocab_size=CORPUS.vocab_size))
    result = train(model, CORPUS.train, TINY.train, seed=0, progress=False)
    score = evaluate(model_log_probs(model), CORPUS.val, block=6)
    assert record.metrics == {"val_nats": score.nats, "val_perplexity": math.exp(score.nats)}
    assert record.curve == [list(point) for point in result.curve]
    assert record.parameters == model.parameter_count()
    assert record.config["train"]["steps"] == 130
    assert record.config["block"] == 6
    assert not (tmp_path / "work" / "anything").exists()
    assert list((tmp_path / "work").iterdir()) == []


def test_a_seed_decides_the_initial_weights_too(tmp_path, tiny):
    first, second = _run(tmp_path, seeds=2)
    again, _ = _run(tmp_path / "again", seeds=2)
    assert first.metrics != second.metrics
    assert (first.metrics, first.curve) == (again.metrics, again.curve)


def test_an_interrupted_run_keeps_its_checkpoint_and_goes_on(tmp_path, tiny, monkeypatch):
    (expected,) = _run(tmp_path / "unbroken", seeds=1)
    step, seen = trix.lab.train._step, []

    def interrupted(*arguments):
        seen.append(arguments[-1])
        if len(seen) == 121:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(trix.lab.train, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, seeds=1)
    assert read_records(tmp_path / "records" / "trial.jsonl") == []
    (place,) = (tmp_path / "work").iterdir()
    assert (place / "checkpoint.json").exists()

    (record,) = _run(tmp_path, seeds=1)
    assert seen[121] == 100  # from the checkpoint, not from the beginning
    assert (record.metrics, record.curve) == (expected.metrics, expected.curve)
    assert list((tmp_path / "work").iterdir()) == []


def test_quick_is_a_few_steps(tmp_path, tiny):
    (record,) = _run(tmp_path, seeds=1, budget="quick")
    assert record.config["train"]["steps"] == QUICK_STEPS == record.curve[-1][0]


@pytest.mark.parametrize("smoothing", ["witten-bell", "add-one"])
def test_a_counted_arm_is_the_slow_table_cut_and_uncut(tmp_path, smoothing):
    corpus = Corpus("small", "made up", "abracadabra, " * 30 + "cadabra! " * 20 + "barbara " * 12)
    outcome = Counted(3, smoothing).run(corpus, 0, "full", tmp_path)
    slow = reference.witten_bell if smoothing == "witten-bell" else reference.add_one
    seen, val = corpus.train.tolist(), corpus.val.tolist()
    for name, block in (("", 64), ("_block256", 256), ("_uncut", len(val))):
        nats = [
            -math.log(slow(seen, val[(i - 1) // block * block : i], 3, corpus.vocab_size)[val[i]])
            for i in range(1, len(val))
        ]
        mean = sum(nats) / len(nats)
        assert outcome.metrics[f"val_nats{name}"] == pytest.approx(mean, abs=1e-12)
        assert outcome.metrics[f"val_perplexity{name}"] == pytest.approx(math.exp(mean))
    kinds = sum(len({tuple(seen[i : i + n]) for i in range(len(seen) - n + 1)}) for n in (1, 2, 3))
    assert outcome.parameters == kinds
    assert outcome.metrics["val_nats"] != outcome.metrics["val_nats_uncut"]
