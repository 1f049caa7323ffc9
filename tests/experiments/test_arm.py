"""Recipes, what is shared between arms, and how trained and counted models are judged."""

import math

import pytest
import torch

import trix
from tests import reference
from tests.experiments.small import BLOCK, CORPUS, FEW, TINY, saved
from trix.experiments.arm import AFTER, Arm, Run, Training, route_metrics, trained
from trix.experiments.counts import counted
from trix.files import locked
from trix.lab.corpus import Corpus
from trix.lab.recipes import protocol

TILED = {"ffn": "tiled", "ffn_options": {"tiles": 4, "hidden": 4, "top_k": 3}}


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


def test_a_trained_arm_is_the_protocol_evaluated_in_its_blocks(tmp_path):
    outcome = trained("tiny").run(CORPUS, 1, "full", tmp_path)
    torch.manual_seed(1)
    model = trix.lab.CharLM(TINY.with_model(vocab_size=CORPUS.vocab_size))
    result = trix.lab.train(model, CORPUS.train, TINY.train, seed=1, progress=False)
    nats = trix.lab.evaluate(trix.lab.model_log_probs(model), CORPUS.val, BLOCK).nats
    assert outcome.metrics == {"val_nats": nats, "val_perplexity": math.exp(nats)}
    assert outcome.curve == [list(point) for point in result.curve]
    assert outcome.parameters == model.parameter_count()
    assert (outcome.device, outcome.seconds > 0) == ("cpu", True)
    other = trained("tiny").run(CORPUS, 2, "full", tmp_path / "other")
    assert (other.metrics, other.curve) != (outcome.metrics, outcome.curve)


def test_the_configuration_is_all_that_decides_a_run():
    config = trained("tiny").config(CORPUS, "full")
    assert (config["protocol"], config["block"], config["train"]["steps"]) == ("tiny", BLOCK, 40)
    assert config["model"]["vocab_size"] == CORPUS.vocab_size
    assert trained("tiny").config(CORPUS, "quick")["train"]["steps"] == FEW
    short = trained("tiny", training={"steps": 2})
    assert short.config(CORPUS, "quick")["train"]["steps"] == 2
    # records made before there was annealing still stand for the same run
    assert not {"anneal", "muon"} & set(config["train"])
    annealed = trained("tiny", TILED, {"anneal": (1.0, 0.1)}, "harden").config(CORPUS, "full")
    assert (annealed["train"]["anneal"], annealed["after"]) == ((1.0, 0.1), "harden")
    assert "after" not in config
    recipe, other = Training("tiny"), Training("tiny", TILED)
    whole = Arm(recipe, (), lambda corpus, budget: {"budget": budget}, against=other)
    both = {"with": recipe.config(CORPUS, "quick"), "without": other.config(CORPUS, "quick")}
    assert whole.config(CORPUS, "quick") == {"budget": "quick", **both}


def test_what_differs_in_training_is_trained_and_the_start_is_before_it(tmp_path):
    balanced = trained("tiny", TILED, {"loss_weights": {"load-balance": 1.0}})
    got = balanced.run(CORPUS, 0, "quick", tmp_path / "a").curve
    assert got != trained("tiny", TILED).run(CORPUS, 0, "quick", tmp_path / "b").curve
    recipe = Training("tiny", {}, {"lr": 0.0}, start=lambda m: m.embed.weight.detach().zero_())
    run = Run(CORPUS, 0, "quick", tmp_path / "c").make(recipe)
    assert not run.model.embed.weight.any()
    assert not run.model.training


def test_an_arm_is_judged_before_and_after(tmp_path):
    arm = trained("tiny", TILED, after="harden")
    outcome = arm.run(CORPUS, 0, "full", tmp_path / "a")
    plain = trained("tiny", TILED).run(CORPUS, 0, "full", tmp_path / "b")
    assert outcome.metrics["val_nats_before"] == plain.metrics["val_nats"]
    assert outcome.metrics["val_nats"] != plain.metrics["val_nats"]
    assert outcome.metrics["val_nats"] == plain.metrics["val_nats_hard"]
    with pytest.raises(ValueError, match=r"after must be one of \['', 'harden', 'shuffle'\]"):
        trained("tiny", after="melt")


