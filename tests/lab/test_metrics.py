"""What routes and states tell of labels, and what few directions hold: closed forms, slow loops."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from trix.address.route import Route
from trix.lab.metrics import (
    explained_variance,
    information,
    mutual_information,
    normalized_entropy,
    purity,
    usage,
)


def _route(index):
    index = torch.tensor(index)
    return Route(index, torch.ones(index.shape), torch.ones(index.shape), index.unsqueeze(-1))


def test_usage_counts_every_read():
    route = _route([[[0, 2], [2, 3]], [[2, 0], [2, 3]]])
    assert usage(route, 5).tolist() == [2 / 8, 0, 4 / 8, 2 / 8, 0]


def test_usage_refuses_no_token_and_an_unknown_tile():
    with pytest.raises(ValueError, match="at least one token"):
        usage(_route([[0]])._replace(index=torch.zeros(0, 1, dtype=torch.int64)), 3)
    with pytest.raises(ValueError, match=r"tiles of the route must be in 0 … 2, got 3 … 3"):
        usage(_route([[3]]), 3)


@pytest.mark.parametrize("tiles", [2, 3, 13, 64])
def test_entropy_is_one_for_even_use_and_zero_for_one_tile(tiles):
    even = torch.full((tiles,), 1 / tiles, dtype=torch.float64)
    assert normalized_entropy(even) == pytest.approx(1.0, abs=1e-14)
    assert normalized_entropy(torch.eye(tiles)[1]) == 0.0


def test_entropy_closed_form():
    p = torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=torch.float64)
    assert normalized_entropy(p) == pytest.approx(1.5 / 2)
    assert normalized_entropy(torch.ones(1)) == 0.0


def test_information_is_zero_where_tiles_and_labels_are_independent():
    index = [[t] for t in range(3) for _ in range(5)]
    labels = torch.tensor([c for _ in range(3) for c in range(5)])
    nats = mutual_information(_route(index), labels, 7)
    assert nats == pytest.approx(0.0, abs=1e-14)
    assert nats >= 0


def test_information_is_the_entropy_where_the_label_is_the_tile():
    kinds = [0] * 1 + [1] * 2 + [4] * 5
    entropy = -sum(n / 8 * math.log(n / 8) for n in (1, 2, 5))
    # a second, worse tile must not count
    route = _route([[k, 0] for k in kinds])
    assert mutual_information(route, torch.tensor(kinds), 5) == pytest.approx(entropy)
    renamed = torch.tensor([{0: 3, 1: 0, 4: 1}[k] for k in kinds])
    assert mutual_information(route, renamed, 5) == pytest.approx(entropy)


def test_information_of_a_known_table():
    # tile 0 sees labels 0,0,0,1; tile 1 sees 1,1,1,0
    route = _route([[0]] * 4 + [[1]] * 4)
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1, 0])
    expected = math.log(2) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    assert mutual_information(route, labels, 2) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("labels", "tiles", "message"),
    [
        ([0, 1], 3, r"expected labels \[3\], one per token and at least one, got \[2\]"),
        ([0, -1, 1], 3, "labels must be at least 0, got -1"),
        ([0, 1, 1], 2, "tiles of the route must be in 0 … 1, got 0 … 2"),
    ],
)
def test_bad_labels_are_named(labels, tiles, message):
    with pytest.raises(ValueError, match=message):
        mutual_information(_route([[0], [1], [2]]), torch.tensor(labels), tiles)


def test_purity_is_what_one_name_a_tile_gets_right():
    # tile 0 sees labels 0,0,0,1; tile 1 sees 1,2; the second place must not count
    route = _route([[0, 1], [0, 1], [0, 1], [0, 1], [1, 0], [1, 0]])
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    assert purity(route, labels, 3) == pytest.approx(4 / 6)
    assert purity(_route([[0]] * 6), labels, 1) == pytest.approx(3 / 6)
    with pytest.raises(ValueError, match=r"expected labels \[6\]"):
        purity(route, labels[:5], 3)


# Information


def _entropy(items):
    n = len(items)
    return -sum(c / n * math.log(c / n) for c in Counter(items).values())


def _slow(state, label):
    """Return plug-in and corrected information from counts."""
    x, y = state.tolist(), label.tolist()
    pairs, n = list(zip(x, y, strict=True)), len(x)
    kinds_x, kinds_y, shares = Counter(x), Counter(y), Counter(pairs)
    plug_in = sum(
        c / n * math.log(c * n / (kinds_x[a] * kinds_y[b])) for (a, b), c in shares.items()
    )
    corrected = [
        _entropy(part) + (len(set(part)) - 1) / (2 * n)  # Miller and Madow
        for part in (x, y, pairs)
    ]
    return plug_in, corrected[0] + corrected[1] - corrected[2]


def _draw(high, size, seed):
    return torch.randint(high, (size,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n", "states", "labels"), [(1, 5, 3), (13, 7, 5), (997, 13, 7)])
def test_information_equals_a_slow_count(n, states, labels):
    state, noise = _draw(states, n, 0), _draw(labels, n, 1)
    label = torch.where(noise < 2, state % labels, noise)
    plug_in, corrected = _slow(state, label)
    got = information(state, label)
    assert got.plug_in == pytest.approx(plug_in, abs=1e-12)
    assert got.corrected == pytest.approx(corrected, abs=1e-12)
    assert got.states == len(set(state.tolist()))


def test_names_of_states_and_labels_do_not_matter():
    state, label = _draw(7, 200, 0), _draw(5, 200, 1)
    plain = information(state, label)
    assert information(1_000_003 * state - 17, label) == plain
    # numbers below zero, and far apart, must not fall together
    renamed = information(state, torch.tensor([-1, 10**12, -7, 3, 0])[label])
    assert renamed == pytest.approx(plain, abs=1e-12)


def test_independent_states_tell_nothing_once_corrected():
    # every pair of 5 states and 3 labels, 4 times: exactly independent
    state = torch.arange(5).repeat_interleave(12)
    label = torch.arange(3).repeat(20)
    even = information(state, label)
    assert even.plug_in == pytest.approx(0.0, abs=1e-12)
    # 4 + 2 − 14 places too many
    assert even.corrected == pytest.approx(-8 / 120)
    # by chance: the plug-in figure is near its bias, (kinds − 1)(labels − 1) / 2n
    for seed in range(3):
        drawn = information(_draw(40, 40_000, 2 * seed), _draw(20, 40_000, 2 * seed + 1))
        assert drawn.plug_in == pytest.approx(39 * 19 / 80_000, rel=0.15)
        assert abs(drawn.corrected) < 0.002
        assert abs(drawn.shuffled) < 0.002


def test_a_state_that_decides_the_label_tells_its_entropy():
    state = torch.tensor([0] * 1 + [1] * 2 + [2] * 5 + [9] * 8)
    label = torch.tensor([4, 0, 7, 2])[state.clamp(max=3)]
    entropy = _entropy(label.tolist())
    got = information(state, label)
    assert got.plug_in == pytest.approx(entropy)
    assert got.corrected == pytest.approx(entropy + 3 / 32)
    assert got.states == 4
    # two states a label tell no more
    assert information(2 * state + torch.arange(16) % 2, label).plug_in == pytest.approx(entropy)


def test_shuffled_labels_leave_the_bias_and_no_more():
    state = _draw(13, 2000, 0)
    label = state % 5
    got = information(state, label)
    assert got.plug_in == pytest.approx(_entropy(label.tolist()))
    assert abs(got.shuffled) < 0.02
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    assert got.shuffled == pytest.approx(_slow(state, label[order])[1], abs=1e-12)
    assert information(state, label, seed=1).shuffled != got.shuffled
    assert information(state, label, seed=1)[:2] == got[:2]
    before = torch.get_rng_state()
    information(state, label)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_states_and_labels_must_go_together(shapes):
    state, label = (torch.zeros(shape, dtype=torch.int64) for shape in shapes)
    with pytest.raises(ValueError, match=r"must have shape \[.*\], got \["):
        information(state, label)


# Directions


def _pca(tokens, group, dims):
    """Return the share from the eigenvalues of each group's scatter."""
    kept = total = 0.0
    for tile in sorted(set(group.tolist())):
        part = tokens.numpy()[group.numpy() == tile].astype(np.float64)
        part = part - part.mean(axis=0)
        values = np.sort(np.linalg.eigvalsh(part.T @ part))[::-1]
        kept, total = kept + values[:dims].sum(), total + values.sum()
    return kept / total


