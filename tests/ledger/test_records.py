import dataclasses
import hashlib
import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trix.files import locked, write_text
from trix.ledger.records import (
    Record,
    add_record,
    find_record,
    read_all_records,
    read_records,
)

ROOT = Path(__file__).parents[2]


def _record(arm="one", seed: int | None = 0, experiment="trial", **metrics):
    return Record(
        experiment=experiment,
        arm=arm,
        seed=seed,
        config={"steps": 3, "options": {"heads": 2}},
        corpus={"name": "small", "source": "a “file”", "sha256": "ab"},
        versions={"torch": "2"},
        device="cpu",
        threads=1,
        seconds=1.25,
        parameters=7,
        metrics=metrics or {"val_nats": 0.1 + 0.2},
        curve=[[20, 1.5], [40, 1e-7]],
    )


def _file(folder):
    return folder / "trial.jsonl"


def test_records_come_back_in_the_order_of_writing_and_by_file_name(tmp_path):
    assert read_records(_file(tmp_path)) == read_all_records(tmp_path / "nowhere") == []
    records = [_record("two", 1), _record("one", 3), _record("table", None)]
    earlier = _record(experiment="a")
    for record in (*records, earlier):
        add_record(tmp_path / "new", record)
    assert read_records(_file(tmp_path / "new")) == records
    assert read_all_records(tmp_path / "new") == [earlier, *records]
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a.jsonl", "trial.jsonl"]


def test_one_run_is_found_by_experiment_arm_and_seed():
    records = [_record("one", 0), _record("one", None), _record("one", 2), _record("two", 0)]
    assert find_record(records, "trial", "one", 2) is records[2]
    assert find_record(records, "trial", "one", None) is records[1]
    assert find_record(records, "trial", "two", 2) is None
    assert find_record(records, "other", "one", 0) is None


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (_record("one", 0, val_nats=2.0), "trial.jsonl already holds one with seed 0"),
        (_record("two", 4, val_nats=math.nan), "two with seed 4: metric val_nats is nan"),
        (_record("two", 4, val_nats=-math.inf), "two with seed 4: metric val_nats is -inf"),
    ],
)
def test_what_cannot_be_recorded_leaves_the_file_as_it_was(tmp_path, record, message):
    add_record(tmp_path, _record("one", 0))
    before = _file(tmp_path).read_bytes()
    with pytest.raises(ValueError, match=message):
        add_record(tmp_path, record)
    assert _file(tmp_path).read_bytes() == before


def _line(**changes):
    return json.dumps({**dataclasses.asdict(_record("bad", 5)), **changes}).encode()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"", "Expecting value"),
        (b'{"experiment": "tr', "Unterminated string"),
        (b"[1, 2]", "got list"),
        (b"{}", r"got \[\]"),
        (b'"\xff"', "can't decode byte 0xff"),
        (_line(extra=1), "'extra'"),
        (_line(seed="0"), "seed is '0'"),
        (_line(seed=True), "seed is True"),
        (_line(metrics=[1]), r"metrics is \[1\]"),
        (_line(metrics={"val_nats": "low"}), "metric val_nats is 'low'"),
        (_line(metrics={"val_nats": math.nan}), "metric val_nats is nan"),
        (_line(experiment="other"), "experiment is 'other'"),
        (_line(arm="one", seed=0), "one with seed 0 again"),
    ],
)
def test_a_corrupt_line_is_named_with_its_file_and_left(tmp_path, line, fault):
    add_record(tmp_path, _record("one", 0))
    with _file(tmp_path).open("ab") as file:
        file.write(line + b"\n")
    before = _file(tmp_path).read_bytes()
    expected = f"corrupt record in trial.jsonl, line 2: .*{fault}"
    with pytest.raises(ValueError, match=expected):
        read_records(_file(tmp_path))
    with pytest.raises(ValueError, match=expected):
        add_record(tmp_path, _record("two", 1))
    assert _file(tmp_path).read_bytes() == before


REPOSITORY = Path(__file__).parents[2] / "book" / "claims"
HASH = "6d427087394c9c5adb9e38de44da30204cdd525f52916785546aec509622966e"


def test_what_the_repositorys_records_measured_is_what_it_was():
    # experiment, seed, text and metrics of all of them, as the first edition had them; whoever adds
    # records, or removes some, states the new hash
    digest = hashlib.sha256()
    for path in sorted(REPOSITORY.glob("*/*.jsonl")):
        for r in read_records(path):
            row = json.dumps([r.experiment, r.seed, r.corpus, r.metrics], sort_keys=True)
            digest.update(f"{row}\n".encode())
    assert digest.hexdigest() == HASH


def test_a_file_is_read_and_written_under_a_lock_and_what_was_left_goes(tmp_path, monkeypatch):
    add_record(tmp_path, _record("one", 0))
    (tmp_path / ".trial.jsonl.abc").write_text("half")
    (tmp_path / ".other.jsonl.abc").write_text("half of another")
    held = []

    def watched(function):
        def call(*arguments):
            with pytest.raises(BlockingIOError), locked(tmp_path, wait=False):
                pass
            held.append(function.__name__)
            return function(*arguments)

        return call

    for function in (read_records, write_text):
        monkeypatch.setattr(f"trix.ledger.records.{function.__name__}", watched(function))
    add_record(tmp_path, _record("two", 1))
    assert held == ["read_records", "write_text"]
    assert {p.name for p in tmp_path.iterdir()} == {"trial.jsonl", ".other.jsonl.abc"}


def _process(code: str, *arguments: str) -> subprocess.Popen:
    top = "import os, signal, sys\nfrom pathlib import Path\n"
    top += "from tests.ledger.test_records import _record, add_record\n"
    return subprocess.Popen([sys.executable, "-c", top + code, *arguments], cwd=ROOT)


@pytest.mark.slow  # every process imports torch
def test_writers_at_the_same_time_and_killed_ones_lose_nothing(tmp_path):
    code = "[add_record(Path(sys.argv[1]), _record(sys.argv[2], s)) for s in range(15)]"
    writers = [_process(code, str(tmp_path), arm) for arm in "012"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    runs = [(r.arm, r.seed) for r in read_records(_file(tmp_path))]
    assert sorted(runs) == [(arm, s) for arm in "012" for s in range(15)]

    # killed right before, and right after, the file is put in its place
    for moment, counted in (("before", []), ("after", ["killed"])):
        add_record(tmp_path / moment, _record("first"))
        code = (
            "rename, before = Path.replace, sys.argv[2] == 'before'\n"
            "def replace(self, target):\n"
            "    before or rename(self, target)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
            "Path.replace = replace\n"
            "add_record(Path(sys.argv[1]) / sys.argv[2], _record('killed'))"
        )
        assert _process(code, str(tmp_path), moment).wait() == -signal.SIGKILL
        add_record(tmp_path / moment, _record("next"))
        found = [r.arm for r in read_records(_file(tmp_path / moment))]
        assert found == ["first", *counted, "next"]
        assert [p.name for p in (tmp_path / moment).iterdir()] == ["trial.jsonl"]
