"""The dashboard in a real browser: its server, an open page, and shortcuts for clicks and locators.

Without playwright `expect` and `sync_playwright` are None; the fixtures in tests/browser/conftest.py then skip the tests.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.support import servers

try:  # an optional dependency group
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=15_000)
except ImportError:
    expect = sync_playwright = None

MODES = ("orchestrator", "choreography")

#: Calls a function of one of the page's modules.
CALL = "([module, name, ...given]) => import(`/page/${module}`).then(found => found[name](...given))"

#: The command that serves the page.
SERVER = (sys.executable, "-m", "cli", "demo", "--serve", "--port", "{port}", "--pace", "0.05")


def lane(page: Any, mode: str) -> Any:
    return page.locator(f'#lanes .lane[data-mode="{mode}"]')


def fail(page: Any, title: str) -> None:
    page.get_by_role("button", name=title, exact=True).click()


def view(page: Any, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).click()


@contextmanager
def serving(port: int, command: Sequence[str] = SERVER) -> Iterator[str]:
    """The page's server on this port, while the block runs."""
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


@contextmanager
def opened(browser: Any, address: str, routes: Mapping[str, Any] | None = None, **options: Any) -> Iterator[Any]:
    """A page at `address` in its own browser context. Errors and requests to other origins fail the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
    page = context.new_page()
    page.set_default_timeout(15_000)
    for pattern, handler in (routes or {}).items():
        page.route(pattern, handler)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console", lambda line: wrong.append(line.text) if line.type == "error" and "Failed to load" not in line.text else None
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
