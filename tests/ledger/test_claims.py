import dataclasses
import json
from pathlib import Path

import pytest

from trix.experiments.table import EXPERIMENTS
from trix.ledger.claims import (
    find_claim,
    find_ledger,
    ledger_table,
    load_claims,
    runnable,
    settle,
    settle_all,
    summary,
)
from trix.ledger.records import Record, add_record
from trix.ledger.rule import VERDICTS, gain

REPOSITORY = Path(__file__).parents[2] / "book" / "claims"

LEDGER = """
[[claim]]
id = "T1"
statement = "New is better than old."
seed = "8.09 | 8.21"
source = "a note"
protocol = "seed"
control = "something simple"
chapter = "00-first"

[claim.rule]
metric = "val_nats"
direction = "lower"
kind = "better"
claimed = "trial/new"
baseline = "trial/old"
controls = ["control/simple"]
margin = 0.01
"""
RULE = LEDGER[LEDGER.index("[claim.rule]") :]
NOISE = (0.003, -0.002, 0.001, -0.004, 0.002)


def _folder(tmp_path, text=LEDGER):
    (tmp_path / "claims.toml").write_text(text, encoding="utf-8")
    return tmp_path


def _record(arm, seed, value, experiment="trial"):
    return Record(experiment, arm, seed, {}, {}, {}, "", 1, 0.0, 1, {"val_nats": value}, [])


def _planted(simple=1.95):
    arms = (("new", 1.9, "trial"), ("old", 2.0, "trial"), ("simple", simple, "control"))
    return [
        _record(arm, seed, value + (e if arm == "new" else 0), experiment)
        for seed, e in enumerate(NOISE)
        for arm, value, experiment in arms
    ]


def test_the_repositorys_ledger_is_whole_and_settles():
    claims = load_claims(REPOSITORY)
    groups = {"A": 5, "F": 4, "S": 6, "L": 3, "P": 6, "M": 8}
    wanted = {f"{letter}{n}" for letter, count in groups.items() for n in range(1, count + 1)}
    assert wanted <= {claim.id for claim in claims}
    for claim in claims:
        for name in ("statement", "source", "protocol", "control"):
            assert getattr(claim, name).strip(), (claim.id, name)
        assert claim.statement.endswith("."), claim.id
        chapter = REPOSITORY.parents[1] / "notebooks" / f"{claim.chapter}.ipynb"
        assert claim.id in chapter.read_text(encoding="utf-8"), (claim.id, chapter)
    for row in settle_all(REPOSITORY):
        assert row.verdict in VERDICTS
        json.dumps(row.row(), allow_nan=False)


def test_a_claim_is_read_and_found_in_any_case(tmp_path):
    claims = load_claims(_folder(tmp_path))
    assert [c.id for c in claims] == ["T1"]
    assert find_claim(claims, "t1").rule.controls == ("control/simple",)
    with pytest.raises(ValueError, match="claim must be one of T1, got 'T2'"):
        find_claim(claims, "T2")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[claim.rule]", "[claim.rule", "corrupt ledger claims.toml: .*line"),
        ("[[claim]]", "[[klaim]]", "corrupt ledger claims.toml: "),
        ("[[claim]]", "[claim]", r"corrupt ledger claims.toml: expected \[\[claim\]\]"),
        ('source = "a note"\n', "", "claim T1: expected .*'source'"),
        ('source = "a note"', 'sauce = "a note"', "claim T1: expected .*'sauce'"),
        ('id = "T1"\n', "", "claim number 1: expected .*'id'"),
        ('chapter = "00-first"\n', "", "claim T1: expected .*'chapter'"),
        ('id = "T1"', "id = 1", "claim 1: id must be a string, got 1"),
        ('seed = "8.09 | 8.21"', "seed = 8.09", "claim T1: seed must be a string, got 8.09"),
        ("margin = 0.01", "margin = -1", "claim T1: margin must be .*got -1"),
        ('claimed = "trial/new"', 'claimed = "new"', "claim T1: an arm must be written"),
        ("margin = 0.01", "margins = 0.01", "claim T1: a rule must have"),
        (LEDGER, LEDGER + LEDGER, "claim T1 occurs twice"),
        (LEDGER, "", "corrupt ledger claims.toml"),
        (RULE, 'rule = "better"', "claim T1: rule must be a table, got 'better'"),
    ],
)
def test_a_malformed_ledger_is_refused_by_name(tmp_path, old, new, message):
    folder = _folder(tmp_path, LEDGER.replace(old, new))
    with pytest.raises(ValueError, match=message):
        load_claims(folder)


