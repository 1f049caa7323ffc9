"""Arms about memories: what they count, and what is taken from them."""

import dataclasses
from typing import Any

import pytest
import torch

import trix
from trix.experiments import memory as memory_arms
from trix.experiments.arm import TrainedLM
from trix.experiments.memory import Gain, Static, slots_used
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


@pytest.mark.parametrize("top_k", [1, 2])
def test_slots_are_counted_as_by_a_loop(top_k):
    model = _model(top_k)
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


def test_a_static_memory_loses_nothing_with_its_past(tmp_path):
    options = {"heads": 3, "slots": 5}
    outcomes = [
        Static(past=past, options=options).run(CORPUS, 0, "full", tmp_path / str(past))
        for past in (True, False)
    ]
    losses = [outcome.metrics["val_nats"] for outcome in outcomes]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert outcomes[0].parameters == outcomes[1].parameters


def test_without_its_past_attention_would_lose(monkeypatch):
    torch.manual_seed(0)
    config = protocol("seed").with_model(vocab_size=CORPUS.vocab_size)
    model = trix.lab.CharLM(config).eval()
    rows = CORPUS.val[: 2 * BLOCK].view(2, BLOCK)
    with torch.no_grad():
        alone, whole = memory_arms._alone(model)(rows), trix.lab.model_log_probs(model)(rows)
    torch.testing.assert_close(alone[:, 0], whole[:, 0])
    assert (alone[:, 1:] - whole[:, 1:]).abs().amax(dim=-1).min() > 1e-4


@pytest.mark.parametrize("learned", [True, False])
def test_only_signatures_that_are_to_learn_move(tmp_path, monkeypatch, learned):
    # one step at a high rate moves every number, and with it some cut
    fast = dataclasses.replace(protocol("seed").train, lr=0.5)
    quick = dataclasses.replace(protocol("seed"), train=fast)
    monkeypatch.setitem(trix.lab.recipes.PROTOCOLS, "seed", quick)
    rows = []
    original = memory_arms.slots_used

    def look(model, *rest):
        rows.append(torch.cat([m.rows() for m in memory_arms._memories(model)]).detach())
        return original(model, *rest)

    monkeypatch.setattr(memory_arms, "slots_used", look)
    arm = Static(learned=learned, options={"heads": 3, "slots": 5})
    arm.run(CORPUS, 0, "full", tmp_path / "work")
    torch.manual_seed(0)
    fresh = trix.lab.CharLM(
        protocol("seed").with_model(vocab_size=CORPUS.vocab_size, **arm._arm().changes)
    )
    drawn = torch.cat([m.rows() for m in memory_arms._memories(fresh)]).detach()
    assert torch.equal(rows[0], drawn) is not learned


MODELS = {
    "attention": TrainedLM("seed", {"mixer_options": {"heads": 3}}),
    "nothing": TrainedLM("seed", {"mixer": "none", "mixer_options": {}}),
}


def test_a_gain_is_what_the_loss_falls_by(tmp_path):
    alone = {k: arm.run(CORPUS, 0, "full", tmp_path / k) for k, arm in MODELS.items()}
    losses = {k: outcome.metrics["val_nats"] for k, outcome in alone.items()}
    found = Gain("attention", "nothing", MODELS).run(CORPUS, 0, "full", tmp_path / "gain")
    assert losses["nothing"] != losses["attention"]
    assert found.metrics == pytest.approx(
        {
            "val_gain": losses["nothing"] - losses["attention"],
            "val_nats": losses["attention"],
            "val_perplexity": alone["attention"].metrics["val_perplexity"],
            "val_nats_without": losses["nothing"],
            "parameters_without": alone["nothing"].parameters,
        }
    )
    assert found.parameters == alone["attention"].parameters


def test_gains_share_their_models(tmp_path):
    gain = Gain("attention", "nothing", MODELS)
    first = gain.run(CORPUS, 0, "full", tmp_path / "one")
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    back = Gain("nothing", "attention", MODELS).run(CORPUS, 0, "full", tmp_path / "two")
    assert back.metrics["val_gain"] == -first.metrics["val_gain"]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")} == kept
    assert len(kept) == 2


def test_a_gain_of_an_unknown_model_is_refused_and_both_are_in_the_config():
    with pytest.raises(ValueError, match=r"one of \['attention', 'nothing'\], got 'gate'"):
        Gain("attention", "gate", MODELS)
    config = Gain("attention", "nothing", MODELS).config(CORPUS, "full")
    assert config == {
        "with": MODELS["attention"].config(CORPUS, "full"),
        "without": MODELS["nothing"].config(CORPUS, "full"),
    }
