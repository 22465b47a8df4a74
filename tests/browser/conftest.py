"""A browser and a server of the page for each module.

The browser is the system's chromium, driven by playwright's Python package. If either is missing, the tests are skipped with the
reason; with CI set they fail. SAGA_CHROMIUM names another browser.
"""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import prerequisites, servers
from tests.support.browser import opened, serving, sync_playwright


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(servers.free_port()) as address:
        yield address


@pytest.fixture(scope="module")  # not session: while playwright runs, other tests of this process cannot run an event loop
def browser() -> Iterator[Any]:
    chromium = os.environ.get("SAGA_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        prerequisites.BROWSER.missing("chromium is not installed")
    if sync_playwright is None:
        prerequisites.BROWSER.missing("playwright is not installed")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium)
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """The page, newly opened, with reduced motion. Errors and requests to other origins fail the test."""
    with opened(browser, url, reduced_motion="reduce") as page:
        yield page
