"""The shield: what a browser has to be told so that nobody else's page or script can use this one.

Room: page/. Plain ASGI around the application and its guard. The page loads nothing from elsewhere and runs nothing written into
it; whatever changes something needs a header that no other origin's page can send without asking first, which is not answered.
"""

from http import HTTPStatus

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Refused

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
#: The header of whatever changes something, and its value.
PROOF = (b"x-saga", b"page")


class Shield:
    """Adds HEADERS to every answer; refuses what changes something without PROOF: 403."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def shielded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD") and PROOF not in scope["headers"]:
            name, value = (part.decode() for part in PROOF)
            refused = Refused(HTTPStatus.FORBIDDEN, "no_proof", f"this needs the header {name}: {value}", {"Connection": "close"})
            await refused.response()(scope, receive, shielded)
            return
        await self._app(scope, receive, shielded)
