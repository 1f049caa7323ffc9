"""What is done to a trained model before it is judged, and how routed models report themselves."""

from typing import Any

import pytest
import torch

import trix
from trix.experiments.arm import AFTER, TrainedLM, route_metrics
from trix.experiments.table import EXPERIMENTS
from trix.lab.corpus import Corpus
from trix.lab.recipes import PROTOCOLS, Protocol, protocol

CORPUS = Corpus(
    "small", "made up", "the cat sat on the mat; " * 30 + "a cat that sat on a hat. " * 9
)
TILED = {"ffn": "tiled", "ffn_options": {"tiles": 4, "hidden": 4, "top_k": 3}}
TINY = Protocol(
    trix.lab.LMConfig(dim=8, layers=2, positions=6, mixer_options={"heads": 2}),
    trix.lab.TrainConfig(steps=40, batch=2, context=5, warmup=3),
    block=6,
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)


def _model(**options):
    torch.manual_seed(0)
    model = trix.lab.CharLM(
        protocol("tiny").with_model(
            vocab_size=CORPUS.vocab_size,
            ffn="tiled",
            ffn_options={"tiles": 4, "hidden": 4, **options},
        )
    )
    return model.eval()


def test_shuffling_gives_every_tile_the_address_of_another():
    model, tokens = _model(), CORPUS.val[:60].view(10, 6)
    rows = [layer.signatures for layer in model.routed_layers()]
    before = model(tokens)
    AFTER["shuffle"](model, 3)
    for old, layer in zip(rows, model.routed_layers(), strict=True):
        order = layer.source.order  # pyright: ignore[reportAttributeAccessIssue]
        assert torch.equal(layer.signatures, old[order])
        assert (order != torch.arange(4)).all()
    assert not torch.allclose(model(tokens), before)


def test_hardening_reads_the_best_tile_alone():
    model, hard = _model(top_k=4), _model(top_k=1)
    tokens = CORPUS.val[:60].view(10, 6)
    assert not torch.allclose(model(tokens), hard(tokens))
    AFTER["harden"](model, 0)
    torch.testing.assert_close(model(tokens), hard(tokens))
    dense = trix.lab.CharLM(protocol("tiny").model)
    with pytest.raises(ValueError, match="tiled feed-forwards, got ffn='dense'"):
        AFTER["harden"](dense, 0)


def test_route_metrics_are_means_over_layers_of_what_the_observers_say():
    model, text = _model(top_k=2), CORPUS.val
    got = route_metrics(model, text, block=6)
    tokens = text[: len(text) // 6 * 6].view(-1, 6)
    routes = model.routed(tokens).routes
    shares = [trix.lab.usage(route, 4) for route in routes]
    entropy = sum(trix.lab.normalized_entropy(s) for s in shares) / 2
    told = sum(trix.lab.mutual_information(r, tokens, 4) for r in routes) / 2
    active = sum((s > 0).double().mean().item() for s in shares) / 2
    assert got["route_entropy"] == pytest.approx(entropy)
    assert got["route_information"] == pytest.approx(told)
    assert got["route_active"] == pytest.approx(active)
    assert route_metrics(trix.lab.CharLM(protocol("tiny").model), text, block=6) == {}


def test_an_arm_is_judged_before_and_after(tmp_path):
    arm = TrainedLM("tiny", TILED, after="harden")
    outcome = arm.run(CORPUS, 0, "full", tmp_path / "a")
    plain = TrainedLM("tiny", TILED).run(CORPUS, 0, "full", tmp_path / "b")
    assert outcome.metrics["val_nats_before"] == plain.metrics["val_nats"]
    assert outcome.metrics["val_nats"] != plain.metrics["val_nats"]
    assert outcome.metrics["val_nats"] == plain.metrics["val_nats_hard"]
    assert arm.config(CORPUS, "full")["after"] == "harden"
    assert "after" not in TrainedLM("tiny", TILED).config(CORPUS, "full")


def test_what_differs_in_training_is_trained_and_on_record(tmp_path):
    balanced = TrainedLM("tiny", TILED, {"loss_weights": {"load-balance": 1.0}})
    assert balanced.config(CORPUS, "full")["train"]["loss_weights"] == {"load-balance": 1.0}
    got = balanced.run(CORPUS, 0, "full", tmp_path / "a").curve
    assert got != TrainedLM("tiny", TILED).run(CORPUS, 0, "full", tmp_path / "b").curve
    annealed = TrainedLM("tiny", TILED, {"anneal": (1.0, 0.1)})
    assert annealed.config(CORPUS, "full")["train"]["anneal"] == (1.0, 0.1)
    # records made before there was annealing still stand for the same run
    assert "anneal" not in TrainedLM("tiny").config(CORPUS, "full")["train"]


def test_the_dense_arms_match_the_tiles_in_parameters_and_in_multiplications():
    sizes, reads = {}, {}
    for name in ("weights", "dense", "narrow-dense"):
        arm: Any = EXPERIMENTS["sources"][name]
        ffn: Any = trix.lab.CharLM(arm._model(CORPUS)).blocks[0].ffn
        reads[name] = sizes[name] = sum(p.numel() for p in ffn.parameters())
        if name == "weights":
            tile = ffn.bottleneck[0].numel() + ffn.mix[0].numel() + ffn.down[0].numel()
            reads[name] = tile + ffn.signatures.numel()
    assert sizes["dense"] == pytest.approx(sizes["weights"], rel=0.002)
    assert reads["narrow-dense"] == pytest.approx(reads["weights"], rel=0.02)
