import dataclasses
import math

import pytest
from scipy import stats

from trix.ledger.records import Record
from trix.ledger.rule import gain, interval, rule_from_dict, verdict

TABLE = {
    "metric": "val_nats",
    "direction": "lower",
    "kind": "better",
    "claimed": "trial/new",
    "baseline": "trial/old",
    "controls": ["control/simple"],
    "margin": 0.01,
}
NOISE = (0.003, -0.002, 0.001, -0.004, 0.002)


def _rule(**changes):
    return rule_from_dict({**TABLE, **changes})


def _records(arm, values, seeds=None, metric="val_nats"):
    experiment, name = arm.split("/")
    return [
        Record(experiment, name, seed, {}, {}, {}, "", 1, 0.0, 1, {metric: value}, [])
        for seed, value in zip(seeds or range(len(values)), values, strict=True)
    ]


def _planted(new, old=2.0, simple=2.0, noise=NOISE):
    level = (0.0, 0.5, -0.3, 0.1, 0.9)
    arms = {
        "trial/new": [new + a + e for a, e in zip(level, noise, strict=True)],
        "trial/old": [old + a for a in level],
        "control/simple": [simple + a for a in level],
    }
    return [record for arm, values in arms.items() for record in _records(arm, values)]


STILL = {"noise": (0.0,) * 5}
NO_WORSE = {"kind": "no-worse", "margin": 0.02}
EQUAL = {"kind": "equal", "margin": 0.02}
HIGHER = {"direction": "higher"}


@pytest.mark.parametrize(
    ("changes", "new", "planted", "word"),
    [
        ({}, 1.9, {}, "holds"),
        # it is exceeded where the whole interval is
        ({"exceed": 0.0975}, 1.9, STILL, "exceeded"),
        ({"exceed": 0.0975}, 1.9, {}, "holds"),
        # one control of two that does as well is enough
        ({}, 1.9, {"simple": 1.9}, "explained away"),
        ({"controls": ["control/simple", 1.897]}, 0.9, {}, "holds"),
        ({"controls": ["trial/old", "control/simple"]}, 1.9, {"simple": 1.8}, "explained away"),
        # and a control that is missing leaves it open where another is beaten
        ({"controls": ["control/simple", "later/unwritten"]}, 1.9, {}, "open"),
        (
            {"controls": ["control/simple", "later/unwritten"]},
            1.9,
            {"simple": 1.9},
            "explained away",
        ),
        ({}, 2.1, {}, "refuted"),
        ({}, 1.998, {}, "refuted"),  # better, but not by 0.01
        ({}, 1.99, {}, "open"),
        ({}, 1.9, {"simple": 1.91}, "open"),
        # exact agreement is no worse even without a margin
        ({"kind": "no-worse", "margin": 0.0}, 2.0, {"simple": 3.0, **STILL}, "holds"),
        ({"kind": "no-worse", "margin": 0.0}, 2.001, {"simple": 3.0}, "open"),
        (NO_WORSE, 2.01, {"simple": 2.5}, "holds"),
        (NO_WORSE, 2.02, {"simple": 2.5}, "open"),
        (NO_WORSE, 2.05, {"simple": 2.5}, "refuted"),
        (NO_WORSE, 2.01, {"simple": 2.01}, "explained away"),
        (EQUAL, 2.0, {"simple": 3.0}, "holds"),
        (EQUAL, 1.9, {"simple": 3.0}, "refuted"),
        (EQUAL, 2.1, {"simple": 3.0}, "refuted"),
        (EQUAL, 1.98, {"simple": 3.0}, "open"),
        (EQUAL, 2.0, {"simple": 2.0}, "explained away"),
        (HIGHER, 2.1, {}, "holds"),
        (HIGHER, 1.9, {}, "refuted"),
        (HIGHER, 2.1, {"simple": 2.1}, "explained away"),
    ],
)
def test_a_verdict_follows_the_steps(changes, new, planted, word):
    assert verdict(_rule(**changes), _planted(new, **planted)) == word


def test_runs_on_different_texts_are_not_compared():
    records = _planted(1.9)
    records[0] = dataclasses.replace(records[0], corpus={"sha256": "other"})
    with pytest.raises(ValueError, match="different texts"):
        verdict(_rule(), records)


def test_too_few_records_are_open():
    planted = _planted(1.9)
    # five of each, but only four seeds that both have
    moved = [
        dataclasses.replace(r, seed=9) if (r.arm, r.seed) == ("new", 4) else r for r in planted
    ]
    four = [r for r in planted if (r.arm, r.seed) != ("simple", 4)]
    lacking = [[r for r in planted if r.arm != arm] for arm in ("new", "old", "simple")]
    other = [dataclasses.replace(r, metrics={"accuracy": 1.0}) for r in planted]
    for records in ([], *lacking, [r for r in planted if r.seed != 4], four, moved, other):
        assert verdict(_rule(), records) == "open"


def test_one_perturbed_record_changes_the_verdict():
    planted = _planted(1.9)
    assert verdict(_rule(), planted) == "holds"
    for i, record in enumerate(planted):
        sign = 1 if record.arm == "new" else -1
        worse = {"val_nats": record.metrics["val_nats"] + sign * 0.3}
        changed = [*planted[:i], dataclasses.replace(record, metrics=worse), *planted[i + 1 :]]
        assert verdict(_rule(), changed) == "open", record


def test_records_of_others_do_not_count():
    planted = _planted(1.9)
    others = [
        *_records("trial/newer", [9.0] * 5),
        *_records("other/new", [9.0] * 5),
        *_records("control/old", [0.0] * 5),
    ]
    assert verdict(_rule(), [*others, *planted, *others]) == "holds"


