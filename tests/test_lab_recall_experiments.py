"""The experiments about recall: all models can be built, and differ in their mixers alone."""

import re
from typing import Any

import pytest
import torch

import trix
from trix.experiments.recall import RECALL
from trix.lab.tasks import Varied

ARMS: dict[str, Any] = {name: arm for arms in RECALL.values() for name, arm in arms.items()}


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_can_be_built_and_asked(name):
    arm = ARMS[name]
    model = trix.lab.CharLM(arm._model())
    for length in arm.lengths:
        asked = Varied(arm.task, arm.shortest)(1, length, torch.Generator().manual_seed(0))
        assert model(asked.tokens).shape == (*asked.tokens.shape, arm.task.vocab)
        arm.task(1, arm.shortest, torch.Generator())  # the shortest text has room, too


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_differs_from_attention_in_the_mixer_alone(name):
    task = re.split("-(?:attention|window|routed)", name)[0]
    arm, control = ARMS[name], ARMS[f"{task}-attention"]
    rest = {"mixer": "attention", "mixer_options": {}, "positions": 0}
    assert {**arm.model, **rest} == {**control.model, **rest}
    assert arm.model["mixer_options"]["heads"] == control.model["mixer_options"]["heads"]
    ours = (arm.task, arm.lengths, arm.shortest, arm.training)
    assert ours == (control.task, control.lengths, control.shortest, control.training)
    # positions, where there are any, are enough for the longest text
    assert arm._model().positions in (0, 256)
    assert max(arm.lengths) <= 256
