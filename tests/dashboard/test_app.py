"""What a browser gets: the page's files, what it may load, and how the modes are written down."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from choreography.reactions import REACTIONS
from dashboard.fault_menu import FAULT_MENU, fault_shares
from dashboard.static_files import STATIC
from orchestrator.fulfilment import FULFILMENT
from tests.support.api.asgi_client import Reply
from tests.support.dashboard import Page, a_page, at_a_page

T = TypeVar("T")


def in_real_time(program: Callable[[Page], Awaitable[T]]) -> T:
    """Files are read by threads, which know nothing of virtual time."""

    async def whole() -> T:
        async with a_page(pace_s=0.0) as page:
            return await program(page)

    return asyncio.run(whole())


def got(path: str, **headers: str) -> Reply:
    async def program(page: Page) -> Reply:
        return await page.caller.call("GET", path, **headers)

    return in_real_time(program)


def test_the_page_is_served_and_is_asked_for_again_each_time() -> None:
    reply = got("/")
    assert (reply.status, reply.body) == (200, (STATIC / "index.html").read_bytes())
    assert reply.headers["content-type"].startswith("text/html")
    assert reply.headers["cache-control"] == "no-cache"
    again = got("/page/index.html", if_none_match=reply.headers["etag"])
    assert again.status == 304


@pytest.mark.parametrize(
    "path", ["/page/nothing.js", "/page/", "/page/../app.py", "/page/%2e%2e/app.py", "/page/\0", "/page//etc/passwd"]
)
def test_nothing_but_the_pages_own_files_is_served(path: str) -> None:
    reply = got(path)
    assert reply.status == 404
    assert reply.reason == "not_found"


@pytest.mark.parametrize("path", ["/", "/page/nothing.js", "/watch/lanes", "/watch/orders?mode=anarchy"])
def test_every_answer_tells_the_browser_to_load_nothing_from_elsewhere(path: str) -> None:
    headers = got(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_a_refusal_of_the_guard_is_shielded_too() -> None:
    async def program(page: Page) -> Reply:
        return await page.post("/watch/orders", {"customer": "x" * 70_000})

    reply = at_a_page(program)
    assert reply.status == 413
    assert "default-src 'self'" in reply.headers["content-security-policy"]


def lanes() -> Any:
    async def program(page: Page) -> Any:
        return await page.get("/watch/lanes")

    return at_a_page(program)


def test_the_lanes_are_drawn_from_where_their_sequence_is_written() -> None:
    orchestrator, choreography = lanes()["lanes"]
    assert orchestrator["columns"] == ["door", "order", "coordinator", "inventory", "payment", "delivery"]
    assert choreography["columns"] == ["door", "order", "inventory", "payment", "delivery"]
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


def test_the_failures_on_offer_say_what_then_happens_and_are_known() -> None:
    told = lanes()
    assert len(told["failures"]) >= 8
    for failure in told["failures"]:
        assert fault_shares([failure["name"]]) == {failure["name"]: 1.0}
        assert failure["what"].endswith(".")
    assert len({failure.title for failure in FAULT_MENU}) == len(FAULT_MENU)
    assert told["shelf"] == ["book", "lamp", "last-one", "sold-out"]
    assert told["seed"] == 1


@pytest.mark.parametrize(
    ("host", "ours"),
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
def test_a_public_name_that_was_pointed_here_is_refused(host: str, ours: bool) -> None:
    async def program(page: Page) -> Reply:
        return await page.caller.call("GET", "/watch/lanes", host=host)

    reply = at_a_page(program)
    assert reply.status == (200 if ours else 403)
    assert ours or reply.reason == "public_name"
