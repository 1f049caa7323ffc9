"""The training protocols, named once and used everywhere."""

from dataclasses import dataclass, replace
from typing import Any

from trix.lab.charlm import LMConfig
from trix.lab.optimize import TrainConfig


@dataclass(frozen=True)
class Protocol:
    """A model size, a training recipe and the block length of its evaluation."""

    model: LMConfig
    train: TrainConfig
    block: int

    def with_model(self, **changes: Any) -> LMConfig:
        """Return the protocol's model with some settings changed (mixer, ffn, vocab_size, …)."""
        return replace(self.model, **changes)


_NANO = Protocol(
    LMConfig(positions=64, mixer_options={"heads": 4}),
    TrainConfig(),
    block=64,
)

PROTOCOLS: dict[str, Protocol] = {
    # the source notes' benchmark: biases everywhere, an untied head, dropout, a constant rate,
    # and PyTorch's own initial scales, which come out near its figure; the initial scales, clipping
    # and decay of matrices alone are our choice, for the notes state none
    "seed": Protocol(
        LMConfig(
            positions=512,
            mixer_options={"heads": 4, "bias": True, "dropout": 0.1},
            ffn_options={"bias": True},
            dropout=0.1,
            bias=True,
            tied=False,
            init="torch",
        ),
        TrainConfig(
            steps=1000,
            batch=32,
            lr=3e-4,
            schedule="constant",
            warmup=0,
            beta2=0.999,
            weight_decay=0.01,
        ),
        block=64,
    ),
    # nanoGPT's setting for a CPU
    "nano": _NANO,
    # the same, shorter: for ablations with many arms
    "probe": replace(_NANO, train=replace(_NANO.train, steps=600)),
    # the network of a look-it-up model by itself, judged in the same blocks as the whole
    "lookup-network": Protocol(LMConfig(positions=0), TrainConfig(), block=256),
    # nanoGPT's setting for a GPU: 10.6 million parameters
    "nano-gpu": Protocol(
        LMConfig(
            dim=384,
            layers=6,
            positions=256,
            mixer_options={"heads": 6, "dropout": 0.2},
            dropout=0.2,
        ),
        TrainConfig(steps=5000, batch=64, context=256),
        block=256,
    ),
}


def protocol(name: str) -> Protocol:
    """Return a protocol by name.

    Raises:
        ValueError: there is no such protocol.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {sorted(PROTOCOLS)}, got {name!r}")
    return PROTOCOLS[name]
