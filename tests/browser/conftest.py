"""One browser for all tests of this folder."""

import pytest

from tests.chromium import open_browser


@pytest.fixture(scope="package")
def chromium():
    # no longer than the package: playwright's event loop would stand in the way of others
    with open_browser() as browser:
        yield browser
