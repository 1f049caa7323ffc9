"""`trix train`: the model it leaves, going on after Ctrl-C, and what it refuses."""

import errno
import json
import math
import os
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import TEXT, TRAIN, contents, trainer
from trix.lab import fit
from trix.lab.corpus import load_corpus
from trix.lab.evaluate import evaluate, model_log_probs
from trix.lab.recipes import BLOCK
from trix.models.lookup import BlockDraw, LookupLM
from trix.models.storage import INDEX, load_checkpoint, load_model, save_checkpoint


def _weights(folder):
    return load_model(folder).model.state_dict()


def _same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("preset", ["tiny", "net"])
def test_training_leaves_a_model_that_says_what_it_is(place, train, preset):
    result = train("--json", "--seed", "3", preset=preset)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    told = json.loads(result.stdout)
    folder = place / "runs" / preset
    assert told.pop("model") == f"runs/{preset}"
    stored = load_model(folder)
    assert stored.about == told
    assert (told["preset"], told["steps"], told["seed"]) == (preset, 12, 3)
    assert told["corpus"] == load_corpus("cats.txt").provenance()
    assert told["versions"]["torch"] == torch.__version__
    assert told["parameters"] == stored.model.parameter_count()
    val = torch.tensor([stored.alphabet.index(c) for c in TEXT[int(0.9 * len(TEXT)) :]])
    loss = evaluate(model_log_probs(stored.model), val, BLOCK).nats
    assert told["val_nats"] == pytest.approx(loss, abs=1e-6)
    assert told["val_perplexity"] == pytest.approx(math.exp(loss))
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".json", ".safetensors"]

    text = load_corpus("cats.txt")  # it is what counting and the trainer make of the text
    config = fit.TrainRequest(preset, text).model()
    assert config.vocab_size == (config.network or config).vocab_size == 12
    torch.manual_seed(3)
    expected = LookupLM(config, *fit.count(config, text.train, text.alphabet))
    trainer.train(expected, BlockDraw(text.train, 2), TRAIN, 3, progress=False)
    assert _same(_weights(folder), expected.state_dict())


def test_messages_go_beside_the_output_and_the_shortest_text_is_taken(place, call):
    Path("cats.txt").write_text(TEXT[:20])
    result = call("train", "tiny", "--corpus", "cats.txt")
    assert result.exit_code == 0
    assert "nats a character" in result.stdout
    assert len(result.stdout.splitlines()) == 1
    assert "counting n-grams of 1 … 4 characters in cats.txt" in result.stderr
    assert "12/12" in result.stderr


def test_seed_and_steps_and_order_are_used(model, train):
    first = _weights(model())
    for i, options in enumerate([["--seed", "1"], ["--steps", "5"], ["--order", "2"]]):
        assert train("--out", f"m{i}", *options).exit_code == 0
        assert not _same(first, _weights(Path(f"m{i}")))
    assert load_model(Path("m1")).about["steps"] == 5
    assert load_model(Path("m2")).model.config.order == 2


@pytest.mark.parametrize(("preset", "step"), [("tiny", 1), ("net", 7), ("tiny", 12)])
def test_ctrl_c_saves_and_the_same_command_ends_in_the_same_model(
    place, call, model, train, press_at, preset, step
):
    model(preset).rename("whole")
    press_at(step)
    result = train("--seed", "0", preset=preset)
    assert result.exit_code == 130
    assert f"trix train {preset} --corpus=cats.txt --seed=0 --out=runs/{preset}" in result.stderr
    saved = load_checkpoint(place / "runs" / preset / "training")
    assert saved is not None
    assert saved.values["step"] == step
    assert call("sample", f"runs/{preset}").exit_code == 1  # there is no model yet
    assert train(preset=preset).exit_code == 0
    assert _same(_weights(place / "runs" / preset), _weights(place / "whole"))
    assert not (place / "runs" / preset / "training").exists()


def test_ctrl_c_while_counting_leaves_nothing_half(place, train, monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fit, "count", pressed)
        assert train().exit_code == 130
    assert contents(place / "runs") == {}
    assert train().exit_code == 0


def test_a_finished_model_is_not_trained_again_nor_replaced_by_another(model, train, monkeypatch):
    before = contents(folder := model())
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_step", lambda *_: pytest.fail("trained again"))
        result = train("--json")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["steps"] == 12
        for options in (["--seed", "1"], ["--steps", "13"], ["--minutes", "1"], ["--order", "2"]):
            result = train(*options)
            assert result.exit_code == 1
            name = options[0].removeprefix("--")
            assert f"holds another model, finished or begun, expected {name}" in result.stderr
        Path("cats.txt").write_text(TEXT.replace("hat", "rat"))
        assert "another model, finished or begun, expected corpus" in train().stderr
    assert contents(folder) == before
    assert train("--steps", "13", "--force").exit_code == 0
    assert load_model(folder).about["steps"] == 13
    assert len(after := contents(folder)) == len(before)
    Path("short.txt").write_text("too short")
    for options in (["--corpus", "nowhere.txt"], ["--order", "40"], ["--corpus", "short.txt"]):
        assert train(*options, "--force").exit_code == 1
        assert contents(folder) == after


