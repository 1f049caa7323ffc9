"""The trainer is the plain loop, bit for bit, with routing losses, Muon and checkpoints added."""

import dataclasses
import importlib
import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from trix.lab.optimize import TrainConfig, learning_rate
from trix.lab.train import train
from trix.models.charlm import CharLM, LMConfig
from trix.models.storage import load_checkpoint

trainer = importlib.import_module("trix.lab.train")  # the package has a function of that name
CONFIG = TrainConfig(steps=7, batch=3, context=5, lr=1e-2, warmup=2)
WIDE = {"dim": 32, "layers": 2, "ffn": "lookup", "ffn_options": {"tiles": 40, "top_k": 3}}
BALANCED = {"tiles": 3, "hidden": 4, "source": "data", "balance": 0.1}


def _with(**changes):
    return dataclasses.replace(CONFIG, **changes)


def _model(**changes):
    settings = {"vocab_size": 7, "dim": 8, "layers": 1, "positions": 5, "dropout": 0.2}
    torch.manual_seed(11)
    return CharLM(LMConfig(**{**settings, "mixer_options": {"heads": 2}, **changes}))


def _data(length=200, seed=0):
    return torch.randint(7, (length,), generator=torch.Generator().manual_seed(seed))


def _run(folder=None, config=CONFIG, data=None, seed=4, save_every=3, model=None):
    model = _model() if model is None else model
    data = _data() if data is None else data
    result = train(model, data, config, seed, folder, save_every, progress=False)
    return model, result


def _same(a, b):
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(p, q) for p, q in pairs)


def test_the_learning_rate_follows_its_schedule():
    config = TrainConfig(steps=2000, lr=1e-3, schedule="cosine", warmup=100)
    rate = [learning_rate(config, step) for step in range(2001)]
    assert rate[0] == pytest.approx(1e-3 / 101)
    assert rate[99] == pytest.approx(1e-3 * 100 / 101)
    assert rate[100] == pytest.approx(1e-3)
    assert rate[1050] == pytest.approx(1e-3 * 0.55)  # halfway
    assert rate[100 + 1900 // 4] == pytest.approx(1e-3 * (0.55 + 0.45 * math.sqrt(0.5)))
    assert rate[2000] == pytest.approx(1e-4)
    assert all(a > b for a, b in itertools.pairwise(rate[100:]))
    config = TrainConfig(steps=9, lr=0.3, schedule="constant", warmup=2)
    assert [learning_rate(config, s) for s in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.3])
    bare = dataclasses.replace(config, warmup=0)
    assert {learning_rate(bare, s) for s in range(9)} == {0.3}
    config = TrainConfig(steps=100, warmup=20, lr=1.0, schedule="linear")
    assert [learning_rate(config, s) for s in (60, 100)] == pytest.approx([0.5, 0])


def _plain(model, config, optimizers):
    # `optimizers` is a list of (optimizer, peak over the config's)
    data, windows, loss = _data(), torch.Generator().manual_seed(4), torch.tensor(math.nan)
    model.train()
    torch.manual_seed(4)
    for step in range(config.steps):
        starts = torch.randint(195, (3,), generator=windows).tolist()
        x = torch.stack([data[i : i + 5] for i in starts])
        y = torch.stack([data[i + 1 : i + 6] for i in starts])
        model.zero_grad()
        loss = F.cross_entropy(model(x).view(15, 7), y.view(15))
        loss.backward()
        if config.clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        for optimizer, factor in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step) * factor
            optimizer.step()
    return loss.item()


def _adamw(parameters, decay, beta2):
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, beta2), fused=True)


@pytest.mark.parametrize(("schedule", "clip"), [("cosine", 0.05), ("constant", 0.0)])
def test_it_is_the_plain_loop_bit_for_bit(schedule, clip):
    config = TrainConfig(9, 3, 5, 1e-2, schedule, warmup=2, beta2=0.9, weight_decay=0.3, clip=clip)
    trained, result = _run(config=config)
    model = _model()
    loss = _plain(model, config, [(_adamw(list(model.parameters()), 0.3, 0.9), 1)])
    assert _same(trained, model)
    assert result.curve == [(9, loss)]
    assert not trained.training


