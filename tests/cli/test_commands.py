"""What holds for every command: help, exit codes, errors and warnings in one line; and bench."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from trix.cli import EXIT_CODES, common
from trix.lab.bench import BENCHES

ROOT = Path(__file__).parents[2]
OPTIONS = {
    "train": "PRESET --corpus --minutes --steps --order --seed --out --force --json --quiet",
    "sample": "CHECKPOINT --prompt --length --temperature --seed --json",
    "explain": "CHECKPOINT TEXT --picture --table --json",
    "bench": "NAME routing ternary --quick --json --plot",
    "sweep": "PROTOCOL --set --seeds --budget --jobs --backend --corpus --out --json",
    "claims": "--json --update run show verify",
    "claims run": "ID --budget --seeds --corpus --work --records --jobs --backend",
    "claims show": "ID",
    "claims verify": "--sample --seed --all --json --store --work --jobs --backend",
    "doctor": "--json",
}


def test_no_arguments_print_the_help(call):
    for arguments in ([], ["--help"]):
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


def test_a_bare_install_says_what_is_missing():
    code = "import sys; sys.modules['typer'] = None; import trix.cli"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "trix: typer is missing; in a clone of the repository" in done.stderr
    assert 'pip install ".[lab]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_warning_is_a_line_without_a_path(call, monkeypatch):
    def warned():
        warnings.warn("the text is another one", stacklevel=1)
        raise FileNotFoundError("there is none")

    monkeypatch.setattr("trix.cli.claims.ledger.find_ledger", warned)
    result = call("claims")
    assert result.exit_code == 1
    assert result.stderr == "trix: the text is another one\ntrix: there is none\n"
    assert warnings.showwarning is not common._show_warning


@pytest.mark.parametrize("name", ["dispatch", "routing", "ternary"])
def test_bench_prints_a_table_or_json(call, name, monkeypatch):
    def run(quick):
        calls.append(quick)
        return [
            {"tiles": 16384, "router": "flat", "seconds": 0.012345},
            {"tiles": 64, "router": "[tree]", "seconds": 2.0},
        ]

    calls = []
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(BENCHES, name, run)
    table = call("bench", name)
    assert table.exit_code == 0
    for words in ("tiles", "router", "seconds", "16,384", "0.0123", "[tree]"):
        assert words in table.stdout
    printed = json.loads(call("bench", name, "--json", "--quick").stdout)
    assert printed[0] == {"tiles": 16384, "router": "flat", "seconds": 0.012345}
    assert calls == [False, True]


def test_bench_runs_for_real_and_knows_its_names(call):
    result = call("bench", "routing", "--quick", "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert {row["router"] for row in rows} == {"flat", "hierarchical", "fractal"}
    wrong = call("bench", "nothing")
    assert wrong.exit_code == 2
    assert "'nothing' is not one of" in wrong.output
    for options in (["table", "--plot", "a.svg"], ["memory", "--plot", "a.pdf"]):
        refused = call("bench", *options)
        assert refused.exit_code == 2
        assert "expected memory and a .svg or .png" in refused.output
