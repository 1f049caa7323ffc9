r"""The texts that are measured on; which one it was is part of a number: `Corpus.provenance()`."""

import functools
import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from trix.lab import texts
from trix.models.alphabet import decode, encode

NAMES = ("auto", "tinyshakespeare", "plays", "all-plays")
_warned: list[str] = []


@dataclass(frozen=True)
class Corpus:
    """A text, the alphabet it is written in, and where its validation part begins.

    >>> corpus = Corpus("cats", "made up", "the cat sat on the mat")
    >>> corpus.encode("tea"), corpus.decode([3, 1, 9]), corpus.val_text
    (tensor([9, 3, 1]), 'eat', 'mat')

    A file of your own has its file's name. The validation part begins at `boundary`, at nine tenths
    when not given, as in nanoGPT. The alphabet is ascending: that of `text` when not given.

    Raises:
        ValueError: a part would be empty, or the alphabet is out of order or lacks a character.
    """

    name: str
    source: str
    text: str = field(repr=False)
    boundary: int = -1
    alphabet: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        whose, used = f"corpus {self.name!r}", sorted(set(self.text))
        if self.boundary == -1:
            object.__setattr__(self, "boundary", int(0.9 * len(self.text)))
        if not 0 < self.boundary < len(self.text):
            raise ValueError(
                f"{whose}: expected at least one character before and after the boundary, got "
                f"boundary {self.boundary} in {len(self.text)} characters"
            )
        if not self.alphabet:
            object.__setattr__(self, "alphabet", "".join(used))
        if self.alphabet != "".join(sorted(set(self.alphabet))):
            raise ValueError(
                f"{whose}: expected an alphabet of distinct characters in ascending order, got "
                f"{self.alphabet!r}"
            )
        if unknown := sorted(set(used) - set(self.alphabet)):
            raise ValueError(f"{whose}: {unknown[0]!r} is not in its alphabet")

    @functools.cached_property
    def sha256(self) -> str:
        """The SHA-256 of the text in UTF-8, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        """How many different characters there are."""
        return len(self.alphabet)

    @property
    def train_text(self) -> str:
        """The first nine tenths of the text."""
        return self.text[: self.boundary]

    @property
    def val_text(self) -> str:
        """The last tenth of the text."""
        return self.text[self.boundary :]

    @functools.cached_property
    def train(self) -> Tensor:
        """The training text as character numbers, int64 `[boundary]`."""
        return self.encode(self.train_text)

    @functools.cached_property
    def val(self) -> Tensor:
        """The validation text as character numbers, int64 `[len(text) - boundary]`."""
        return self.encode(self.val_text)

    def encode(self, text: str) -> Tensor:
        """Return the number of each character, int64 `[len(text)]`."""
        return encode(text, self.alphabet, f"of corpus {self.name!r}")

    def decode(self, numbers: Tensor | Sequence[int]) -> str:
        """Return the text whose characters have these numbers."""
        return decode(numbers, self.alphabet)

    def design(self) -> "Corpus":
        """Return the training text as a corpus, to choose designs and hyperparameters on.

        The validation text stays for reporting; the alphabet is the same, so a model fits both.
        """
        source = f"the training text of {self.name}: {self.source}"
        return Corpus(f"{self.name}/design", source, self.train_text, alphabet=self.alphabet)

    def provenance(self) -> dict[str, str | int]:
        """Return name, source, SHA-256 and length in characters, for a record or a page."""
        known = {"name": self.name, "source": self.source, "sha256": self.sha256}
        return {**known, "characters": len(self.text)}


def load_corpus(name: str | os.PathLike[str] = "auto", least: int = 0) -> Corpus:
    r"""Return a corpus by name, or a text file of your own by its path.

    - `"tinyshakespeare"`: the file in `$TRIX_DATA` (the file itself, or a folder that holds
      `tinyshakespeare.txt`), or the one downloaded before, or downloaded now; only with the right
      SHA-256.
    - `"plays"`: nearly the same text, rebuilt from an installed package without the network.
    - `"all-plays"`: every play there is, four times as long; the last two are for validation.
    - `"auto"`: the first if it can be had within a few seconds, else, with a warning, the second.
    - a path: a text in UTF-8; line ends become `\n`, and a byte-order mark is dropped.

    Each text is read once per process; a file of your own is read anew when it has changed.

    >>> load_corpus("plays").text[:14]
    'First Citizen:'

    Raises:
        ValueError: there is no such corpus or file; the file is empty, not text, or shorter than
            `least` characters; or a copy of TinyShakespeare has the wrong SHA-256.
        Unavailable: TinyShakespeare is neither on this machine nor to be downloaded.
        ModuleNotFoundError: a package of the extra `lab` is missing.
    """
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"expected the name of a corpus or a path, got {name!r}")
    corpus = _find(name)
    if len(corpus.text) < least:
        raise ValueError(
            f"corpus {corpus.name!r} is too short: expected at least {least} characters, got "
            f"{len(corpus.text)}"
        )
    return corpus


def _find(name: str | os.PathLike[str]) -> Corpus:
    if name == "auto":
        try:
            return _tinyshakespeare(texts.find())
        except texts.Unavailable as unavailable:
            if not _warned:  # the first time in this process only
                _warned.append(f"{unavailable}; using 'plays' instead, from an installed package")
                warnings.warn(_warned[0], stacklevel=3)  # at the place that called `load_corpus`
            return _plays("plays")
    if name == "tinyshakespeare":
        return _tinyshakespeare(texts.find())
    if name in ("plays", "all-plays"):
        return _plays(str(name))
    path = Path(name)
    if path.is_file():
        status = path.stat()
        return _own_file(path.absolute(), status.st_mtime_ns, status.st_size)
    if path.suffix == ".txt":
        raise ValueError(f"expected a text file, but there is none at {path}")
    raise ValueError(
        f"unknown corpus {str(name)!r}: expected {', '.join(NAMES)}, or the path of a text file"
    )


@functools.cache
def _tinyshakespeare(path: Path) -> Corpus:
    return Corpus("tinyshakespeare", f"Karpathy's char-rnn, {texts.URL}", texts.read(path))


@functools.cache
def _plays(name: str) -> Corpus:
    nine = name == "plays"
    text, boundary = (texts.tinyshakespeare_plays(), -1) if nine else texts.all_plays()
    which, package = "nine" if nine else "all", texts.package()
    source = f"{which} plays by Shakespeare, in the public domain, rebuilt from {package}"
    return Corpus(name, source, text, boundary)


@functools.cache
def _own_file(path: Path, modified_ns: int, size: int) -> Corpus:
    # time of change and size are only there for the cache to tell files apart
    content = path.read_bytes()
    if not content:
        raise ValueError(f"expected a text in {path}, but the file is empty")
    if b"\0" in content:
        raise ValueError(f"expected a text in {path}, but it holds a NUL byte at {content.find(0)}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"expected a text in UTF-8 in {path}: {error}") from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return Corpus(path.name, f"the file {path.name}", text)
