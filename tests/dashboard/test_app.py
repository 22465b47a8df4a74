"""Static files, security headers and the description of the lanes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from choreography.reactions import REACTIONS
from dashboard.fault_menu import FAULT_MENU, fault_shares
from dashboard.static_files import STATIC
from orchestrator.fulfilment import FULFILMENT
from tests.support.api.asgi_client import Reply
from tests.support.dashboard import Page, open_page, run_with_page

T = TypeVar("T")


def run_in_real_time(program: Callable[[Page], Awaitable[T]]) -> T:
    """Run `program` at a page in real time: files are read in threads, which virtual time does not wait for."""

    async def whole() -> T:
        async with open_page(pace_s=0.0) as page:
            return await program(page)

    return asyncio.run(whole())


def get(path: str, **headers: str) -> Reply:
    async def program(page: Page) -> Reply:
        return await page.caller.call("GET", path, **headers)

    return run_in_real_time(program)


def test_page_is_served_and_revalidated_each_time() -> None:
    reply = get("/")
    assert (reply.status, reply.body) == (200, (STATIC / "index.html").read_bytes())
    assert reply.headers["content-type"].startswith("text/html")
    assert reply.headers["cache-control"] == "no-cache"
    revalidated = get("/page/index.html", if_none_match=reply.headers["etag"])
    assert revalidated.status == 304


@pytest.mark.parametrize(
    "path", ["/page/nothing.js", "/page/", "/page/../app.py", "/page/%2e%2e/app.py", "/page/\0", "/page//etc/passwd"]
)
def test_paths_outside_the_static_folder_are_not_found(path: str) -> None:
    reply = get(path)
    assert reply.status == 404
    assert reply.reason == "not_found"


@pytest.mark.parametrize("path", ["/", "/page/nothing.js", "/watch/lanes", "/watch/orders?mode=anarchy"])
def test_every_response_has_the_security_headers(path: str) -> None:
    headers = get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_refusals_of_the_request_limits_have_the_security_headers() -> None:
    async def program(page: Page) -> Reply:
        return await page.post("/watch/orders", {"customer": "x" * 70_000})

    reply = run_with_page(program)
    assert reply.status == 413
    assert "default-src 'self'" in reply.headers["content-security-policy"]


def description() -> Any:
    async def program(page: Page) -> Any:
        return await page.get("/watch/lanes")

    return run_with_page(program)


def test_lanes_are_described_from_the_steps_and_reactions() -> None:
    orchestrator, choreography = description()["lanes"]
    assert orchestrator["columns"] == ["api", "order", "coordinator", "inventory", "payment", "delivery"]
    assert choreography["columns"] == ["api", "order", "inventory", "payment", "delivery"]
    assert (orchestrator["can_kill"], choreography["can_kill"]) == (True, True)
    assert set(orchestrator["workers"]) == {*choreography["workers"], "coordinator"}
    assert (orchestrator["reactions"], choreography["steps"]) == (None, None)
    assert [step["command"] for step in orchestrator["steps"]] == [step.command.__name__ for step in FULFILMENT.steps]
    assert [step["kind"] for step in orchestrator["steps"]] == ["compensatable", "compensatable", "pivot", "retriable"]
    assert orchestrator["steps"][3] == {
        "command": "CompleteOrder",
        "success": "OrderCompleted",
        "refused": None,
        "undo": None,
        "undone": None,
        "service": "order",
        "kind": "retriable",
    }
    assert [reaction["when"] for reaction in choreography["reactions"]] == [reaction.when.__name__ for reaction in REACTIONS]
    assert [reaction["rollback"] for reaction in choreography["reactions"]] == [False] * 4 + [True] * 7


def test_offered_failures_are_known_and_explained() -> None:
    described = description()
    assert len(described["failures"]) >= 8
    for failure in described["failures"]:
        assert fault_shares([failure["name"]]) == {failure["name"]: 1.0}
        assert failure["what"].endswith(".")
    assert len({failure.title for failure in FAULT_MENU}) == len(FAULT_MENU)
    assert described["shelf"] == ["book", "lamp", "last-one", "sold-out"]
    assert described["seed"] == 1


@pytest.mark.parametrize(
    ("host", "accepted"),
    [
        ("127.0.0.1:8070", True),
        ("[::1]:8070", True),
        ("localhost", True),
        ("api:8080", True),
        ("127.0.0.1.evil.example:8070", False),
        ("evil.example", False),
        ("[evil.example]", False),
    ],
)
def test_public_host_names_are_refused(host: str, accepted: bool) -> None:
    async def program(page: Page) -> Reply:
        return await page.caller.call("GET", "/watch/lanes", host=host)

    reply = run_with_page(program)
    assert reply.status == (200 if accepted else 403)
    assert accepted or reply.reason == "public_name"
