from importlib import import_module

import pytest

import trix.experiments.arm
from tests.experiments.small import FEW, TINY
from trix.lab.recipes import PROTOCOLS


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    for name in ("tiny", "probe", "nano"):
        monkeypatch.setitem(PROTOCOLS, name, TINY)
    monkeypatch.setattr(trix.experiments.arm, "QUICK_STEPS", FEW)


@pytest.fixture
def steps(monkeypatch):
    module = import_module("trix.lab.train")  # the package has a function of that name
    step, taken = module._step, []

    def counted(*arguments):
        taken.append(arguments[-1])
        return step(*arguments)

    monkeypatch.setattr(module, "_step", counted)
    return taken
