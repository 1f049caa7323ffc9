import math

import pytest
import torch

from trix.address.route import Route
from trix.lab.metrics import churn, mutual_information, normalized_entropy, purity, usage


def _route(index):
    index = torch.tensor(index)
    return Route(index, torch.ones(index.shape), torch.ones(index.shape), index.unsqueeze(-1))


def test_usage_counts_every_read():
    route = _route([[[0, 2], [2, 3]], [[2, 0], [2, 3]]])
    assert usage(route, 5).tolist() == [2 / 8, 0, 4 / 8, 2 / 8, 0]


def test_usage_refuses_no_token_and_an_unknown_tile():
    with pytest.raises(ValueError, match="at least one token"):
        usage(_route([[0]])._replace(index=torch.zeros(0, 1, dtype=torch.int64)), 3)
    with pytest.raises(ValueError, match="got 3 and 3"):
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
        ([0, 1], 3, r"expected labels \[3\], one a token and at least one, got \[2\]"),
        ([0, -1, 1], 3, "labels must be at least 0, got -1"),
        ([0, 1, 1], 2, "tiles must exceed every index, got 2 and 2"),
    ],
)
def test_bad_labels_are_named(labels, tiles, message):
    with pytest.raises(ValueError, match=message):
        mutual_information(_route([[0], [1], [2]]), torch.tensor(labels), tiles)


def test_churn_counts_tokens_whose_best_tile_changed():
    before = _route([[0, 1], [2, 1], [3, 0], [1, 2]])
    after = _route([[0, 2], [1, 2], [3, 1], [2, 1]])
    assert churn(before, after) == 0.5
    assert churn(before, before) == 0.0
    with pytest.raises(ValueError, match=r"same tokens, at least one, got \[4\] and \[3\]"):
        churn(before, _route([[0], [1], [2]]))
    empty = _route([[0]])._replace(index=torch.zeros(0, 1, dtype=torch.long))
    with pytest.raises(ValueError, match=r"got \[0\] and \[0\]"):
        churn(empty, empty)


def test_purity_is_what_one_name_a_tile_gets_right():
    # tile 0 sees labels 0,0,0,1; tile 1 sees 1,2; the second place must not count
    route = _route([[0, 1], [0, 1], [0, 1], [0, 1], [1, 0], [1, 0]])
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    assert purity(route, labels, 3) == pytest.approx(4 / 6)
    assert purity(_route([[0]] * 6), labels, 1) == pytest.approx(3 / 6)
    with pytest.raises(ValueError, match=r"expected labels \[6\]"):
        purity(route, labels[:5], 3)
