"""Tasks of recall, whose answers a dictionary finds, and clusters, whose winners a tree finds."""

from typing import Any

import pytest
import torch

from trix.address.route import flat_route
from trix.address.tree import TreeRouter
from trix.lab import CharLM, LMConfig, TrainConfig, load_corpus, train
from trix.lab.tasks import (
    NOTHING,
    POWER,
    Task,
    Varied,
    induction,
    isotropic,
    mqar,
    overlapping_clusters,
    recall,
    selective_copying,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def solved_mqar(tokens, half):
    # a dictionary of what followed each key, in one pass
    known, answers = {}, []
    for at, token in enumerate(tokens):
        answers.append(known.get(token, NOTHING))
        if at and 0 < tokens[at - 1] < half <= token:
            known[tokens[at - 1]] = token
    return answers


@pytest.mark.parametrize(
    ("length", "pairs", "vocab"), [(64, 4, 256), (29, 7, 16), (13, 3, 9), (128, 8, 8192)]
)
def test_a_dictionary_answers_every_mqar_question(length, pairs, vocab):
    asked = mqar(13, length, pairs, vocab, generator())
    for tokens, targets in zip(asked.tokens.tolist(), asked.targets.tolist(), strict=True):
        assert len(tokens) == len(targets) == length
        keys, values = tokens[: 2 * pairs : 2], tokens[1 : 2 * pairs : 2]
        assert len(set(keys)) == len(set(values)) == pairs
        assert all(0 < key < vocab // 2 for key in keys)
        assert all(vocab // 2 <= value < vocab for value in values)
        assert sorted(token for token in tokens[2 * pairs :] if token) == sorted(keys)
        assert solved_mqar(tokens, vocab // 2) == targets
    asked = mqar(500, 13, 3, 9, generator())  # every key and every value is used
    assert asked.tokens[:, 0:6:2].unique().tolist() == [1, 2, 3]
    assert asked.tokens[:, 1:6:2].unique().tolist() == [4, 5, 6, 7, 8]


def test_the_first_mqar_question_comes_where_the_law_says():
    # of one question in a text, place r has the weight r^(POWER - 1)
    pairs, length, texts = 1, 12, 40_000
    asked = mqar(texts, length, pairs, 8, generator())
    place = (asked.targets != NOTHING).long().argmax(dim=1)
    share = torch.bincount(place, minlength=length)[2::2].double() / texts
    law = torch.tensor([(r + 1) ** (POWER - 1) for r in range(5)], dtype=torch.float64)
    torch.testing.assert_close(share, law / law.sum(), atol=0.01, rtol=0)


@pytest.mark.parametrize(("length", "vocab"), [(64, 16), (3, 2), (7, 5)])
def test_induction_asks_what_followed_the_special_token(length, vocab):
    asked = induction(50, length, vocab, generator())
    seen = set()
    for tokens, targets in zip(asked.tokens.tolist(), asked.targets.tolist(), strict=True):
        special = [at for at, token in enumerate(tokens) if token == vocab - 1]
        assert len(special) == 2
        assert special[1] == length - 1
        assert targets == [NOTHING] * (length - 1) + [tokens[special[0] + 1]]
        assert targets[-1] != vocab - 1
        seen.add(special[0])
    assert seen <= set(range(length - 2))
    assert len(seen) > min(length - 3, 20)


@pytest.mark.parametrize(("length", "kept", "vocab"), [(64, 8, 16), (10, 5, 3), (13, 5, 7)])
def test_selective_copying_asks_for_what_is_no_noise_in_order(length, kept, vocab):
    asked = selective_copying(50, length, kept, vocab, generator())
    for tokens, targets in zip(asked.tokens.tolist(), asked.targets.tolist(), strict=True):
        text, questions = tokens[: length - kept], tokens[length - kept :]
        wanted = [token for token in text if token != vocab - 2]
        assert len(wanted) == kept
        assert all(0 <= token < vocab - 2 for token in wanted)
        assert questions == [vocab - 1] * kept
        assert targets == [NOTHING] * (length - kept) + wanted
    places = (asked.tokens[:, : length - kept] != vocab - 2).any(dim=0)
    assert places.all()  # nowhere is it noise in every text


TREE = TreeRouter.hierarchical(4, 4)
TASKS = [
    Task("mqar", 256, {"pairs": 4}),
    Task("induction", 16),
    Task("selective-copying", 16, {"kept": 8}),
]


def test_a_seed_decides_the_texts_and_lengths_vary():
    for task in TASKS:
        first, again, other = (task(5, 37, generator(seed)) for seed in (1, 1, 2))
        assert torch.equal(first.tokens, again.tokens)
        assert torch.equal(first.targets, again.targets)
        assert not torch.equal(first.tokens, other.tokens)
    varied, draw = Varied(TASKS[0], 16), generator()
    lengths = [varied(2, 21, draw).tokens.shape[1] for _ in range(100)]
    assert set(lengths) == set(range(16, 22))
    # the smallest texts that fit
    assert mqar(2, 16, 4, 10, generator()).tokens.shape == (2, 16)
    assert induction(2, 3, 2, generator()).tokens.shape == (2, 3)
    assert selective_copying(2, 16, 8, 3, generator()).tokens.shape == (2, 16)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Varied(TASKS[0], 22)(2, 21, generator()), "got 21"),
        (lambda: mqar(2, 15, 4, 256, generator()), "got 15"),  # room for three questions
        (lambda: mqar(2, 64, 4, 8, generator()), "got 8"),  # three keys
        (lambda: mqar(0, 64, 4, 256, generator()), "got 0"),
        (lambda: mqar(2, 64, 4.0, 256, generator()), "pairs must be an integer"),  # pyright: ignore
        (lambda: induction(2, 2, 16, generator()), "length .* 3, got 2"),
        (lambda: induction(2, 64, 1, generator()), "vocab .* 2, got 1"),
        (lambda: selective_copying(2, 15, 8, 16, generator()), "length .* 16, got 15"),
        (lambda: selective_copying(2, 64, 8, 2, generator()), "vocab .* 3, got 2"),
        (lambda: Task("counting", 16), "got 'counting'"),
        (lambda: overlapping_clusters(0, 5, 3), "tiles must be at least 1, got 0"),
        (lambda: overlapping_clusters(5, 0, 3), "dim must be at least 1, got 0"),
        (lambda: isotropic(5, 5, 0), "tokens must be at least 1, got 0"),
        (lambda: recall(TREE, torch.zeros(0, 4), torch.eye(4)), "x must hold tokens"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(TypeError if "integer" in message else ValueError, match=message):
        call()


# at 64 tiles a beam of 4 sees most tiles, and would hide a bad tree
TREES = [
    TreeRouter.hierarchical(64, 256, cluster_size=16, beam=1),
    TreeRouter.fractal(64, 256, beam=1),
    TreeRouter.hierarchical(1024, 256),
    TreeRouter.fractal(1024, 256),
    pytest.param(TreeRouter.hierarchical(16384, 256), marks=pytest.mark.slow),
    pytest.param(TreeRouter.fractal(16384, 256), marks=pytest.mark.slow),
]


def _shuffled(points, sizes, weights=None):
    # in the place of balanced k-means
    draw, label, done = generator(), [], 0
    for row in sizes:
        part = torch.arange(done, done + len(row)).repeat_interleave(torch.tensor(row))
        label.append(part[torch.randperm(len(part), generator=draw)])
        done += len(row)
    return torch.cat(label)


@pytest.mark.parametrize("router", TREES, ids=str)
def test_trees_find_the_winner_and_random_trees_do_not(router, monkeypatch):
    data = overlapping_clusters(router.tiles, tokens=1024)
    router.rebuild(data.signatures)
    assert recall(router, data.tokens, data.signatures) >= 0.9
    monkeypatch.setattr("trix.address.tree.balanced_kmeans", _shuffled)
    router.rebuild(data.signatures)
    assert recall(router, data.tokens, data.signatures) < 0.5


@pytest.mark.parametrize("tiles", [64, 1024])
def test_the_winner_is_often_in_another_cluster(tiles):
    data = overlapping_clusters(tiles)
    won = flat_route(data.tokens, data.signatures).index[:, 0]
    other = data.tile_cluster[won] != data.token_cluster
    assert 0.2 < other.double().mean() < 0.6
    # and no token is a tile: its nearest signature is far from parallel to it
    assert torch.cosine_similarity(data.tokens, data.signatures[won], -1).max() < 0.95
    assert data.signatures.unique().tolist() == [-1, 0, 1]
    assert torch.bincount(data.tile_cluster).min() >= 1
    torch.manual_seed(tiles)  # drawn from a seed of their own alone
    assert all(torch.equal(a, b) for a, b in zip(overlapping_clusters(tiles), data, strict=True))
    assert not torch.equal(overlapping_clusters(tiles, seed=4).tokens, data.tokens)


def test_isotropic_data_is_harder_for_a_tree_and_awkward_sizes_fit():
    for tiles in (1, 5, 7, 13):
        for draw in (overlapping_clusters, isotropic):
            drawn = draw(tiles, 5, 3)
            assert (drawn[0].shape, drawn[1].shape) == ((tiles, 5), (3, 5))
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


@pytest.mark.parametrize("tiles", [1024, pytest.param(16384, marks=pytest.mark.slow)])
def test_a_tree_fitted_to_a_trained_layer_finds_its_winners(tiles):
    corpus = load_corpus("plays")
    torch.manual_seed(0)
    options = {"tiles": tiles, "top_k": 1, "tiles_per_cluster": None, "cells": None}
    model = CharLM(LMConfig(corpus.vocab_size, 64, 2, 32, ffn="lookup", ffn_options=options))
    recipe = TrainConfig(100, 8, 32, 3e-3, warmup=5, loss_weights={"load-balance": 0.1})
    before = model.routed_layers()[1].signatures.detach().clone()
    train(model, corpus.train, recipe, progress=False)
    signatures = model.routed_layers()[1].signatures.detach()
    assert not torch.equal(signatures, before)  # it has learned something

    @torch.no_grad()
    def inputs(text) -> Any:
        return model.routed(text[: 32 * 128].view(128, 32)).routes[1].token

    seen, fresh = inputs(corpus.train), inputs(corpus.val)
    for router in (TreeRouter.hierarchical(tiles, 64), TreeRouter.fractal(tiles, 64)):
        router.rebuild(signatures, seen)
        assert router.beam <= 4
        found = recall(router, fresh, signatures)
        assert found >= 0.9
        router.rebuild(signatures)  # blind to what the layer sees
        assert recall(router, fresh, signatures) < found - 0.2