def test_the_ledger_is_found_by_the_environment_from_below_or_beside_the_library(
    tmp_path, monkeypatch
):
    ours, below = tmp_path / "book" / "claims", tmp_path / "notebooks" / "deep"
    for folder in (ours, below):
        folder.mkdir(parents=True)
    monkeypatch.chdir(below)
    monkeypatch.delenv("TRIX_CLAIMS", raising=False)
    assert find_ledger() == REPOSITORY
    monkeypatch.setattr("trix.ledger.claims.__file__", str(tmp_path / "a" / "b" / "claims.py"))
    with pytest.raises(FileNotFoundError, match=r"in the repository, or set \$TRIX_CLAIMS"):
        find_ledger()
    assert _folder(ours) == find_ledger()
    monkeypatch.setenv("TRIX_CLAIMS", str(_folder(tmp_path)))
    assert find_ledger() == tmp_path
    for wrong in (tmp_path / "nowhere", tmp_path / "claims.toml"):
        monkeypatch.setenv("TRIX_CLAIMS", str(wrong))
        with pytest.raises(FileNotFoundError, match=f"TRIX_CLAIMS must be .*got '{wrong}'"):
            find_ledger()


def test_a_settled_claim_states_figures_controls_and_files(tmp_path):
    (claim,) = load_claims(_folder(tmp_path))
    row = settle(claim, [*_planted(), _record("new", 0, 9.0, "other")]).row()
    assert list(row) == ["id", "statement", "seed", "ours", "control", "verdict", "records"]
    assert row["verdict"] == "holds"
    assert row["ours"] == "val_nats 1.900 ± 0.003 (5 seeds), perplexity 6.69"
    assert row["records"] == ["control.jsonl", "trial.jsonl"]
    assert row["control"] == (
        "something simple [gain over baseline trial/old: +0.100 (+0.096 … +0.104); "
        "gain over control control/simple: +0.050 (+0.046 … +0.054)]"
    )


def test_the_gains_are_those_of_the_rule_and_records_are_read_from_the_folder(tmp_path):
    folder, planted = _folder(tmp_path), _planted()
    (settled,) = settle_all(folder)
    row = settled.row()
    assert (row["ours"], row["control"], row["records"]) == ("", "something simple", [])
    assert (settled.verdict, [one.gain for one in settled.compared]) == ("open", [None, None])
    for record in planted:
        add_record(folder / "records", record)
    (settled,) = settle_all(folder)
    assert [(one.role, one.arm) for one in settled.compared] == [
        ("baseline", "trial/old"),
        ("control", "control/simple"),
    ]
    gains = [gain(settled.claim.rule, planted, arm) for _, arm, _ in settled.compared]
    assert [one.gain for one in settled.compared] == gains
    assert (settled.verdict, settled.reason) == ("holds", "")
    assert settled.command == "trix claims run T1"


def _known(monkeypatch):
    for name in ("trial", "control"):
        monkeypatch.setitem(EXPERIMENTS, name, {})


def _why(tmp_path, records, **changes):
    (claim,) = load_claims(_folder(tmp_path))
    claim = dataclasses.replace(claim, rule=dataclasses.replace(claim.rule, **changes))
    settled = settle(claim, records)
    assert settled.verdict == "open"
    return settled.reason, settled.command


