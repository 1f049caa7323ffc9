import pytest
import torch

import trix
from trix.address.rows import SignatureRows


def _rows(tiles=5, dim=7):
    torch.manual_seed(0)
    return SignatureRows(tiles, dim)


def _train(rows, steps=30):
    optimizer = torch.optim.AdamW(rows.parameters(), lr=0.05, weight_decay=0.1)
    target = torch.randn(rows.raw.shape)
    for _ in range(steps):
        optimizer.zero_grad()
        (rows() * target).sum().backward()
        optimizer.step()
        yield optimizer


def test_rows_are_the_ternary_cut_of_what_is_trained():
    rows = _rows()
    assert torch.equal(rows(), trix.ternarize(rows.raw))


def test_an_inserted_row_is_there_and_learns_unless_frozen():
    rows, wanted = _rows(), torch.tensor([1.0, -1, 0, 0, 1, -1, 1])
    rows.insert(2, wanted)
    rows.insert(3, wanted, freeze=True)
    assert torch.equal(rows()[2], wanted)
    assert torch.equal(rows()[3], wanted)
    for _ in _train(rows):
        pass
    assert not torch.equal(rows()[2], wanted)
    assert torch.equal(rows()[3], wanted)


def test_a_frozen_row_is_bit_identical_under_momentum_decay_and_reloading():
    rows = _rows()
    run = _train(rows, steps=40)
    for _ in range(10):
        next(run)  # the moments are warm
    rows.freeze(1)
    kept, others = rows()[1].clone(), rows().clone()
    for _ in run:
        pass
    assert torch.equal(rows()[1], kept)
    assert not torch.equal(rows(), others)
    again = _rows()
    again.load_state_dict(rows.state_dict())
    assert torch.equal(again(), rows())
    assert again.is_frozen.tolist() == [False, True, False, False, False]


def test_no_gradient_reaches_a_frozen_row_and_each_other_row_has_its_own():
    rows = _rows()
    rows.freeze(4)
    (rows() * torch.randn(5, 7)).sum().backward()
    assert rows.raw.grad is not None
    assert (rows.raw.grad[4] == 0).all()
    assert (rows.raw.grad[:4] != 0).all()
    before = rows()[:4].clone()
    rows.insert(4, torch.ones(7))
    assert torch.equal(rows()[:4], before)


def test_thawing_goes_on_from_the_frozen_row():
    rows = _rows()
    run = _train(rows, steps=60)
    for _ in range(10):
        next(run)
    rows.freeze(0)
    kept = rows()[0].clone()
    for _ in run:
        pass
    moved = trix.ternarize(rows.raw)[0]
    assert not torch.equal(moved, kept)  # momentum went on below the frozen row
    rows.thaw(0)
    assert torch.equal(rows()[0], kept)
    assert not rows.is_frozen.any()
    raw = rows.raw.detach().clone()
    with pytest.raises(ValueError, match="frozen tile, got 1"):
        rows.thaw(1)
    assert torch.equal(rows.raw, raw)


def test_bad_edits_are_named_and_change_nothing():
    rows = _rows()
    before = {k: v.clone() for k, v in rows.state_dict().items()}
    for edit in (rows.freeze, rows.thaw):
        with pytest.raises(IndexError, match=r"0 … 4, got 5"):
            edit(5)
        with pytest.raises(IndexError, match=r"0 … 4, got -1"):
            edit(-1)
        with pytest.raises(TypeError, match=r"integer, got 1\.0"):
            edit(1.0)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"\[7\], got \[6\]"):
        rows.insert(0, torch.ones(6))
    with pytest.raises(ValueError, match="−1, 0 and 1 alone, got .nan"):
        rows.insert(0, torch.full((7,), float("nan")))
    assert all(torch.equal(before[k], v) for k, v in rows.state_dict().items())


def test_freezing_twice_keeps_the_row_whatever_lies_beneath():
    rows = _rows()
    rows.freeze(2)
    kept = rows()[2].clone()
    with torch.no_grad():
        rows.raw[2] = -rows.raw[2]
    rows.freeze(2)
    assert torch.equal(rows()[2], kept)
