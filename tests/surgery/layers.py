"""Layers with editable signatures, small ones of every kind, and tokens for them."""

from typing import Any

import torch

import trix

DIM, TILES = 7, 5
LAYERS: dict[str, Any] = {
    "lookup": lambda: trix.SparseLookupFFN(DIM, TILES, None, 4),
    "three": lambda: trix.SparseLookupFFN(DIM, TILES, None, None, top_k=3),
    "clusters": lambda: trix.SparseLookupFFN(DIM, TILES, 3, None, top_k=2, beam=1),
    "groups": lambda: trix.CodebookFFN(DIM, TILES, groups=2, top_k=2),
    "funnel": lambda: trix.FunnelFFN(DIM, TILES, 3, levels=3),
    "tiled": lambda: trix.TiledFFN(DIM, TILES, top_k=2, source="decoupled"),
}


def made(name="lookup") -> Any:
    torch.manual_seed(0)
    return LAYERS[name]()


def tokens(*shape, seed=1):
    return torch.randn(*shape, DIM, generator=torch.Generator().manual_seed(seed))


def state(layer):
    return {name: value.detach().clone() for name, value in layer.state_dict().items()}


def same(first, second):
    # bit for bit
    return first.keys() == second.keys() and all(
        first[name].numpy().tobytes() == second[name].numpy().tobytes() for name in first
    )
