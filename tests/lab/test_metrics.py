"""What routes and states tell of labels, and what few directions hold: closed forms, slow loops."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from trix.address.route import Route
from trix.lab import (
    explained_variance,
    information,
    mutual_information,
    normalized_entropy,
    purity,
    usage,
)


def _route(index):
    index = torch.as_tensor(index)
    return Route(index, torch.ones(index.shape), torch.ones(index.shape), index.unsqueeze(-1))


def _draw(high, size, seed=0):
    return torch.randint(high, (size,), generator=torch.Generator().manual_seed(seed))


def _entropy(items):
    n = len(items)
    return -sum(c / n * math.log(c / n) for c in Counter(items).values())


def test_usage_counts_every_read_and_entropy_has_its_closed_forms():
    route = _route([[[0, 2], [2, 3]], [[2, 0], [2, 3]]])
    assert usage(route, 5).tolist() == [2 / 8, 0, 4 / 8, 2 / 8, 0]
    for tiles in (2, 13):
        even = torch.full((tiles,), 1 / tiles, dtype=torch.float64)
        assert normalized_entropy(even) == pytest.approx(1.0, abs=1e-14)
        assert normalized_entropy(torch.eye(tiles)[1]) == 0.0
    p = torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=torch.float64)
    assert normalized_entropy(p) == pytest.approx(1.5 / 2)
    assert normalized_entropy(torch.ones(1)) == 0.0


def test_routes_tell_of_labels_what_their_tables_say():
    index = [[t] for t in range(3) for _ in range(5)]
    nats = mutual_information(_route(index), torch.arange(5).repeat(3), 7)  # independent
    assert nats == pytest.approx(0.0, abs=1e-14)
    assert nats >= 0
    kinds = [0] * 1 + [1] * 2 + [4] * 5
    # a second, worse tile must not count
    route = _route([[k, 0] for k in kinds])
    for names in ((0, 1, 2, 3, 4), (3, 0, 2, 4, 1)):
        labels = torch.tensor(names)[kinds]
        assert mutual_information(route, labels, 5) == pytest.approx(_entropy(kinds))
    # tile 0 sees labels 0,0,0,1; tile 1 sees 1,1,1,0
    route, labels = _route([[0]] * 4 + [[1]] * 4), torch.tensor([0, 0, 0, 1, 1, 1, 1, 0])
    expected = math.log(2) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    assert mutual_information(route, labels, 2) == pytest.approx(expected)
    # tile 0 sees labels 0,0,0,1; tile 1 sees 1,2; the second place must not count
    route = _route([[0, 1], [0, 1], [0, 1], [0, 1], [1, 0], [1, 0]])
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    assert purity(route, labels, 3) == pytest.approx(4 / 6)
    assert purity(_route([[0]] * 6), labels, 1) == pytest.approx(3 / 6)


def _slow(state, label):
    x, y = state.tolist(), label.tolist()
    pairs, n = list(zip(x, y, strict=True)), len(x)
    kinds_x, kinds_y, shares = Counter(x), Counter(y), Counter(pairs)
    plug_in = sum(
        c / n * math.log(c * n / (kinds_x[a] * kinds_y[b])) for (a, b), c in shares.items()
    )
    # Miller and Madow
    corrected = [_entropy(part) + (len(set(part)) - 1) / (2 * n) for part in (x, y, pairs)]
    return plug_in, corrected[0] + corrected[1] - corrected[2]


@pytest.mark.parametrize(("n", "states", "labels"), [(1, 5, 3), (13, 7, 5), (997, 13, 7)])
def test_information_equals_a_slow_count_whatever_the_names(n, states, labels):
    state, noise = _draw(states, n), _draw(labels, n, 1)
    label = torch.where(noise < 2, state % labels, noise)
    got = information(state, label)
    assert got[:2] == pytest.approx(_slow(state, label), abs=1e-12)
    assert got.states == len(set(state.tolist()))
    assert information(1_000_003 * state - 17, label) == got
    # numbers below zero, and far apart, must not fall together
    renamed = information(state, torch.tensor([-1, 10**12, -7, 3, 0, 8, 10**9])[label])
    assert renamed[:2] == pytest.approx(got[:2], abs=1e-12)


def test_independent_states_tell_nothing_once_corrected():
    # every pair of 5 states and 3 labels, 4 times: exactly independent
    even = information(torch.arange(5).repeat_interleave(12), torch.arange(3).repeat(20))
    assert even.plug_in == pytest.approx(0.0, abs=1e-12)
    assert even.corrected == pytest.approx(-8 / 120)  # 4 + 2 − 14 places too many
    # at random: the plug-in figure is near its bias, (kinds − 1)(labels − 1) / 2n
    for seed in range(3):
        drawn = information(_draw(40, 40_000, 2 * seed), _draw(20, 40_000, 2 * seed + 1))
        assert drawn.plug_in == pytest.approx(39 * 19 / 80_000, rel=0.15)
        assert abs(drawn.corrected) < 0.002
        assert abs(drawn.shuffled) < 0.002


def test_shuffled_labels_leave_the_bias_and_no_more():
    state = _draw(13, 2000)
    label = state % 5
    before = torch.get_rng_state()
    got = information(state, label)
    assert torch.equal(torch.get_rng_state(), before)
    assert got.plug_in == pytest.approx(_entropy(label.tolist()))
    assert abs(got.shuffled) < 0.02
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    assert got.shuffled == pytest.approx(_slow(state, label[order])[1], abs=1e-12)
    other = information(state, label, seed=1)
    assert other[:2] == got[:2]
    assert other.shuffled != got.shuffled


def _pca(tokens, group, dims):
    kept = total = 0.0
    for tile in set(group.tolist()):
        part = tokens.numpy()[group.numpy() == tile].astype(np.float64)
        part = part - part.mean(axis=0)
        values = np.sort(np.linalg.eigvalsh(part.T @ part))[::-1]
        kept, total = kept + values[:dims].sum(), total + values.sum()
    return pytest.approx(kept / total, abs=1e-9)


@pytest.mark.parametrize(
    ("dims", "dtype"),
    [(1, torch.float32), (5, torch.float64), (13, torch.float32), (20, torch.float64)],
)
def test_explained_variance_equals_components_of_each_group(dims, dtype):
    generator, scale = torch.Generator().manual_seed(0), torch.arange(1, 14, dtype=dtype)
    tokens = torch.randn(97, 13, generator=generator, dtype=dtype) * scale
    group = torch.randint(5, (97,), generator=generator)
    group[group == 3] = 11
    group[:3] = torch.tensor([20, 21, 21])  # of one token, and of two
    got = explained_variance(tokens, group, dims)
    assert got == _pca(tokens, group, dims)
    assert (got == pytest.approx(1.0)) == (dims >= 13)
    one = torch.zeros_like(group)
    assert explained_variance(tokens, one, dims) == _pca(tokens, one, dims)


def test_explained_variance_closed_form():
    # along the axes, variances 9, 4 and 1
    axes = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    tokens, one = torch.cat([axes, -axes]), torch.zeros(6, dtype=torch.int64)
    for dims, share in ((1, 9 / 14), (2, 13 / 14), (3, 1.0)):
        assert explained_variance(tokens + 100, one, dims) == pytest.approx(share)
    # groups that are lines of their own: one direction holds each
    assert explained_variance(tokens, torch.arange(3).repeat(2), 1) == pytest.approx(1.0)


THREE, SIX = _route([[0], [1], [2]]), torch.randn(6, 3)
ZEROS = torch.zeros(6, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: usage(_route(ZEROS[:0, None]), 3), "at least one token"),
        (lambda: usage(THREE, 2), r"tiles of the route must be in 0 … 1, got 0 … 2"),
        (
            lambda: mutual_information(THREE, torch.tensor([0, 1]), 3),
            r"expected labels \[3\], one per token and at least one, got \[2\]",
        ),
        (lambda: mutual_information(_route(ZEROS[:0, None]), ZEROS[:0], 3), "at least one"),
        (
            lambda: mutual_information(THREE, torch.tensor([0, -1, 1]), 3),
            "labels must be at least 0, got -1",
        ),
        (lambda: purity(THREE, torch.tensor([0, 1, 1]), 2), "must be in 0 … 1, got 0 … 2"),
        (lambda: information(ZEROS[:3], ZEROS[:4]), r"must have shape \[.*\], got \["),
        (lambda: information(ZEROS[:0], ZEROS[:0]), r"must have shape \[.*\], got \["),
        (lambda: information(ZEROS.view(2, 3), ZEROS.view(2, 3)), r"must have shape \[.*\], got"),
        (lambda: explained_variance(SIX, ZEROS, 0), "dims must be at least 1, got 0"),
        (lambda: explained_variance(SIX, ZEROS[:5], 1), r"group must have shape \[6\], got \[5\]"),
        (lambda: explained_variance(SIX[:, 0], ZEROS, 1), r"tokens must have .*, got \[6\]"),
        (lambda: explained_variance(SIX * 0 + 1, ZEROS, 1), "vary .*, got variance 0"),
        (lambda: explained_variance(SIX[:0], ZEROS[:0], 1), "vary .*, got variance 0"),
        (lambda: explained_variance(SIX, torch.arange(6), 1), "vary .*, got variance 0"),
        (lambda: explained_variance(SIX / 0, ZEROS, 1), "tokens must be finite, got"),
    ],
)
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
