"""The shield: what a browser has to be told so that nobody else's page or script can use this one.

Plain ASGI around the application and its guard. The page loads nothing from elsewhere and runs nothing written into
it; whatever changes something needs a header that no other origin's page can send without asking first, which is not answered.
And it is asked for by an address or a name without a dot only: a public name may be a stranger's that was pointed here.
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
#: The header of whatever changes something, and its value.
ORIGIN_HEADER = (b"x-saga", b"page")


class SecurityHeaders:
    """Adds HEADERS to every answer; refuses a public host name, and what changes something without PROOF: 403."""

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
            HTTPStatus.FORBIDDEN, "public_name", "ask by an address or a name without a dot, such as localhost", close
        )
    if scope["method"] not in ("GET", "HEAD") and ORIGIN_HEADER not in scope["headers"]:
        name, value = (part.decode() for part in ORIGIN_HEADER)
        return RequestRefused(HTTPStatus.FORBIDDEN, "no_proof", f"this needs the header {name}: {value}", close)
    return None


def _is_private_host(host: str) -> bool:
    """Whether `Host` (with or without a port) is an address, or a name that the public DNS cannot have."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name
    return True
