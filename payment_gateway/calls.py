"""The two calls that move money, POST /{book}/authorizations and POST /{book}/voids, with the failures that can be injected.

They are plain ASGI for two reasons. Dropping a connection needs the server's own `send`, which Starlette wraps. And these calls
are the hot path (server CPU a call with httptools: 66 us like this, 94 us as Starlette endpoints; with h11 158 and 192 us).
"""

import asyncio
from http import HTTPStatus
from typing import Protocol, cast

from starlette.types import Receive, Scope, Send

from payment_gateway.books import Books, UnknownFault
from payment_gateway.rules import AuthorizationState, Decision, ResponseMode
from payment_gateway.storage import StorageFailed
from payment_gateway.wire import BOOK, MAX_BODY_BYTES, PROBLEM, HttpRefusal, authorization_of, key_of

#: Seconds after which a hung call is dropped if its caller is still connected.
HANG_MAX_S = 600.0

AUTHORIZATIONS = "authorizations"
VOIDS = "voids"

_ANSWERS = {state: f'{{"state":"{state}"}}'.encode() for state in AuthorizationState}


class _Transport(Protocol):
    def abort(self) -> None: ...


class ClientDisconnected(Exception):  # noqa: N818 - says what happened
    """The caller has disconnected, so no answer is sent."""


class Calls:
    """The ASGI application of the two calls. `abort_hung_calls` drops the calls that wait on purpose, before a shutdown."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._hung_connections: set[_Transport] = set()

    @staticmethod
    def matches(scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] != "POST":
            return False
        path: str = scope["path"]
        return path.endswith(("/" + AUTHORIZATIONS, "/" + VOIDS))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            decision = await self._decide(scope, receive)
            await self._respond_to(decision, receive, send)
        except ClientDisconnected:
            return
        except HttpRefusal as refused:
            await _respond(send, refused.status, refused.problem(), PROBLEM)

    def abort_hung_calls(self) -> None:
        for transport in list(self._hung_connections):
            transport.abort()

    async def _decide(self, scope: Scope, receive: Receive) -> Decision:
        """Validate the call and get the decision of the books. Raises HttpRefusal, ClientDisconnected."""
        _, book, *verb = scope["path"].split("/")
        if len(verb) != 1 or not BOOK.fullmatch(book):
            raise HttpRefusal(HTTPStatus.NOT_FOUND, "no_such_book", f"a book's name matches {BOOK.pattern}")
        headers = dict(scope["headers"])
        key = key_of(headers)
        injected = headers.get(b"x-injected-failure", b"").decode("latin-1") or None
        body = await _body(receive)
        try:
            if verb[0] == VOIDS:
                return await self._books.void(book, key, injected)
            request = authorization_of(body)
            return await self._books.authorize(book, key, request.amount_cents, request.currency, injected)
        except UnknownFault as error:
            raise HttpRefusal(HTTPStatus.BAD_REQUEST, "unknown_failure", str(error)) from error
        except StorageFailed as error:
            raise HttpRefusal(HTTPStatus.SERVICE_UNAVAILABLE, "books_unavailable", str(error)) from error

    async def _respond_to(self, decision: Decision, receive: Receive, send: Send) -> None:
        """Answer in the way that the decision names."""
        if decision.response_mode is ResponseMode.FAILED:
            raise HttpRefusal(HTTPStatus.INTERNAL_SERVER_ERROR, "injected", "this failure was injected by the caller")
        if decision.response_mode is ResponseMode.MISMATCH:
            raise HttpRefusal(HTTPStatus.UNPROCESSABLE_ENTITY, "key_reused", "this key belongs to another amount or currency")
        if decision.response_mode is ResponseMode.DROPPED:
            await _drop(receive, send)
            return
        if decision.response_mode is ResponseMode.NEVER:
            if not await self._disconnected_within(HANG_MAX_S, receive, send):
                await _drop(receive, send)
            return
        if decision.response_mode is ResponseMode.LATE and await self._disconnected_within(self._books.slow_s, receive, send):
            return
        assert decision.answer is not None  # noqa: S101 - the modes without an answer have returned
        await _respond(send, HTTPStatus.OK, _ANSWERS[decision.answer], "application/json")

    async def _disconnected_within(self, longest_s: float, receive: Receive, send: Send) -> bool:
        """Wait up to `longest_s`; True as soon as the connection is closed (by the caller or by `abort_hung_calls`)."""
        transport = _transport_of(send)
        self._hung_connections.add(transport)
        try:
            async with asyncio.timeout(longest_s):
                await _wait_for_disconnect(receive)
        except TimeoutError:
            return False
        finally:
            self._hung_connections.discard(transport)
        return True


def _transport_of(send: Send) -> _Transport:
    """The connection of an ASGI call. ASGI cannot drop one, but uvicorn's `send` is a method of the object that holds it."""
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise RuntimeError("dropping a connection needs uvicorn's own `send`; remove the middleware around the gateway")
    return cast(_Transport, transport)


async def _drop(receive: Receive, send: Send) -> None:
    """Close the connection without an answer. Returns once the server has noticed, otherwise it would answer 500 itself."""
    _transport_of(send).abort()
    await _wait_for_disconnect(receive)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive) -> bytes:
    """The whole body. Raises HttpRefusal if it is too large, ClientDisconnected if the caller disconnects before its end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise HttpRefusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"a body has at most {MAX_BODY_BYTES} bytes")
        if not message.get("more_body", False):
            return bytes(body)


async def _respond(send: Send, status: HTTPStatus, body: bytes, content_type: str) -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status.value, "headers": headers})
    await send({"type": "http.response.body", "body": body})
