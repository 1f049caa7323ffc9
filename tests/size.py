"""How large the house is, beside the first edition: `make size`."""

import importlib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMESPACES = ("trix", "trix.lab", "trix.ledger", "trix.show")
FIRST = {
    "library, Python lines": (21_917, 17_000),
    "widgets, lines of JS and CSS": (6_917, 5_900),
    "tests, lines": (28_177, 18_000),
    "public names": (185, 115),
}
"""What the first edition measured, and what is to be reached."""
LINES, FILES = 400, 12
"""The most lines of a file, and the most files of a room."""


def lines(paths: Iterable[Path]) -> int:
    """Count the lines of some files."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def sources(folder: str, *endings: str) -> list[Path]:
    """List the files of a folder and of all below it that have one of these endings."""
    return sorted(path for path in (ROOT / folder).rglob("*") if path.suffix in endings)


def public_names() -> list[str]:
    """List the names that the four namespaces offer."""
    return [
        f"{space}.{name}" for space in NAMESPACES for name in importlib.import_module(space).__all__
    ]


def rooms() -> dict[tuple[str, str], list[Path]]:
    """Return the files of each folder under `trix` and `tests`, by kind: py, js or css."""
    found: dict[tuple[str, str], list[Path]] = {}
    for path in sources("trix", ".py", ".js", ".css") + sources("tests", ".py"):
        if path.name != "__init__.py":
            room = str(path.parent.relative_to(ROOT))
            found.setdefault((room, path.suffix[1:]), []).append(path)
    return dict(sorted(found.items()))


def main() -> None:
    """Print every number."""
    now = {
        "library, Python lines": lines(sources("trix", ".py")),
        "widgets, lines of JS and CSS": lines(sources("trix", ".js", ".css")),
        "tests, lines": lines(sources("tests", ".py")),
        "public names": len(public_names()),
    }
    print(f"{'':30} {'first':>7} {'now':>7}   to reach")
    for what, (first, most) in FIRST.items():
        print(f"{what:30} {first:7,} {now[what]:7,}   ≤ {most:,}")
    print(f"\n{'room':30} {'files':>7} {'lines':>7}   longest (≤ {FILES} files of ≤ {LINES} lines)")
    for (room, kind), paths in rooms().items():
        longest = max(paths, key=lambda path: lines([path]))
        print(
            f"{room + ' ' + kind:30} {len(paths):7} {lines(paths):7,}   "
            f"{longest.name} {lines([longest])}"
        )


if __name__ == "__main__":
    main()