def test_the_interval_is_the_paired_one_of_scipy():
    planted = _planted(1.9, noise=(0.05, -0.02, 0.01, -0.04, 0.07))
    values = {
        arm: [r.metrics["val_nats"] for r in planted if r.arm == arm] for arm in ("new", "old")
    }
    expected = stats.ttest_rel(values["old"], values["new"]).confidence_interval(0.95)
    found = gain(_rule(), planted, "trial/old")
    assert found is not None
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.mean == pytest.approx(0.1 - 0.07 / 5)
    assert found.seeds == 5
    assert gain(_rule(), planted[::-1], "trial/old") == pytest.approx(found)  # paired by seed
    with pytest.raises(ValueError, match="at least 2 values, got 1"):
        interval([1.0])
    flipped = gain(_rule(direction="higher"), planted, "trial/old")
    assert flipped is not None
    assert (flipped.low, flipped.high) == pytest.approx((-found.high, -found.low))


def test_an_arm_without_seeds_stands_beside_every_seed():
    seeded = _records("trial/new", [1.9 + e for e in NOISE])
    table = _records("trial/old", [2.0], [None])
    expected = interval([0.1 - e for e in NOISE])
    assert gain(_rule(), [*seeded, *table], "trial/old") == pytest.approx(expected)
    assert gain(_rule(), seeded, 2.0) == pytest.approx(expected)
    turned = _rule(claimed="trial/old", baseline="trial/new")
    lost = gain(turned, [*seeded, *table], "trial/new")
    assert lost is not None
    assert (lost.low, lost.high) == pytest.approx((-expected.high, -expected.low))
    assert gain(_rule(), [*seeded[:4], *table], "trial/old") is None


def test_two_tables_need_no_seeds():
    tables = [*_records("trial/new", [1.5], [None]), *_records("trial/old", [1.7], [None])]
    found = gain(_rule(), tables, "trial/old")
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.2, 0.2))
    assert verdict(_rule(controls=[]), tables) == "holds"
    assert verdict(_rule(controls=[1.5]), tables) == "explained away"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"direction": "down"}, r"direction must be one of \['higher', 'lower'\], got 'down'"),
        ({"kind": "worse"}, "kind must be one of .*'equal', 'no-worse'.*, got 'worse'"),
        ({"margin": -0.1}, "margin must be a number of at least 0, got -0.1"),
        ({"margin": math.nan}, "margin must be a number of at least 0, got nan"),
        ({"margin": "0.1"}, "margin must be a number of at least 0, got '0.1'"),
        ({"exceed": "much"}, "exceed must be a number, got 'much'"),
        ({"metric": 3}, "metric must be a name, got 3"),
        ({"claimed": 3.0}, "claimed must be an arm, got 3.0"),
        ({"claimed": "new"}, "experiment/arm, got 'new'"),
        ({"baseline": "a/b/c"}, "experiment/arm, got 'a/b/c'"),
        ({"baseline": "trial/"}, "experiment/arm, got 'trial/'"),
        ({"baseline": True}, "experiment/arm, got True"),
        ({"controls": ["control/simple", "x"]}, "experiment/arm, got 'x'"),
        ({"controls": "control/simple"}, "controls must be a list, got 'control/simple'"),
        ({"margins": 1.0}, r"a rule must have \[.*\], got \[.*'margins'.*\]"),
    ],
)
def test_a_wrong_rule_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        _rule(**change)


def test_a_rule_lacks_nothing_and_names_its_experiments_once():
    for key in TABLE:
        with pytest.raises(ValueError, match=f"a rule must have .*'{key}'.*, got "):
            rule_from_dict({k: v for k, v in TABLE.items() if k != key})
    rule = _rule(controls=["trial/other", "control/simple", 3.0, "again/x"])
    assert rule.experiments() == ["trial", "control", "again"]


def test_the_deviation_of_a_metric_is_each_runs_distance_from_its_arms_mean():
    rule = _rule(metric="deviation of val_nats", controls=["control/simple"])
    wide = [2.0, 2.4, 1.5, 2.9, 1.2]  # mean 2
    narrow = [9.0, 9.1, 8.9, 9.05, 8.95]  # mean 9: far worse, but steadier
    records = [
        *_records("trial/new", narrow),
        *_records("trial/old", wide),
        *_records("control/simple", [1.0, 0.0, 2.0, 0.5, 1.5]),
    ]
    apart = [(0.0, 0.0), (0.4, 0.1), (0.5, 0.1), (0.9, 0.05), (0.8, 0.05)]
    expected = interval([theirs - ours for theirs, ours in apart])
    assert gain(rule, records, "trial/old") == pytest.approx(expected)
    assert verdict(rule, records) == "holds"
    assert verdict(_rule(controls=[]), records) == "refuted"  # the metric itself
    turned = _rule(metric=rule.metric, claimed="trial/old", baseline="trial/new", controls=[])
    assert verdict(turned, records) == "refuted"
    # beside a number, it is the distance that is compared
    found = gain(rule, records, 0.5)
    assert found == pytest.approx(interval([0.5 - ours for _, ours in apart]))
    # the mean is the arm's own, over all its runs, paired or not
    more = [*records, *_records("trial/new", [15.0], seeds=[7])]
    moved = interval([t - abs(v - 10) for (t, _), v in zip(apart, narrow, strict=True)])
    assert gain(rule, more, "trial/old") == pytest.approx(moved)
    lacking = [dataclasses.replace(r, metrics={"accuracy": 1.0}) for r in records]
    assert verdict(rule, lacking) == "open"
    # a table lies nowhere but at its own mean
    table = [*_records("trial/new", narrow), *_records("trial/old", [3.0], [None])]
    assert gain(rule, table, "trial/old") == pytest.approx(interval([-b for _, b in apart]))