def test_an_experiment_that_is_missing_or_short_of_runs_is_named(tmp_path, monkeypatch):
    command, short = "trix claims run T1", "too few runs on record of trial/new beside"
    assert _why(tmp_path, _planted()[:3]) == ("not written yet: trial, control", command)
    _known(monkeypatch)
    few = _planted()[:9]
    assert _why(tmp_path, few) == (f"{short} trial/old, control/simple", command)
    some = [r for r in _planted() if r.arm != "simple"]
    assert _why(tmp_path, some)[0] == f"{short} control/simple"


@pytest.mark.parametrize(
    ("kind", "old"),
    # gains a little to the wrong side of each line that the kind of the claim draws
    [("better", 1.913), ("no-worse", 1.893), ("equal", 1.893), ("equal", 1.9085)],
)
def test_so_many_seeds_would_take_the_interval_off_the_line(tmp_path, monkeypatch, kind, old):
    _known(monkeypatch)

    def planted(copies: int):
        ours = [1.9 + 2 * e for e in NOISE * copies]
        records = [_record("new", seed, value) for seed, value in enumerate(ours)]
        return records + [_record("old", seed, old) for seed in range(len(ours))]

    changes = {"kind": kind, "controls": ()}
    reason, command = _why(tmp_path, planted(1), **changes)
    assert reason == "the gain over baseline trial/old may lie on either side of the margin"
    seeds = int(command.removeprefix("trix claims run T1 --seeds "))
    (claim,) = load_claims(tmp_path)
    rule = dataclasses.replace(claim.rule, kind=kind, controls=())
    # the same spread in more runs: with half as many it is still open, with twice as many it is not
    few, many = (1 + (n - 1) // len(NOISE) for n in (seeds // 2, 2 * seeds))
    claim = dataclasses.replace(claim, rule=rule)
    assert settle(claim, planted(few)).verdict == "open"
    assert settle(claim, planted(many)).verdict != "open"


def test_a_control_that_may_do_as_well_is_named_and_too_close_is_said(tmp_path, monkeypatch):
    _known(monkeypatch)
    assert _why(tmp_path, _planted(simple=1.91)) == (  # gains around the margin itself
        "the gain over control control/simple may lie on either side of the margin, "
        "and 100 seeds would hardly tell",
        "trix claims run T1 --seeds 100",
    )


def test_a_summary_of_none_one_and_three():
    assert summary([], "trial/new", "val_nats") == ""
    one = [_record("new", None, 1.68751)]
    assert summary(one, "trial/new", "val_nats") == "val_nats 1.688, perplexity 5.41"
    assert summary(one, "trial/new", "bits") == ""
    three = [_record("new", seed, value) for seed, value in enumerate((1.0, 2.0, 6.0))]
    assert (
        summary(three, "trial/new", "val_nats")
        == "val_nats 3.000 ± 2.646 (3 seeds), perplexity 20.09"
    )


def test_what_is_not_written_yet_is_named(tmp_path, monkeypatch):
    (claim,) = load_claims(_folder(tmp_path))
    monkeypatch.setitem(EXPERIMENTS, "trial", {})
    with pytest.raises(
        ValueError, match=r"claim T1 needs experiments .* not written yet: control$"
    ):
        runnable(claim)
    monkeypatch.setitem(EXPERIMENTS, "control", {})
    assert runnable(claim) == ["trial", "control"]


def test_the_scoreboard_is_a_table_that_a_bar_cannot_break(tmp_path):
    (claim,) = load_claims(_folder(tmp_path))
    settled = settle(claim, _planted())
    gains = settled.against
    assert gains
    assert ledger_table([settled, settle(claim, [])]).splitlines()[2:] == [
        "| T1 | **holds** | New is better than old. | 8.09 \\| 8.21 "
        f"| val_nats 1.900 ± 0.003 (5 seeds), perplexity 6.69 | {claim.control} [{gains}] |",
        f"| T1 | **open** | New is better than old. | 8.09 \\| 8.21 | – | {claim.control} |",
    ]
