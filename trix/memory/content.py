"""Slots that are read by what they hold: each has a key, which the tokens write."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.memory.recurrence import slot_scan


class SlotKeys(nn.Module):
    r"""Keys of slots: a token writes its key where it writes its value, and reads by resemblance.

    .. math:: K_t = a_t K_{t-1} + w_t k_t^\top, \qquad s_t = K_t q_t

    The softmax of the scores :math:`s_t` is the read address. A memory of such slots is gated slot
    attention (Zhang et al. 2024), whose write addresses are the routing's; without decay, and with
    keys and values divided by what was written in all, it would be attention with bounded memory
    (Peng et al. 2022).

    Args:
        dim: features of a token.
        heads: memories side by side.
        width: features of a key.
    """

    def __init__(self, dim: int, heads: int, width: int) -> None:
        """See the class. It begins with a standard deviation of 1/√dim."""
        super().__init__()
        self.heads = heads
        self.weight = nn.Parameter(torch.randn(heads * width, dim) / math.sqrt(dim))

    def forward(
        self, seen: Tensor, query: Tensor, write: Tensor, keys: Tensor, decay: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Write the keys of all tokens, and compare each query with those of its time.

        Args:
            seen: tokens `[batch, time, dim]`.
            query: `[batch, heads, time, width]`.
            write: write addresses, `[batch, heads, time, slots]`.
            keys: before the first token, `[batch, heads, slots, width]`.
            decay: see `slot_scan`, of a head's slots alike, so `[batch, heads, time, 1]`.

        Returns:
            The scores `[batch, heads, time, slots]` and the keys after the last token.
        """
        key = F.linear(seen, self.weight.to(seen.dtype)).unflatten(-1, (self.heads, -1))
        # as the slots fade alike, keys may change places with slots: what is written by keys and
        # read by queries is then the address
        score, turned = slot_scan(query, key.transpose(1, 2), write, keys.mT, decay)
        return score, turned.mT
