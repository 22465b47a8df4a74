"""Request limits: too many requests, too large a body, too slow a body."""

import asyncio
from typing import Any

import pytest

from api.request_limits import BODY_S, RequestLimits
from bootstrap.modes import Mode
from broker.codec import MAX_BODY_BYTES
from lab.system import System
from lab.virtual_time import run_on_virtual_time
from tests.support.api.asgi_client import Caller, Reply
from tests.support.api.http_api import RunningApi, with_api


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("size", "reason"), [(MAX_BODY_BYTES, "wrong_schema"), (MAX_BODY_BYTES + 1, "too_large")])
def test_body_beyond_the_limit_is_refused_with_and_without_its_length(size: int, reason: str, chunked: bool) -> None:
    async def program(_: System, api: RunningApi) -> Reply:
        body = b'"' + b"x" * (size - 2) + b'"'
        return await api.caller.call(
            "POST", "/orders", body, chunked=chunked, content_type="application/json", idempotency_key="k"
        )

    refused = with_api(Mode.CHOREOGRAPHY, program)
    assert (refused.status, refused.reason) == ({"too_large": 413}.get(reason, 422), reason)


class Slow:
    """An application that responds once `go_on` is set, and to health checks at once."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not scope["path"].startswith("/health/"):
            await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def test_requests_beyond_the_limit_get_503_but_health_does_not() -> None:
    async def program() -> list[Reply]:
        slow = Slow()
        caller = Caller(RequestLimits(slow, requests_max=2, streams_max=1))
        paths = ["/orders", "/orders", "/orders", "/events", "/orders/x/events", "/health/live"]
        calls = [asyncio.create_task(caller.call("GET", path)) for path in paths]
        await asyncio.sleep(1)
        slow.go_on.set()
        return [*await asyncio.gather(*calls), await caller.call("GET", "/orders")]

    replies = run_on_virtual_time(program())
    assert [reply.status for reply in replies] == [200, 200, 503, 200, 503, 200, 200]
    for refused in (replies[2], replies[4]):
        assert refused.reason == "busy"
        assert refused.headers["retry-after"] == "1"


def test_body_that_does_not_arrive_in_time_is_refused() -> None:
    async def program() -> tuple[float, int]:
        statuses: list[int] = []

        async def receive() -> Any:
            await asyncio.sleep(1)
            return {"type": "http.request", "body": b"x", "more_body": True}

        async def send(message: Any) -> None:
            statuses.extend([message["status"]] if "status" in message else [])

        loop = asyncio.get_running_loop()
        began = loop.time()
        await RequestLimits(Slow())({"type": "http", "path": "/orders", "method": "POST", "headers": []}, receive, send)
        return loop.time() - began, statuses[0]

    waited_s, status = run_on_virtual_time(program())
    assert status == 408
    assert waited_s == pytest.approx(BODY_S)
