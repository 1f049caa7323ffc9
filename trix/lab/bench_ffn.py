"""How fast layers that read are beside the dense one: a token, many tokens, a training step."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from trix.lab.bench import bandwidth, side_by_side
from trix.lab.charlm import FFNS
from trix.tiles.ffn import DenseFFN
from trix.tiles.lookup import SparseLookupFFN
from trix.tiles.packed_lookup import PackedLookup

DIM, MANY = 512, 4096
TILES, READ, CELLS = 960, 60, 8
"""Scaled with the width from `sparse-lookup/half`: 240 tiles, 15 read, at a width of 128."""
SMALL, TOKENS = 128, 768
"""Width and tokens of a training step: the `nano` protocol's."""

TRAINED: dict[str, dict[str, Any]] = {
    "hierarchical-trix": {},
    "hybrid-kan": {},
    "fractal": {"branching": [4, 4, 4]},
    "funnel": {},
    "codebook": {"entries": 64},
    "lookup": {},
    "mixture": {"tiles": 64},
    "product-keys": {"sub_keys": 8},
    "tiled": {"tiles": 64},
}
"""Layers of 64 tiles, by their name in a `CharLM`."""


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Time inference at width 512 and training steps of layers of 64 tiles, turn by turn.

    Float32, on as many threads as torch is set to. The cases of one size take turns. Inference is
    of `PackedLookup`, of layers that were not trained: time does not depend on it. A training
    step is forward, backward and nothing else, beside a dense layer of as many parameters.

    Args:
        quick: small sizes and few rounds, to see that it works.

    Returns:
        Rows, one a case. In each stand `what`, `size`, `seconds`, `against`, `against_seconds`,
        `ratio`, how often the seconds go into those of the dense layer, and for both `bound` and
        `against_bound`: the seconds it would take to move what must be moved at the speed of a
        large copy. That is keys, the values that are read, tokens in and out; in training,
        parameters, twice read and once written as gradients.
    """
    speed = bandwidth()
    return [*_inference(quick, speed), *_training(quick, speed)]


def _inference(quick: bool, speed: float) -> list[dict[str, Any]]:
    dim, tiles, read = (32, 60, 4) if quick else (DIM, TILES, READ)
    torch.manual_seed(0)
    dense = DenseFFN(dim).eval()
    layers = {
        "packed lookup, flat": SparseLookupFFN(dim, tiles, None, CELLS, read),
        # a quarter of the tiles compared, as in `lookup-layer/half-clusters`
        "packed lookup, clusters": SparseLookupFFN(dim, tiles, 15, CELLS, read, tiles // 60),
    }
    packed = {name: PackedLookup(layer) for name, layer in layers.items()}
    rows = []
    for count in (1, 64 if quick else MANY):
        x = torch.randn(count, dim)
        with torch.no_grad():
            cases: dict[str, Callable[[], Any]] = {"dense": lambda: dense(x)}  # noqa: B023
            cases |= {name: lambda p=p: p(x) for name, p in packed.items()}  # noqa: B023
            rounds = 3 if quick else 401 if count == 1 else 11
            seconds = side_by_side(cases, rounds)
        for name, layer in packed.items():
            passing = 8 * count * dim  # tokens in and out
            values = min(count * read, tiles) * 4 * (dim + CELLS + 1)
            keys = layer.keys.packed.nbytes
            rows.append(
                {
                    "what": name,
                    "size": f"{count} tokens of {dim}, {read} of {tiles} read",
                    "seconds": seconds[name],
                    "against": f"dense, {4 * dim} hidden",
                    "against_seconds": seconds["dense"],
                    "ratio": seconds["dense"] / seconds[name],
                    "bound": (keys + values + passing) / speed,
                    "against_bound": (32 * dim * dim + passing) / speed,
                }
            )
    return rows


def _training(quick: bool, speed: float) -> list[dict[str, Any]]:
    dim, tokens = (16, 40) if quick else (SMALL, TOKENS)
    rows = []
    for name, options in tqdm(TRAINED.items(), desc="training steps", unit="layer"):
        torch.manual_seed(0)
        make = FFNS[name]
        if make is None:
            raise ValueError(f"expected a layer, got {name!r}")
        layer = make(dim, **options)
        size = sum(p.numel() for p in layer.parameters())
        hidden = max(1, round(size / (2 * dim)))
        dense, x = DenseFFN(dim, hidden), torch.randn(tokens, dim)
        seconds = side_by_side(
            {name: lambda: _step(layer, x), "dense": lambda: _step(dense, x)},  # noqa: B023
            rounds=2 if quick else 31,
        )
        rows.append(
            {
                "what": f"training step, {name}",
                "size": f"{tokens} tokens of {dim}, {size} parameters",
                "seconds": seconds[name],
                "against": f"dense, {hidden} hidden",
                "against_seconds": seconds["dense"],
                "ratio": seconds["dense"] / seconds[name],
                "bound": 12 * size / speed,
                "against_bound": 24 * hidden * dim / speed,
            }
        )
    return rows


def _step(layer: nn.Module, x: Tensor) -> None:
    layer(x).square().mean().backward()
    layer.zero_grad(set_to_none=True)
