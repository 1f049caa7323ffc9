"""Claims against obvious loops: who read whom, and what was lost at what score."""

import math
from typing import Any

import pytest
import torch

import trix
from trix.surgery import ROUNDING, Claims, signatures_sha256

DIM, TILES, CLASSES = 7, 5, 4
LAYERS: dict[str, Any] = {
    "lookup": lambda: trix.SparseLookupFFN(DIM, TILES, None, None),
    "three": lambda: trix.SparseLookupFFN(DIM, TILES, None, None, top_k=3),
    "clusters": lambda: trix.SparseLookupFFN(DIM, TILES, 3, None, top_k=2, beam=1),
    "groups": lambda: trix.CodebookFFN(DIM, TILES, groups=2, top_k=2),
    "funnel": lambda: trix.FunnelFFN(DIM, TILES, 3, levels=3),
    "tiled": lambda: trix.TiledFFN(DIM, TILES, top_k=2, source="decoupled"),
}


def _layer(name="lookup") -> Any:
    torch.manual_seed(0)
    return LAYERS[name]()


def _data(*shape, seed=1, low=-1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, DIM, generator=generator)
    return x, torch.randint(low, CLASSES, shape, generator=generator)


def _by_hand(layer, batches):
    """Return reads and highest lost scores, `[tiles][classes]`, and tokens of each class."""
    rows = layer.signatures.detach()
    reads = [[0] * CLASSES for _ in rows]
    lost = [[-math.inf] * CLASSES for _ in rows]
    tokens = [0] * CLASSES
    for x, labels in batches:
        index = layer.routed(x).route.index.flatten(0, -2).tolist()
        flat = x.reshape(-1, DIM)
        for token, chosen, label in zip(flat, index, labels.flatten().tolist(), strict=True):
            if label < 0:
                continue
            tokens[label] += 1
            for tile, row in enumerate(rows):
                if tile in chosen:
                    reads[tile][label] += chosen.count(tile)
                else:
                    score = float(token.double() @ row.double())
                    lost[tile][label] = max(lost[tile][label], score)
    return reads, lost, tokens


@pytest.mark.parametrize("name", LAYERS)
def test_claims_equal_the_loop_over_several_calls_in_train_and_eval(name, monkeypatch):
    monkeypatch.setattr("trix.surgery.PART", 11)  # parts that do not fit evenly
    layer = _layer(name)
    claims, batches = Claims(layer), [_data(30), _data(3, 5, seed=2), _data(1, seed=3)]
    begin = {k: v.clone() for k, v in layer.state_dict().items()}
    for number, (x, labels) in enumerate(batches):
        layer.train(number != 1)
        claims.track_claims(layer.routed(x).route, labels, CLASSES)
    reads, lost, tokens = _by_hand(layer, batches)
    assert claims.num_classes == CLASSES
    assert claims.reads.tolist() == reads
    assert claims.tokens.tolist() == tokens
    assert sum(tokens) < 46  # some labels are below 0
    slack = claims.highest_lost.double() - torch.tensor(lost, dtype=torch.float64)
    slack = slack[claims.highest_lost.isfinite()]
    most = max(float(x.abs().sum(dim=-1).max()) for x, _ in batches)
    assert (slack > 0).all()  # raised, so that no other sum of a lost score is above
    assert slack.max() < 2 * DIM * ROUNDING * most
    assert claims.highest_lost.isfinite().tolist() == [
        [math.isfinite(value) for value in row] for row in lost
    ]
    for tile in range(len(reads)):
        for label in range(CLASSES):
            expected = reads[tile][label] / tokens[label]
            assert claims.get_claim_rate(tile, label) == expected
        total = sum(reads[tile])
        assert claims.get_tile_purity(tile) == (max(reads[tile]) / total if total else 0.0)
    assert all(torch.equal(begin[k], v) for k, v in layer.state_dict().items())


def test_rates_and_purity_of_a_plain_case():
    layer = _layer()
    for tile in range(TILES):  # tile t wants feature t and nothing else
        layer.insert_signature(tile, torch.eye(DIM)[tile])
    claims = Claims(layer)
    x = torch.eye(DIM)[[0, 0, 0, 1, 1, 2]]
    claims.track_claims(layer.route(x), torch.tensor([0, 0, 1, 1, 1, -1]), 3)
    assert [claims.get_claim_rate(0, c) for c in range(3)] == [1.0, 1 / 3, 0.0]
    assert [claims.get_claim_rate(1, c) for c in range(3)] == [0.0, 2 / 3, 0.0]
    assert [claims.get_tile_purity(t) for t in range(3)] == [2 / 3, 1.0, 0.0]
    claims.reset_claim_tracking()
    assert claims.num_classes == 0
    assert claims.signatures == set()
    claims.track_claims(layer.route(x), torch.tensor([5, 5, 5, 5, 5, 6]), 7)  # other classes now
    assert claims.get_claim_rate(0, 5) == 3 / 5
    assert claims.get_tile_purity(2) == 1.0


