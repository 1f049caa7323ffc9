import pytest
import torch

import trix
from trix.address.signatures import SignatureRows


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
    with pytest.raises(ValueError, match=r"−1, 0 and 1 alone, got \[nan"):
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


def test_latent_rows_are_in_units_of_their_own_scale():
    rows = _rows()
    for raw, cut, latent in zip(rows.raw, rows(), rows.latent(), strict=True):
        kept = [abs(float(v)) for v, c in zip(raw.detach(), cut.detach(), strict=True) if c]
        torch.testing.assert_close(latent, raw * len(kept) / sum(kept))
    rows.insert(1, torch.tensor([1.0, -1, 0, 0, 1, -1, 1]))
    rows.insert(2, torch.zeros(7))
    torch.testing.assert_close(rows.latent()[1], rows()[1])
    assert rows.latent()[2].tolist() == [0.0] * 7


def test_undo_gives_back_what_was_learned_and_nothing_of_other_rows():
    rows, wanted = _rows(), torch.tensor([1.0, -1, 0, 0, 1, -1, 1])
    run = _train(rows, steps=20)
    for _ in range(10):
        next(run)
    learned = rows.raw.detach().clone()
    rows.insert(2, wanted, freeze=True, tag="a")
    for _ in run:
        pass
    others = rows.raw.detach().clone()
    assert rows.undo()["tag"] == "a"
    assert torch.equal(rows.raw[2], learned[2])
    assert torch.equal(rows.raw[[0, 1, 3, 4]], others[[0, 1, 3, 4]])
    assert not torch.equal(others[0], learned[0])
    assert rows.tags == {}
    assert (rows.frozen_rows == 0).all()


def test_every_bit_comes_back_in_any_dtype():
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        rows = _rows().to(dtype)
        with torch.no_grad():
            rows.raw.mul_(torch.pi)
        begin = {k: v.clone() for k, v in rows.state_dict().items()}
        rows.insert(4, torch.tensor([1, -1, 0, 0, 1, -1, 1]), freeze=True)  # integers will do
        rows.freeze(0)
        again = _rows().to(dtype)
        again.load_state_dict(rows.state_dict())
        assert again().dtype == dtype
        assert again()[4].tolist() == [1, -1, 0, 0, 1, -1, 1]
        again.undo()
        again.undo()
        assert all(torch.equal(begin[k], v) for k, v in again.state_dict().items())


def test_a_damaged_history_is_refused_and_changes_nothing():
    rows = _rows()
    rows.insert(1, torch.ones(7), tag="a")
    whole = rows.get_extra_state()
    for damaged in (whole[:-1], whole[1:], whole[:0], torch.tensor([91, 93]), whole.float(), None):
        with pytest.raises(ValueError, match="corrupt history of edits"):
            rows.set_extra_state(damaged)  # pyright: ignore[reportArgumentType]
        assert (rows.tags, len(rows.history())) == ({1: "a"}, 1)
    rows.set_extra_state(whole)
    assert torch.equal(rows.get_extra_state(), whole)
