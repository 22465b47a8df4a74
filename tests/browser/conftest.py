"""One browser for all tests of the page, and a server of their own for each module.

The browser is the system's chromium, driven by playwright's Python package. Where either is missing the tests skip
and say so; with CI set they fail. SAGA_CHROMIUM names another browser.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support import servers

try:  # a dependency group of its own, which may be missing
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=15_000)
except ImportError:
    expect = sync_playwright = None

#: What serves the page: a command that is given a port.
SERVER = (sys.executable, "-m", "cli", "demo", "--serve", "--port", "{port}", "--pace", "0.05")


@contextmanager
def serving(port: int, command: Sequence[str] = SERVER) -> Iterator[str]:
    """A server of the page on this port; ends it, and waits until the port is free."""
    command = [part.format(port=port) for part in command]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        servers.wait_until(
            lambda: servers.listens("127.0.0.1", port) or servers.died(process, "the page's server"), "the page is served"
        )
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(servers.free_port()) as address:
        yield address


@pytest.fixture(scope="module")  # no longer: while playwright runs, no other test of this process could run an event loop
def browser() -> Iterator[Any]:
    chromium = os.environ.get("SAGA_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    missing = pytest.fail if os.environ.get("CI") else pytest.skip
    if chromium is None:
        missing("no browser: chromium is not installed (apt-get install chromium)")
    if sync_playwright is None:
        missing("no browser: playwright is not installed (make setup)")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium)
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """The page, freshly opened, without motion. Whatever goes wrong in it or leaves its origin fails the test."""
    with opened(browser, url, reduced_motion="reduce") as page:
        yield page


@contextmanager
def opened(browser: Any, address: str, routes: Mapping[str, Any] | None = None, **options: Any) -> Iterator[Any]:
    """A page at `address` in a context of its own, watched for errors and for requests to elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
    page = context.new_page()
    page.set_default_timeout(15_000)
    for pattern, handler in (routes or {}).items():
        page.route(pattern, handler)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console", lambda said: wrong.append(said.text) if said.type == "error" and "Failed to load" not in said.text else None
    )
    origin = address.partition("//")[2].partition("/")[0]
    page.on("request", lambda request: wrong.append(request.url) if origin not in request.url else None)
    try:
        page.goto(address)
        page.get_by_role("button", name="nothing fails").wait_for()
        yield page
    finally:
        context.close()
        assert wrong == []