@pytest.mark.parametrize(
    ("dims", "dtype"),
    [(1, torch.float32), (5, torch.float64), (13, torch.float32), (20, torch.float64)],
)
def test_explained_variance_equals_components_of_each_group(dims, dtype):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(97, 13, generator=generator, dtype=dtype) * torch.arange(
        1, 14, dtype=dtype
    )
    group = torch.randint(5, (97,), generator=generator)
    group[group == 3] = 11
    group[:3] = torch.tensor([20, 21, 21])  # of one token, and of two
    got = explained_variance(tokens, group, dims)
    assert got == pytest.approx(_pca(tokens, group, dims), abs=1e-9)
    assert (got == pytest.approx(1.0)) == (dims >= 13)
    one = torch.zeros_like(group)
    assert explained_variance(tokens, one, dims) == pytest.approx(_pca(tokens, one, dims), abs=1e-9)


def test_explained_variance_closed_form():
    # along the axes, variances 9, 4 and 1
    axes = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    tokens = torch.cat([axes, -axes]) + 100
    one = torch.zeros(6, dtype=torch.int64)
    for dims, share in ((1, 9 / 14), (2, 13 / 14), (3, 1.0)):
        assert explained_variance(tokens, one, dims) == pytest.approx(share)
    # groups that are lines of their own: one direction holds each, but not all together
    apart = torch.cat([axes, -axes])[[0, 3, 1, 4, 2, 5]]
    group = torch.tensor([0, 0, 1, 1, 2, 2])
    assert explained_variance(apart, group, 1) == pytest.approx(1.0)
    assert explained_variance(apart, one, 1) == pytest.approx(9 / 14)


def test_explained_variance_refuses_what_it_cannot_mean():
    tokens, group = torch.randn(6, 3), torch.zeros(6, dtype=torch.int64)
    with pytest.raises(ValueError, match="dims must be at least 1, got 0"):
        explained_variance(tokens, group, 0)
    with pytest.raises(ValueError, match=r"group must have shape \[6\], got \[5\]"):
        explained_variance(tokens, group[:5], 1)
    with pytest.raises(ValueError, match=r"tokens must have shape \[n, dim\], got \[6\]"):
        explained_variance(tokens[:, 0], group, 1)
    for still in (torch.ones(6, 3), tokens[:0]):
        with pytest.raises(ValueError, match="vary within their groups, got variance 0"):
            explained_variance(still, group[: len(still)], 1)
    with pytest.raises(ValueError, match="vary within their groups, got variance 0"):
        explained_variance(tokens, torch.arange(6), 1)
    tokens[2, 1] = float("nan")
    with pytest.raises(ValueError, match="tokens must be finite, got"):
        explained_variance(tokens, group, 1)
