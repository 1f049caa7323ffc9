import math

import pytest
import torch

import trix
import trix.experiments.cost
import trix.lab.bench
from tests.test_lab_experiments import CORPUS
from trix.address.route import flat_route
from trix.address.tree import TreeRouter
from trix.experiments.cost import RoutingCost
from trix.lab.tasks import isotropic, overlapping_clusters, recall

# (tiles, tree): at 64 tiles a beam of 4 sees most tiles, and would hide a bad tree
TREES = {
    "64, two levels": (64, TreeRouter.hierarchical(64, 256, cluster_size=16, beam=1)),
    "64, three levels": (64, TreeRouter.fractal(64, 256, beam=1)),
    "1024, two levels": (1024, TreeRouter.hierarchical(1024, 256)),
    "1024, three levels": (1024, TreeRouter.fractal(1024, 256)),
    "16384, two levels": (16384, TreeRouter.hierarchical(16384, 256)),
    "16384, three levels": (16384, TreeRouter.fractal(16384, 256)),
}


def _shuffled(points, sizes, weights=None):
    """Split at random, in the place of balanced k-means."""
    generator = torch.Generator().manual_seed(0)
    label, done = [], 0
    for row in sizes:
        part = torch.arange(done, done + len(row)).repeat_interleave(torch.tensor(row))
        label.append(part[torch.randperm(len(part), generator=generator)])
        done += len(row)
    return torch.cat(label)


@pytest.mark.parametrize("name", TREES)
def test_trees_find_the_winner_and_random_trees_do_not(name, monkeypatch):
    tiles, router = TREES[name]
    tokens = 1024
    data = overlapping_clusters(tiles, tokens=tokens)
    router.rebuild(data.signatures)
    assert recall(router, data.tokens, data.signatures) >= 0.9
    monkeypatch.setattr("trix.address.tree.balanced_kmeans", _shuffled)
    router.rebuild(data.signatures)
    assert recall(router, data.tokens, data.signatures) < 0.5


@pytest.mark.parametrize("tiles", [64, 1024])
def test_the_winner_is_often_in_another_cluster(tiles):
    data = overlapping_clusters(tiles)
    won = data.tile_cluster[flat_route(data.tokens, data.signatures).index[:, 0]]
    assert 0.2 < (won != data.token_cluster).double().mean() < 0.6
    # and no token is a tile: its nearest signature is far from parallel to it
    cosine = torch.cosine_similarity(
        data.tokens[:, None, :], data.signatures[flat_route(data.tokens, data.signatures).index], -1
    )
    assert cosine.max() < 0.95
    assert data.signatures.unique().tolist() == [-1, 0, 1]
    assert torch.bincount(data.tile_cluster).min() >= 1


def test_clusters_are_drawn_from_the_seed_alone():
    torch.manual_seed(1)
    first = overlapping_clusters(50, 8, 20, seed=3)
    torch.manual_seed(2)
    for mine, theirs in zip(overlapping_clusters(50, 8, 20, seed=3), first, strict=True):
        assert torch.equal(mine, theirs)
    assert not torch.equal(overlapping_clusters(50, 8, 20, seed=4).tokens, first.tokens)


@pytest.mark.parametrize("draw", [overlapping_clusters, isotropic])
@pytest.mark.parametrize("tiles", [1, 5, 7, 13])
def test_awkward_sizes(draw, tiles):
    drawn = draw(tiles, 5, 3)
    assert drawn[0].shape == (tiles, 5)
    assert drawn[1].shape == (3, 5)
    for sizes in ((0, 5, 3), (5, 0, 3), (5, 5, 0)):
        with pytest.raises(ValueError, match="at least 1, got 0"):
            draw(*sizes)


def test_isotropic_data_is_harder_for_a_tree():
    found = []
    clustered = overlapping_clusters(256, tokens=1024)
    for signatures, x in (clustered[:2], isotropic(256, tokens=1024)):
        router = TreeRouter.hierarchical(256, 256, beam=2)
        router.rebuild(signatures)
        found.append(recall(router, x, signatures))
    assert found[0] > found[1] + 0.2


