"""The runner: what is missing is run once, resumed where it was killed, shared by processes."""

import os
import signal
import sys
from importlib import import_module

import pytest
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from tests.experiments.small import CORPUS, TINY, noting
from trix.experiments.arm import Arm, trained
from trix.experiments.table import EXPERIMENTS
from trix.files import locked
from trix.lab.corpus import Corpus
from trix.lab.recipes import PROTOCOLS
from trix.ledger.records import read_records
from trix.ledger.run import MOST_JOBS, Planned, planned, run_experiment, run_missing

TRAIN = import_module("trix.lab.train")  # the package has a function of that name


@pytest.fixture
def calls(monkeypatch):
    calls = []
    arms = {"learned": noting(calls), "table": noting(calls, seeded=False)}
    monkeypatch.setitem(EXPERIMENTS, "trial", arms)
    return calls


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    monkeypatch.setitem(EXPERIMENTS, "trial", {"tiny": trained("tiny", {}, {"steps": 130})})


def _run(tmp_path, **changes):
    settings = {"seeds": 3, "jobs": 1, **changes}
    return run_experiment("trial", CORPUS, tmp_path / "records", tmp_path / "work", **settings)


def test_every_arm_and_seed_is_run_once(tmp_path, calls):
    records, diverged = _run(tmp_path)
    assert diverged == []
    runs = [("learned", 0), ("learned", 1), ("learned", 2), ("table", None)]
    assert [(r.arm, r.seed) for r in records] == runs
    assert [r.metrics["val_nats"] for r in records] == [2.0, 3.0, 4.0, 2.0]
    assert {(r.experiment, r.parameters, r.config["budget"]) for r in records} == {
        ("trial", 3, "full")
    }
    assert records[0].corpus == CORPUS.provenance()
    assert [call[1] for call in calls] == [0, 1, 2, 0]
    assert records == read_records(tmp_path / "records" / "trial.jsonl")
    assert list((tmp_path / "work").iterdir()) == []

    # what has a record is not repeated, and more seeds add to it
    assert _run(tmp_path).records == records
    assert len(calls) == 4
    more = _run(tmp_path, seeds=4).records
    assert [call[1] for call in calls[4:]] == [3]
    assert [(r.arm, r.seed) for r in more] == [*runs[:3], ("learned", 3), ("table", None)]
    assert _run(tmp_path, seeds=1).records == [records[0], records[3]]


def test_no_two_runs_share_a_work_folder(tmp_path, calls):
    _run(tmp_path)
    _run(tmp_path / "quick", budget="quick")
    run_missing(planned("other", EXPERIMENTS["trial"], 1), CORPUS, tmp_path, tmp_path, jobs=1)
    assert len({call[3] for call in calls}) == len(calls) == 10


def test_records_of_something_else_are_refused_and_left(tmp_path, calls):
    _run(tmp_path)
    path = tmp_path / "records" / "trial.jsonl"
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match=r"learned with seed 0 was run with .*full.*now be with .*quick.*remove"
    ):
        _run(tmp_path, budget="quick")
    other = Corpus("other", "made up", CORPUS.text[:-1] + "!")
    message = f"trial.jsonl was measured on small .*{CORPUS.sha256}.*got other"
    with pytest.raises(ValueError, match=message):
        run_experiment("trial", other, tmp_path / "records", tmp_path / "work", seeds=9)
    assert path.read_bytes() == before
    path.write_text("{\n")
    with pytest.raises(ValueError, match=r"corrupt record in trial.jsonl, line 1"):
        _run(tmp_path, seeds=9)
    assert len(calls) == 4


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"seeds": 0}, ValueError, "seeds must be at least 1, got 0"),
        ({"jobs": 0}, ValueError, "jobs must be at least 1, got 0"),
        ({"budget": "half"}, ValueError, "budget must be one of .*'half'"),
        ({"backend": "ray"}, ValueError, r"backend must be one of \['dask', 'loky'\], got 'ray'"),
        ({"backend": "dask"}, ModuleNotFoundError, r'pip install "\.\[cluster\]"'),
    ],
)
def test_bad_arguments_are_refused(tmp_path, calls, monkeypatch, change, error, message):
    monkeypatch.setitem(sys.modules, "dask", None)
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(error, match=message):
        _run(tmp_path, **change)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"experiment must be one of .*'counts'.*, got 'count'"):
        run_experiment("count", CORPUS, tmp_path, tmp_path)


def test_a_run_that_another_process_is_at_is_left_to_it(tmp_path, calls):
    _run(tmp_path, seeds=1)
    place = tmp_path / "work" / calls[0][3].replace("seed0", "seed1")
    message = "1 of the runs are in use by another process, the first is learned with seed 1"
    with locked(place), pytest.raises(BlockingIOError, match=message):
        _run(tmp_path)
    assert [call[1] for call in calls] == [0, 0, 2]  # all but that one
    assert [(r.arm, r.seed) for r in _run(tmp_path).records][1] == ("learned", 1)


def test_a_run_that_another_process_has_just_ended_is_not_repeated(tmp_path, calls):
    def both(run):
        if not calls:  # while the first arm runs, another process runs the second
            _run(tmp_path / "other", seeds=1)
            other = (tmp_path / "other" / "records" / "trial.jsonl").read_text()
            (tmp_path / "records").mkdir()
            (tmp_path / "records" / "trial.jsonl").write_text(other)
        return {"val_nats": 1.0}

    first = Planned("first", "slow", Arm(None, (both,)), 0)
    wanted = [first, *planned("trial", EXPERIMENTS["trial"], 1)]
    found = run_missing(wanted, CORPUS, tmp_path / "records", tmp_path / "work", "full", jobs=1)
    assert [r.arm for r in found.records] == ["slow", "learned", "table"]
    assert len(calls) == 2