def test_a_folder_in_use_or_of_something_else_is_left_alone(place, train):
    with fit.locked(place / "runs" / "tiny"):
        assert "in use by another process" in train().stderr
    save_checkpoint(place / "other", {"x": torch.ones(1)}, {"step": 3})
    before = contents(place / "other")
    for options, message in ([], "a checkpoint of something else"), (["--force"], "no plan.json"):
        result = train("--out", "other", *options)
        assert result.exit_code == 1
        assert message in result.stderr
        assert contents(place / "other") == before


def test_a_plan_keeps_the_steps_that_fitted_into_the_minutes(place, train, press_at, monkeypatch):
    fitting = iter([(9, 0.25)])
    monkeypatch.setattr(fit, "steps_within", lambda *_: next(fitting))
    press_at(4)
    assert train("--minutes", "2").exit_code == 130
    plan = json.loads((place / "runs" / "tiny" / "plan.json").read_text())
    assert (plan["steps"], plan["seconds_a_step"], plan["asked"]["minutes"]) == (9, 0.25, 2)
    assert train("--minutes", "2").exit_code == 0  # it is not measured again
    assert load_model(place / "runs" / "tiny").about["steps"] == 9


def test_steps_are_those_that_fit(place, monkeypatch):
    # a clock that only training and evaluating move: a step takes 2 s, a character read 0.01 s
    now = [100.0]

    def trained(model, draw, config, progress):
        now[0] += 2.0 * config.steps
        return trainer.TrainResult([], 2.0 * config.steps)

    def evaluated(log_probs, text, block):
        now[0] += 0.01 * len(text)

    monkeypatch.setattr(fit, "train", trained)
    monkeypatch.setattr(fit, "evaluate", evaluated)
    monkeypatch.setattr(fit.time, "perf_counter", lambda: now[0])
    request = fit.TrainRequest("tiny", load_corpus("cats.txt"), minutes=2)
    config = request.model()
    memories = fit.count(config, request.corpus.train, request.corpus.alphabet)
    steps, speed = fit.steps_within(120, request, config, memories, "cpu")
    reading = 0.01 * len(request.corpus.val)
    assert speed == 2
    # two steps to begin with, two that are timed, one evaluation to time and one to come
    assert steps == int((120 - 8 - reading - 1.1 * reading) / (1.02 * 2))
    with pytest.raises(
        ValueError, match=r"minutes must leave time for a step, got 2: .* 12[0-9] s"
    ):
        fit.steps_within(9, request, config, memories, "cpu")


def test_minutes_are_measured(place, call):
    result = call("train", "tiny", "--corpus", "cats.txt", "--minutes", "0.03")
    assert result.exit_code == 0, result.output
    assert "fit in 0.03 minutes" in result.stderr
    assert load_model(place / "runs" / "tiny").about["steps"] >= 1


@pytest.mark.parametrize("moment", ["training", "saving"])
def test_on_a_full_disk_what_was_saved_still_stands(model, train, press_at, moment, monkeypatch):
    folder = model()
    folder.rename("whole")
    press_at(6)
    assert train().exit_code == 130
    before = contents(folder / "training")

    def full(path, data):
        if (path.parent.name == "training") == (moment == "training"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    write = Path.write_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        result = train()
    assert result.exit_code == 1
    assert "trix: the disk is full (No space left on device)" in result.stderr
    if moment == "training":
        assert contents(folder / "training") == before
    assert not (folder / INDEX).exists()
    assert not [name for name in contents(folder) if Path(name).name.startswith(".")]
    assert train().exit_code == 0
    assert _same(_weights(folder), _weights(Path("whole")))


def test_a_damaged_plan_or_training_is_named(place, train, press_at):
    press_at(3)
    train()
    folder = place / "runs" / "tiny"
    tensors = next((folder / "training").glob("*.safetensors"))
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"?")
    result = train()
    assert result.exit_code == 1
    assert f"corrupt checkpoint runs/tiny/training/{tensors.name}: expected SHA" in result.stderr
    (folder / "plan.json").write_text('{"steps": 3}')
    assert "corrupt plan runs/tiny/plan.json" in train().stderr
    assert train("--force").exit_code == 0
