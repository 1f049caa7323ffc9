import pytest
import torch

from trix.counts.context import ContextMemory
from trix.models.lookup import BlockDraw


@pytest.mark.parametrize(("size", "folds", "length"), [(97, 5, 7), (100, 8, 11), (61, 2, 13)])
def test_windows_lie_in_one_block_and_every_character_is_drawn(size, folds, length):
    text = torch.arange(size)  # a character says where it stands
    draw = BlockDraw(text, folds)
    tokens, targets, block = draw(3000, length, torch.Generator().manual_seed(0))
    assert torch.equal(targets, tokens + 1)
    assert torch.equal(tokens - tokens[:, :1], torch.arange(length).expand(3000, -1))
    of = torch.arange(size) * folds // size
    assert torch.equal(of[tokens], block[:, None].expand_as(tokens))
    assert torch.equal(of[targets], block[:, None].expand_as(tokens))
    assert sorted({*tokens.flatten().tolist(), *targets.flatten().tolist()}) == list(range(size))
    again = draw(3000, length, torch.Generator().manual_seed(0))
    other = draw(3000, length, torch.Generator().manual_seed(1))
    assert torch.equal(tokens, again[0])
    assert torch.equal(block, again[2])
    assert not torch.equal(tokens, other[0])


def test_blocks_are_cut_where_the_memory_cuts_them():
    # every character is another one: what is left out is exactly what was counted in the block
    size, folds = 53, 4
    text = torch.arange(size)
    memory = ContextMemory(text, 1, size, folds)
    _, targets, block = BlockDraw(text, folds)(500, 5, torch.Generator().manual_seed(0))
    counts = torch.from_numpy(memory.counts[0].count)
    assert (counts[targets, block[:, None]] == 1).all()


def test_without_folds_windows_are_anywhere():
    draw = BlockDraw(torch.arange(17), 0)
    tokens, targets = draw(500, 7, torch.Generator().manual_seed(0))
    assert torch.equal(targets, tokens + 1)
    assert set(tokens[:, 0].tolist()) == set(range(10))


def test_a_draw_says_what_it_draws():
    names = [repr(BlockDraw(torch.arange(17) % m, folds)) for m in (5, 6) for folds in (0, 2)]
    assert len(set(names)) == 4
    assert names[0] == repr(BlockDraw(torch.arange(17) % 5, 0))


@pytest.mark.parametrize(("folds", "longest"), [(0, 16), (2, 7), (3, 4)])
def test_a_block_just_longer_than_a_window_is_drawn_from(folds, longest):
    assert len(BlockDraw(torch.arange(17), folds)(50, longest, torch.Generator())[0]) == 50
