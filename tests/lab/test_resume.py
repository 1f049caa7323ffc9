"""Runs that are interrupted or killed at any moment go on and end in the same bits."""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.lab.test_train import CONFIG, _data, _model, _run, _same, trainer
from trix.lab.optimize import TrainConfig
from trix.lab.train import interrupt_later, train
from trix.models.storage import INDEX, load_checkpoint, save_checkpoint

LONG = dataclasses.replace(CONFIG, steps=45)


def test_another_runs_checkpoint_is_refused_and_left(tmp_path):
    _run(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for change, message in [
        ({"seed": 5}, "seed: 5, got 4"),
        ({"config": dataclasses.replace(CONFIG, lr=0.5)}, "train.lr: 0.5, got 0.01"),
        ({"model": _model(dropout=0.3)}, "model.dropout: 0.3, got 0.2"),
        ({"data": _data(200, seed=1)}, "data: '[0-9a-f]{64}', got"),
    ]:
        with pytest.raises(ValueError, match=f"{tmp_path.name} holds another run, .*{message}"):
            _run(tmp_path, **change)
    values = load_checkpoint(tmp_path).values  # pyright: ignore[reportOptionalMemberAccess]
    del values["run"]["train"]["muon"]  # as before there was that setting
    save_checkpoint(tmp_path / "older", {"x": torch.ones(1)}, values)
    with pytest.raises(ValueError, match=r"expected train\.muon: None, got .nothing."):
        _run(tmp_path / "older")
    save_checkpoint(tmp_path / "other", {"x": torch.ones(1)}, {"epoch": 3})
    with pytest.raises(ValueError, match="holds another run"):
        _run(tmp_path / "other")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before
    (tmp_path / INDEX).write_text("{")
    with pytest.raises(ValueError, match=f"corrupt checkpoint index .*{INDEX}"):
        _run(tmp_path)
    assert (tmp_path / INDEX).read_text() == "{"


def test_a_finished_run_is_not_run_again_whatever_json_makes_of_its_options(tmp_path, monkeypatch):
    def run():
        model = _model()
        object.__setattr__(model.config, "ffn_options", {"sizes": (1, 2)})
        return _run(tmp_path, model=model)

    expected, result = run()
    monkeypatch.setattr(trainer, "_step", lambda *_: pytest.fail("trained again"))
    model, again = run()
    assert _same(model, expected)
    assert again.curve == result.curve


def _press():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("presses", "fault", "error", "ended"),
    [
        (0, False, None, True),
        (1, False, KeyboardInterrupt, True),  # waits, and is raised at the end
        (2, False, KeyboardInterrupt, False),  # does not wait
        (1, True, ZeroDivisionError, False),  # an error is not hidden
    ],
)
def test_one_press_waits_and_a_second_does_not(presses, fault, error, ended):
    done = []
    with pytest.raises(error) if error else contextlib.nullcontext(), interrupt_later() as pressed:
        assert not pressed()
        for _ in range(presses):
            _press()
        assert pressed() == (presses > 0)
        done.append(1 / (not fault))
    assert bool(done) == ended
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_and_other_handlers_are_left_alone():
    found, heard = [], []

    def run():
        with interrupt_later() as pressed:
            found.append((pressed(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [(False, signal.default_int_handler)]
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(True))
    try:
        with interrupt_later() as pressed:
            _press()
            assert not pressed()
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [True]


class Pressed:
    # draws as the trainer would, and presses Ctrl-C within one of the steps
    def __init__(self, at, presses=1):
        self.calls, self.at, self.presses = 0, at, presses

    def __repr__(self):
        return "the same"

    def __call__(self, batch, length, sampler):
        self.calls += 1
        data = _data()
        first = torch.randint(len(data) - length, (batch,), generator=sampler)
        if self.calls == self.at:
            for _ in range(self.presses):
                _press()
        window = data[first[:, None] + torch.arange(length + 1)]
        return window[:, :-1], window[:, 1:]


def _interrupted(folder, draw) -> Any:
    with pytest.raises(KeyboardInterrupt):
        train(_model(), draw, CONFIG, 4, folder, 3, progress=False)
    return folder and load_checkpoint(folder)


@pytest.mark.parametrize("at", [1, 2, 3, 7])
def test_training_saves_the_step_under_way_and_ends_in_the_same_bits(tmp_path, at):
    expected = train(whole := _model(), Pressed(0), CONFIG, 4, progress=False)
    saved = _interrupted(tmp_path, Pressed(at))
    assert saved.values["step"] == at
    result = train(again := _model(), rest := Pressed(0), CONFIG, 4, tmp_path, 3, progress=False)
    assert rest.calls == CONFIG.steps - at
    assert 0 < saved.values["seconds"] <= result.seconds
    assert _same(again, whole)
    assert result.curve == expected.curve


def test_what_does_not_wait_leaves_the_last_checkpoint(tmp_path):
    def broken(batch, length, sampler):
        raise KeyboardInterrupt

    assert _interrupted(tmp_path / "raised", broken) is None
    assert _interrupted(tmp_path / "two", Pressed(5, presses=2)).values["step"] == 3
    seen = Pressed(2)
    _interrupted(None, seen)  # without a folder as well
    assert seen.calls == 2
    _run()  # and the next run is not interrupted


class Broken(BaseException):
    pass


@pytest.fixture(scope="module")
def unbroken():
    return _run()


@pytest.mark.parametrize("moment", range(2, 38, 3))
def test_a_run_that_breaks_off_at_a_moment_ends_in_the_same_bits(tmp_path, unbroken, moment):
    def happened(now):
        if now == moment:
            raise Broken

    with pytest.MonkeyPatch.context() as patch:
        _watch(happened, patch.setattr)
        with pytest.raises(Broken):
            _run(tmp_path)
    again, result = _run(tmp_path)
    assert _same(again, unbroken[0])
    assert result.curve == unbroken[1].curve


@pytest.mark.slow
def test_a_run_that_is_killed_and_resumed_ends_in_the_same_bits(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab.test_resume", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr


def main(folder: Path) -> None:
    # kills runs in children of this process, which has one thread: there forking is safe
    torch.set_num_threads(1)
    _run()  # what torch loads at its first step is then there for every child
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    unbroken, moment = _end(None, CONFIG), 1
    place = folder / "moment-1"
    while _fork(functools.partial(_run, place), killed_at=moment) == -signal.SIGKILL:
        assert _end(place, CONFIG) == unbroken, moment
        moment += 1
        place = folder / f"moment-{moment}"
    assert moment > 30
    kills, seconds = 0, 0.01  # and now from outside, at any time
    while _fork(lambda: _run(folder / "outside", LONG, save_every=1), seconds=seconds) < 0:
        kills, seconds = kills + 1, seconds * 1.3
    assert kills >= 1
    assert _end(folder / "outside", LONG) == _end(None, LONG)


def _end(folder: Path | None, config: TrainConfig) -> str:
    # a hash of weights and curve at the end of a run in a process of its own
    with tempfile.NamedTemporaryFile() as file:

        def finish():
            model, result = _run(folder, config)
            digest = hashlib.sha256(repr(result.curve).encode())
            for parameter in model.parameters():
                digest.update(parameter.detach().numpy().tobytes())
            Path(file.name).write_text(digest.hexdigest())

        assert _fork(finish) == 0
        return Path(file.name).read_text()


def _fork(run, killed_at: int = 0, seconds: float = 0.0) -> int:
    # in a child, killed at a moment of its own or after some seconds
    child = os.fork()
    if child == 0:
        try:
            if killed_at:
                _watch(lambda now: now == killed_at and os.kill(os.getpid(), signal.SIGKILL))
            run()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    if seconds:
        signal.sigtimedwait([signal.SIGCHLD], seconds)  # pyright: ignore[reportAttributeAccessIssue]
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _watch(happened, patch=setattr) -> None:
    # calls `happened(n)` before and after the n-th step, write, rename and removal of a file
    moments = itertools.count(1)

    def wrap(owner, name):
        original = getattr(owner, name)

        def wrapped(*arguments, **options):
            happened(next(moments))
            value = original(*arguments, **options)
            happened(next(moments))
            return value

        patch(owner, name, wrapped)

    wrap(trainer, "_step")
    for name in ("write_bytes", "write_text", "replace", "unlink"):
        wrap(Path, name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
