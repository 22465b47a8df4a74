"""ASGI middleware that keeps pages of other origins from using the dashboard.

- The content security policy forbids inline scripts and resources of other origins.
- A request that changes something needs a custom header. A page of another origin can send it only after a CORS preflight,
  and preflights are refused.
- `Host` must be an IP address or a name without a dot: a public DNS name could be pointed at this address (DNS rebinding).
"""

import ipaddress
from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import RequestRefused

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
#: Name and value of the header that every request other than GET and HEAD needs.
ORIGIN_HEADER = (b"x-saga", b"page")


class SecurityHeaders:
    """Adds SECURITY_HEADERS to every response. Refuses public host names, and changes without ORIGIN_HEADER, with 403."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        refusal = _refusal(scope) if scope["type"] == "http" else None
        await (refusal.response() if refusal else self._app)(scope, receive, send_with_headers)


def _refusal(scope: Scope) -> RequestRefused | None:
    close = {"Connection": "close"}
    host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
    if not _is_private_host(host):
        return RequestRefused(
            HTTPStatus.FORBIDDEN, "public_name", "use an IP address or a host name without a dot, such as localhost", close
        )
    if scope["method"] not in ("GET", "HEAD") and ORIGIN_HEADER not in scope["headers"]:
        name, value = (part.decode() for part in ORIGIN_HEADER)
        return RequestRefused(HTTPStatus.FORBIDDEN, "no_proof", f"this request needs the header {name}: {value}", close)
    return None


def _is_private_host(host: str) -> bool:
    """Whether `Host` (with or without a port) is an IP address or a name without a dot."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name
    return True
