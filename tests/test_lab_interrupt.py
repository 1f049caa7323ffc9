import os
import signal
import threading

import pytest
import torch

from tests.test_lab_train import CONFIG, _data, _model, _run, _same
from trix.lab.train import interrupt_later, train
from trix.models.storage import load_checkpoint


def _press():
    os.kill(os.getpid(), signal.SIGINT)


def _pressed(times, done, fault=False):
    with interrupt_later() as pressed:
        assert not pressed()
        for _ in range(times):
            _press()
        assert pressed()
        done.append(1 / (not fault))


def test_one_press_waits_and_is_raised_at_the_end():
    done = []
    with pytest.raises(KeyboardInterrupt):
        _pressed(1, done)
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_press_does_not_wait():
    done = []
    with pytest.raises(KeyboardInterrupt):
        _pressed(2, done)
    assert not done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_is_not_hidden_by_a_press():
    with pytest.raises(ZeroDivisionError):
        _pressed(1, [], fault=True)


def test_no_press_raises_nothing():
    with interrupt_later() as pressed:
        pass
    assert not pressed()


def test_other_threads_and_other_handlers_are_left_alone():
    found = []

    def run():
        with interrupt_later() as pressed:
            found.append((pressed(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [(False, signal.default_int_handler)]
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(True))
    try:
        with interrupt_later() as pressed:
            _press()
            assert not pressed()
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [True]


class Pressed:
    """Draws as the trainer would, and presses Ctrl-C within one of the steps."""

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


@pytest.mark.parametrize("at", [1, 2, 3, 7])
def test_training_saves_the_step_under_way_and_ends_in_the_same_bits(tmp_path, at):
    expected = train(whole := _model(), Pressed(0), CONFIG, 4, progress=False)
    with pytest.raises(KeyboardInterrupt):
        train(_model(), Pressed(at), CONFIG, 4, tmp_path, 3, progress=False)
    saved = load_checkpoint(tmp_path)
    assert saved is not None
    assert saved.values["step"] == at
    result = train(again := _model(), rest := Pressed(0), CONFIG, 4, tmp_path, 3, progress=False)
    assert rest.calls == CONFIG.steps - at
    assert _same(again, whole)
    assert result.curve == expected.curve


def test_two_presses_leave_the_last_checkpoint(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(_model(), Pressed(5, presses=2), CONFIG, 4, tmp_path, 3, progress=False)
    saved = load_checkpoint(tmp_path)
    assert saved is not None
    assert saved.values["step"] == 3


def test_an_interrupt_that_python_raises_itself_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    def broken(batch, length, sampler):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(_model(), broken, CONFIG, 4, tmp_path, 3, progress=False)
    assert load_checkpoint(tmp_path) is None


def test_without_a_folder_it_is_interrupted_as_well():
    seen = Pressed(2)
    with pytest.raises(KeyboardInterrupt):
        train(_model(), seen, CONFIG, 4, progress=False)
    assert seen.calls == 2
    _run()  # and the next run is not
