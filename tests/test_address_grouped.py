"""Visits laid out in blocks by owner: against queues kept in lists, one visit after another."""

import pytest
import torch

from trix.address.kmeans import blocks_of

CASES = [(29, 5, 3), (13, 7, 1), (7, 13, 4), (1, 5, 2), (1, 1, 7), (64, 3, 5), (40, 1, 13)]


def _visits(count, owners, seed=0):
    return torch.randint(owners, (count,), generator=torch.Generator().manual_seed(seed))


def _slow(visits, owners, rows):
    """Return `(owner, visits)` block by block: each owner's queue, first come, first served."""
    blocks = []
    for owner in range(owners):
        queue = [i for i, wanted in enumerate(visits.tolist()) if wanted == owner]
        blocks += [(owner, queue[i : i + rows]) for i in range(0, len(queue), rows)]
    return blocks


def _check(visits, owners, rows):
    got, expected = blocks_of(visits, owners, rows), _slow(visits, owners, rows)
    count = len(visits) // rows + owners
    assert got.visit.shape == (count, rows)
    assert len(expected) <= len(got.owner) == count
    place = [-1] * len(visits)
    for block, (owner, queue) in enumerate(expected):
        assert int(got.owner[block]) == owner
        assert got.visit[block, : len(queue)].tolist() == queue
        for row, visit in enumerate(queue):
            place[visit] = block * rows + row
    assert got.place.tolist() == place
    # what fills blocks up is still a visit and an owner that exist
    assert 0 <= int(got.visit.min()) <= int(got.visit.max()) < len(visits)
    assert 0 <= int(got.owner.min()) <= int(got.owner.max()) < owners


@pytest.mark.parametrize(("count", "owners", "rows"), CASES)
def test_blocks_are_the_queues_cut_in_pieces(count, owners, rows):
    for seed in range(5):
        _check(_visits(count, owners, seed), owners, rows)


@pytest.mark.parametrize("rows", [1, 4, 5, 100])
@pytest.mark.parametrize("owner", [0, 3, 6])
def test_one_owner_may_get_every_visit(owner, rows):
    _check(torch.full((13,), owner), 7, rows)


def test_the_bound_on_blocks_is_met_and_never_passed():
    # each owner has one visit more than fills its blocks
    _check(torch.tensor([0] * 4 + [1] * 4 + [2] * 1), 3, 3)
    assert len(_slow(torch.tensor([0] * 4 + [1] * 4 + [2] * 1), 3, 3)) == 5
    assert len(_slow(torch.arange(5), 5, 7)) == 5 == len(blocks_of(torch.arange(5), 5, 7).owner)


@pytest.mark.parametrize(("count", "owners", "rows"), CASES)
def test_one_product_for_all_equals_one_a_visit_with_gradients(count, owners, rows):
    generator = torch.Generator().manual_seed(1)
    visits = _visits(count, owners)
    start = [
        torch.randn(count, 5, dtype=torch.float64, generator=generator),
        torch.randn(owners, 5, 3, dtype=torch.float64, generator=generator),
    ]
    weigh = torch.randn(count, 3, dtype=torch.float64, generator=generator)
    found = []
    for fast in (True, False):
        x, weights = (t.clone().requires_grad_() for t in start)
        if fast:
            blocks = blocks_of(visits, owners, rows)
            said = blocks.collect(x[blocks.visit] @ weights[blocks.owner])
        else:
            said = torch.stack([x[i] @ weights[owner] for i, owner in enumerate(visits.tolist())])
        (said * weigh).sum().backward()
        found.append((said, x.grad, weights.grad))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_one_graph_serves_whoever_is_visited():
    def go(visits):
        return blocks_of(visits, 7, 4)

    torch.compiler.reset()
    compiled = torch.compile(go, fullgraph=True, backend="eager")
    for visits in (_visits(29, 7), torch.full((29,), 6), torch.zeros(29, dtype=torch.int64)):
        for mine, theirs in zip(compiled(visits), go(visits), strict=True):
            assert torch.equal(mine, theirs)
