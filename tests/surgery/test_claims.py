"""Claims against obvious loops: how many tokens of a class each tile got, and what it lost."""

import math

import pytest
import torch

from tests.surgery.layers import DIM, LAYERS, TILES, made, same, state, tokens
from trix.surgery import ROUNDING, Claims, signatures_sha256

CLASSES = 4


def _data(*shape, seed=1, low=-1):
    generator = torch.Generator().manual_seed(seed)
    return tokens(*shape, seed=seed), torch.randint(low, CLASSES, shape, generator=generator)


def _by_hand(layer, batches):
    rows = layer.signatures.detach()
    reads = [[0] * CLASSES for _ in rows]
    lost = [[-math.inf] * CLASSES for _ in rows]
    count = [0] * CLASSES
    for x, labels in batches:
        index = layer.routed(x).route.index.flatten(0, -2).tolist()
        flat = x.reshape(-1, DIM)
        for token, chosen, label in zip(flat, index, labels.flatten().tolist(), strict=True):
            if label < 0:
                continue
            count[label] += 1
            for tile, row in enumerate(rows):
                if tile in chosen:
                    reads[tile][label] += chosen.count(tile)
                else:
                    score = float(token.double() @ row.double())
                    lost[tile][label] = max(lost[tile][label], score)
    return reads, torch.tensor(lost, dtype=torch.float64), count


@pytest.mark.parametrize("name", LAYERS)
def test_claims_equal_the_loop_over_several_calls_in_train_and_eval(name, monkeypatch):
    monkeypatch.setattr("trix.surgery.PART", 11)  # parts that do not fit evenly
    layer = made(name)
    claims, batches = Claims(layer), [_data(30), _data(3, 5, seed=2), _data(1, seed=3)]
    before = state(layer)
    for number, (x, labels) in enumerate(batches):
        layer.train(number != 1)
        claims.track_claims(layer.routed(x).route, labels, CLASSES)
    reads, lost, count = _by_hand(layer, batches)
    assert claims.num_classes == CLASSES
    assert claims.reads.tolist() == reads
    assert claims.tokens.tolist() == count
    assert sum(count) < 46  # some labels are below 0
    assert torch.equal(claims.highest_lost.isfinite(), lost.isfinite())
    slack = (claims.highest_lost.double() - lost)[lost.isfinite()]
    most = max(float(x.abs().sum(dim=-1).max()) for x, _ in batches)
    assert (slack > 0).all()  # raised, so that no other sum of a lost score is above
    assert slack.max() < 2 * DIM * ROUNDING * most
    for tile, row in enumerate(reads):
        rates = [claims.get_claim_rate(tile, label) for label in range(CLASSES)]
        assert rates == [n / of for n, of in zip(row, count, strict=True)]
        assert claims.get_tile_purity(tile) == (max(row) / sum(row) if any(row) else 0.0)
    assert same(state(layer), before)


def test_after_a_reset_there_may_be_other_classes():
    layer = made()
    for tile in range(TILES):  # tile t wants feature t and nothing else
        layer.insert_signature(tile, torch.eye(DIM)[tile])
    claims, route = Claims(layer), layer.route(torch.eye(DIM)[[0, 0, 0, 1, 1, 2]])
    claims.track_claims(route, torch.tensor([0, 0, 1, 1, 1, -1]), 3)
    assert [claims.get_tile_purity(t) for t in range(3)] == [2 / 3, 1.0, 0.0]
    claims.reset_claim_tracking()
    assert (claims.num_classes, claims.signatures) == (0, set())
    claims.track_claims(route, torch.tensor([5, 5, 5, 5, 5, 6]), 7)
    assert (claims.get_claim_rate(0, 5), claims.get_tile_purity(2)) == (3 / 5, 1.0)


def test_tokens_that_are_not_finite_are_ignored():
    layer, (x, labels) = made("three"), _data(20, low=0)
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
    layer, (x, labels) = made(), _data(10)
    claims, first = Claims(layer), signatures_sha256(layer.signatures)
    claims.track_claims(layer.route(x), labels, CLASSES)
    claims.track_claims(layer.route(x), labels, CLASSES)
    assert claims.signatures == {first}
    layer.insert_signature(2, -layer.signatures[2])
    claims.track_claims(layer.route(x), labels, CLASSES)
    assert claims.signatures == {first, signatures_sha256(layer.signatures)}
    layer.undo_surgery()
    rows = layer.signatures
    assert signatures_sha256(rows) == signatures_sha256(rows.double()) == first
    assert signatures_sha256(rows.view(DIM, TILES)) != first  # the same numbers in another shape


@pytest.fixture(scope="module")
def tracked():
    layer, (x, labels) = made(), _data(6, low=0)
    claims = Claims(layer)
    claims.track_claims(layer.route(x), labels, CLASSES)
    return layer.route(x), labels, claims


REFUSED = [
    (lambda r, y, c: c.track_claims(r, y[:5], 4), ValueError, r"labels .* \[6\], got \[5\]"),
    (lambda r, y, c: c.track_claims(r, y[:, None], 4), ValueError, r"\[6\], got \[6, 1\]"),
    (lambda r, y, c: c.track_claims(r, y.float(), 4), TypeError, r"integers, got torch\.float32"),
    (lambda r, y, c: c.track_claims(r, y > 0, 4), TypeError, r"integers, got torch\.bool"),
    (lambda r, y, c: c.track_claims(r, y * 0 + 4, 4), IndexError, "labels must be in 0 … 3, got"),
    (lambda r, y, c: c.track_claims(r, y, 5), ValueError, "expected 4 classes as before, got 5"),
    (lambda r, y, c: c.track_claims(r, y, 0), ValueError, "num_classes must be at least 1, got 0"),
    (lambda r, y, c: c.track_claims(r, y, 4.0), TypeError, r"must be an integer, got 4\.0"),
    (lambda r, y, c: c.track_claims(r._replace(token=None), y, 4), ValueError, "7.*, got None"),
    (
        lambda r, y, c: c.track_claims(r._replace(token=torch.zeros(6, 8)), y, 4),
        ValueError,
        r"7\], got \[6, 8\]",
    ),
    (
        lambda r, y, c: c.track_claims(r._replace(index=r.index + 5), y, 4),
        ValueError,
        "route.index must be in 0 … 4, got",
    ),
    (lambda r, y, c: c.get_claim_rate(-1, 0), IndexError, "tile_idx must be in 0 … 4, got -1"),
    (lambda r, y, c: c.get_claim_rate(5, 0), IndexError, "tile_idx must be in 0 … 4, got 5"),
    (lambda r, y, c: c.get_tile_purity(5), IndexError, "tile_idx must be in 0 … 4, got 5"),
    (lambda r, y, c: c.get_tile_purity(True), TypeError, "tile_idx must be an integer, got True"),
    (lambda r, y, c: c.get_claim_rate(0, -1), IndexError, "target_class must be in 0 … 3, got -1"),
    (lambda r, y, c: c.get_claim_rate(0, 4), IndexError, "target_class must be in 0 … 3, got 4"),
]


@pytest.mark.parametrize(("call", "error", "match"), REFUSED)
def test_bad_arguments_are_named_and_nothing_is_counted(call, error, match, tracked):
    claims = tracked[-1]
    before = [x.clone() for x in (claims.reads, claims.tokens, claims.highest_lost)]
    with pytest.raises(error, match=match):
        call(*tracked)
    after = (claims.reads, claims.tokens, claims.highest_lost)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
