"""What an executed notebook depends on, as hashes that can be compared and named."""

import hashlib
import json
import platform
from collections.abc import Iterable
from pathlib import Path

import nbformat


def of_bytes(data: bytes) -> str:
    """Return a short hash of some bytes."""
    return hashlib.sha256(data).hexdigest()[:16]


def of_files(paths: Iterable[Path], root: Path) -> str:
    """Return one hash over the names (relative to `root`) and contents of files."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(root)}\0{of_bytes(path.read_bytes())}\n".encode())
    return digest.hexdigest()[:16]


def files_under(folder: Path) -> list[Path]:
    """List the files of a folder that a person wrote: no caches, nothing hidden."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(
            part.startswith(".") or part == "__pycache__" for part in path.relative_to(folder).parts
        )
    ]


def of_notebook(path: Path) -> str:
    """Return a hash of a notebook's cells and their metadata.

    Outputs, execution counts and cell ids are left out: opening a notebook in JupyterLab and
    running it does not make it a different notebook.
    """
    cells = [
        {"type": cell.cell_type, "source": cell.source, "metadata": cell.metadata}
        for cell in nbformat.read(path, as_version=4).cells
    ]
    return of_bytes(json.dumps(cells, sort_keys=True).encode())


def of_corpus() -> tuple[str, str]:
    """Return the name and the hash of the text that the notebooks will read."""
    from trix.lab import corpus

    text = corpus.load_corpus()
    return text.name, text.sha256


def shared(root: Path, parameters: dict[str, object], corpus: tuple[str, str]) -> dict[str, str]:
    """Return the hashes of everything that all notebooks depend on, by a name for people."""
    claims = root / "book" / "claims"
    return {
        "the library": of_files(files_under(root / "trix"), root),
        "its parameters": of_bytes(json.dumps(parameters, sort_keys=True).encode()),
        "the corpus": of_bytes(" ".join(corpus).encode()),
        "the pins": of_files([root / "constraints.txt"], root) + platform.python_version(),
        "the claims": of_files(files_under(claims) if claims.is_dir() else [], root),
    }


def changed(old: dict[str, str] | None, new: dict[str, str]) -> list[str]:
    """Name what differs between the hashes of an earlier execution and those of now."""
    if old is None:
        return ["it has not been executed yet"]
    return [f"{name} changed" for name in new if old.get(name) != new[name]]
