"""Arms about memories: what they count, and what is taken from them."""

import dataclasses
from typing import Any

import pytest
import torch

import trix
from trix.experiments import memory as memory_arms
from trix.experiments.arm import Run, Training
from trix.experiments.memory import MEMORY, gain, slots_used, static_memory
from trix.lab.corpus import Corpus
from trix.lab.recipes import protocol

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
