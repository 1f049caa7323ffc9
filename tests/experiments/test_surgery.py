"""Arms about surgery: what is put in, what is claimed and what it costs, against obvious loops."""

import copy
import math
from typing import Any

import pytest
import torch

import trix
from tests.experiments.small import BLOCK, CORPUS, FEW, TINY, saved
from trix.experiments import surgery as arms
from trix.experiments.arm import Run
from trix.experiments.surgery import PATIENT, SURGERY, VOWELS, dispatch, lookups, operate
from trix.models.charlm import CharLM

IS_VOWEL = [c in VOWELS for c in CORPUS.alphabet]


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(arms, "EXAMPLES", 60)


@pytest.fixture
def operated(monkeypatch):
    train, kept = arms.train, []

    def watched(model, text, config, seed, **options):
        before = copy.deepcopy(model)
        train(model, text, config, seed, **options)
        kept.append((before, copy.deepcopy(model), seed - 1000))
        assert (config.steps, config.lr, config.warmup) == (10, 3e-4, 0)

    monkeypatch.setattr(arms, "train", watched)
    return kept


def _run(tmp_path, seed) -> Run:
    return Run(CORPUS, seed, "quick", tmp_path / "work").make(PATIENT)


def _patient(folder, seed):
    (shared,) = folder.glob(f"patient-{seed}-*")
    return saved(shared, PATIENT)


@torch.no_grad()
def _sees(model, text, place):
    characters, tokens = [], []
    for begin in range(0, len(text) // BLOCK * BLOCK, BLOCK):
        block = text[begin : begin + BLOCK]
        characters += block.tolist()
        tokens += list(model.routed(block[None]).routes[place].token[0])
    return characters, tokens


@torch.no_grad()
def _nats(model, text):
    found: dict[bool, list[float]] = {True: [], False: []}
    for begin in range(0, len(text) - 1, BLOCK):
        inputs, targets = text[begin : begin + BLOCK], text[begin + 1 : begin + BLOCK + 1]
        inputs = inputs[: len(targets)]
        logs = model(inputs[None])[0].log_softmax(dim=-1)
        for n, character in enumerate(inputs.tolist()):
            found[IS_VOWEL[character]].append(-float(logs[n, targets[n]]))
    return [sum(found[kind]) / len(found[kind]) for kind in (True, False)]


def _claimed(model, place, tile):
    characters, tokens = _sees(model, CORPUS.val, place)
    rows, got = lookups(model)[place].signatures.detach(), {True: [], False: []}
    for character, token in zip(characters, tokens, strict=True):
        got[IS_VOWEL[character]].append(int((rows @ token).argmax()) == tile)
    return [sum(got[kind]) / len(got[kind]) for kind in (True, False)]


def _design(tokens, wanted, threshold):
    parts = [
        torch.stack([t for t, is_it in zip(tokens, wanted, strict=True) if is_it == kind])
        for kind in (True, False)
    ]
    gap = parts[0].mean(dim=0) - parts[1].mean(dim=0)
    return gap.sign() * (gap.abs() > threshold * gap.abs().mean())


def test_only_sparse_lookups_are_operated_on():
    model = CharLM(TINY.with_model(vocab_size=5, ffn="funnel", ffn_options={}))
    with pytest.raises(TypeError, match="must be a SparseLookupFFN, got a FunnelFFN"):
        lookups(model)


@pytest.mark.parametrize("kind", ["designed", "random", "untouched"])
def test_surgery_is_what_is_done_by_hand(tmp_path, operated, kind):
    seed = 3
    found = operate(_run(tmp_path, seed), kind)
    model, generator = _patient(tmp_path, seed), torch.Generator().manual_seed(seed)
    rows = []
    for place in (0, 1):  # the quick budget makes two
        characters, tokens = _sees(model, CORPUS.train[:100_000], place)
        tile = int(torch.randint(64, (1,), generator=generator))
        pick = torch.randint(len(tokens), (60,), generator=generator).tolist()
        order = torch.randperm(8, generator=generator).tolist()
        some, vowels = ([part[n] for n in pick] for part in (tokens, characters))
        row = _design(some, [IS_VOWEL[c] for c in vowels], 0.5)
        row = row[order] if kind == "random" else row
        patient: Any = copy.deepcopy(model)
        if kind != "untouched":
            lookups(patient)[place].insert_signature(tile, row, tag="vowels")
        rows.append([*_claimed(patient, place, tile), *_nats(patient, CORPUS.val)])
        if place == 0:
            ((before, after, used),) = operated  # the first alone goes on
            assert used == seed
            old, new = (lookups(m)[0] for m in (before, after))
            kept = zip(before.state_dict().values(), patient.state_dict().values(), strict=True)
            assert all(torch.equal(a, b) for a, b in kept)
            if kind != "untouched":
                assert torch.equal(new.signatures[tile], row)
                assert new.is_frozen(tile)
                assert new.get_signature_analysis(tile)["tag"] == "vowels"
            assert not torch.equal(old.values, new.values)
            trained_on = [_claimed(after, 0, tile)[0], *_nats(after, CORPUS.val)]
            names = ("claim_rate", "val_nats_on", "val_nats_off")
            for name, value in zip(names, trained_on, strict=True):
                assert found[f"{name}_trained_on"] == pytest.approx(value, abs=1e-5)
    rates = [row[0] for row in rows]
    assert found["claim_rate"] == pytest.approx(sum(rates) / 2)
    assert (found["claim_rate_min"], found["claim_rate_max"]) == (min(rates), max(rates))
    assert found["claim_rate_std"] == pytest.approx(abs(rates[0] - rates[1]) / math.sqrt(2))
    for number, name in ((1, "claim_rate_others"), (2, "val_nats_on"), (3, "val_nats_off")):
        assert found[name] == pytest.approx(sum(row[number] for row in rows) / 2, abs=1e-5)
    if kind == "designed":
        assert found["claim_rate"] > found["claim_rate_others"]


def test_all_arms_of_a_seed_share_one_patient_that_stays_as_it_was(tmp_path, steps):
    for number, (experiment, name) in enumerate(
        (("surgery", "designed"), ("surgery", "random"), ("dispatch", "designed"))
    ):
        del steps[:]
        SURGERY[experiment][name].run(CORPUS, 0, "quick", tmp_path / str(number))
        again = 20 if experiment == "dispatch" else 10
        assert len(steps) == (FEW if number == 0 else 0) + again
        assert all(layer.get_surgery_history() == [] for layer in lookups(_patient(tmp_path, 0)))


@pytest.mark.parametrize(("designed", "trained_on"), [(True, False), (False, False), (False, True)])
def test_compiled_dispatch_is_what_is_done_by_hand(
    tmp_path, monkeypatch, operated, designed, trained_on
):
    monkeypatch.setattr("trix.surgery.LEAST", 5)
    monkeypatch.setattr(arms, "COMMON", 4)
    tables, compile_dispatch = [], arms.compile_dispatch

    def watched(*arguments):
        tables.append(compile_dispatch(*arguments))
        return tables[-1]

    monkeypatch.setattr(arms, "compile_dispatch", watched)
    monkeypatch.setattr(arms, "THRESHOLD", 0.4)
    monkeypatch.setattr(arms, "TRACKED", 300)
    seed = 1
    found = dispatch(_run(tmp_path, seed), designed, trained_on)
    (table,) = tables
    *first, (model, later, last_seed) = operated
    assert last_seed == seed + 1
    patient = _patient(tmp_path, seed)
    if designed:
        ((before, _, used),) = first
        assert used == seed
        characters, tokens = _sees(patient, CORPUS.train, 1)
        counts = [-characters.count(c) for c in range(CORPUS.vocab_size)]
        common = sorted(range(CORPUS.vocab_size), key=lambda c: (counts[c], c))[:4]
        layer = lookups(before)[1]
        for tile, character in enumerate(common):
            expected = _design(tokens, [c == character for c in characters], 1.0)
            assert torch.equal(layer.signatures[tile], expected)
        for each in (layer, lookups(model)[1], lookups(later)[1]):
            assert [each.is_frozen(t) for t in range(64)] == [t < 4 for t in range(64)]
            assert torch.equal(each.signatures[:4], layer.signatures[:4])
        assert lookups(before)[0].get_surgery_history() == []
    elif trained_on:
        ((before, after, used),) = first
        assert used == seed
        for old, new in ((patient, before), (after, model)):
            assert torch.equal(lookups(old)[1].values, lookups(new)[1].values)
        assert not torch.equal(lookups(before)[1].values, lookups(after)[1].values)
    else:
        assert first == []
        assert torch.equal(lookups(model)[1].values, lookups(patient)[1].values)

    # the table, from the first characters of the training text
    rows = lookups(model)[1].signatures.detach()
    characters, tokens = _sees(model, CORPUS.train[:300], 1)
    chosen = [int((rows @ token).argmax()) for token in tokens]
    for kind in range(CORPUS.vocab_size):
        reads = [t for t, c in zip(chosen, characters, strict=True) if c == kind]
        most = max(range(64), key=lambda t: (reads.count(t), -t))
        stable = len(reads) >= 5 and reads.count(most) >= 0.4 * len(reads)
        assert int(table.tile[kind]) == (most if stable else -1)
    assert found["tabled"] == int((table.tile >= 0).sum()) > 0

    # and how it does on the validation text, before and after more training
    for end, judged in (("", model), ("_later", later)):
        live = lookups(judged)[1].signatures.detach()
        hits = []
        for character, token in zip(*_sees(judged, CORPUS.val, 1), strict=True):
            tile = int(table.tile[character])
            if tile >= 0 and float(rows[tile] @ token) > float(table.guard[character]):
                hits.append(int((live @ token).argmax()) == tile)
        total = len(CORPUS.val) // BLOCK * BLOCK
        assert found[f"hit_rate{end}"] == pytest.approx(len(hits) / total)
        assert hits
        assert found[f"agreement{end}"] == pytest.approx(sum(hits) / len(hits))
    nats = trix.lab.evaluate(trix.lab.model_log_probs(model), CORPUS.val, BLOCK).nats
    assert found["val_nats"] == pytest.approx(nats, abs=1e-6)
    assert found["noticed"] == float(not torch.equal(lookups(later)[1].signatures, rows))
