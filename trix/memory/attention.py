"""Softmax attention, the baseline that reads everything at once."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.memory.streaming import check_state, check_tokens, head_width, not_finite


class AttentionState(NamedTuple):
    """All tokens so far.

    Attributes:
        keys: `[batch, heads, seen, dim / heads]`.
        values: the same shape.
        broken: `[batch, 1]`, 0, or NaN once a token was not finite.
    """

    keys: Tensor
    values: Tensor
    broken: Tensor


class CausalAttention(nn.Module):
    """Multi-head causal softmax attention (Vaswani et al. 2017) with a key/value cache.

    Args:
        dim: features, a multiple of `heads`.
        heads: independent attention heads.
        bias: whether the projections have biases.
        dropout: probability of dropping an attention weight in training.
    """

    def __init__(self, dim: int, heads: int = 4, bias: bool = False, dropout: float = 0.0) -> None:
        """See the class."""
        super().__init__()
        head_width(dim, heads)
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        self.dim, self.heads, self.dropout = dim, heads, dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.out = nn.Linear(dim, dim, bias=bias)

    def initial_state(self, batch: int) -> AttentionState:
        """Return the state before the first token: no keys and no values."""
        empty = self.qkv.weight.new_zeros(batch, self.heads, 0, self.dim // self.heads)
        return AttentionState(empty, empty, empty.new_zeros(batch, 1))

    def forward(
        self, x: Tensor, state: AttentionState | None = None
    ) -> tuple[Tensor, AttentionState]:
        """Read the past and the present.

        Args:
            x: tokens `[batch, time >= 1, dim]`.
            state: what came before, from an earlier call; nothing when not given.

        Returns:
            The output `[batch, time, dim]` and the state after the last token. The given state is
            not changed. Of a text with a token that is not finite, all is NaN from there on.

        Raises:
            TypeError: `x` is not floating, or the state of another kind of layer.
            ValueError: `x` is not `[batch, time >= 1, dim]`, or the state is of another layer,
                batch or dtype.
        """
        check_tokens(x, self.dim)
        batch, time, _ = x.shape
        broken = not_finite(x).cumsum(dim=1)
        if state is not None:
            check_state(state, self.initial_state(batch), self.qkv.weight.dtype, grows=2)
            broken = broken + state.broken.unsqueeze(1)
        x = x.masked_fill(broken.isnan(), 0.0)
        split = (
            self.qkv(x)
            .view(batch, time, 3, self.heads, self.dim // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        query, keys, values = split.unbind(0)
        mask = None
        if state is not None:
            keys = torch.cat([state.keys, keys], dim=2)
            values = torch.cat([state.values, values], dim=2)
            seen = keys.shape[2]
            mask = torch.ones(time, seen, dtype=torch.bool, device=x.device).tril(seen - time)
        y = F.scaled_dot_product_attention(
            query,
            keys,
            values,
            attn_mask=mask,
            is_causal=mask is None,
            dropout_p=self.dropout if self.training else 0.0,
        )
        y = y.transpose(1, 2).reshape(batch, time, self.dim)
        return self.out(y) + broken, AttentionState(keys, values, broken[:, -1])
