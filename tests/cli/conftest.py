"""A folder to call `trix` in, with a text, and presets small enough for a test."""

import dataclasses
import importlib
import itertools
import os
import shutil
import signal

import pytest
from typer.testing import CliRunner

from trix.cli import app
from trix.lab.optimize import TrainConfig
from trix.lab.recipes import PRESETS, Preset
from trix.models.charlm import LMConfig
from trix.models.lookup import LookupConfig

trainer = importlib.import_module("trix.lab.train")  # the name trix.lab.train is the function's

TEXT = "the cat sat on the mat; " * 30 + "a cat that sat on a hat. " * 5
TRAIN = TrainConfig(steps=12, batch=2, context=7, warmup=2)
NETWORK = LMConfig(
    dim=8,
    layers=2,
    positions=0,
    mixer="routed-memory",
    mixer_options={"heads": 2, "slots": 4},
    ffn="lookup",
    ffn_options={"tiles": 6, "tiles_per_cluster": None, "cells": 4, "top_k": 2},
    dropout=0.1,
)
DENSE = dataclasses.replace(NETWORK, ffn="dense", ffn_options={})
MODELS = {
    "tiny": LookupConfig(order=4, folds=2, hidden=4),
    "net": LookupConfig(order=3, folds=2, hidden=4, network=NETWORK),
    "dense": LookupConfig(order=3, folds=2, hidden=4, network=DENSE),
    "worded": LookupConfig(order=3, folds=2, hidden=4, network=NETWORK, words=True),
}


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def call():
    return lambda *arguments, **more: CliRunner().invoke(app, [str(a) for a in arguments], **more)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "cats.txt").write_text(TEXT)
    for name, config in MODELS.items():
        monkeypatch.setitem(PRESETS, name, Preset(config, TRAIN, "for a test"))
    return tmp_path


@pytest.fixture
def train(place, call):
    def trained(*options, preset="tiny"):
        return call("train", preset, "--corpus", "cats.txt", "--quiet", *options)

    return trained


@pytest.fixture
def model(place, train, tmp_path_factory):
    def copied(preset="tiny"):  # of a model that is trained once a session
        first = tmp_path_factory.getbasetemp() / f"trained-{preset}"
        if not first.exists():
            assert train("--out", first, preset=preset).exit_code == 0
        return shutil.copytree(first, place / "runs" / preset)

    return copied


@pytest.fixture
def press_at(monkeypatch):
    def press(step):  # Ctrl-C in this step of the training to come, the first being 1
        original, calls = trainer._step, itertools.count(1)

        def pressed(*arguments):
            if next(calls) == step:
                monkeypatch.setattr(trainer, "_step", original)
                os.kill(os.getpid(), signal.SIGINT)
            return original(*arguments)

        monkeypatch.setattr(trainer, "_step", pressed)

    return press
