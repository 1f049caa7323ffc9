import dataclasses
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trix.files import locked, write_text
from trix.lab.recipes import environment
from trix.ledger.records import (
    Record,
    add_record,
    find_record,
    read_all_records,
    read_records,
)


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


def test_round_trip_in_the_order_of_writing(tmp_path):
    records = [_record("two", 1), _record("one", 3), _record("table", None)]
    for record in records:
        add_record(tmp_path / "records", record)
    assert read_records(tmp_path / "records" / "trial.jsonl") == records
    assert [p.name for p in (tmp_path / "records").iterdir()] == ["trial.jsonl"]
    lines = (tmp_path / "records" / "trial.jsonl").read_text().splitlines()
    assert [json.loads(line)["arm"] for line in lines] == ["two", "one", "table"]


def test_no_file_is_no_record(tmp_path):
    assert read_records(_file(tmp_path)) == []
    assert read_all_records(tmp_path / "nowhere") == []


def test_all_records_come_by_file_name(tmp_path):
    b, a = _record(experiment="b"), _record(experiment="a")
    add_record(tmp_path, b)
    add_record(tmp_path, a)
    assert read_all_records(tmp_path) == [a, b]


def test_one_run_is_found_by_experiment_arm_and_seed():
    records = [_record("one", 0), _record("one", None), _record("one", 2), _record("two", 0)]
    assert find_record(records, "trial", "one", 2) is records[2]
    assert find_record(records, "trial", "one", None) is records[1]
    assert find_record(records, "trial", "two", 2) is None
    assert find_record(records, "other", "one", 0) is None


def test_a_run_is_recorded_once(tmp_path):
    add_record(tmp_path, _record("one", 0))
    before = _file(tmp_path).read_bytes()
    with pytest.raises(ValueError, match=r"trial.jsonl already holds one with seed 0"):
        add_record(tmp_path, _record("one", 0, val_nats=2.0))
    assert _file(tmp_path).read_bytes() == before


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_no_number_is_refused(tmp_path, value):
    add_record(tmp_path, _record("one", 0))
    before = _file(tmp_path).read_bytes()
    with pytest.raises(ValueError, match=f"two with seed 4: metric val_nats is {value}"):
        add_record(tmp_path, _record("two", 4, val_nats=value))
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


def test_the_environment_is_what_a_record_needs(tmp_path):
    record = dataclasses.replace(_record(), **environment())
    add_record(tmp_path, record)
    assert read_records(_file(tmp_path)) == [record]
    assert {"python", "torch", "numpy", "trix"} <= set(record.versions)


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


@pytest.mark.slow
def test_writers_at_the_same_time_and_killed_ones_lose_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.ledger.test_records", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    runs = [(r.arm, r.seed) for r in read_records(_file(tmp_path))]
    assert sorted(runs) == [(arm, s) for arm in ("0", "1", "2") for s in range(15)]

    killed = json.loads(done.stdout)
    assert len(killed) == 2  # one before and one after the record counts
    assert killed[0] == [["first", 0]]
    assert killed[1] == [["first", 0], ["killed", 0]]
    for moment in ("1", "2"):
        folder = tmp_path / moment
        add_record(folder, _record("next"))
        assert [r.arm for r in read_records(_file(folder))][-1] == "next"
        assert [p.name for p in folder.iterdir()] == ["trial.jsonl"]  # nothing half-written


def main(folder: Path) -> None:
    writers = [_fork(lambda arm=str(arm): _write(folder, arm)) for arm in range(3)]
    for writer in writers:
        assert os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) == 0
    left = []
    for moment in (1, 2):
        place = folder / str(moment)
        add_record(place, _record("first"))
        killed = _fork(lambda place=place, moment=moment: _die_writing(place, moment))
        assert os.waitstatus_to_exitcode(os.waitpid(killed, 0)[1]) == -signal.SIGKILL
        left.append([(r.arm, r.seed) for r in read_records(_file(place))])
    print(json.dumps(left))


def _write(folder: Path, arm: str) -> None:
    for seed in range(15):
        add_record(folder, _record(arm, seed))


def _die_writing(folder: Path, moment: int) -> None:
    rename = Path.replace

    def replace(self, target):
        if moment == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(self, target)
        os.kill(os.getpid(), signal.SIGKILL)

    Path.replace = replace  # pyright: ignore[reportAttributeAccessIssue]
    add_record(folder, _record("killed"))


def _fork(run) -> int:
    child = os.fork()
    if child:
        return child
    try:
        run()
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