def test_tokens_that_are_not_finite_are_ignored():
    layer, (x, labels) = _layer("three"), _data(20, low=0)
    claims, clean = Claims(layer), Claims(layer)
    keep = torch.ones(20, dtype=torch.bool)
    keep[[3, 7]] = False
    clean.track_claims(layer.route(x[keep]), labels[keep], CLASSES)
    x[3, 1], x[7, 2] = float("nan"), float("inf")
    claims.track_claims(layer.route(x), labels, CLASSES)
    assert torch.equal(claims.reads, clean.reads)
    assert torch.equal(claims.tokens, clean.tokens)
    assert torch.equal(claims.highest_lost, clean.highest_lost)


def test_every_set_of_signatures_that_was_tracked_is_named():
    layer, (x, labels) = _layer(), _data(10)
    claims, first = Claims(layer), signatures_sha256(layer.signatures)
    claims.track_claims(layer.route(x), labels, CLASSES)
    claims.track_claims(layer.route(x), labels, CLASSES)
    assert claims.signatures == {first}
    layer.insert_signature(2, -layer.signatures[2])
    claims.track_claims(layer.route(x), labels, CLASSES)
    assert claims.signatures == {first, signatures_sha256(layer.signatures)}
    assert len(claims.signatures) == 2
    layer.undo_surgery()
    assert signatures_sha256(layer.signatures) == first
    rows = layer.signatures
    assert signatures_sha256(rows.double()) == first
    assert signatures_sha256(rows.view(DIM, TILES)) != first  # the same numbers in another shape


def test_bad_arguments_are_named_and_nothing_is_counted():
    layer, (x, labels) = _layer(), _data(6, low=0)
    route, claims = layer.route(x), Claims(layer)
    claims.track_claims(route, labels, CLASSES)
    kept = (claims.reads.clone(), claims.tokens.clone(), claims.highest_lost.clone())
    wide = torch.zeros(6, DIM + 1)
    bad: list[tuple[Any, Any, Any, type[Exception], str]] = [
        (route, labels[:5], CLASSES, ValueError, r"labels must be \[6\], one a token, got \[5\]"),
        (route, labels[:, None], CLASSES, ValueError, r"must be \[6\], .* got \[6, 1\]"),
        (route, labels.float(), CLASSES, TypeError, r"integers, got torch\.float32"),
        (route, labels > 0, CLASSES, TypeError, r"integers, got torch\.bool"),
        (route, labels * 0 + 4, CLASSES, IndexError, "labels must be below 4, got 4"),
        (route, labels, 5, ValueError, "expected 4 classes as before, got 5"),
        (route, labels, 0, ValueError, "num_classes must be at least 1, got 0"),
        (route, labels, 4.0, TypeError, r"num_classes must be an integer, got 4\.0"),
        (route._replace(token=None), labels, CLASSES, ValueError, r"its tokens .*7\], got None"),
        (route._replace(token=wide), labels, CLASSES, ValueError, r"7\], got \[6, 8\]"),
        (route._replace(index=route.index + 5), labels, CLASSES, ValueError, "tiles below 5, got"),
    ]
    for way, given, classes, kind, message in bad:
        with pytest.raises(kind, match=message):
            claims.track_claims(way, given, classes)
    fresh = Claims(layer)
    with pytest.raises(ValueError, match="num_classes must be at least 1, got -1"):
        fresh.track_claims(layer.route(x[:0]), labels[:0], -1)
    for tile in (-1, 5):
        with pytest.raises(IndexError, match=f"tile_idx must be in 0 … 4, got {tile}"):
            claims.get_claim_rate(tile, 0)
        with pytest.raises(IndexError, match=f"tile_idx must be in 0 … 4, got {tile}"):
            claims.get_tile_purity(tile)
    for label in (-1, 4):
        with pytest.raises(IndexError, match=f"target_class must be in 0 … 3, got {label}"):
            claims.get_claim_rate(0, label)
    with pytest.raises(TypeError, match="tile_idx must be an integer, got True"):
        claims.get_tile_purity(True)
    now = (claims.reads, claims.tokens, claims.highest_lost)
    assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))
