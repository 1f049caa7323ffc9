"""A real browser for the tests: Debian's Chromium, driven through playwright.

Every host but this machine is out of reach, and every attempt to reach one is written down.
Where no browser is installed these tests are skipped; where `CI` is set they fail instead.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Page,
    Response,
    Route,
    WebSocket,
    sync_playwright,
)

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60_000  # milliseconds: the machine may have ten other things to do
THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
QUIET_FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


def find_chromium() -> str | None:
    """The path of a Chromium: `$TRIX_CHROMIUM`, else the first of `NAMES` on the path."""
    chosen = os.environ.get("TRIX_CHROMIUM")
    if chosen:
        found = shutil.which(chosen)
        if found is None:
            pytest.fail(f"TRIX_CHROMIUM: expected a program that can be run, received {chosen!r}")
        return found
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def require_chromium() -> str:
    """The path of a Chromium; without one the test is skipped, or fails where `CI` is set."""
    path = find_chromium()
    if path is None:
        message = f"no browser: expected $TRIX_CHROMIUM or one of {', '.join(NAMES)} on the path"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start Chromium without a window. One at a time: playwright allows no second one beside it."""
    path = require_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A page being looked at, what it asked of other hosts, and what else went wrong so far."""

    page: Page
    outside: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def expect_quiet(self) -> None:
        """Fail if the page reached for another host or reported any error."""
        assert self.outside == [], f"requests to other hosts: {self.outside}"
        assert self.problems == [], f"errors on the page: {self.problems}"

    def sideways_scroll(self) -> int:
        """By how many CSS pixels the page is wider than its window; 0 where it fits."""
        root = "document.documentElement"
        return self.page.evaluate(f"{root}.scrollWidth - {root}.clientWidth")

    def said(self, selector: str) -> str:
        """The text of what is selected."""
        return self.page.locator(selector).text_content() or ""

    def texts(self, selector: str) -> list[str]:
        """The text of each part that is selected."""
        return self.page.locator(selector).all_text_contents()

    def each(self, selector: str, answer: str) -> list:
        """An answer, in JavaScript, about each such part, `one`."""
        return self.page.locator(selector).evaluate_all(f"all => all.map((one) => {answer})")


@contextmanager
def open_page(
    browser: Browser,
    width: int = 1200,
    height: int = 900,
    scheme: str = "light",
    touch: bool = False,
) -> Iterator[Visit]:
    """A fresh page on which other hosts cannot be reached, `width` by `height` CSS pixels.

    `scheme` is what the system is said to prefer; with `touch` the screen takes fingers.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        has_touch=touch,
        service_workers="block",
    )
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        visit = Visit(page)
        _watch(visit)
        yield visit
    finally:
        context.close()


def _watch(visit: Visit) -> None:
    """Write down every request to another host (and refuse it) and everything that goes wrong."""

    def admit(route: Route) -> None:
        if note_outside(route.request.url):
            route.abort()
        else:
            route.continue_()

    def note_outside(url: str) -> bool:
        parts = urlsplit(url)
        goes_far = parts.scheme in ("http", "https", "ws", "wss")
        outside = goes_far and parts.hostname not in THIS_MACHINE
        if outside:
            visit.outside.append(url)
        return outside

    def note_socket(socket: WebSocket) -> None:
        note_outside(socket.url)

    def note_console(line: ConsoleMessage) -> None:
        if line.type == "error":
            note_problem(f"console: {line.text} ({line.location.get('url', '')})")

    def note_answer(answer: Response) -> None:
        if answer.status >= 400:
            note_problem(f"status {answer.status}: {answer.url}")

    note_problem = visit.problems.append
    visit.page.route("**/*", admit)
    visit.page.on("websocket", note_socket)
    visit.page.on("pageerror", lambda error: note_problem(f"exception: {error}"))
    visit.page.on("console", note_console)
    visit.page.on("response", note_answer)


def hexadecimal(colour: str) -> str:
    """`rgb(…)` or `color(srgb …)` as six hexadecimal digits."""
    parts = [float(n) for n in re.findall(r"[\d.]+", colour.replace("srgb", ""))[:3]]
    scale = 255 if colour.startswith("color(") else 1
    return "#" + "".join(f"{round(scale * part):02X}" for part in parts)


class _SilentHandler(SimpleHTTPRequestHandler):
    """A file server that keeps no log."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder over http on this machine; gives its address, without a last slash."""
    handler = functools.partial(_SilentHandler, directory=os.fspath(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
