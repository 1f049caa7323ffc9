"""Arms about memories: what they count, and what is taken from them."""

import dataclasses
import re
from typing import Any

import pytest
import torch
from torch import nn

import trix
from tests.experiments.small import FEW
from trix.experiments import memory as memory_arms
from trix.experiments import recall as recall_arms
from trix.experiments.arm import Arm, Run, Training
from trix.experiments.memory import MEMORY, gain, slots_used, static_memory
from trix.experiments.recall import RECALL, TaskTraining, accuracy, judge_recall, state_bytes
from trix.lab.corpus import Corpus
from trix.lab.optimize import TrainConfig
from trix.lab.recipes import protocol
from trix.lab.tasks import NOTHING, Task, Varied
from trix.lab.train import train

TEXT = "to be or not to be, that is the question. " * 60
CORPUS = Corpus("small", "typed", TEXT)
BLOCK = 16


@pytest.fixture(autouse=True)
def small(monkeypatch):
    whole = protocol("seed")
    model = dataclasses.replace(whole.model, dim=12, layers=2, positions=BLOCK)
    train = dataclasses.replace(whole.train, steps=4, batch=2, context=BLOCK)
    tiny = dataclasses.replace(whole, model=model, train=train, block=BLOCK)
    monkeypatch.setitem(trix.lab.recipes.PROTOCOLS, "seed", tiny)


def _model(top_k=1) -> Any:
    torch.manual_seed(0)
    options = {"heads": 3, "slots": 5, "top_k": top_k}
    config = protocol("seed").with_model(
        vocab_size=CORPUS.vocab_size, mixer="static-memory", mixer_options=options
    )
    return trix.lab.CharLM(config).eval()


