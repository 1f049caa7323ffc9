"""Softmax attention, the baseline that reads everything at once."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.checks import last_dim, positive


class AttentionState(NamedTuple):
    """Keys and values of all tokens so far, each `[batch, heads, seen, dim / heads]`."""

    keys: Tensor
    values: Tensor


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
        if positive("dim", dim) % positive("heads", heads):
            raise ValueError(f"dim must be a multiple of heads, got dim={dim}, heads={heads}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        self.dim, self.heads, self.dropout = dim, heads, dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=bias)
        self.out = nn.Linear(dim, dim, bias=bias)

    def initial_state(self, batch: int) -> AttentionState:
        """Return the state before the first token: no keys and no values."""
        empty = self.qkv.weight.new_zeros(batch, self.heads, 0, self.dim // self.heads)
        return AttentionState(empty, empty)

    def forward(
        self, x: Tensor, state: AttentionState | None = None
    ) -> tuple[Tensor, AttentionState]:
        """Read the past and the present.

        Args:
            x: tokens `[batch, time, dim]`.
            state: what came before, from an earlier call; nothing when not given.

        Returns:
            The output `[batch, time, dim]` and the state after the last token. The given state is
            not changed.

        Raises:
            ValueError: `x` is not `[batch, time, dim]`.
        """
        last_dim("x", x, self.dim)
        if x.ndim != 3:
            raise ValueError(f"x must be [batch, time, {self.dim}], got {list(x.shape)}")
        batch, time, _ = x.shape
        split = (
            self.qkv(x)
            .view(batch, time, 3, self.heads, self.dim // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        query, keys, values = split.unbind(0)
        mask = None
        if state is not None:
            keys = torch.cat([state.keys.to(keys.dtype), keys], dim=2)
            values = torch.cat([state.values.to(values.dtype), values], dim=2)
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
        return self.out(y), AttentionState(keys, values)
