"""What was built, what it costs, and what nothing else beats."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trix.ledger.records import Record, read_all_records
from trix.show.figures.pareto import FAMILIES, TELLS, Built, everything_built, front

BOOK = Path(__file__).parents[3] / "book" / "claims" / "records"


def record(arm, losses, config, *, experiment="trial", parameters=100, **metrics) -> list[Record]:
    """One run for each loss; with a single one, a run without a seed."""
    seeds = [None] if len(losses) == 1 else range(len(losses))
    return [
        Record(
            experiment, arm, seed, config, {}, {}, "", 1, 0.0, parameters,
            {"val_nats": loss, **metrics}, [],
        )
        for seed, loss in zip(seeds, losses, strict=True)
    ]  # fmt: skip


def model(mixer="attention", ffn="dense", options=(), **ffn_options) -> dict:
    return {
        "mixer": mixer, "mixer_options": dict(options), "ffn": ffn, "ffn_options": ffn_options,
    }  # fmt: skip


def config(protocol="nano", **changes) -> dict:
    return {"protocol": protocol, "model": model(**changes)}


def timed(of, microseconds, compiled=False, **metrics) -> Record:
    built = {"model": of["model"], "after": of.get("after", "")} if "model" in of else of
    return Record(
        "speed", f"{microseconds}", None, {"built": built, "compiled": compiled}, {}, {}, "", 1,
        0.0, 7, {"us_per_character": microseconds, **metrics}, [],
    )  # fmt: skip


def only(records) -> Built:
    (found,) = everything_built(records)
    return found


def test_a_model_weighs_four_bytes_a_parameter_or_what_it_says():
    found = only(record("new", [2.0, 2.5], config(), parameters=13))
    assert (found.name, found.size, found.nats, found.form) == ("trial/new", 52.0, 2.25, "")
    assert math.isnan(found.microseconds)
    assert found.protocol == "nano"

    parts = {"ternary": 40.0, "scales": 6.0, "bfloat16": 50.0, "other": 3.0, "file": 120.0}
    sizes: dict[str, Any] = {f"bytes_{name}": value for name, value in parts.items()}
    tree = config(ffn="hierarchical-trix")
    runs = [*record("new", [2.0, 2.2], tree, val_nats_packed=2.3, **sizes), timed(tree, 9.0)]
    plain, packed = everything_built(runs)
    assert (plain.size, plain.nats, plain.microseconds) == (40 + 2 * (6 + 50) + 3, 2.1, 9.0)
    assert (packed.form, packed.size, packed.nats) == ("packed", 120.0, 2.3)
    assert math.isnan(packed.microseconds)
    assert packed.label == "new, packed"

    counts = {"order": 3, "smoothing": "witten-bell"}
    runs = record("witten-bell-3", [2.1], counts, experiment="counts")
    assert math.isnan(only(runs).size)
    found = only([*runs, timed(counts, 5.0, bytes=888.0)])
    assert (found.size, found.microseconds, found.family) == (888.0, 5.0, "counted")
    assert found.label == "order 3"
    runs = record("router", [1.5, 1.7], {"orders": 7}, bytes=64.0, us_per_character=3.0)
    found = only(runs)
    assert (found.size, found.microseconds, found.family) == (64.0, 3.0, "counted")


def test_speeds_are_those_of_the_same_model_done_the_same_way():
    soft = config(ffn="tiled", tiles=4, top_k=4)
    hard = {**soft, "after": "harden"}
    records = [
        *record("soft", [2.0], soft),
        *record("hard", [2.1], hard),
        *record("gain", [2.2], {"with": config("probe", ffn="none"), "without": soft}),
        *record("unknown", [2.3], config(ffn="trix")),
        timed(soft, 1.0), timed(hard, 2.0), timed(config(ffn="none"), 3.0),
        timed(soft, 0.5, compiled=True),
    ]  # fmt: skip
    found = {(one.name, one.form): one.microseconds for one in everything_built(records)}
    assert found.pop(("trial/unknown", "")) is not None
    assert found == {
        ("trial/soft", ""): 1.0,
        ("trial/soft", "compiled"): 0.5,
        ("trial/hard", ""): 2.0,
        ("trial/gain", ""): 3.0,
    }


def test_what_cannot_be_compared_is_left_out_and_what_is_one_training_comes_once():
    records = [
        *record("new", [2.0, 2.1], config()),
        *record("again", [2.0, 2.1], config()),
        *record("shuffled", [3.0], {**config(), "after": "shuffle"}),
        *record("seed", [2.5], config("seed")),
        *record("transplant", [2.6], {**config("probe"), "routing": "kan"}),
        *record("add-one-3", [2.7], {"order": 3, "smoothing": "add-one"}),
        *record("grid", [2.8], {"arms": {}}),
        *record("lost", [3.0, 9.0], config()),
        *record("without-2", [1.5], {"without": "order 2"}, bytes=6.0),
    ]
    assert [one.name for one in everything_built(records)] == ["trial/new"]


@pytest.mark.parametrize(
    ("made", "family"),
    [
        (model(), "everything at once"),
        (model(ffn="none"), "everything at once"),
        (model("convolved-attention", "wide-dense"), "everything at once"),
        (model("routed-memory", options={"slots": 4}), "a soft address"),
        (model("routed-memory", options={"top_k": 1}), "a hard address"),
        (model("static-memory"), "a hard address"),
        (model("static-memory", options={"top_k": 8}), "a soft address"),
        (model("hybrid"), "a soft address"),
        (model(ffn="tiled", tiles=16, top_k=16), "a soft address"),
        (model(ffn="tiled", tiles=16, top_k=4), "a hard address"),
        (model(ffn="lookup"), "a hard address"),
        ({"order": 9, "network": None}, "counted"),
        ({"order": 9, "network": model("routed-memory")}, "a soft address"),
    ],
)
def test_families_go_by_how_something_finds_what_it_reads(made, family):
    assert only(record("new", [2.0], {"protocol": "nano", "model": made})).family == family
    assert family in FAMILIES


def test_the_front_is_what_nothing_beats_in_both():
    generator = np.random.default_rng(0)
    points = [
        Built(f"trial/{i}", FAMILIES[0], "nano", float(40 - cost + worse), float(cost), cost + late)
        for i, (cost, worse, late) in enumerate(generator.integers(1, 30, size=(60, 3)))
    ]
    for cost in ("size", "microseconds"):
        pairs = {(float(getattr(p, cost)), p.nats) for p in points}
        best = [
            (c, n)
            for c, n in pairs
            if not any(p != (c, n) and p[0] <= c and p[1] <= n for p in pairs)
        ]
        found = [(getattr(p, cost), p.nats) for p in front(points, cost)]
        assert found == sorted(best)
        assert 2 < len(found) < 20


def test_what_costs_more_must_tell_and_packed_or_unknown_take_no_part():
    def point(nats, size, form="", speed=math.nan):
        return Built(f"trial/{size}", FAMILIES[0], "nano", nats, size, speed, form)

    points = [
        point(2.0, 10.0),
        point(2.0 - 0.5 * TELLS, 20.0),
        point(2.0 - 2 * TELLS, 30.0),
        point(1.0, 5.0, "packed"),
        point(0.5, math.nan, "compiled", 3.0),
    ]
    assert [p.size for p in front(points, "size")] == [10.0, 30.0]
    assert [p.form for p in front(points, "microseconds")] == ["compiled"]
    assert front(points[:3], "microseconds") == []


def test_the_books_records_have_things_of_every_family():
    found = everything_built(read_all_records(BOOK))
    assert {one.family for one in found} == set(FAMILIES)
    names = {(one.name, one.form) for one in found}
    assert len(names) == len(found)
    assert {("attention-nano/attention", ""), ("memory-nano/routed", "packed")} <= names
    assert all(1 < one.nats < 4 for one in found)
