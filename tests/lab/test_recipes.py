import builtins
import tomllib
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trix.lab.corpus import Corpus
from trix.lab.fit import TrainRequest
from trix.lab.recipes import PROTOCOLS, check_parameters, choose, preset, protocol

HALF: Any = 0.5
CATS = Corpus("cats", "made up", "the cat sat on the mat")
CONSTANTS = Path(__file__).parents[2] / "book" / "constants.toml"


def _settings(name: str) -> dict:
    rules = protocol(name)
    heads = rules.model.mixer_options["heads"]
    return {**asdict(rules.model), **asdict(rules.train), "heads": heads, "block": rules.block}


SOURCES = """
seed: layers=4 dim=128 heads=4 positions=512 tied=False bias=True batch=32 context=64 steps=1000
seed: lr=0.0003 schedule='constant' warmup=0 dropout=0.1 block=64
nano: layers=4 dim=128 heads=4 context=64 batch=12 steps=2000 lr=0.001 schedule='cosine' warmup=100
nano: beta2=0.99 weight_decay=0.1 dropout=0.0 tied=True bias=False block=64
nano-gpu: layers=6 dim=384 heads=6 context=256 batch=64 steps=5000 dropout=0.2 block=256
"""


def test_the_protocols_are_what_their_sources_say():
    for line in SOURCES.strip().split("\n"):
        name, *expected = line.split()
        settings = _settings(name.removesuffix(":"))
        assert set(expected) <= {f"{key}={value!r}" for key, value in settings.items()}, line
    probe, nano = _settings("probe"), _settings("nano")
    assert {k for k in nano if probe[k] != nano[k]} == {"steps"}
    assert probe["steps"] == 600


def test_the_book_shows_the_sizes_that_the_code_uses():
    declared = tomllib.loads(CONSTANTS.read_text())
    names = {"width": "dim", "context": "context", "layers": "layers", "steps": "steps"}
    shown = [(p, k) for p in PROTOCOLS if p in declared for k in declared[p] if k in names]
    assert shown
    for name, key in shown:
        assert declared[name][key] == _settings(name)[names[key]], (name, key)


def test_a_parameter_that_papermill_was_given_and_no_chapter_has_is_refused(monkeypatch):
    run = ["", 'budget = "quick"', '# Parameters\nbudget = "full"\nseed = 1\n', "bugdet = 1"]
    shell = SimpleNamespace(user_ns={"In": run})
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    check_parameters("full", 1)
    run[2] += 'bugdet = "full"\n'
    with pytest.raises(ValueError, match=r"parameters must be among .*'text'.*, got \['bugdet'\]"):
        check_parameters("full", 1)
    run.pop(2)  # and each budget gets its own value
    check_parameters("full", 0)
    check_parameters("quick", 2**63 - 1)
    assert choose("quick", quick=3, full=7) == 3
    assert choose("full", quick=3, full=7) == 7


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: protocol("mega"), ValueError, r"one of .*'nano', .*, got 'mega'"),
        (lambda: preset("mega"), ValueError, r"one of .*'small', .*, got 'mega'"),
        (lambda: choose("fast", quick=1, full=2), ValueError, r"'full', 'quick'.*got 'fast'"),
        (lambda: check_parameters("fast", 0), ValueError, "budget must be one of"),
        (lambda: check_parameters("quick", -1), ValueError, "seed must be at least 0, got -1"),
        (lambda: check_parameters("quick", 2**63), ValueError, r"below 2\*\*63, got 9223372036"),
        (lambda: TrainRequest("tables", CATS, seed=2**63), ValueError, "seed must be below"),
        (lambda: check_parameters("quick", HALF), TypeError, "seed must be an integer, got 0.5"),
        (lambda: check_parameters("quick", True), TypeError, "seed must be an integer, got True"),
    ],
)
def test_what_there_is_not_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
