"""The front door installs once, again when the pins change, and never trusts half an install."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def clone(tmp_path):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(folder, *arguments):
    done = subprocess.run(
        ["make", *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def stamp(folder):
    _, plan = make(folder, "-n", "book")  # where it looks for the sign of a finished install
    (line,) = [line for line in plan.splitlines() if line.startswith("touch ")]
    return folder / line.split()[1]


def pretend_installed(folder):
    path = stamp(folder)
    path.parent.mkdir(exist_ok=True)
    path.touch()


def test_make_lists_the_targets_and_each_brings_its_own_environment(clone):
    status, text = make(clone)
    assert status == 0
    for target in ("book", "test", "test-all", "size", "lab", "full", "claims", "serve", "clean"):
        assert f"make {target} " in text
    assert not (clone / ".venv").exists()
    for target in ("book", "test-all", "size", "lab", "full", "claims", "serve"):
        _, plan = make(clone, "-n", target)
        assert "venv" in plan, target
        assert '-c constraints.txt -e ".[dev]"' in plan, target


def test_only_changed_pins_are_installed_again(clone):
    pretend_installed(clone)
    _, plan = make(clone, "-n", "book")
    assert "-m pip install" not in plan
    for name in ("constraints.txt", "pyproject.toml"):
        (clone / name).touch()
        assert "-m pip install" not in make(clone, "-n", "book")[1]
        (clone / name).write_text((clone / name).read_text() + "# changed\n")
        assert '-c constraints.txt -e ".[dev]"' in make(clone, "-n", "book")[1]
        pretend_installed(clone)


def a_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def test_an_interrupted_install_is_begun_again_from_nothing(clone):
    log = clone / "log"
    # Stands for python: makes an "environment" whose own python fails to install.
    python = a_program(
        clone / "fake",
        f'echo "$@" >> {log}\n'
        'if [ "$2" = venv ]; then rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python; fi\n'
        'if [ "$2" = pip ]; then exit 7; fi\n',
    )
    for _ in range(2):
        status, _text = make(clone, "book", f"PYTHON={python}", "UV=")
        assert status != 0
        assert not list((clone / ".venv").glob(".installed-*"))
    made = [line for line in log.read_text().splitlines() if line.startswith("-m venv --clear")]
    assert len(made) == 2


def test_an_old_or_missing_python_is_refused_with_a_hint(clone):
    old = a_program(clone / "old", "echo 'Python 3.11 or newer is needed' >&2\nexit 1\n")
    for name, hint in ((old, "or newer is needed"), ("python9.9", "python9.9 was not found")):
        status, text = make(clone, "book", f"PYTHON={name}")
        assert status != 0
        assert hint in text
    assert not (clone / ".venv").exists()


def test_a_named_python_of_another_version_makes_the_venv_anew(clone):
    pretend_installed(clone)
    a_program(clone / ".venv" / "bin" / "python", "echo 3.99\n")
    _, plan = make(clone, "-n", "book")  # nobody named a python: it stays
    assert ".installed-3.99-" in plan
    text = "\n".join(line for line in plan.splitlines() if "made anew" in line)
    assert 'test "3.99" = "3.99"' in text
    (clone / ".venv" / Path(stamp(clone)).name).touch()
    assert "-m pip install" not in make(clone, "-n", "book")[1]

    other = a_program(clone / "other", "echo 3.98\nif [ $2 = venv ]; then exit 7; fi\n")
    status, text = make(clone, "book", f"PYTHON={other}", "UV=")
    assert status != 0
    assert f".venv has Python 3.99 and {other} is Python 3.98: .venv is made anew" in text


def test_serving_before_building_and_on_a_port_in_use_says_what_to_do(clone):
    pretend_installed(clone)
    status, text = make(clone, "serve")
    assert status != 0
    assert "make book" in text
    shutil.rmtree(clone / ".venv")
    (clone / "_build" / "html").mkdir(parents=True)
    (clone / "_build" / "html" / "index.html").touch()
    a_program(clone / ".venv" / "bin" / "python", f'exec {sys.executable} "$@"\n')
    stamp(clone).touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, text = make(clone, "serve", f"PORT={port}")
    assert status != 0
    assert f"Port {port} is in use" in text
    assert "Traceback" not in text
