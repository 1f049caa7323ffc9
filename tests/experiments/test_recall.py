"""Arms about recall: what is counted, on which texts, and that a run goes on as if never cut."""

import re
from typing import Any

import pytest
import torch
from torch import nn

import trix
from tests.experiments.small import FEW
from trix.experiments import recall as recall_arms
from trix.experiments.arm import Arm
from trix.experiments.recall import RECALL, TaskTraining, accuracy, judge_recall, state_bytes
from trix.lab.corpus import Corpus
from trix.lab.optimize import TrainConfig
from trix.lab.tasks import NOTHING, Task, Varied
from trix.lab.train import train

CORPUS = Corpus("small", "typed", "no arm about recall reads this. " * 20)
TASK = Task("mqar", 16, {"pairs": 2})
MEMORY = {"mixer": "routed-memory", "dim": 12, "mixer_options": {"heads": 3, "slots": 5}}


def arm(**changes) -> Arm:
    settings = {"model": {**MEMORY, "ffn": "none"}, "training": {"steps": 4, "batch": 3}}
    return Arm(TaskTraining(TASK, (13, 29), 8, **{**settings, **changes}), (judge_recall,))


def model(**changes) -> trix.lab.CharLM:
    torch.manual_seed(0)
    return trix.lab.CharLM(
        trix.lab.LMConfig(**{"vocab_size": 16, "positions": 0, **MEMORY, **changes})
    )


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(recall_arms, "JUDGED", 20)


class Dictionary(nn.Module):
    """Answers MQAR by a dictionary, but for the questions it is told to get wrong."""

    def __init__(self, wrong: int = 0) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))
        self.wrong = wrong

    def forward(self, tokens):
        assert not self.training
        logits = torch.zeros(*tokens.shape, 16)
        for row, text in enumerate(tokens.tolist()):
            known = {text[0]: text[1], text[2]: text[3]}
            for at in range(4, len(text)):
                if text[at]:
                    self.wrong -= 1
                    logits[row, at, known[text[at]] if self.wrong < 0 else 0] = 1.0
        return logits


def test_accuracy_is_the_share_of_questions_answered_right():
    assert accuracy(Dictionary(), TASK, 13, 10, 0) == 1.0  # pyright: ignore[reportArgumentType]
    found = accuracy(Dictionary(wrong=3), TASK, 13, 10, 0)  # pyright: ignore[reportArgumentType]
    assert found == pytest.approx(17 / 20)


def test_accuracy_leaves_the_model_in_its_mode():
    for training in (True, False):
        asked = model().train(training)
        accuracy(asked, TASK, 13, 3, 0)
        assert asked.training is training


def test_a_routed_state_stays_as_large_and_a_cache_grows_with_the_text():
    routed: Any = model(layers=2)
    parts = [part for block in routed.blocks for part in block.mixer.initial_state(1)]
    expected = 4 * sum(part.numel() for part in parts)
    assert state_bytes(routed, 13) == state_bytes(routed, 29) == expected
    # two layers keep a key and a value, each of twelve numbers, of every token
    attention = model(layers=2, mixer="attention", mixer_options={"heads": 3})
    grown = state_bytes(attention, 29) - state_bytes(attention, 13)
    assert grown == 4 * 2 * 2 * 12 * (29 - 13)


def test_an_arm_judges_every_length(tmp_path):
    outcome = arm().run(CORPUS, 0, "full", tmp_path)
    names = {f"{name}_{n}" for name in ("accuracy", "state_bytes") for n in (13, 29)}
    assert set(outcome.metrics) == names
    again = arm().run(CORPUS, 0, "full", tmp_path / "again")
    other = arm().run(CORPUS, 1, "full", tmp_path / "other")
    assert again.curve == outcome.curve != other.curve
    assert again.metrics == outcome.metrics
    assert arm(training={"steps": 4000}).config(CORPUS, "quick")["train"]["steps"] == FEW


def test_texts_of_the_judgement_are_not_those_of_training(tmp_path, monkeypatch):
    seen: list[tuple[int, int, int]] = []

    def note(model, task, length, texts, seed):
        seen.append((length, texts, seed))
        return 0.5

    monkeypatch.setattr(recall_arms, "accuracy", note)
    for seed in (0, 1):
        arm().run(CORPUS, seed, "full", tmp_path / str(seed))
    assert [length for length, _, _ in seen] == [13, 29, 13, 29]
    assert all(texts == recall_arms.JUDGED for _, texts, _ in seen)
    assert len({seed for _, _, seed in seen} | {0, 1}) == 4


def test_the_loss_is_that_of_the_questions_alone():
    still = model()  # and stays so, at a learning rate of zero
    result = train(still, TASK, TrainConfig(20, 3, 13, lr=0.0), seed=5, progress=False)
    generator = torch.Generator().manual_seed(5)
    tokens, targets = [TASK(3, 13, generator) for _ in range(20)][-1]
    with torch.no_grad():
        said = still(tokens).log_softmax(dim=-1)
    losses = [
        -float(said[row, at, targets[row, at]])
        for row in range(3)
        for at in range(13)
        if targets[row, at] != NOTHING
    ]
    assert result.curve == [(20, pytest.approx(sum(losses) / 6, rel=1e-5))]


# The experiments: all models can be built, and differ in their mixers alone

RECIPES: dict[str, Any] = {n: a.recipe for arms in RECALL.values() for n, a in arms.items()}


@pytest.mark.parametrize("name", RECIPES)
def test_an_arm_differs_from_attention_in_the_mixer_alone(name):
    task = re.split("-(?:attention|window|routed)", name)[0]
    recipe, control = RECIPES[name], RECIPES[f"{task}-attention"]
    rest = {"mixer": "attention", "mixer_options": {}, "positions": 0}
    assert {**recipe.model, **rest} == {**control.model, **rest}
    assert recipe.model["mixer_options"]["heads"] == control.model["mixer_options"]["heads"]
    for part in ("task", "lengths", "shortest", "training"):
        assert getattr(recipe, part) == getattr(control, part)
    # positions, where there are any, are enough for the longest text; the shortest has room, too
    assert recipe._model().positions in (0, 256)
    assert max(recipe.lengths) <= 256
    for length in (recipe.shortest, recipe.lengths[0]):
        asked = Varied(recipe.task, length)(1, length, torch.Generator().manual_seed(0))
    logits = trix.lab.CharLM(recipe._model())(asked.tokens)
    assert logits.shape == (*asked.tokens.shape, recipe.task.vocab)