def test_slots_are_counted_as_by_a_loop():
    model = _model(top_k=2)
    rows = CORPUS.val[: len(CORPUS.val) // BLOCK * BLOCK].view(-1, BLOCK)
    read = [[set() for _ in range(3)] for _ in model.blocks]
    with torch.no_grad():
        x = model.embed(rows) + model.position.weight
        for block, heads in zip(model.blocks, read, strict=True):
            for text in block.mixer.addresses(block.mixer_norm(x)):
                for head, slots in zip(heads, text, strict=True):
                    head |= {int(m) for row in slots for m in row.nonzero()}
            x = block(x)[0]
    counts = [len(head) for heads in read for head in heads]
    found = slots_used(model, CORPUS.val, BLOCK)
    assert found["slots_used"] == pytest.approx(sum(counts) / len(counts))
    assert found["slots_used_least"] == min(counts)
    assert not any(b.mixer._forward_pre_hooks for b in model.blocks)


def _run(name, tmp_path) -> Run:
    recipe: Any = MEMORY["memory-seed"][name].recipe
    options = {"mixer_options": {"heads": 3, "slots": 5}}
    recipe = dataclasses.replace(recipe, changes=recipe.changes | options)
    return Run(CORPUS, 0, "full", tmp_path / name).make(recipe)


def test_a_static_memory_loses_nothing_with_its_past(tmp_path, monkeypatch):
    run = _run("static", tmp_path)
    whole, alone = (static_memory(run, past) for past in (True, False))
    assert whole == pytest.approx(alone, abs=1e-6)
    assert whole["val_nats"] == run.score().nats
    asked = []
    monkeypatch.setattr(memory_arms, "_alone", lambda model: asked.append(model))
    for past in (True, False):
        static_memory(run, past)
    assert asked == [run.model]
    assert MEMORY["memory-seed"]["static-no-past"].recipe == MEMORY["memory-seed"]["static"].recipe


def test_without_its_past_attention_would_lose(monkeypatch):
    torch.manual_seed(0)
    config = protocol("seed").with_model(vocab_size=CORPUS.vocab_size)
    model = trix.lab.CharLM(config).eval()
    rows = CORPUS.val[: 2 * BLOCK].view(2, BLOCK)
    with torch.no_grad():
        alone, whole = memory_arms._alone(model)(rows), trix.lab.model_log_probs(model)(rows)
    torch.testing.assert_close(alone[:, 0], whole[:, 0])
    assert (alone[:, 1:] - whole[:, 1:]).abs().amax(dim=-1).min() > 1e-4


@pytest.mark.parametrize(("name", "learned"), [("static", True), ("random-signatures", False)])
def test_only_signatures_that_are_to_learn_move(tmp_path, monkeypatch, name, learned):
    # one step at a high rate moves every number, and with it some cut
    fast = dataclasses.replace(protocol("seed").train, lr=0.5)
    quick = dataclasses.replace(protocol("seed"), train=fast)
    monkeypatch.setitem(trix.lab.recipes.PROTOCOLS, "seed", quick)
    run = _run(name, tmp_path)
    drawn, now = (
        torch.cat([m.rows() for m in memory_arms._memories(model)]).detach()
        for model in (run.recipe.build(CORPUS, 0), run.model)
    )
    assert torch.equal(now, drawn) is not learned


WITH = Training("seed", {"mixer_options": {"heads": 3}}, shared="part-attention")
WITHOUT = Training("seed", {"mixer": "none", "mixer_options": {}}, shared="part-nothing")


def test_a_gain_is_what_the_loss_falls_by_and_models_are_shared(tmp_path):
    run = Run(CORPUS, 0, "full", tmp_path / "one").make(WITH)
    found = gain(run, WITHOUT)
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    other = Run(CORPUS, 0, "full", tmp_path / "two").make(WITHOUT)
    scores = run.score(), other.score()
    assert scores[0].nats != scores[1].nats
    assert found == {
        "val_gain": scores[1].nats - scores[0].nats,
        "val_nats": scores[0].nats,
        "val_perplexity": scores[0].perplexity,
        "val_nats_without": scores[1].nats,
        "parameters_without": other.model.parameter_count(),
    }
    assert run.parameters == run.model.parameter_count() != other.parameters
    assert gain(other, WITH)["val_gain"] == -found["val_gain"]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")} == kept
    assert len(kept) == 2


def test_the_parts_are_compared_with_the_model_that_lacks_them():
    for name, arm in MEMORY["memory-parts"].items():
        (measure,) = arm.measures
        assert measure.keywords["without"] is arm.against  # pyright: ignore[reportFunctionMemberAccess]
        ours, theirs = (str(r and r.shared) for r in (arm.recipe, arm.against))
        if name.startswith("all-but-"):
            assert (ours, theirs) == ("part-all", f"part-no-{name.removeprefix('all-but-')}")


UNREAD = Corpus("small", "typed", "no arm about recall reads this. " * 20)
TASK = Task("mqar", 16, {"pairs": 2})
ROUTED = {"mixer": "routed-memory", "dim": 12, "mixer_options": {"heads": 3, "slots": 5}}


def arm(**changes) -> Arm:
    settings = {"model": {**ROUTED, "ffn": "none"}, "training": {"steps": 4, "batch": 3}}
    return Arm(TaskTraining(TASK, (13, 29), 8, **{**settings, **changes}), (judge_recall,))


def model(**changes) -> trix.lab.CharLM:
    torch.manual_seed(0)
    return trix.lab.CharLM(
        trix.lab.LMConfig(**{"vocab_size": 16, "positions": 0, **ROUTED, **changes})
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
    outcome = arm().run(UNREAD, 0, "full", tmp_path)
    names = {f"{name}_{n}" for name in ("accuracy", "state_bytes") for n in (13, 29)}
    assert set(outcome.metrics) == names
    again = arm().run(UNREAD, 0, "full", tmp_path / "again")
    other = arm().run(UNREAD, 1, "full", tmp_path / "other")
    assert again.curve == outcome.curve != other.curve
    assert again.metrics == outcome.metrics
    assert arm(training={"steps": 4000}).config(UNREAD, "quick")["train"]["steps"] == FEW


def test_texts_of_the_judgement_are_not_those_of_training(tmp_path, monkeypatch):
    seen: list[tuple[int, int, int]] = []

    def note(model, task, length, texts, seed):
        seen.append((length, texts, seed))
        return 0.5

    monkeypatch.setattr(recall_arms, "accuracy", note)
    for seed in (0, 1):
        arm().run(UNREAD, seed, "full", tmp_path / str(seed))
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