def test_an_interrupted_run_goes_on_from_its_checkpoint(tmp_path, tiny, monkeypatch):
    (expected,) = _run(tmp_path / "unbroken", seeds=1).records
    step, seen = TRAIN._step, []

    def interrupted(run, *rest):
        seen.append(run.step)
        if len(seen) == 121:
            raise KeyboardInterrupt
        return step(run, *rest)

    monkeypatch.setattr(TRAIN, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, seeds=1)
    assert read_records(tmp_path / "records" / "trial.jsonl") == []
    (place,) = (tmp_path / "work").iterdir()
    assert (place / "checkpoint.json").exists()
    (record,) = _run(tmp_path, seeds=1).records
    assert seen[121] == 100  # from the checkpoint, not from the beginning
    assert (record.metrics, record.curve) == (expected.metrics, expected.curve)
    assert list((tmp_path / "work").iterdir()) == []


def test_one_that_diverges_keeps_no_other_from_running(tmp_path, monkeypatch):
    step, seen = TRAIN._step, []

    def diverging(model, draw, config, *rest):
        seen.append(config.lr)
        loss = step(model, draw, config, *rest)
        return loss * torch.nan if config.lr == 0.5 else loss

    monkeypatch.setattr(TRAIN, "_step", diverging)
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    arms = {
        name: trained("tiny", {}, {"steps": 3, "lr": lr}) for name, lr in (("a", 0.5), ("b", 0.1))
    }
    monkeypatch.setitem(EXPERIMENTS, "trial", arms)
    records, diverged = _run(tmp_path, seeds=2)
    assert [(r.arm, r.seed) for r in records] == [("b", 0), ("b", 1)]
    assert diverged == [f"a with seed {seed}: loss is nan at step 3" for seed in (0, 1)]
    del seen[:]
    assert _run(tmp_path, seeds=2) == (records, diverged)
    assert seen == [0.5] * 6  # it is tried again


# --- several at a time


def test_each_run_has_its_share_of_the_cores_and_a_timed_one_all(tmp_path, monkeypatch):
    asked, threads = [], []

    def parallel(n_jobs, **_):
        asked.append(n_jobs)
        return lambda calls: (function(*args, **kwargs) for function, args, kwargs in calls)

    def measure(run):
        threads.append((run.work.name[6:11], torch.get_num_threads()))
        return {"seconds": 1.0}

    monkeypatch.setattr("joblib.Parallel", parallel)
    monkeypatch.setattr("joblib.cpu_count", lambda: 6)
    arms = {"clock": Arm(None, (measure,), timed=True), "plain": Arm(None, (measure,))}
    monkeypatch.setitem(EXPERIMENTS, "trial", arms)
    before = torch.get_num_threads()
    try:
        for own, jobs, expected in ((5, 2, 3), (2, 2, 2), (5, None, 1)):
            torch.set_num_threads(own)
            del threads[:]
            found = _run(tmp_path / f"{own}-{jobs}", seeds=2, jobs=jobs)
            # what is timed runs last, for nobody beside it
            assert threads == [("plain", expected)] * 2 + [("clock", own)] * 2
            assert [r.threads for r in found.records] == [own, own, expected, expected]
            assert torch.get_num_threads() == own
        assert asked == [2, 2, 6]
        monkeypatch.setattr("joblib.Parallel", lambda **_: _terminated)
        with pytest.raises(ChildProcessError, match=r"killed one of 2 workers.*fewer --jobs"):
            _run(tmp_path / "killed", jobs=2)
        monkeypatch.setattr(
            "joblib.Parallel", lambda n_jobs, **_: lambda _: asked.append(n_jobs) or ()
        )
        monkeypatch.setattr("joblib.cpu_count", lambda: 64)
        _run(tmp_path / "many", jobs=None)
        assert asked[-1] == MOST_JOBS
    finally:
        torch.set_num_threads(before)


def _terminated(calls):
    raise TerminatedWorkerError("killed")


@pytest.mark.slow
def test_processes_find_what_one_finds(tmp_path, monkeypatch):
    # workers do not know protocols that are made up
    text = Corpus("longer", "made up", CORPUS.text * 2)
    arms = {f"{n}": trained("probe", {"dim": 8, "layers": n}, {"steps": 2}) for n in (1, 2)}
    monkeypatch.setitem(EXPERIMENTS, "trial", arms)
    found = [
        run_experiment("trial", text, tmp_path / f"{jobs}", tmp_path / "work", 1, "full", jobs)
        for jobs in (1, 2)
    ]
    alone, together = ([r.metrics for r in one.records] for one in found)
    assert together == [{k: pytest.approx(v, rel=1e-6) for k, v in one.items()} for one in alone]


def _killed(run):
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


@pytest.mark.slow
def test_a_worker_that_the_system_kills_is_said_in_words(tmp_path, monkeypatch):
    arms = {name: Arm(None, (_killed,)) for name in "ab"}
    monkeypatch.setitem(EXPERIMENTS, "trial", arms)
    with pytest.raises(ChildProcessError, match=r"the system killed one of 2 workers.*--jobs"):
        _run(tmp_path, seeds=1, jobs=2)
    assert read_records(tmp_path / "records" / "trial.jsonl") == []