def test_muon_follows_the_schedule_beside_adamw():
    config = _with(muon=0.5, clip=0.0, steps=5)
    trained, _ = _run(config=config, model=_model(**WIDE))
    model = _model(**WIDE)
    large = [
        p for n, p in model.named_parameters() if "blocks" in n and p.ndim > 1 and min(p.shape) > 31
    ]
    rest = [p for p in model.parameters() if not any(p is q for q in large)]
    muon = torch.optim.Muon(large, weight_decay=0.05)
    _plain(model, config, [(_adamw(rest, 0.1, 0.99), 1), (muon, 50)])
    for (name, a), b in zip(trained.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_the_seed_decides_and_the_process_keeps_its_own_randomness():
    torch.manual_seed(77)
    expected = torch.rand(3)
    first, _ = _run()
    again = _model()
    torch.manual_seed(77)
    _run(model=again)
    assert torch.equal(torch.rand(3), expected)
    assert _same(first, again)
    assert not _same(first, _run(seed=5)[0])
    _run(data=_data(6))  # the shortest text there can be


def test_a_routing_loss_is_added_with_its_weight(monkeypatch):
    def gradient(weights):
        model, kept = _model(ffn="trix", ffn_options={"tiles": 5}, layers=2, dropout=0.0), {}
        monkeypatch.setattr(
            torch.optim.AdamW,
            "step",
            lambda *_: kept.update({n: p.grad for n, p in model.named_parameters()}),
        )
        _run(config=_with(steps=1, clip=0.0, loss_weights=weights), model=model)
        return kept

    plain, once, twice = (gradient(w) for w in ({}, {"diversity": 0.3}, {"diversity": 0.6}))
    for name in plain:
        torch.testing.assert_close(twice[name] - plain[name], 2 * (once[name] - plain[name]))
        touched = name.endswith("ffn.up")  # signatures are read off these alone
        assert torch.equal(once[name], plain[name]) != touched, name
    assert sum(name.endswith("ffn.up") for name in plain) == 2


def test_the_temperature_follows_its_schedule():
    model = _model(ffn="tiled", ffn_options={"tiles": 3, "hidden": 4, "top_k": 3})
    seen, routed, (layer,) = [], model.routed, model.routed_layers()

    def watched(*args):
        seen.append(layer.log_temperature.exp().item())  # pyright: ignore
        return routed(*args)

    model.routed = watched  # pyright: ignore[reportAttributeAccessIssue]
    _run(config=_with(steps=3, anneal=(2.0, 0.02)), model=model)
    assert seen == pytest.approx([2.0, 0.2, 0.02])


@pytest.mark.parametrize(
    ("config", "changes"),
    [(CONFIG, {"ffn": "tiled", "ffn_options": BALANCED}), (_with(muon=0.02), WIDE)],
    ids=["what learns outside the gradient", "muon"],
)
def test_all_that_a_run_changes_goes_on_as_if_it_had_not_stopped(tmp_path, config, changes):
    whole, _ = _run(config=config, model=_model(**changes))
    if "balance" in changes["ffn_options"]:
        (layer,) = whole.routed_layers()
        assert layer.source.started  # pyright: ignore[reportAttributeAccessIssue]
        assert layer.bias.abs().sum() > 0  # pyright: ignore[reportAttributeAccessIssue]
    real, done = trainer._step, []

    def step(*args):
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(1)
        return real(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_step", step)
        with pytest.raises(KeyboardInterrupt):
            _run(tmp_path, config, model=_model(**changes), save_every=2)
    again, _ = _run(tmp_path, config, model=_model(**changes), save_every=2)
    assert _same(whole, again)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch": -3}, "batch must be at least 1, got -3"),
        ({"context": 0}, "context must be at least 1, got 0"),
        ({"lr": -1e-3}, "lr must be finite and not negative, got -0.001"),
        ({"clip": math.nan}, "clip must be finite and not negative, got nan"),
        ({"warmup": -1}, "warmup must be finite and not negative, got -1"),
        ({"weight_decay": math.inf}, "weight_decay"),
        ({"beta2": 1.0}, r"beta2 must be in \[0, 1\), got 1.0"),
        ({"anneal": (1.0, 0.0)}, "end must be positive and finite, got 0"),
        ({"muon": 0.0}, "muon must be positive and finite, got 0.0"),
        ({"schedule": "square"}, "one of .*linear.*, got 'square'"),
        ({"loss_weights": {"balance": 1.0}}, r"unknown routing losses \['balance'\]; known are"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**change)


ROUTED = {"ffn": "trix", "ffn_options": {"tiles": 3}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": _data(5)}, r"length > 5\] for that context, got \[5\]"),
        ({"data": torch.zeros(2, 9).long()}, r"length > 5\] for that context, got \[2, 9\]"),
        ({"data": torch.arange(8)}, "data must be in 0 … 6, got 0 … 7"),
        ({"save_every": 0}, "save_every must be at least 1, got 0"),
        ({"seed": 10**20 - 1}, "seed must be below .*, got 99999999999999999999"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        (
            {"config": _with(loss_weights={"diversity": 0.1})},
            r"\['diversity'\] need .* routes, got ffn='dense'",
        ),
        (
            {"config": _with(anneal=(2.0, 0.02)), "model": _model(**ROUTED)},
            "anneal needs .* a temperature, got ffn='trix'",
        ),
        ({"config": _with(muon=0.02)}, "at least 32 rows and columns, got none in a CharLM"),
    ],
)
def test_bad_calls_are_refused_and_leave_nothing(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        _run(tmp_path, **change)
    assert list(tmp_path.iterdir()) == []


def test_progress_names_threads_loss_and_speed(capsys):
    train(_model(), _data(), CONFIG)
    shown = capsys.readouterr().err
    assert all(word in shown for word in ("1 thread:", "7/7", "loss ", "tokens/s"))


def test_what_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    config, step = _with(steps=45), trainer._step

    def spoiled(run, *rest):
        loss = step(run, *rest)
        if run.step == 30:
            with torch.no_grad():
                run.model.norm.weight[0] = math.nan
        return loss

    monkeypatch.setattr(trainer, "_step", spoiled)
    for save_every, broken in ((1, "a weight .* at step 31"), (100, "loss is nan at step 40")):
        with pytest.raises(FloatingPointError, match=broken):
            _run(tmp_path / str(save_every), config, save_every=save_every)
    assert load_checkpoint(tmp_path / "100") is None
    saved = load_checkpoint(tmp_path / "1")
    assert saved is not None
    assert saved.values["step"] == 30
    assert all(t.isfinite().all() for name, t in saved.tensors.items() if "model" in name)
    monkeypatch.setattr(trainer, "_step", step)
    again, result = _run(tmp_path / "1", config)
    assert [step for step, _ in result.curve] == [20, 40, 45]
    assert _same(again, _run(config=config)[0])
