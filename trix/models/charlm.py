"""A small character language model whose mixer and feed-forward are chosen by name."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard

from torch import Tensor, nn

from trix.address.route import Route, RoutedLayer
from trix.checks import at_least, fraction, indices, one_of, positive, shape
from trix.memory.attention import CausalAttention, WindowAttention
from trix.memory.controls import ConvolvedAttention, ConvolvedStatic, HybridMixer, StaticMemory
from trix.memory.slots import RoutedMemory
from trix.models.generate import generate
from trix.tiles.codebook import CodebookFFN
from trix.tiles.ffn import DenseFFN, ProductKeyFFN, TriXFFN, WideDenseFFN
from trix.tiles.fractal import BinnedFFN, FractalFFN, RandomFractalFFN
from trix.tiles.funnel import FunnelFFN
from trix.tiles.lookup import SparseLookupFFN
from trix.tiles.tiled import TiledFFN
from trix.tiles.two_level import AdaptiveKANFFN, FixedRoutingFFN, HierarchicalTriXFFN, HybridKANFFN

MIXERS: dict[str, Callable[..., nn.Module] | None] = {
    "attention": CausalAttention,
    "convolved-attention": ConvolvedAttention,
    "convolved-static": ConvolvedStatic,
    "routed-memory": RoutedMemory,
    "window-attention": WindowAttention,
    "hybrid": HybridMixer,
    "static-memory": StaticMemory,
    "none": None,
}


def _random_lookup(dim: int, **options: Any) -> SparseLookupFFN:
    # a control: keys stay as they were drawn
    layer = SparseLookupFFN(dim, **options)
    layer.keys.raw.requires_grad_(False)
    return layer


FFNS: dict[str, Callable[..., nn.Module] | None] = {
    "dense": DenseFFN,
    "wide-dense": WideDenseFFN,
    "trix": TriXFFN,
    "tiled": TiledFFN,
    "lookup": SparseLookupFFN,
    "random-lookup": _random_lookup,
    "hierarchical-trix": HierarchicalTriXFFN,
    "hybrid-kan": HybridKANFFN,
    "fixed-routing": FixedRoutingFFN,
    "adaptive-kan": AdaptiveKANFFN,
    "fractal": FractalFFN,
    "random-fractal": RandomFractalFFN,
    "binned": BinnedFFN,
    "funnel": FunnelFFN,
    "codebook": CodebookFFN,
    "product-keys": ProductKeyFFN,
    "none": None,
}


@dataclass(frozen=True)
class LMConfig:
    """Everything that decides the shape of a `CharLM`.

    >>> LMConfig(ffn="lookup", ffn_options={"tiles": 64, "top_k": 2}).layers
    4

    Attributes:
        vocab_size, dim, layers: number of distinct characters, width, number of blocks.
        positions: learned position embeddings, and so the longest context; 0 for none.
        mixer: how tokens see earlier ones, a name in `MIXERS`.
        ffn: what each token reads by itself, a name in `FFNS`.
        mixer_options, ffn_options: keywords of these two beyond `dim`.
        dropout: probability of dropping an activation in training.
        bias, tied: whether norms and head have biases, and the head is the token embedding.
        init: initial scales, "gpt2" or "torch"; see `init_weights`.
    """

    vocab_size: int = 65
    dim: int = 128
    layers: int = 4
    positions: int = 64
    mixer: str = "attention"
    mixer_options: dict[str, Any] = field(default_factory=dict)
    ffn: str = "dense"
    ffn_options: dict[str, Any] = field(default_factory=dict)
    dropout: float = 0.0
    bias: bool = False
    tied: bool = True
    init: str = "gpt2"

    def __post_init__(self) -> None:
        for name in ("vocab_size", "dim", "layers"):
            positive(name, getattr(self, name))
        at_least("positions", self.positions, 0)
        one_of("mixer", self.mixer, MIXERS)
        one_of("ffn", self.ffn, FFNS)
        one_of("init", self.init, ("gpt2", "torch"))
        fraction("dropout", self.dropout)


class LMState(NamedTuple):
    """What a `CharLM` remembers between calls: tokens seen, and one state a block."""

    seen: int
    mixers: tuple[Any, ...]


class LMRouted(NamedTuple):
    """Logits `[batch, time, vocab]`, the routes of the routed layers, and the next state."""

    logits: Tensor
    routes: tuple[Route, ...]
    state: LMState


class Block(nn.Module):
    """norm → mixer → residual, norm → feed-forward → residual."""

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        mixer, ffn = MIXERS[config.mixer], FFNS[config.ffn]
        self.mixer = mixer(config.dim, **config.mixer_options) if mixer else None
        self.ffn: nn.Module | None = ffn(config.dim, **config.ffn_options) if ffn else None
        self.mixer_norm = nn.LayerNorm(config.dim, bias=config.bias) if mixer else None
        self.ffn_norm = nn.LayerNorm(config.dim, bias=config.bias) if ffn else None
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, state: Any = None, tokens: Tensor | None = None
    ) -> tuple[Tensor, Route | None, Any]:
        """Return the new `[batch, time, dim]`, any route, and the mixer's state."""
        route = None
        if self.mixer is not None and self.mixer_norm is not None:
            read, state = self.mixer(self.mixer_norm(x), state)
            x = x + self.dropout(read)
        if self.ffn is not None and self.ffn_norm is not None:
            normed = self.ffn_norm(x)
            if isinstance(self.ffn, TiledFFN):
                read, route = self.ffn.routed(normed, tokens)
            elif _routes(self.ffn):
                read, route = self.ffn.routed(normed)
            else:
                read = self.ffn(normed)
            x = x + self.dropout(read)
        return x, route, state


