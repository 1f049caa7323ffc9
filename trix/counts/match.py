r"""Match model: the text that is being read is itself a table, and what is found are its echoes.

An address of the last two characters, or the last four, may have stood in this very text before,
and what followed it there is likely to follow again: a name that no counted text has, or a turn of
phrase. Compressors call this the match model (PAQ, Mahoney 2005); attention learns it (Olsson et
al. 2022), and here nothing is learned. No more than the last `REACH` characters are looked through,
so the state does not grow. With :math:`c(x)` for how often :math:`x` followed there,

.. math:: p(x) = \frac{\max(c(x) - D, 0)}{\sum c} + \frac{D \cdot |\{x : c(x) > 0\}|}{\sum c}
          \, p'(x)

where :math:`p'` is what the address backs off to (absolute discounting, Ney et al. 1994), and
:math:`D` is `DISCOUNT`.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from trix.counts.ngram import check_batch, context_codes
from trix.counts.rows import Found

ECHOES = ("echo", "refrain")
"""The addresses, in the order in which they are read."""
LENGTHS = (2, 4)
"""Characters of each."""
REACH = 256
"""Characters, with those of the address, that are looked through."""
BELOW = 5
"""Order that the shorter echo backs off to: long enough to know words, short enough to be known."""
DISCOUNT = 0.5
"""What a count loses, so that some mass is left for what was not seen."""

_PIECE = 256  # positions that are compared at a time with those before them


class Echo(NamedTuple):
    """What echoes after each position."""

    place: Tensor  # where each address's latest earlier occurrence ends, int64 [..., 2]; −1: none
    found: Found  # what followed all of them


def echoes(
    tokens: Tensor, vocab_size: int, first: int = 0, dtype: torch.dtype = torch.float32
) -> Echo:
    """Return what echoes after every position from `first` on, as an `Echo`.

    >>> echo = echoes(torch.tensor([[0, 1, 2, 3, 0, 1]]), vocab_size=4)
    >>> echo.place[0, -1].tolist()  # the last two stood at 0 and 1, the last four not
    [1, -1]
    >>> echo.found.share[0, -1, 0].tolist()  # and 2 followed
    [0.0, 0.0, 0.5, 0.0]

    The text as far as it is known is int64 `[batch, time]`, below `vocab_size`: a `TypeError` or
    `ValueError` else. Positions before `first` are only looked through.
    """
    check_batch(tokens, vocab_size)
    codes = context_codes(tokens, max(LENGTHS) + 1, vocab_size)
    nothing = tokens.new_zeros(len(tokens), 0, len(LENGTHS))
    pieces = [[nothing, nothing.new_zeros(*nothing.shape, vocab_size).to(dtype)]]
    for begin in range(first, tokens.shape[1], _PIECE):
        end = min(begin + _PIECE, tokens.shape[1])
        low = max(0, begin - REACH + min(LENGTHS))
        after = F.one_hot(tokens[:, low + 1 : end], vocab_size).to(dtype)
        here, there = codes[:, begin:end], codes[:, low : end - 1]
        at = torch.arange(begin, end, device=tokens.device)[:, None]
        earlier = torch.arange(low, end - 1, device=tokens.device)
        both = []
        for length in LENGTHS:
            near = (earlier < at) & (at - earlier <= REACH - length)
            known = here[..., length, None]
            match = (known == there[:, None, :, length]) & (known >= 0) & near
            place = torch.where(match, earlier, -1)
            latest = F.pad(place, (1, 0), value=-1).amax(dim=-1)
            # autocast may count in bfloat16, which has every integer up to 256: none is larger
            both.append((latest, (match.to(dtype) @ after).to(dtype)))
        pieces.append([torch.stack(parts, dim=2) for parts in zip(*both, strict=True)])
    place, count = (torch.cat(parts, dim=1) for parts in zip(*pieces, strict=True))
    total, different = count.sum(dim=-1), (count > 0).sum(dim=-1).to(count.dtype)
    share = (count - DISCOUNT).clamp(min=0) / total.clamp(min=1).unsqueeze(-1)
    backoff_mass = torch.where(total > 0, DISCOUNT * different / total.clamp(min=1), 1.0)
    evidence = torch.stack([total, different, count.amax(dim=-1)], dim=-1).log1p()
    return Echo(place, Found(share, backoff_mass, evidence))
