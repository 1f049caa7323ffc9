"""The browser tests can fail: what a page does wrong is seen, and a missing browser is noticed."""

import pytest

from tests import chromium as browser
from tests.chromium import open_page, serve


@pytest.mark.browser
def test_a_bad_page_is_caught(chromium, tmp_path):
    (tmp_path / "index.html").write_text(
        """<!doctype html><link rel="icon" href="data:,">
        <img src="https://example.org/a.png"><script src="missing.js"></script>
        <script>console.error("oh"); new WebSocket("wss://example.org/socket"); throw 1</script>
        <div style="width: 5000px">wide</div>"""
    )
    with serve(tmp_path) as address, open_page(chromium) as visit:
        visit.page.goto(f"{address}/index.html")
        visit.page.wait_for_load_state("networkidle")
        assert sorted(visit.outside) == [
            "https://example.org/a.png",
            "wss://example.org/socket",
        ]
        seen = "\n".join(visit.problems)
        for problem in ("console: oh", "status 404", "exception: 1"):
            assert problem in seen
        assert visit.sideways_scroll() > 3000
        with pytest.raises(AssertionError, match="requests to other hosts"):
            visit.expect_quiet()


def test_a_missing_browser_skips_a_test_but_fails_it_in_ci(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("TRIX_CHROMIUM", raising=False)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no browser"):
        browser.require_chromium()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no browser"):
        browser.require_chromium()
    program = tmp_path / "my-browser"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("TRIX_CHROMIUM", str(program))
    assert browser.find_chromium() == str(program)
    program.unlink()
    with pytest.raises(pytest.fail.Exception, match="TRIX_CHROMIUM: expected a program"):
        browser.find_chromium()