def test_recall_counts_the_winners_that_are_found():
    signatures = torch.eye(4)
    x = torch.tensor([[4.0, 3, 2, 1], [1, 2, 3, 4], [4, 1, 2, 3]])

    class Fixed(torch.nn.Module):
        def forward(self, x, signatures, top_k):
            route = flat_route(x, signatures, top_k)
            return route._replace(index=torch.tensor([[0, 2], [3, 2], [0, 1]])[:, :top_k])

    assert recall(Fixed(), x, signatures) == 1.0
    assert recall(Fixed(), x, signatures, top_k=2) == pytest.approx(4 / 6)
    with pytest.raises(ValueError, match=r"x must hold tokens, got \[0, 4\]"):
        recall(Fixed(), x[:0], signatures)


@pytest.mark.parametrize(
    ("router", "cost"), [("flat", 1.0), ("hierarchical", 0.5), ("fractal", None)]
)
def test_routing_cost_measures_every_size(router, cost, tmp_path, monkeypatch):
    monkeypatch.setattr(trix.experiments.cost, "QUICK_TILES", (64, 256, 1024))
    arm = RoutingCost(router)
    outcome = arm.run(CORPUS, 1, "quick", tmp_path)
    for tiles in (64, 256, 1024):
        assert outcome.metrics[f"seconds_{tiles}"] > 0
        found = outcome.metrics[f"recall_{tiles}"]
        assert found == 1.0 if router == "flat" else found > 0.85
    if cost is None:
        assert outcome.metrics["cost_exponent"] < 0.5
    else:
        assert outcome.metrics["cost_exponent"] == pytest.approx(cost)
        assert outcome.metrics["comparisons_64"] == (64 if router == "flat" else 40)
    assert math.isfinite(outcome.metrics["time_exponent"])
    assert arm.seeded
    config = arm.config(CORPUS, "quick")
    assert (config["router"], config["beam"]) == (router, 4)
    assert arm.config(CORPUS, "full")["tiles"] == (64, 256, 1024, 4096, 16384)


def test_the_seed_draws_the_clusters(tmp_path):
    arm = RoutingCost("fractal", beam=1)
    first, again, other = (arm.run(CORPUS, seed, "quick", tmp_path).metrics for seed in (0, 0, 1))
    assert first["recall_256"] == again["recall_256"] != other["recall_256"]
    assert first["cost_exponent"] == other["cost_exponent"]


def test_an_unknown_router_is_named():
    with pytest.raises(ValueError, match="got 'round'"):
        RoutingCost("round")


@pytest.mark.parametrize("tiles", [64, 1024, 16384])
def test_a_tree_fitted_to_a_trained_layer_finds_its_winners(tiles):
    corpus = trix.lab.load_corpus("plays")
    torch.manual_seed(0)
    options = {"tiles": tiles, "top_k": 1, "tiles_per_cluster": None, "cells": None}
    config = trix.lab.LMConfig(corpus.vocab_size, 64, 2, 32, ffn="lookup", ffn_options=options)
    model = trix.lab.CharLM(config)
    recipe = trix.lab.TrainConfig(
        steps=100, batch=8, context=32, lr=3e-3, warmup=5, loss_weights={"load-balance": 0.1}
    )
    before = model.routed_layers()[1].signatures.detach().clone()
    trix.lab.train(model, corpus.train, recipe, progress=False)
    signatures = model.routed_layers()[1].signatures.detach()
    assert not torch.equal(signatures, before)  # it has learned something

    def inputs(text):
        with torch.no_grad():
            token = model.routed(text[: 32 * 128].view(128, 32)).routes[1].token
        assert token is not None
        return token

    seen, fresh = inputs(corpus.train), inputs(corpus.val)
    for router in (TreeRouter.hierarchical(tiles, 64), TreeRouter.fractal(tiles, 64)):
        router.rebuild(signatures, seen)
        assert router.beam <= 4
        found = recall(router, fresh, signatures)
        assert found >= 0.9
        router.rebuild(signatures)  # blind to what the layer sees
        if tiles > 64:
            assert recall(router, fresh, signatures) < found - 0.2
