r"""A routed mixture of distributions: a gate chooses how fine to look, and when to compute instead.

The places that a gate routes to are tables, such as the orders of a `ContextMemory` from the
coarsest address to the finest, and last a network's own distribution. Their logarithms are blended
(a product of experts, Hinton 2002; the logistic mixing of PAQ, Mahoney 2005):

.. math:: p(x) \propto \prod_i p_i(x)^{\beta w_i}, \qquad w = \mathrm{softmax}(s)

so an expert can be sure that a character does *not* come next. The scores :math:`s` and the inverse
temperature :math:`\beta` come from what stands at the addresses (its evidence, and the entropy of
what they predict) and from a state: a network's, or the latest characters themselves.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trix.address.route import Route, blend_weights
from trix.checks import place as checked_place
from trix.checks import positive
from trix.counts.rows import ContextReading

_FLOOR = 1e-9  # keeps logarithms finite where float32 rounds a probability to zero


class Blended(NamedTuple):
    """What a gate made of several distributions."""

    log_probabilities: Tensor  # [..., vocab_size]
    route: Route  # all places, best first, [..., places]
    inverse_temperature: Tensor  # [...], the power that their blend is raised to


class ContextGate(nn.Module):
    """Blends what tables predict, and a network's own distribution.

    It is initialized to blend the tables evenly, raised to the power one; the network's own
    distribution, where there is one, joins them with the power one as well.

    >>> gate = ContextGate(tables=2, state_dim=4, network=False)
    >>> sure = ContextReading(torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]), torch.zeros(1, 2, 3))
    >>> gate(sure, torch.zeros(1, 4)).log_probabilities.exp()
    tensor([[0.7500, 0.2500]], grad_fn=<ExpBackward0>)

    Args:
        tables: places whose distributions are read.
        state_dim: features of the state that the gate reads beside the evidence.
        network: whether a network's distribution is blended as well; it is the last place.
        hidden: units of each of the gate's two layers.
        fixed: the control: scores and inverse temperature are learned, but the same everywhere.

    Raises:
        IndexError: there is no such place.
        TypeError: a size or a place is not an integer.
        ValueError: a size below 1, the last place that is allowed is forbidden, shapes do not fit,
            or logits are given or missing against `network`.
    """

    forbidden: Tensor

    def __init__(
        self,
        tables: int,
        state_dim: int,
        network: bool = True,
        hidden: int = 64,
        fixed: bool = False,
    ) -> None:
        super().__init__()
        self.tables = positive("tables", tables)
        self.places = tables + network
        self.state_dim, self.fixed = positive("state_dim", state_dim), fixed
        self.read = nn.Linear(4 * tables + state_dim, positive("hidden", hidden))
        self.think = nn.Linear(hidden, hidden)
        self.score = nn.Linear(hidden, self.places + 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)
        if network:
            with torch.no_grad():
                self.score.bias[tables:] = self.score.bias.new_tensor([tables, 2.0]).log()
        self.register_buffer("forbidden", torch.zeros(self.places, dtype=torch.bool))

    def forbid(self, place: int) -> None:
        """Leave a place out of every blend from now on: a table, or the network's own."""
        checked_place("place", place, self.places)
        if int((~self.forbidden).sum()) == 1 and not self.forbidden[place]:
            raise ValueError(f"one place must be allowed, got {place}, the last one")
        self.forbidden[place] = True

    def allow(self, place: int) -> None:
        """Undo `forbid`."""
        checked_place("place", place, self.places)
        self.forbidden[place] = False

    def forward(self, reading: ContextReading, state: Tensor, own: Tensor | None = None) -> Blended:
        """Blend a reading `[..., tables, ...]`, by a state `[..., state_dim]`, with a network's.

        Its logits, `own` `[..., vocab_size]`, are given if the gate has a place for them.
        """
        if reading.evidence.shape[-2] != self.tables or state.shape[-1] != self.state_dim:
            raise ValueError(
                f"expected {self.tables} tables and {self.state_dim} features, got "
                f"{reading.evidence.shape[-2]} and {state.shape[-1]}"
            )
        if (own is not None) != (self.places > self.tables):
            wanted, got = ("given", None) if own is None else ("left out", list(own.shape))
            raise ValueError(f"logits must be {wanted}, got {got}")
        log_p = reading.probabilities.clamp(min=_FLOOR).log()
        negentropy = (reading.probabilities * log_p).sum(dim=-1, keepdim=True)
        if own is not None:
            own = F.log_softmax(own.to(log_p.dtype), dim=-1)
            log_p = torch.cat([log_p, own.unsqueeze(-2)], dim=-2)
        evidence = torch.cat([reading.evidence, negentropy], dim=-1)
        score, inverse_temperature = self._scores(evidence, state)
        score = score.masked_fill(self.forbidden, -torch.inf)
        weight = blend_weights(score)
        blend = (weight.unsqueeze(-2) @ log_p).squeeze(-2) * inverse_temperature.unsqueeze(-1)
        weight, index = weight.sort(dim=-1, descending=True)
        route = Route(index, weight, score.gather(-1, index), index.unsqueeze(-1))
        return Blended(F.log_softmax(blend, dim=-1), route, inverse_temperature)

    def extra_repr(self) -> str:
        """Tell the sizes."""
        return f"tables={self.tables}, places={self.places}, fixed={self.fixed}"

    def _scores(self, evidence: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        if self.fixed:
            found = self.score.bias.expand(*state.shape[:-1], -1)
        else:
            seen = torch.cat([0.3 * evidence.flatten(-2), state], dim=-1)
            found = self.score(F.gelu(self.think(F.gelu(self.read(seen)))))
        found = found.to(evidence.dtype)  # under autocast the gate's are coarser
        return found[..., :-1], found[..., -1].exp()
