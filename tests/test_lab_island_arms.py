"""What is measured of signatures, against loops and closed forms, and how its arms train."""

import math
from typing import Any

import pytest
import torch

import trix
import trix.experiments.arm
from trix.address.signatures import SignatureRows
from trix.experiments.islands import NEAR, Islands, island_statistics
from trix.lab.corpus import Corpus
from trix.lab.recipes import PROTOCOLS, Protocol
from trix.models.charlm import CharLM

CORPUS = Corpus(
    "small", "made up", "the cat sat on the mat; " * 30 + "a cat that sat on a hat. " * 9
)
TINY = Protocol(
    trix.lab.LMConfig(dim=8, layers=2, positions=6, mixer_options={"heads": 2}),
    trix.lab.TrainConfig(steps=600, batch=2, context=5, warmup=1, lr=0.01),
    block=6,
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "probe", TINY)
    monkeypatch.setattr(trix.experiments.arm, "QUICK_STEPS", 4)


def _by_hand(rows):
    """Return what `island_statistics` must, number by number."""
    cut = rows().tolist()
    latent = []
    for row, kept in zip(rows.raw.tolist(), cut, strict=True):
        sizes = [abs(v) for v, c in zip(row, kept, strict=True) if c]
        latent.append([v * len(sizes) / sum(sizes) for v in row])

    def cosines(table):
        return [
            sum(a * b for a, b in zip(first, second, strict=True))
            / math.hypot(*first)
            / math.hypot(*second)
            for n, first in enumerate(table)
            for m, second in enumerate(table)
            if n != m
        ]

    def mean(values):
        return math.fsum(values) / len(values)

    flat, cuts = [v for row in latent for v in row], [v for row in cut for v in row]
    hoyer = [mean([abs(v) for v in r]) / math.sqrt(mean([v * v for v in r])) for r in latent]
    return {
        "ternary_fraction": mean([min(abs(v - g) for g in (-1, 0, 1)) <= NEAR for v in flat]),
        "sparsity_before": mean([abs(v) <= NEAR for v in flat]),
        "hoyer": 1 - mean(hoyer),
        "diversity_before": 1 - mean([c * c for c in cosines(latent)]),
        "ternary_fraction_after": 1.0,
        "sparsity": mean([v == 0 for v in cuts]),
        "diversity": 1 - mean([c * c for c in cosines(cut)]),
        "diversity_linear": 1 - mean([abs(c) for c in cosines(cut)]),
    }


@pytest.mark.parametrize(("tiles", "dim"), [(2, 5), (5, 7), (13, 11)])
def test_statistics_equal_the_loop(tiles, dim):
    torch.manual_seed(tiles)
    rows = SignatureRows(tiles, dim)
    assert island_statistics(rows) == pytest.approx(_by_hand(rows), abs=1e-6)


def test_statistics_of_exactly_ternary_rows():
    rows = SignatureRows(3, 8)
    signatures = [[1, -1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 1, -1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1, -1]]
    for tile, row in enumerate(signatures):
        rows.insert(tile, torch.tensor(row))
    found = island_statistics(rows)
    zeros = (6 + 4 + 0) / 24
    squares = (0.0**2 + 0.0**2 + (2 / math.sqrt(4 * 8)) ** 2) / 3  # of the three pairs' cosines
    assert found == pytest.approx(
        {
            "ternary_fraction": 1.0,
            "sparsity_before": zeros,
            "hoyer": 1 - (math.sqrt(2 / 8) + math.sqrt(4 / 8) + 1) / 3,
            "diversity_before": 1 - squares,
            "ternary_fraction_after": 1.0,
            "sparsity": zeros,
            "diversity": 1 - squares,
            "diversity_linear": 1 - 2 / math.sqrt(4 * 8) / 3,
        },
        abs=1e-6,
    )


def test_statistics_of_random_rows_in_many_dimensions():
    torch.manual_seed(0)
    dim = 4000
    found = island_statistics(SignatureRows(40, dim))
    cut = 0.5 * math.sqrt(2 / math.pi)  # half the mean size
    tail = math.erfc(cut / math.sqrt(2))
    scale = 2 * math.exp(-cut * cut / 2) / math.sqrt(2 * math.pi) / tail
    within = math.erf(NEAR * scale / math.sqrt(2))
    around = [math.erf(scale * edge / math.sqrt(2)) for edge in (1 - NEAR, 1 + NEAR)]
    assert found["diversity"] == pytest.approx(1 - 1 / dim, abs=0.1 / dim)
    assert found["diversity_before"] == pytest.approx(1 - 1 / dim, abs=0.1 / dim)
    linear = math.sqrt(2 / math.pi / dim)
    assert found["diversity_linear"] == pytest.approx(1 - linear, abs=0.05 * linear)
    assert found["sparsity"] == pytest.approx(1 - tail, abs=0.005)
    assert found["sparsity_before"] == pytest.approx(within, abs=0.003)
    assert found["ternary_fraction"] == pytest.approx(within + around[1] - around[0], abs=0.005)
    assert found["hoyer"] == pytest.approx(1 - math.sqrt(2 / math.pi), abs=0.003)
    assert found["ternary_fraction_after"] == 1.0


