"""Refusals: every error response is a JSON problem (RFC 9457) with a `reason` for programs."""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from store.protocol import StoreError

PROBLEM = "application/problem+json"
#: Seconds after which a client may retry.
RETRY_AFTER_S = 1

#: Header -> its reason codes: (missing, malformed).
_HEADER_REASONS = {
    "idempotency-key": ("no_idempotency_key", "bad_idempotency_key"),
    "last-event-id": ("bad_event_id", "bad_event_id"),
    "x-injected-failures": ("bad_injected_failures", "bad_injected_failures"),
}


class Problem(BaseModel):
    """Why a request was refused. `reason` is for programs, `detail` for people."""

    title: str
    status: int
    reason: str
    detail: str


class RequestRefused(Exception):  # noqa: N818 - it names what happened
    """The request is refused. Sets `Retry-After` where a retry may succeed."""

    def __init__(self, status: HTTPStatus, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.problem = Problem(title=status.phrase, status=status, reason=reason, detail=detail)
        self.headers = {**(headers or {})}
        if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.CONFLICT) and reason not in _FINAL_REASONS:
            self.headers["Retry-After"] = str(RETRY_AFTER_S)

    def response(self) -> Response:
        return Response(self.problem.model_dump_json(), self.problem.status, self.headers, media_type=PROBLEM)


#: Refusals that a retry does not change, in spite of their status.
_FINAL_REASONS = ("already_ended",)


def add_problem_handlers(app: FastAPI) -> None:
    """Make every refusal of `app` a JSON problem, including those of the framework."""
    app.add_exception_handler(RequestRefused, _request_refused)
    app.add_exception_handler(RequestValidationError, _validation_failed)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(StoreError, _store_failed)
    app.add_exception_handler(Exception, _unexpected_error)


async def _request_refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRefused)  # noqa: S101 - registered for it
    return error.response()


async def _validation_failed(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for it
    first = error.errors()[0]
    location, *path = (str(part) for part in first["loc"])
    field, message = ".".join(path), str(first["msg"])
    if location == "header":
        missing, malformed = _HEADER_REASONS[path[0].lower()]
        reason = missing if first["type"] == "missing" else malformed
        return RequestRefused(HTTPStatus.BAD_REQUEST, reason, f"{field}: {message}").response()
    if location == "path":
        return RequestRefused(HTTPStatus.NOT_FOUND, "no_such_order", "an order's id is a UUID in lower case").response()
    if first["type"] == "json_invalid":
        return RequestRefused(HTTPStatus.BAD_REQUEST, "not_json", message).response()
    detail = f"{field}: {message}" if field else message
    return RequestRefused(
        HTTPStatus.UNPROCESSABLE_ENTITY, "bad_query" if location == "query" else "wrong_schema", detail[:300]
    ).response()


async def _http_error(request: Request, error: Exception) -> Response:
    """A refusal of the framework itself: an unknown path or method, a body that cannot be parsed."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    status = HTTPStatus(error.status_code)
    reason = "not_json" if status is HTTPStatus.BAD_REQUEST else status.name.lower()
    headers = dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_methods_of(request)))
    return RequestRefused(status, reason, str(error.detail), headers).response()


def _methods_of(request: Request) -> set[str]:
    """The methods of a path. Where several routes match, the framework names only those of the first."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    matching = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in matching for method in route.methods or ()}


async def _store_failed(_: Request, error: Exception) -> Response:
    return RequestRefused(
        HTTPStatus.SERVICE_UNAVAILABLE, "store_unavailable", f"the API's database is unavailable: {error}"[:300]
    ).response()


async def _unexpected_error(_: Request, __: Exception) -> Response:
    return RequestRefused(
        HTTPStatus.INTERNAL_SERVER_ERROR, "failed", "an internal error: see the log of the API's process"
    ).response()
