r"""How slots change as tokens write to them, and what tokens read: in chunks, or step by step.

A memory of :math:`M` slots is a matrix :math:`S`, a row a slot. Each token fades it, writes to it,
and reads:

.. math:: S_t = \mathrm{diag}(a_t)\, S_{t-1} + w_t v_t^\top, \qquad y_t = S_t^\top r_t

With addresses :math:`w, r` for its feature map this is gated linear attention (Katharopoulos et al.
2020; Yang et al. 2024). Within a chunk all tokens are worked out at once, by products of matrices;
from chunk to chunk only :math:`S` is carried on.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 64
"""Tokens worked out at once where they share one fading a head."""
SLOT_CHUNK = 16
"""The same where every slot fades by itself: within a chunk no fading may leave float32's range."""
MOST_FADING = 5.0
"""The most that a slot may fade in one step, in nats: e^(−5) keeps less than a hundredth."""


def slot_scan(
    read: Tensor,
    write: Tensor,
    value: Tensor,
    state: Tensor,
    fading: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Write every token to the slots and read them after it.

    Takes `tokens · chunk · (slots + features)` multiplications and as many again for the state.

    Args:
        read: read addresses, `[batch, heads, time, slots]`.
        write: write addresses, the same shape.
        value: what is written, `[batch, heads, time, features]`.
        state: the slots before the first token, `[batch, heads, slots, features]`.
        fading: log of the share that a slot keeps at each token before it is written to, at most 0
            and at least `-MOST_FADING`: `[batch, heads, time, slots]`, or `[…, 1]` for all slots of
            a head alike. Nothing fades when not given.
        chunk: tokens worked out at once.

    Returns:
        What was read, `[batch, heads, time, features]`, and the slots after the last token.

    Raises:
        ValueError: shapes do not fit, or no token.
    """
    *lead, time, slots = write.shape
    features = value.shape[-1]
    if read.shape != write.shape or list(value.shape[:-1]) != [*lead, time] or time == 0:
        raise ValueError(
            "read and write must be [batch, heads, time >= 1, slots] and value as long, "
            f"got {list(read.shape)}, {list(write.shape)} and {list(value.shape)}"
        )
    if list(state.shape) != [*lead, slots, features]:
        raise ValueError(f"state must be {[*lead, slots, features]}, got {list(state.shape)}")
    if fading is not None and list(fading.shape) not in ([*lead, time, 1], [*lead, time, slots]):
        raise ValueError(
            f"fading must be {[*lead, time]} with 1 or {slots} more, got {list(fading.shape)}"
        )
    each_slot = fading is not None and fading.shape[-1] > 1
    size = min(time, chunk or (SLOT_CHUNK if each_slot else CHUNK))
    read, write, value = (_chunks(t, size) for t in (read, write, value))
    causal = torch.ones(size, size, dtype=torch.bool, device=value.device).tril()
    if fading is None:
        mixed = (read @ write.mT).masked_fill(~causal, 0.0)
        added, kept = write.mT @ value, None
    else:
        total = _chunks(fading, size).cumsum(dim=-2)  # from the chunk's start to each token
        last = total[..., -1:, :]
        if each_slot:
            middle = total[..., size // 2 : size // 2 + 1, :]
            mixed = (read * (total - middle).exp()) @ (write * (middle - total).exp()).mT
            mixed = mixed.masked_fill(~causal, 0.0)
        else:
            between = (total - total.mT).masked_fill(~causal, -torch.inf)
            mixed = (read @ write.mT) * between.exp()
        added, kept = (write * (last - total).exp()).mT @ value, last.mT.exp()
        read = read * total.exp()
    starts, state = _carry(added, kept, state)
    output = mixed @ value + read @ starts
    return output.flatten(-3, -2)[..., :time, :], state


def _carry(added: Tensor, kept: Tensor | None, state: Tensor) -> tuple[Tensor, Tensor]:
    # the slots at each chunk's start, `[batch, heads, chunks, slots, features]`, and at the end
    starts = []
    for number, more in enumerate(added.unbind(-3)):
        starts.append(state)
        state = (state if kept is None else state * kept[..., number, :, :]) + more
    return torch.stack(starts, dim=-3), state


def delta_scan(
    read: Tensor,
    write: Tensor,
    value: Tensor,
    strength: Tensor,
    state: Tensor,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    r"""Write by the delta rule: a token replaces what its address holds, rather than adding to it.

    .. math:: S_t = S_{t-1} + \beta_t\, w_t (v_t - S_{t-1}^\top w_t)^\top

    (Schlag et al. 2021; in chunks Yang et al. 2024b: the corrections of a chunk's tokens to one
    another are a triangular system.)

    Args:
        read: read addresses, `[batch, heads, time, slots]`.
        write: write addresses, the same shape, of length 1 or less to be stable.
        value: what is written, `[batch, heads, time, features]`.
        strength: β, `[batch, heads, time, 1]`, from 0, nothing is written, to 1, all is replaced.
        state: the slots before the first token, `[batch, heads, slots, features]`.
        chunk: tokens worked out at once.

    Returns:
        What was read, `[batch, heads, time, features]`, and the slots after the last token.

    Raises:
        ValueError: shapes do not fit, or no token.
    """
    *lead, time, slots = write.shape
    if read.shape != write.shape or list(value.shape[:-1]) != [*lead, time] or time == 0:
        raise ValueError(
            "read and write must be [batch, heads, time >= 1, slots] and value as long, "
            f"got {list(read.shape)}, {list(write.shape)} and {list(value.shape)}"
        )
    if list(state.shape) != [*lead, slots, value.shape[-1]]:
        expected = [*lead, slots, value.shape[-1]]
        raise ValueError(f"state must be {expected}, got {list(state.shape)}")
    if list(strength.shape) != [*lead, time, 1]:
        raise ValueError(f"strength must be {[*lead, time, 1]}, got {list(strength.shape)}")
    size = min(time, chunk)
    read, write, value, strength = (_chunks(t, size) for t in (read, write, value, strength))
    eye = torch.eye(size, dtype=value.dtype, device=value.device)
    system = eye + (strength * (write @ write.mT)).tril(-1)
    both = torch.cat([strength * value, strength * write], dim=-1)
    solved = torch.linalg.solve_triangular(system, both, upper=False, unitriangular=True)
    news, used = solved.split([value.shape[-1], slots], dim=-1)
    mixed = (read @ write.mT).tril()
    outputs = []
    for number in range(value.shape[-3]):
        change = news[..., number, :, :] - used[..., number, :, :] @ state
        outputs.append(read[..., number, :, :] @ state + mixed[..., number, :, :] @ change)
        state = state + write[..., number, :, :].mT @ change
    return torch.cat(outputs, dim=-2)[..., :time, :], state


def _chunks(x: Tensor, size: int) -> Tensor:
    # [..., time, n] -> [..., chunks, size, n]; what is missing at the end is filled with zeros,
    # which write nothing, fade nothing and are cut off
    short = -x.shape[-2] % size
    x = F.pad(x, (0, 0, 0, short)) if short else x
    return x.unflatten(-2, (-1, size))
