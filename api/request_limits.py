"""ASGI middleware that limits concurrent requests, body size and the time that a body may take.

Health checks are not limited.
"""

import asyncio
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import RequestRefused
from broker.codec import MAX_BODY_BYTES

#: Concurrent requests, and concurrent event streams.
REQUESTS_MAX, STREAMS_MAX = 512, 64
#: Seconds that a body may take to arrive.
BODY_S = 10.0


class RequestLimits:
    """Refuses requests beyond a limit: 503 with Retry-After (too many), 413 (too large), 408 (too slow)."""

    def __init__(self, app: ASGIApp, *, requests_max: int = REQUESTS_MAX, streams_max: int = STREAMS_MAX) -> None:
        self._app = app
        self._limits = {"requests": requests_max, "streams": streams_max}
        self._active = {"requests": 0, "streams": 0}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/health/"):
            await self._app(scope, receive, send)
            return
        kind = "streams" if scope["path"].endswith("/events") else "requests"
        if self._active[kind] >= self._limits[kind]:
            busy = RequestRefused(HTTPStatus.SERVICE_UNAVAILABLE, "busy", f"at most {self._limits[kind]} {kind} at once")
            await busy.response()(scope, receive, send)
            return
        self._active[kind] += 1
        try:
            first = await _body(scope, receive)
            await self._app(scope, _with_first_message(first, receive), send)
        except RequestRefused as refused:
            await refused.response()(scope, receive, send)
        finally:
            self._active[kind] -= 1


async def _body(scope: Scope, receive: Receive) -> Message:
    """The whole body in one message, or the message that the client disconnected. Raises RequestRefused."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    if declared.isdigit() and int(declared[:20]) > MAX_BODY_BYTES:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return message
                body += message.get("body", b"")
                if len(body) > MAX_BODY_BYTES:
                    raise _too_large()
                if not message.get("more_body", False):
                    return {"type": "http.request", "body": bytes(body), "more_body": False}
    except TimeoutError:
        raise RequestRefused(
            HTTPStatus.REQUEST_TIMEOUT, "too_slow", f"the body did not arrive within {BODY_S:g} s", {"Connection": "close"}
        ) from None


def _too_large() -> RequestRefused:
    # The rest of the body is not read, so the connection cannot be reused.
    return RequestRefused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"a body has at most {MAX_BODY_BYTES} bytes", {"Connection": "close"}
    )


def _with_first_message(first: Message, receive: Receive) -> Receive:
    """`receive`, with a message that was taken from it put back."""
    waiting = [first]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay
