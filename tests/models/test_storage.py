import errno
import json

import pytest
import torch

from tests.models.small import ALPHABET, NETWORK, ORDER, VOCAB, first_edition, lookup_model
from tests.models.test_checkpoint import contents
from trix.counts.context import ContextMemory
from trix.counts.words import ADDRESSES, WordMemory, letters_of
from trix.experiments.lookup import sizes
from trix.models.charlm import CharLM, LMConfig
from trix.models.storage import (
    FORMAT,
    INDEX,
    Stored,
    load_checkpoint,
    load_model,
    pack_tables,
    pack_words,
    save_checkpoint,
    save_model,
    unpack_tables,
    unpack_words,
)

READ = ("keys", "start", "character", "share", "backoff_mass", "evidence")


def _text(length=300, vocab_size=VOCAB, seed=0):
    # powers: some characters are frequent, others rare
    drawn = torch.rand(length, generator=torch.Generator().manual_seed(seed))
    return (drawn**3 * vocab_size).long()


def _model(network: LMConfig | None = NETWORK, **changes):
    return lookup_model(_text(), network=network, **changes)


def _same(got, expected):
    assert torch.equal(got.memory.keys, expected.memory.keys)
    assert torch.equal(got.memory.share[-1], expected.memory.share[-1])
    assert (got.words is None) == (expected.words is None)
    if got.words is not None:
        assert torch.equal(got.words.keys, expected.words.keys)
        assert torch.equal(got.words.share[-1], expected.words.share[-1])
    assert got.state_dict().keys() == expected.state_dict().keys()
    for name, value in expected.state_dict().items():
        assert torch.equal(got.state_dict()[name], value), name
    tokens = _text(26, seed=5).view(2, 13)
    a, b = got.eval().routed(tokens), expected.eval().routed(tokens)
    assert torch.equal(a.logits, b.logits)
    assert torch.equal(a.gate.index, b.gate.index)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"network": None, "gate": "fixed"},
        {"network": None, "words": True},
        {"words": True, "echoes": True},
    ],
)
def test_a_saved_model_comes_back_bit_for_bit(tmp_path, change):
    model = _model(**change)
    model.train()
    about = {"text": "plays", "nats": 1.1234567890123456, "none": None}
    save_model(tmp_path / "new" / "model", model, ALPHABET, about)
    stored = load_model(tmp_path / "new" / "model")
    assert (stored.alphabet, stored.about) == (ALPHABET, about)
    assert stored.model.config == model.config
    assert not stored.model.training
    assert stored.model.memory.folds == 0
    _same(stored.model, model)


def test_a_model_that_was_saved_before_there_were_echoes_and_new_names_is_loaded(tmp_path):
    model = _model(words=True)
    save_model(tmp_path, model, ALPHABET, {})
    saved = load_checkpoint(tmp_path)
    assert saved is not None
    del saved.values["config"]["echoes"]
    save_checkpoint(tmp_path, first_edition(saved.tensors), saved.values)
    got = load_model(tmp_path).model
    assert got.config.tables == (*(f"order {n}" for n in range(1, ORDER + 1)), *ADDRESSES)
    _same(got, model)


@pytest.mark.parametrize(
    ("network", "table"), [(NETWORK, "order 2"), (None, "pair"), (NETWORK, "echo")]
)
def test_what_was_taken_away_stays_away(tmp_path, network, table):
    model = _model(network, words=True, echoes=True)
    whole = model.eval()(_text(13)[None])
    model.drop(table)
    model.gate.forbid(0)  # not asked, but found: a network is still told of it
    save_model(tmp_path, model, ALPHABET, {})
    got = load_model(tmp_path).model
    assert got.dropped == {table}
    _same(got, model)
    got.restore(table)
    got.gate.allow(0)
    assert torch.equal(got(_text(13)[None]), whole)


def test_characters_have_numbers_and_back():
    stored = Stored(_model(None), ALPHABET, {})
    tokens = stored.encode("na\n\n")
    assert torch.equal(tokens, torch.tensor([[10, 6, 0, 0]]))
    assert stored.decode(tokens) == stored.decode(tokens[0]) == "na\n\n"
    assert stored.decode(tokens[:, 2:2]) == ""


def test_what_is_no_such_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"a model in {tmp_path}, but there is none"):
        load_model(tmp_path)
    network = CharLM(NETWORK)
    save_checkpoint(tmp_path, {f"model.{k}": v for k, v in network.state_dict().items()}, {})
    with pytest.raises(ValueError, match=f"{tmp_path} must hold a '{FORMAT}', got None"):
        load_model(tmp_path)
    with pytest.raises(ValueError, match="alphabet must have 11 characters, got 3"):
        save_model(tmp_path / "model", _model(), "abc", {})
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"order": 3}}, "order 3 and 11 characters, got 4 and 11"),
        ({"config": {"hidden": 6}}, "does not fit its settings: .*size mismatch"),
        ({"config": {"depth": 6}}, "does not fit its settings: .*depth"),
        ({"config": {"gate": "open"}}, "gate must be one of"),
        ({"config": {"network": None}}, "does not fit its settings"),
        ({"alphabet": "abc"}, "expected 11 characters, got 'abc'"),
        ({"alphabet": list("abcdefghijk")}, "expected 11 characters, got"),
        ({"alphabet": ...}, "does not fit its settings: 'alphabet'"),
        ({"config": ...}, "does not fit its settings: 'config'"),
        ({"format": "trix look-it-up model, 1"}, "must hold a .*, got 'trix look-it-up model, 1'"),
        ("model.gate.read.weight", "does not fit its settings: .*gate.read.weight"),
        ("tables.2.count", "{}: the model does not fit its settings"),
        ("tables.1.children", "does not fit its settings: '1.children'"),
    ],
)
def test_settings_and_tensors_that_do_not_fit_are_refused(tmp_path, change, message):
    save_model(tmp_path, _model(), ALPHABET, {})
    saved = load_checkpoint(tmp_path)
    assert saved is not None
    tensors, values = saved
    if isinstance(change, str):
        del tensors[change]
        change = {}
    for key, value in change.items():
        if value is ...:
            del values[key]
        else:
            values[key] = {**values[key], **value} if isinstance(value, dict) else value
    save_checkpoint(tmp_path, tensors, values)
    with pytest.raises(ValueError, match=f"(?s){message.format(tmp_path)}"):
        load_model(tmp_path)


@pytest.mark.parametrize("fails", [".safetensors", INDEX])
def test_a_full_disk_leaves_the_old_model(tmp_path, monkeypatch, fails):
    model = _model()
    save_model(tmp_path, model, ALPHABET, {"nats": 2})
    before = contents(tmp_path)

    def full(kept):
        def write(path, *args, **options):
            if fails in path.name:
                kept(path, *(a[: len(a) // 2] for a in args), **options)  # as far as it went
                raise OSError(errno.ENOSPC, "No space left on device")
            return kept(path, *args, **options)

        return write

    for name in ("write_bytes", "write_text"):
        monkeypatch.setattr(f"pathlib.Path.{name}", full(getattr(type(tmp_path), name)))
    with pytest.raises(OSError, match="No space left"):
        save_model(tmp_path, _model(None), ALPHABET, {"nats": 1})
    monkeypatch.undo()
    stored = load_model(tmp_path)
    assert stored.about == {"nats": 2}
    _same(stored.model, model)
    assert before.items() <= contents(tmp_path).items()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("text", "order", "vocab_size", "folds"),
    [
        (_text(), 4, VOCAB, 2),
        (_text(3000, 300, 2), 3, 300, 0),  # characters that a byte does not hold
        (torch.zeros(700).long(), 3, 2, 2),  # counts that a byte does not hold
        (torch.tensor([2]), 1, 5, 0),
        # a character that all 256 follow: as many as a byte does not hold
        (torch.stack([torch.zeros(256).long(), torch.arange(256)], dim=1).flatten(), 2, 256, 2),
        (torch.arange(256).repeat(2), 4, 256, 0),
    ],
)
def test_packed_tables_come_back_bit_for_bit(text, order, vocab_size, folds):
    memory = ContextMemory(text, order, vocab_size, folds)
    got = unpack_tables(pack_tables(memory), vocab_size)
    expected = ContextMemory(text, order, vocab_size, 0)
    for a, b in zip(got.counts, expected.counts, strict=True):
        assert (a.key == b.key).all()
        assert (a.character == b.character).all()
        assert (a.count == b.count).all()
    for name in READ:
        assert torch.equal(getattr(got, name), getattr(expected, name)), name
    assert got.folds == 0


def test_tables_that_went_on_counting_are_packed_too_mostly_as_single_bytes():
    memory = ContextMemory(_text(), 4, VOCAB, 3).with_text(_text(50, seed=8))
    packed = pack_tables(memory)
    got = unpack_tables(packed, VOCAB)
    for name in READ:
        assert torch.equal(getattr(got, name), getattr(memory, name)), name
    assert {t.dtype for name, t in packed.items() if name.endswith("character")} == {torch.uint8}
    assert {t.dtype for name, t in packed.items() if name.endswith("children")} == {torch.uint8}
    assert packed["4.count"].dtype == torch.uint8
    assert "4.children" not in packed


def _set(name, change):
    return lambda packed: packed.update({name: change(packed[name].clone())})


def _emptied(packed):
    packed.clear()
    packed["1.character"] = packed["1.count"] = torch.zeros(0, dtype=torch.uint8)


def _words(folds=0):
    return WordMemory(_text(), letters_of(ALPHABET), folds)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_set("3.character", lambda t: t[:-1]), r"order 3 must have \d+ entries, got \d+"),
        (_set("2.count", lambda t: t[1:]), r"order 2 must have \d+ entries, got \d+"),
        (_set("1.count", lambda t: t[1:]), r"order 1 must have \d+ entries, got \d+"),
        (_set("2.children", lambda t: t + 1), r"order 3 must have \d+ entries, got \d+"),
        (_set("2.character", lambda t: t.flip(0)), "order 2 must be sorted"),
        (_set("1.character", lambda t: t * 0), "order 1 must be sorted"),
        (_set("1.character", lambda t: t + VOCAB), "order 1 .* of 11 characters"),
        (_set("4.character", lambda t: t.index_fill(0, torch.tensor([-1]), 12)), "order 4"),
        (_emptied, "order 1 must be sorted"),
        (_set("word.key", lambda t: t[:-1]), r"word must have \d+ entries at \d+ keys, got"),
        (_set("pair.entries", lambda t: t + 1), r"pair must have \d+ entries at \d+ keys"),
        (_set("line.count", lambda t: t[1:]), r"line must have \d+ entries at \d+ keys, got"),
        (_set("word.key", lambda t: t.flip(0)), "word must be sorted"),
        (_set("apart.character", lambda t: t + VOCAB), "apart must be sorted and of 11 characters"),
    ],
)
def test_tables_and_words_that_do_not_fit_are_refused(damage, message):
    tables, words = pack_tables(ContextMemory(_text(), 4, VOCAB)), pack_words(_words())
    is_order = "order" in message
    damage(tables if is_order else words)
    with pytest.raises(ValueError, match=message):
        unpack_tables(tables, VOCAB) if is_order else unpack_words(words, ALPHABET)


@pytest.mark.parametrize(("network", "words"), [(NETWORK, False), (None, True)])
def test_sizes_are_those_of_the_file_but_for_its_header(tmp_path, network, words):
    model = _model(network, words=words)
    save_model(tmp_path, model, ALPHABET, {})
    (path,) = tmp_path.glob("*.safetensors")
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    stated = sizes(model)
    assert stated["bytes"] == len(content) - header
    names = json.loads(content[8:header])
    tables = [*map(str, range(1, ORDER + 1)), *(ADDRESSES if words else ())]
    for table in tables:
        spans = [
            n["data_offsets"]
            for name, n in names.items()
            if name.startswith((f"tables.{table}.", f"words.{table}."))
        ]
        assert stated[f"bytes_order_{table}"] == sum(end - begin for begin, end in spans) > 0
    assert stated["bytes_tables"] == sum(stated[f"bytes_order_{n}"] for n in tables)
    assert set(stated) == {"bytes", "bytes_tables", *(f"bytes_order_{n}" for n in tables)}


@pytest.mark.parametrize("folds", [0, 2])
def test_packed_words_come_back_bit_for_bit(folds):
    got, expected = unpack_words(pack_words(_words(folds)), ALPHABET), _words()
    for name in (*READ, "letters"):
        assert torch.equal(getattr(got, name), getattr(expected, name)), name
    assert got.folds == 0
    # a text that has none
    memory = WordMemory(torch.tensor([1, 1, 1]), letters_of(ALPHABET))
    assert not len(memory.counts[3].key)
    got = unpack_words(pack_words(memory), ALPHABET)
    assert torch.equal(got.keys, memory.keys)