def test_what_is_done_after_training_swaps_all_addresses_or_reads_the_best_tile_alone():
    model, tokens = _model(), CORPUS.val[:60].view(10, BLOCK)
    rows, before = [layer.signatures for layer in model.routed_layers()], model(tokens)
    AFTER["shuffle"](model, 3)
    for old, layer in zip(rows, model.routed_layers(), strict=True):
        order = layer.source.order  # pyright: ignore[reportAttributeAccessIssue]
        assert torch.equal(layer.signatures, old[order])
        assert (order != torch.arange(4)).all()
    assert not torch.allclose(model(tokens), before)
    soft, hard = _model(top_k=4), _model(top_k=1)
    assert not torch.allclose(soft(tokens), hard(tokens))
    AFTER["harden"](soft, 0)
    torch.testing.assert_close(soft(tokens), hard(tokens))
    with pytest.raises(ValueError, match="tiled feed-forwards, got ffn='dense'"):
        AFTER["harden"](trix.lab.CharLM(protocol("tiny").model), 0)


def test_route_metrics_are_means_over_layers_of_what_the_observers_say():
    model, text = _model(top_k=2), CORPUS.val
    tokens = text[: len(text) // BLOCK * BLOCK].view(-1, BLOCK)
    routes = model.routed(tokens).routes
    shares = [trix.lab.usage(route, 4) for route in routes]
    entropy = sum(trix.lab.normalized_entropy(s) for s in shares) / 2
    told = sum(trix.lab.mutual_information(r, tokens, 4) for r in routes) / 2
    active = sum((s > 0).double().mean().item() for s in shares) / 2
    expected = {"route_entropy": entropy, "route_active": active, "route_information": told}
    assert route_metrics(model, text, BLOCK) == pytest.approx(expected)
    assert route_metrics(trix.lab.CharLM(protocol("tiny").model), text, BLOCK) == {}


# What several arms share


def test_a_shared_model_is_the_one_that_its_recipe_trains_and_is_trained_once(tmp_path, steps):
    options = ("probe", {"ffn": "hybrid-kan"}, {"lr": 0.01})
    own, shared = Training(*options), Training(*options, shared="both")
    Run(CORPUS, 3, "quick", tmp_path / "arm").make(own)
    expected = saved(tmp_path / "arm", own).state_dict()
    for number, count in enumerate((FEW, 0)):
        del steps[:]
        run = Run(CORPUS, 3, "quick", tmp_path / f"{number}").make(shared)
        assert len(steps) == count
        assert (run.recipe, run.parameters) == (shared, run.model.parameter_count())
        for name, value in run.model.state_dict().items():
            assert torch.equal(value, expected[name]), name
    run = Run(CORPUS, 3, "full", tmp_path / "0")
    beside = run.beside(shared)
    assert len(steps) == 40  # another budget, another folder
    assert (run.model, beside.seed, beside.budget) == (None, 3, "full")
    Run(CORPUS, 4, "quick", tmp_path / "0").make(shared)
    assert len(list(tmp_path.glob("both-*"))) == 3


def test_a_shared_model_is_trained_by_one_process_at_a_time(tmp_path, monkeypatch):
    tried = []

    def train(model, text, config, seed, folder, **options):
        tried.append(folder)
        with pytest.raises(BlockingIOError, match="in use"), locked(folder, wait=False):
            pass

    monkeypatch.setattr("trix.experiments.arm.train", train)
    Run(CORPUS, 0, "quick", tmp_path / "work").make(Training("tiny", shared="both"))
    (folder,) = tmp_path.glob("both-*")
    assert tried == [folder]
    with locked(folder, wait=False):
        pass


# Tables


@pytest.mark.parametrize("smoothing", ["witten-bell", "add-one"])
def test_a_counted_arm_is_the_slow_table_cut_and_uncut(tmp_path, smoothing):
    corpus = Corpus("small", "made up", "abracadabra, " * 30 + "cadabra! " * 20 + "barbara " * 12)
    arm = counted(3, smoothing)
    assert not arm.seeded
    outcome = arm.run(corpus, 0, "full", tmp_path)
    slow = reference.witten_bell if smoothing == "witten-bell" else reference.add_one
    seen, val = corpus.train.tolist(), corpus.val.tolist()
    for name, block in (("", 64), ("_block256", 256), ("_uncut", len(val))):
        nats = [
            -math.log(slow(seen, val[(i - 1) // block * block : i], 3, corpus.vocab_size)[val[i]])
            for i in range(1, len(val))
        ]
        mean = sum(nats) / len(nats)
        assert outcome.metrics[f"val_nats{name}"] == pytest.approx(mean, abs=1e-12)
        assert outcome.metrics[f"val_perplexity{name}"] == pytest.approx(math.exp(mean))
    kinds = sum(len({tuple(seen[i : i + n]) for i in range(len(seen) - n + 1)}) for n in (1, 2, 3))
    assert outcome.parameters == kinds
    assert outcome.metrics["val_nats"] != outcome.metrics["val_nats_uncut"]
