"""The payment gateway over HTTP: the two calls that move money, and the reads of an audit.

Requests and their responses:

POST   /{book}/authorizations   Idempotency-Key, {"amount_cents": 4200, "currency": "EUR"} -> {"state": "authorized" | ...}
POST   /{book}/voids            Idempotency-Key -> {"state": "voided"}
GET    /{book}/payments         ?after=&limit= -> {"payments": [...], "next": key or null}; /{book}/payments/{key}: one
GET    /{book}/failures         ?detail=1 -> {"acted": {"hang": 3}, "keys": {"hang": [...]}}
DELETE /{book}                  empties one book
GET    /health                  {"status": "ok", "faults": whether injected failures are honoured}
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from payment_gateway.books import Books
from payment_gateway.calls import AUTHORIZATIONS, VOIDS, Calls
from payment_gateway.rules import PaymentRecord
from payment_gateway.storage import StorageFailed
from payment_gateway.wire import BOOK, MAX_PAGE, PROBLEM, HttpRefusal


class Gateway:
    """The ASGI application. It closes the books when it shuts down."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self.calls = Calls(books)
        self._routes = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/{book}", self._empty, methods=["DELETE"]),
                Route("/{book}/payments", self._payments),
                Route("/{book}/payments/{key:path}", self._payment),
                Route("/{book}/failures", self._failures),
                # POST does not get here (see __call__). To other methods these routes answer 405, with POST as the allowed one.
                *(Route(f"/{{book}}/{name}", self.calls, methods=["POST"]) for name in (AUTHORIZATIONS, VOIDS)),
            ],
            exception_handlers={HttpRefusal: _problem, StorageFailed: _unavailable, HTTPException: _http_error},
            lifespan=self._lifespan,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        serve = self.calls if Calls.matches(scope) else self._routes
        await serve(scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await self._books.close()

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "faults": self._books.faults})

    async def _empty(self, request: Request) -> Response:
        await self._books.empty(_book_of(request))
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _payments(self, request: Request) -> Response:
        limit = _limit_of(request)
        page = await self._books.page(_book_of(request), request.query_params.get("after", ""), limit)
        next_key = page[-1][0] if len(page) == limit else None
        return JSONResponse({"payments": [_shown(key, payment) for key, payment in page], "next": next_key})

    async def _payment(self, request: Request) -> Response:
        key = request.path_params["key"]
        payment = await self._books.find(_book_of(request), key)
        if payment is None:
            raise HttpRefusal(HTTPStatus.NOT_FOUND, "no_such_payment", "there is no payment with this key in this book")
        return JSONResponse(_shown(key, payment))

    async def _failures(self, request: Request) -> Response:
        acted = await self._books.acted(_book_of(request))
        answer: dict[str, Any] = {"acted": {fault: len(keys) for fault, keys in sorted(acted.items())}}
        if request.query_params.get("detail") == "1":
            answer["keys"] = {fault: sorted(keys) for fault, keys in sorted(acted.items())}
        return JSONResponse(answer)


def _book_of(request: Request) -> str:
    book: str = request.path_params["book"]
    if not BOOK.fullmatch(book):
        raise HttpRefusal(HTTPStatus.NOT_FOUND, "no_such_book", f"a book's name matches {BOOK.pattern}")
    return book


def _limit_of(request: Request) -> int:
    text = request.query_params.get("limit", "1000")
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MAX_PAGE):
        raise HttpRefusal(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_limit", f"limit is a number from 1 to {MAX_PAGE}")
    return int(text)


def _shown(key: str, payment: PaymentRecord) -> dict[str, Any]:
    return {"key": key, "state": payment.state, "amount_cents": payment.amount_cents, "currency": payment.currency}


async def _problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, HttpRefusal)  # noqa: S101 - registered for this type
    return Response(error.problem(), error.status, media_type=PROBLEM)


async def _http_error(_: Request, error: Exception) -> Response:
    """A refusal by Starlette itself: no such path, no such method."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
    status = HTTPStatus(error.status_code)
    refused = HttpRefusal(status, status.name.lower(), error.detail)
    return Response(refused.problem(), status, error.headers, media_type=PROBLEM)


async def _unavailable(request: Request, error: Exception) -> Response:
    return await _problem(request, HttpRefusal(HTTPStatus.SERVICE_UNAVAILABLE, "books_unavailable", str(error)))
