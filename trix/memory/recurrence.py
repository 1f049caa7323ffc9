r"""How slots change as tokens write to them, and what tokens read: in chunks, or step by step.

Slots are the rows of a matrix :math:`S`. At each token they decay, the token writes, and reads:

.. math:: S_t = \mathrm{diag}(a_t)\, S_{t-1} + w_t v_t^\top, \qquad y_t = S_t^\top r_t

This is gated linear attention (Katharopoulos et al. 2020; Yang et al. 2024). Within a chunk tokens
are computed at once, by products of matrices; from chunk to chunk :math:`S` is carried on.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST, CHUNK = 16, 64
"""Tokens computed at once where all slots of a head decay alike: as many as slots, within these."""
SLOT_CHUNK = 32
"""The same where every slot decays by itself: within a chunk no decay may leave float32's range."""
MAX_DECAY = 5.0
"""The most that a slot may decay in one step, in nats: e^(−5) keeps less than a hundredth."""


def slot_scan(
    read: Tensor,
    write: Tensor,
    value: Tensor,
    state: Tensor,
    decay: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Write every token to the slots and read them after it, `chunk` tokens at once.

    Read and write addresses are `[batch, heads, time, slots]`, values `[batch, heads, time,
    features]`, and the slots before the first token `[batch, heads, slots, features]`. Decay is the
    log of the share that a slot keeps at each token before it is written to, from `-MAX_DECAY` to
    0: `[batch, heads, time, slots]`, or `[..., 1]` for all slots of a head alike. Returns what was
    read, as values, and the slots after the last token; `ValueError` for shapes that do not fit.
    """
    *lead, time, slots = _checked(read, write, value, state)
    if decay is not None and list(decay.shape) not in ([*lead, time, 1], [*lead, time, slots]):
        raise ValueError(
            f"decay must be {[*lead, time]} with 1 or {slots} more, got {list(decay.shape)}"
        )
    if time == 1:  # a step: nothing to cut, nothing to mask
        state = (state if decay is None else state * decay.exp().mT) + write.mT @ value
        return read @ state, state
    each_slot = decay is not None and decay.shape[-1] > 1
    size = min(time, chunk or (SLOT_CHUNK if each_slot else min(max(slots, LEAST), CHUNK)))
    read, write, value = (_chunks(t, size) for t in (read, write, value))
    if decay is None:
        mixed = (read @ write.mT).tril()
        starts, state = _carry(write.mT @ value, None, state)
        output = mixed @ value + read @ starts
    else:
        total = _chunks(decay, size).cumsum(dim=-2)  # from the chunk's start to each token
        last = total[..., -1:, :]
        if each_slot:
            middle = total[..., size // 2 : size // 2 + 1, :]
            # both factors count from the middle, so that neither leaves float32's range
            mixed = ((read * (total - middle).exp()) @ (write * (middle - total).exp()).mT).tril()
            starts, state = _carry((write * (last - total).exp()).mT @ value, last.mT.exp(), state)
            output = mixed @ value + (read * total.exp()) @ starts
        else:  # one number per token and head: it goes to the thinnest factor
            mixed = (read @ write.mT) * _kept_between(total)
            starts, state = _carry(write.mT @ (value * (last - total).exp()), last.exp(), state)
            output = torch.addcmul(mixed @ value, read @ starts, total.exp())
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
    decay: Tensor | None = None,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    r"""Write by the delta rule: a token replaces what its address holds, rather than adding to it.

    .. math:: S_t = a_t S_{t-1} + \beta_t\, w_t (v_t - a_t S_{t-1}^\top w_t)^\top

    (Schlag et al. 2021; in chunks Yang et al. 2024b: the corrections of a chunk's tokens to one
    another are a triangular system; with decay Yang et al. 2025.) Arguments, results and errors are
    those of `slot_scan`, but decay is `[batch, heads, time, 1]` as the strength β is, from 0,
    nothing is written, to 1, all is replaced; and write addresses must have length 1 or less.
    """
    *lead, time, slots = _checked(read, write, value, state)
    for name, given in (("strength", strength), ("decay", decay)):
        if given is not None and list(given.shape) != [*lead, time, 1]:
            raise ValueError(f"{name} must be {[*lead, time, 1]}, got {list(given.shape)}")
    size = min(time, chunk)
    read, write, value, strength = (_chunks(t, size) for t in (read, write, value, strength))
    met, mixed = strength * (write @ write.mT), read @ write.mT
    used, kept = strength * write, None
    if decay is None:
        mixed = mixed.tril()
    else:
        total = _chunks(decay, size).cumsum(dim=-2)  # from the chunk's start to each token
        between = _kept_between(total)
        last = total[..., -1:, :]
        met, mixed = met * between, mixed * between
        used, read = used * total.exp(), read * total.exp()
        write, kept = write * (last - total).exp(), last.exp()
    system = torch.eye(size, dtype=value.dtype, device=value.device) + met.tril(-1)
    both = torch.cat([strength * value, used], dim=-1)
    exact = torch.promote_types(both.dtype, torch.float32)  # the solver needs at least that
    solved = torch.linalg.solve_triangular(
        system.to(exact), both.to(exact), upper=False, unitriangular=True
    )
    news, used = solved.to(both.dtype).split([value.shape[-1], slots], dim=-1)
    outputs = []
    for number in range(value.shape[-3]):
        change = news[..., number, :, :] - used[..., number, :, :] @ state
        outputs.append(read[..., number, :, :] @ state + mixed[..., number, :, :] @ change)
        state = state if kept is None else state * kept[..., number, :, :]
        state = state + write[..., number, :, :].mT @ change
    return torch.cat(outputs, dim=-2)[..., :time, :], state


def _kept_between(total: Tensor) -> Tensor:
    # what a chunk's slots keep from each token, a column, to each later one, a row; 0 to earlier
    size = total.shape[-2]
    later = torch.ones(size, size, dtype=torch.bool, device=total.device).triu(1)
    return (total - total.mT).masked_fill_(later, -torch.inf).exp_()


def _checked(read: Tensor, write: Tensor, value: Tensor, state: Tensor) -> list[int]:
    # the shape of the addresses, [batch, heads, time, slots], if all else fits
    *lead, time, slots = write.shape
    if read.shape != write.shape or list(value.shape[:-1]) != [*lead, time] or time == 0:
        raise ValueError(
            "read and write must be [batch, heads, time >= 1, slots] and value as long, "
            f"got {list(read.shape)}, {list(write.shape)} and {list(value.shape)}"
        )
    expected = [*lead, slots, value.shape[-1]]
    if list(state.shape) != expected:
        raise ValueError(f"state must be {expected}, got {list(state.shape)}")
    return list(write.shape)


def _chunks(x: Tensor, size: int) -> Tensor:
    # [..., time, n] -> [..., chunks, size, n]; what is missing at the end is filled with zeros,
    # which write nothing, decay nothing and are cut off
    short = -x.shape[-2] % size
    x = F.pad(x, (0, 0, 0, short)) if short else x
    return x.unflatten(-2, (-1, size))