def _mean(model):
    found = [_by_hand(layer.keys) for layer in model.routed_layers()]
    return {name: sum(f[name] for f in found) / len(found) for name in found[0]}


def _fresh(seed):
    torch.manual_seed(seed)
    config = TINY.with_model(
        vocab_size=CORPUS.vocab_size, ffn="lookup", ffn_options={"tiles_per_cluster": None}
    )
    return CharLM(config)


def test_start_and_random_are_untrained_signatures(tmp_path):
    start = Islands(data="start").run(CORPUS, 3, "quick", tmp_path).metrics
    other = Islands(data="random").run(CORPUS, 3, "quick", tmp_path).metrics
    assert start == pytest.approx(_mean(_fresh(3)), abs=1e-6)
    assert other == pytest.approx(_mean(_fresh(1003)), abs=1e-6)
    assert start["sparsity"] != other["sparsity"]
    assert list(tmp_path.iterdir()) == []


def test_training_on_text_is_measured_at_its_end(tmp_path, monkeypatch):
    models: list[Any] = []
    real = trix.experiments.islands.trained  # pyright: ignore[reportAttributeAccessIssue]

    def watched(*arguments):
        models.append((arguments, real(*arguments)))
        return models[-1][1]

    monkeypatch.setattr("trix.experiments.islands.trained", watched)
    losses = {"sparsity": 0.3, "diversity": 0.2}
    for weights in (losses, {}):
        arm = Islands(weights)
        outcome = arm.run(CORPUS, 1, "quick", tmp_path / str(len(weights)))
        (_, corpus, seed, budget, _), model = models[-1]
        assert (corpus, seed, budget) == (CORPUS, 1, "quick")
        nats = trix.lab.evaluate(trix.lab.model_log_probs(model), CORPUS.val, 6).nats
        assert outcome.metrics == pytest.approx({"val_nats": nats} | _mean(model), abs=1e-6)
        assert outcome.parameters == model.parameter_count()
        assert (arm.config(CORPUS, "quick")["train"].get("loss_weights") or {}) == weights
        assert arm.config(CORPUS, "quick")["data"] == "text"
    with_losses, without = (model for _, model in models)
    assert not torch.equal(with_losses.blocks[0].ffn.keys.raw, without.blocks[0].ffn.keys.raw)


@pytest.mark.parametrize(
    ("loss", "metric"),
    [("ternary-pull", "ternary_fraction"), ("sparsity", "hoyer"), ("diversity", "diversity")],
)
def test_a_loss_alone_moves_what_it_is_about(tmp_path, monkeypatch, loss, metric):
    monkeypatch.setattr(trix.experiments.arm, "QUICK_STEPS", 60)
    start = Islands(data="start").run(CORPUS, 0, "quick", tmp_path).metrics
    end = Islands({loss: 1.0}, data="none").run(CORPUS, 0, "quick", tmp_path).metrics
    assert end[metric] > start[metric] + 0.01
    assert "val_nats" not in end


def test_the_losses_alone_take_as_many_steps_and_no_other(monkeypatch, tmp_path):
    rates, step = [], torch.optim.AdamW.step

    def counted(self, *arguments, **options):
        rates.append(
            (self.param_groups[0]["lr"], [p.shape for p in self.param_groups[0]["params"]])
        )
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    arm = Islands({"sparsity": 0.3}, data="none")
    arm.run(CORPUS, 0, "quick", tmp_path)
    settings = trix.lab.TrainConfig(steps=4, batch=2, context=5, warmup=1, lr=0.01)
    expected = [trix.lab.optimize.learning_rate(settings, n) for n in range(4)]  # pyright: ignore[reportAttributeAccessIssue]
    assert [rate for rate, _ in rates] == pytest.approx(expected)
    assert all(shapes == [(64, 8)] * 2 for _, shapes in rates)


def test_unknown_data_are_named():
    with pytest.raises(ValueError, match="must be text, none, start or random, got 'noise'"):
        Islands(data="noise")
