"""`trix sample` and `trix explain`: what a stored model writes and says, and what is no model."""

import json
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import TEXT
from trix.cli.explain import style
from trix.models.explain import explain
from trix.models.generate import generate
from trix.models.storage import INDEX, load_checkpoint, load_model, save_checkpoint
from trix.show.figures.style import contrast

ELSEWHERE = "a hat that sat on a cat"  # stands nowhere in the text that was counted


@pytest.mark.parametrize("command", ["sample", "explain"])
def test_what_is_no_model_is_refused(model, call, command):
    folder = model()
    more = ["the cat"] if command == "explain" else []

    def told(folder, message):
        result = call(command, folder, *more)
        assert result.exit_code == 1
        assert message in result.stderr
        assert "Traceback" not in result.output
        assert len(result.stderr.splitlines()) == 1
        assert result.stdout == ""

    told("nowhere", "expected a model in nowhere, but there is none")
    save_checkpoint(Path("foreign"), {"x": torch.ones(1)}, {"run": {}, "step": 3})
    told("foreign", "foreign must hold a 'trix look-it-up model")
    index = json.loads((folder / INDEX).read_text())
    saved = load_checkpoint(folder)
    assert saved is not None
    tensors, values = saved
    save_checkpoint(Path("letters"), tensors, {**values, "alphabet": values["alphabet"] + "!"})
    told("letters", "letters: expected 12 characters, got")
    path = folder / index["tensors"]
    path.write_bytes(path.read_bytes() + b"?")
    told(folder, f"corrupt checkpoint {path}: expected SHA-256 {index['sha256']}, got")
    changed = (folder / INDEX).read_text().replace('"steps": 12', '"steps": 13')
    (folder / INDEX).write_text(changed)
    told(folder, "corrupt checkpoint index")


@pytest.mark.parametrize(("preset", "temperature"), [("tiny", 0), ("net", 0.9), ("dense", 0.8)])
def test_what_streams_is_what_generate_returns(model, call, preset, temperature):
    folder = model(preset)  # the fast sampler cannot write the dense one
    options = ["--prompt", "a cat", "--length", 40, "--temperature", temperature, "--seed", 5]
    stored, generator = load_model(folder), torch.Generator().manual_seed(5)
    prompt = stored.encode("a cat")
    expected = stored.decode(generate(stored.model, prompt, 40, temperature, generator))
    streamed, asked = call("sample", folder, *options), call("sample", folder, *options, "--json")
    assert streamed.exit_code == asked.exit_code == 0
    assert streamed.stdout == expected + "\n"
    told = json.loads(asked.stdout)
    assert told == {"prompt": "a cat", "seed": 5, "temperature": temperature, "text": expected}


def test_characters_are_printed_one_by_one_until_ctrl_c(model, call, monkeypatch):
    def some(*_):
        yield torch.tensor([[1]])
        raise KeyboardInterrupt

    folder, written = model(), []
    with monkeypatch.context() as patch:
        patch.setattr("trix.cli.sample.typer.echo", lambda text="", **_: written.append(text))
        assert call("sample", folder, "--prompt", "cat", "--length", "5").exit_code == 0
    assert written[0] == "cat"
    assert [len(text) for text in written[1:]] == [1] * 5 + [0]
    result = call("sample", folder, "--prompt", "-", "--length", "0", input="the cat")
    assert (result.exit_code, result.stdout) == (0, "the cat\n")
    monkeypatch.setattr("trix.cli.sample.characters", some)
    result = call("sample", folder, "--prompt", "cat")
    alphabet = load_model(folder).alphabet
    assert (result.exit_code, result.stdout) == (130, f"cat{alphabet[1]}\n")
    assert result.stderr == ""


@pytest.mark.parametrize("preset", ["net", "worded"])
def test_explaining_prints_what_was_found(model, call, preset):
    folder, text = model(preset), "the cat; a hat"
    found = explain(load_model(folder), text)
    told = json.loads(call("explain", folder, text, "--json").stdout)
    assert told["places"] == list(found.places)
    assert told["nats"] == found.nats
    assert told["led"] == found.led()
    assert told["rows"] == json.loads(json.dumps([row._asdict() for row in found.rows]))
    result = call("explain", folder, text)
    assert result.exit_code == 0
    assert result.stderr == ""
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


def test_a_text_that_was_counted_is_pointed_out(model, call):
    folder = model()
    for text, counted in ((TEXT[5:30], True), (ELSEWHERE, False), (TEXT[-30:], False)):
        result = call("explain", folder, text, "--no-table")
        assert result.exit_code == 0
        told = "trix: this text stands in the training part of cats.txt" in result.stderr
        assert told is counted
    Path("cats.txt").write_text(TEXT + TEXT)  # another text than the one that was counted
    assert call("explain", folder, TEXT[5:30], "--no-table").stderr == ""
    Path("cats.txt").unlink()
    assert call("explain", folder, TEXT[5:30], "--no-table").stderr == ""


def test_letters_are_read_on_every_colour_of_the_terminal(model):
    found = explain(load_model(model()), "the cat")
    words = ("word", "pair", "apart", "line", "echo", "refrain")
    found = found._replace(places=(*(f"order {n}" for n in range(1, 10)), *words, "network"))
    styles = [style(found, i) for i in range(16)]
    assert len(set(styles)) == 11
    assert len(set(styles[9:15])) == 1
    for one in styles:
        ink, ground = one.split(" on ")
        assert contrast({"black": "#000000", "white": "#FFFFFF"}[ink], ground) > 4.5
    assert style(found, None) == ""


def test_tables_alone_have_neither_tiles_nor_slots_and_lines_are_broken(model, call, monkeypatch):
    folder = model()
    result = call("explain", folder, "-", input="the cat")
    assert result.exit_code == 0
    assert "likeliest" in result.stdout
    assert "tile" not in result.stdout
    assert "slots" not in result.stdout
    short = call("explain", folder, "the cat", "--no-table")
    assert "likeliest" not in short.stdout
    assert result.stdout.startswith(short.stdout)
    monkeypatch.setenv("COLUMNS", "10")
    lines = call("explain", folder, TEXT[:24], "--no-table").stdout.splitlines()
    shown = TEXT[:24].replace(" ", "␣")
    assert [lines[0], lines[2], lines[4]] == [shown[:10], shown[10:20], shown[20:]]


def test_the_picture_is_written(model, call):
    folder = model()
    for ending, sign in ("svg", b"<?xml"), ("png", b"PNG"):
        result = call("explain", folder, ELSEWHERE, "--picture", f"who.{ending}", "--no-table")
        assert result.exit_code == 0, result.output
        assert sign in Path(f"who.{ending}").read_bytes()[:200]
        assert f"figure: who.{ending}" in result.stderr
        assert "A text of 23 characters" in result.stderr
