import pytest
import torch

from trix.counts.context import ContextMemory
from trix.models.lookup import BlockDraw


def _seed(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("size", "folds", "length"), [(97, 5, 7), (100, 8, 11), (61, 2, 13)])
def test_windows_lie_in_one_block_of_the_memory_and_every_character_is_drawn(size, folds, length):
    text = torch.arange(size)  # a character says where it stands
    draw = BlockDraw(text, folds)
    tokens, targets, block = draw(3000, length, _seed())
    assert torch.equal(targets, tokens + 1)
    assert torch.equal(tokens - tokens[:, :1], torch.arange(length).expand(3000, -1))
    both = torch.cat([tokens, targets], dim=1)
    assert torch.equal(both * folds // size, block[:, None].expand_as(both))
    assert both.unique().tolist() == list(range(size))
    # each is another one: what is left out is exactly what was counted in the block
    counts = torch.from_numpy(ContextMemory(text, 1, size, folds).counts[0].count)
    assert (counts[targets, block[:, None]] == 1).all()
    again, other = draw(3000, length, _seed()), draw(3000, length, _seed(1))
    assert torch.equal(tokens, again[0])
    assert torch.equal(block, again[2])
    assert not torch.equal(tokens, other[0])


def test_without_folds_windows_are_anywhere():
    tokens, targets = BlockDraw(torch.arange(17), 0)(500, 7, _seed())
    assert torch.equal(targets, tokens + 1)
    assert set(tokens[:, 0].tolist()) == set(range(10))


def test_a_draw_says_what_it_draws_and_a_block_just_long_enough_is_drawn_from():
    names = [repr(BlockDraw(torch.arange(17) % m, folds)) for m in (5, 6) for folds in (0, 2)]
    assert len(set(names)) == 4
    assert names[0] == repr(BlockDraw(torch.arange(17) % 5, 0))
    for folds, longest in ((0, 16), (2, 7), (3, 4)):
        assert len(BlockDraw(torch.arange(17), folds)(50, longest, _seed())[0]) == 50
