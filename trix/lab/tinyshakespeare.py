"""TinyShakespeare, the file itself: found on this machine, or downloaded once.

A file is used only when its SHA-256 is the right one. A wrong one is never passed over in
silence: it lies where somebody meant the right one to lie.
"""

import functools
import hashlib
import io
import os
import threading
from pathlib import Path

FILE = "tinyshakespeare.txt"
URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
DOWNLOAD_SECONDS = 5.0


class Unavailable(OSError):
    """TinyShakespeare is neither on this machine nor to be had from the network."""


def find() -> Path:
    """Return where TinyShakespeare lies, after downloading it if need be.

    Raises:
        Unavailable: It is not on this machine, and the download failed or took longer than
            ``DOWNLOAD_SECONDS``. A process tries the download once.
        ModuleNotFoundError: ``pooch`` is needed and not installed.
    """
    if path := find_local():
        return path
    if failure := _download():
        named = "names no copy" if os.environ.get("TRIX_DATA") else "is not set"
        raise Unavailable(f"TinyShakespeare cannot be had ($TRIX_DATA {named}; {failure})")
    return _cache_folder() / FILE


def find_local() -> Path | None:
    """Return where a copy lies on this machine, or None; it is not opened.

    Looks into ``$TRIX_DATA`` (the file itself, or a folder that holds ``tinyshakespeare.txt``),
    then among the downloads.
    """
    if named := os.environ.get("TRIX_DATA"):
        path = Path(named).expanduser()
        path = path / FILE if path.is_dir() else path
        if path.is_file():
            return path
    path = _cache_folder() / FILE
    return path if path.is_file() else None


def read(path: Path) -> str:
    """Return the text of the file at ``path``.

    Raises:
        ValueError: Its SHA-256 is not that of TinyShakespeare.
    """
    content = path.read_bytes()
    received = hashlib.sha256(content).hexdigest()
    if received != SHA256:
        raise ValueError(
            f"{path} is not TinyShakespeare: expected SHA-256 {SHA256}, received {received}; "
            "replace or remove it"
        )
    return content.decode()


@functools.cache
def _download() -> str | None:
    """Fetch the file into pooch's cache; return why not, or None when it is there."""
    import pooch

    log = pooch.get_logger()
    level = log.level
    log.setLevel("WARNING")  # what pooch tells names folders of this machine
    try:
        pooch.retrieve(
            URL,
            known_hash=f"sha256:{SHA256}",
            fname=FILE,
            path=_cache_folder(),
            downloader=_fetch_in_time,  # pyright: ignore[reportArgumentType]
        )
    except (TimeoutError, ValueError) as error:
        return str(error).rstrip(".")
    except OSError as error:
        return f"the download cannot be stored: {type(error).__name__}"
    finally:
        log.setLevel(level)
    return None


def _fetch_in_time(url: str, output_file: str, registry: object) -> None:
    """Download ``url`` for pooch; give up on the whole of it after ``DOWNLOAD_SECONDS``.

    A socket's timeout bounds neither the look-up of the host's name nor a server that
    trickles. The thread writes to memory alone: where it is left behind, no file is.

    Raises:
        TimeoutError: It did not arrive in time, or not at all.
    """
    buffer = io.BytesIO()
    failures: list[Exception] = []

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
            'downloads are kept by pooch, which is not installed: pip install "trix-routing[lab]"'
        ) from error
    return Path(pooch.os_cache("trix"))
