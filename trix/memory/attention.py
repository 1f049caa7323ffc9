"""Softmax attention: over everything so far, the baseline, and over a window."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.checks import fraction, positive
from trix.memory.streaming import Mixer, head_width, not_finite


class AttentionState(NamedTuple):
    """All tokens so far, `[batch, heads, seen, dim / heads]`."""

    keys: Tensor
    values: Tensor
    broken: Tensor  # `[batch, 1]`: 0, or NaN once a token was not finite


class CausalAttention(Mixer):
    """Multi-head causal softmax attention (Vaswani et al. 2017) with a key/value cache.

    >>> layer = CausalAttention(8, heads=2)
    >>> y, state = layer(torch.zeros(1, 5, 8))
    >>> y, state = layer(torch.zeros(1, 1, 8), state)
    >>> list(y.shape), list(state.keys.shape)
    ([1, 1, 8], [1, 2, 6, 4])

    Args:
        dim: features, a multiple of `heads`.
        heads, bias: independent attention heads; whether the projections have biases.
        dropout: probability of dropping an attention weight in training.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a size below 1, heads that do not divide `dim`, or a dropout outside [0, 1).
    """

    def __init__(self, dim: int, heads: int = 4, bias: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        head_width(dim, heads)
        self.dim, self.heads, self.dropout = dim, heads, fraction("dropout", dropout)
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.out = nn.Linear(dim, dim, bias=bias)

    def initial_state(self, batch: int) -> AttentionState:
        empty = self.qkv.weight.new_zeros(batch, self.heads, 0, self.dim // self.heads)
        return AttentionState(empty, empty, empty.new_zeros(batch, 1))

    def forward(
        self, x: Tensor, state: AttentionState | None = None
    ) -> tuple[Tensor, AttentionState]:
        past: AttentionState = self.resumed(x, state, grows=2)
        broken = not_finite(x).cumsum(dim=1) + past.broken.unsqueeze(1)
        split = self.qkv(x.masked_fill(broken.isnan(), 0.0)).unflatten(-1, (3, self.heads, -1))
        query, keys, values = split.permute(2, 0, 3, 1, 4).unbind(0)
        mask = None
        if state is not None:
            keys = torch.cat([past.keys, keys], dim=2)
            values = torch.cat([past.values, values], dim=2)
            time, seen = x.shape[1], keys.shape[2]
            mask = torch.ones(time, seen, dtype=torch.bool, device=x.device).tril(seen - time)
        y = F.scaled_dot_product_attention(
            *(query, keys, values, mask),
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=mask is None,
        )
        y = self.out(y.transpose(1, 2).flatten(2)) + broken
        return y, AttentionState(keys, values, broken[:, -1])


class WindowState(NamedTuple):
    """The latest tokens, `[batch, heads, window - 1, width]`."""

    keys: Tensor
    values: Tensor
    marks: Tensor  # `[batch, window - 1]`: 0, −∞ before the first token, NaN if it is not finite


class WindowAttention(Mixer):
    r"""Softmax attention over the latest tokens alone (Beltagy et al. 2020).

    .. math:: y_t = \sum_{t - n < i \le t} p_{ti}\, v_i, \qquad
        p_t = \mathrm{softmax}_i\!\left(q_t \cdot k_i / \sqrt{d_h} - m\,(t - i)\right)

    The slope :math:`m` of a head tells it how long ago a token was, as in ALiBi (Press et al.
    2022), but learned. Nothing else knows a position, so a text may have any length. Tokens are
    computed in blocks of a window, each of which reads itself and the block before. Queries, keys
    and values are initialized as those of `RoutedMemory`, the slopes as in ALiBi.

    >>> layer = WindowAttention(8, heads=2, window=4)
    >>> y, state = layer(torch.zeros(1, 9, 8))
    >>> list(y.shape), list(state.keys.shape)
    ([1, 9, 8], [1, 2, 3, 4])

    Args:
        dim, heads: features, and independent attention heads.
        window: tokens that are read, the present one included.
        width: features of a head, `dim / heads` when not given.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a size below 1, or heads that do not divide `dim` where no width is given.
    """

    def __init__(
        self, dim: int, heads: int = 4, window: int = 32, width: int | None = None
    ) -> None:
        super().__init__()
        self.width = head_width(dim, heads, width)
        self.dim, self.heads, self.window = dim, heads, positive("window", window)
        self.qkv = nn.Parameter(torch.randn(3 * heads * self.width, dim) / math.sqrt(dim))
        self.slope = nn.Parameter(torch.exp2(torch.arange(1, heads + 1) * (-8 / heads)))
        self.out = nn.Linear(heads * self.width, dim, bias=False)

    def initial_state(self, batch: int) -> WindowState:
        kept = self.qkv.new_zeros(batch, self.heads, self.window - 1, self.width)
        return WindowState(kept, kept, kept.new_full((batch, self.window - 1), -torch.inf))

    def forward(self, x: Tensor, state: WindowState | None = None) -> tuple[Tensor, WindowState]:
        past: WindowState = self.resumed(x, state)
        marks = not_finite(x)
        split = F.linear(x.masked_fill(marks.isnan(), 0.0), self.qkv.to(x.dtype))
        query, key, value = split.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        keys = torch.cat([past.keys, key], dim=2)
        values = torch.cat([past.values, value], dim=2)
        marks = torch.cat([past.marks, marks[..., 0]], dim=1)
        y = self._read(query, keys, values, marks).transpose(1, 2).flatten(2)
        time = x.shape[1]
        return self.out(y), WindowState(keys[:, :, time:], values[:, :, time:], marks[:, time:])

    def _read(self, query: Tensor, keys: Tensor, values: Tensor, marks: Tensor) -> Tensor:
        time, before = query.shape[2], self.window - 1
        size = min(time, self.window)
        seen, short = size + before, -time % size  # what a block reads; what the last one lacks
        blocks = F.pad(query, (0, 0, 0, short)).unflatten(2, (-1, size))
        keys, values = (F.pad(t, (0, 0, 0, short)).unfold(2, seen, size) for t in (keys, values))
        marks = F.pad(marks, (0, short)).unfold(1, seen, size)
        place = torch.arange(seen, device=query.device)
        ago = before + place[:size, None] - place
        far = self.slope.to(query.dtype)[:, None, None, None] * ago
        score = blocks @ keys / math.sqrt(self.width) - far + marks[:, None, :, None]
        score = score.masked_fill((ago < 0) | (ago > before), -torch.inf)
        return (score.softmax(dim=-1) @ values.mT).flatten(2, 3)[:, :, :time]
