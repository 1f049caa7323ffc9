"""What holds for every command: help, exit codes, errors and warnings in one line; and bench."""

import json
import shlex
import warnings
from pathlib import Path

import pytest

from tests.cli.conftest import TEXT, contents
from trix.cli import EXIT_CODES
from trix.lab.bench import BENCHES

OPTIONS = {
    "train": "PRESET --corpus --minutes --steps --order --seed --out --force --json --quiet",
    "sample": "CHECKPOINT --prompt --length --temperature --seed --json",
    "explain": "CHECKPOINT TEXT --picture --table --json",
    "bench": " ".join(["NAME", *BENCHES, "--quick --json --plot"]),
    "sweep": "PROTOCOL --set --seeds --budget --jobs --backend --corpus --out --json",
    "claims": "--json --update run show verify",
    "claims run": "ID --budget --seeds --corpus --work --records --jobs --backend",
    "claims show": "ID",
    "claims verify": "--sample --seed --all --json --store --work --jobs --backend",
    "doctor": "--json",
}


def test_no_arguments_print_the_help(call):
    for arguments in [], ["--help"]:
        result = call(*arguments)
        assert "Usage" in result.output
        assert all(command.split()[0] in result.output for command in OPTIONS)
        assert EXIT_CODES in result.output
    assert result.exit_code == 0


@pytest.mark.parametrize("command", OPTIONS)
def test_every_help_names_options_and_exit_codes(call, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = call(*command.split(), "--help")
    assert result.exit_code == 0
    assert EXIT_CODES in result.output
    assert [name for name in OPTIONS[command].split() if name not in result.output] == []


def test_a_warning_is_a_line_without_a_path(call, monkeypatch):
    def warned():
        warnings.warn("the text is another one", stacklevel=1)
        raise FileNotFoundError("there is none")

    before = warnings.showwarning
    monkeypatch.setattr("trix.cli.claims.ledger.find_ledger", warned)
    result = call("claims")
    assert result.exit_code == 1
    assert result.stderr == "trix: the text is another one\ntrix: there is none\n"
    assert warnings.showwarning is before


def test_bench_prints_a_table_or_json(call, monkeypatch):
    def run(quick):
        calls.append(quick)
        return [
            {"tiles": 16384, "router": "flat", "seconds": 0.012345},
            {"tiles": 64, "router": "[tree]", "seconds": 2.0},
        ]

    calls = []
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(BENCHES, "dispatch", run)
    table = call("bench", "dispatch")
    assert table.exit_code == 0
    for words in ("tiles", "router", "seconds", "16,384", "0.0123", "[tree]"):
        assert words in table.stdout
    printed = json.loads(call("bench", "dispatch", "--json", "--quick").stdout)
    assert printed[0] == {"tiles": 16384, "router": "flat", "seconds": 0.012345}
    assert calls == [False, True]


def test_bench_runs_for_real_and_knows_its_names(call):
    result = call("bench", "routing", "--quick", "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert {row["router"] for row in rows} == {"flat", "hierarchical", "fractal"}


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("bench nothing", 2, "'nothing' is not one of"),
        ("bench table --plot a.svg", 2, "expected memory and a .svg or .png"),
        ("bench memory --plot a.pdf", 2, "expected memory and a .svg or .png"),
        ("train nano", 2, "preset must be one of"),
        ("train tiny --minutes 1 --steps 1", 2, "expected one of --minutes and --steps, got both"),
        ("train tiny --steps 0", 2, "--steps"),
        ("train tiny --seed 99999999999999999999", 2, "--seed"),
        ("train tiny --corpus nowhere.txt", 1, "expected a text file, but there is none at"),
        # 2 blocks, each of 7 characters and one after them, with one to spare: 18 to train on
        ("train tiny --corpus short.txt", 1, "expected at least 18 characters to train on"),
        ("train tiny --corpus cats.txt --order 30", 1, "at most 17 for an alphabet of 12"),
        ("sample MODEL --prompt 'the Dog'", 1, "character 'D' at 4 is not among the 12 that"),
        ("sample MODEL --prompt -", 1, "expected at least one character"),  # nothing comes
        ("sample MODEL --length -1", 2, "--length"),
        ("sample MODEL --seed 99999999999999999999", 2, "--seed"),
        (
            "explain MODEL 'the Dog'",
            1,
            "character 'D' at 4 is not among the 12 that the model knows",
        ),
        ("explain MODEL 'the cat\na'", 1, "character '\\n' at 7"),
        ("explain MODEL t", 1, "at least two characters"),
        ("explain MODEL 'the cat' --picture who.gif", 2, "a .svg or .png"),
    ],
)
def test_a_wrong_call_is_told_so(place, model, call, command, code, message):
    model().rename("MODEL")
    Path("short.txt").write_text(TEXT[:18])
    before = contents(place)
    result = call(*shlex.split(command), input="")
    assert result.exit_code == code
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert contents(place) == before