class CharLM(nn.Module):
    """embed → blocks → norm → head, over characters.

    `model(tokens)` gives logits. `model.routed(tokens, state)` gives logits, the routes of every
    routed layer, and the state to go on from: training, evaluation and step-by-step generation are
    the same computation.

    >>> import torch
    >>> model = CharLM(LMConfig(vocab_size=5, dim=8, layers=2, ffn="trix", mixer="none"))
    >>> logits, routes, state = model.routed(torch.tensor([[0, 3, 4]]))
    >>> logits.shape, len(routes), state.seen
    (torch.Size([1, 3, 5]), 2, 3)

    Raises:
        IndexError: a token is outside the vocabulary (on a GPU, torch stops by itself).
        ValueError: tokens are not two-dimensional, or run past the learned positions.
    """

    def __init__(self, config: LMConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.dim)
        self.position = nn.Embedding(config.positions, config.dim) if config.positions else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim, bias=config.bias)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=config.bias and not config.tied)
        init_weights(self)
        if config.tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Return next-character logits `[batch, time, vocab]` for int64 tokens `[batch, time]`."""
        return self.routed(tokens).logits

    def routed(self, tokens: Tensor, state: LMState | None = None) -> LMRouted:
        """Return logits, routes and state, going on from where an earlier call stopped, if any."""
        x, routes, state = self.features(tokens, state)
        return LMRouted(self.head(x), routes, state)

    def features(
        self, tokens: Tensor, state: LMState | None = None, told: Tensor | None = None
    ) -> tuple[Tensor, tuple[Route, ...], LMState]:
        """Return what the head reads, and `told` adds to, `[batch, time, dim]`; routes; state."""
        shape("tokens", tokens, "batch", "time")
        seen, mixers = state if state is not None else (0, (None,) * len(self.blocks))
        end = seen + tokens.shape[1]
        try:
            x = self.embed(tokens)
        except IndexError:
            indices("tokens", tokens, self.config.vocab_size)  # says which
            raise
        if self.position is not None:
            if end > self.config.positions:
                raise ValueError(f"at most {self.config.positions} positions, got {end} tokens")
            x = x + self.position.weight[seen:end]
        if told is not None:
            x = x + told
        x = self.dropout(x)
        routes, states = [], []
        for block, mixer_state in zip(self.blocks, mixers, strict=True):
            x, route, next_state = block(x, mixer_state, tokens)
            routes.append(route)
            states.append(next_state)
        return self.norm(x), tuple(r for r in routes if r is not None), LMState(end, tuple(states))

    generate = generate

    def routed_layers(self) -> list[RoutedLayer]:
        """Return the feed-forward layers that route, in the order of `LMRouted.routes`."""
        return [b.ffn for b in self.blocks if _routes(b.ffn)]

    def parameter_count(self) -> int:
        """Return the number of trained parameters, shared ones once."""
        return sum(p.numel() for p in self.parameters())


def _routes(layer: Any) -> TypeGuard[RoutedLayer]:
    # asking for a `RoutedLayer` would look at its signatures, and so work them out
    return hasattr(type(layer), "routed")


def init_weights(model: CharLM) -> None:
    """Set every initial scale of a `CharLM`; `init="torch"` keeps what PyTorch gives.

    "gpt2" (Radford et al. 2019): matrices and embeddings normal with standard deviation 0.02, what
    writes into the residual stream 0.02 / √(2 · layers), so that its variance does not grow with
    depth, and biases zero. Tiles, slots and what is `kept` below keep their classes' scales.
    """
    if model.config.init == "torch":
        return
    residual = 0.02 / math.sqrt(2 * len(model.blocks))
    kept = {id(m.up) for m in model.modules() if isinstance(m, WideDenseFFN)}
    kept |= {id(m.query) for m in model.modules() if isinstance(m, ProductKeyFFN)}
    kept |= {id(m.inner.qkv) for m in model.modules() if isinstance(m, ConvolvedAttention)}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and id(module) not in kept:
            out = name.endswith((".out", ".down"))
            nn.init.normal_(module.weight, std=residual if out else 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
