"""One browser for all tests of the page, and a server of their own for each module.

The browser is the system's chromium, driven by playwright's Python package. Where either is missing the tests skip
and say so; with CI set they fail. SAGA_CHROMIUM names another browser.
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


@pytest.fixture(scope="module")  # no longer: while playwright runs, no other test of this process could run an event loop
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
    """The page, freshly opened, without motion. Whatever goes wrong in it or leaves its origin fails the test."""
    with opened(browser, url, reduced_motion="reduce") as page:
        yield page
