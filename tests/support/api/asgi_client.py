"""A client that calls an ASGI application in this process, without a socket, so that it also works on virtual time."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp

from api.problems import PROBLEM
from api.sample_orders import sample_order
from services.vocabulary import Line

#: The body of an order of two books.
AN_ORDER = sample_order([Line(sku="book", quantity=2)]).model_dump(mode="json")


@dataclass(frozen=True)
class Reply:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The reason code of a refusal, which must be a JSON problem with its own status."""
        assert self.headers["content-type"] == PROBLEM
        assert self.json["status"] == self.status
        return str(self.json["reason"])


class Caller:
    """A client of one application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def call(self, method: str, path: str, body: bytes = b"", *, chunked: bool = False, **headers: str) -> Reply:
        """Send one request. `chunked`: without Content-Length. Underscores in the names of headers stand for dashes."""
        exchange = _Exchange(method, path, [body], headers if chunked else {"content_length": str(len(body)), **headers})
        await self._serve(exchange)
        assert exchange.status is not None
        return Reply(
            exchange.status, exchange.headers, b"".join([exchange.sent.get_nowait() for _ in range(exchange.sent.qsize())])
        )

    async def _serve(self, exchange: "_Exchange") -> None:
        await self._app(exchange.scope, exchange.receive, exchange.send)

    async def place(self, key: str = "k", order: object = AN_ORDER, **headers: Any) -> Reply:
        return await self.call(
            "POST", "/orders", json.dumps(order).encode(), content_type="application/json", idempotency_key=key, **headers
        )

    async def show(self, order_id: str) -> Any:
        """The order, which must exist."""
        reply = await self.call("GET", f"/orders/{order_id}")
        assert reply.status == 200
        return reply.json

    @asynccontextmanager
    async def following(self, path: str, **headers: str) -> AsyncIterator["Stream"]:
        """A stream of events, until the block ends: then the client disconnects."""
        exchange = _Exchange("GET", path, [b""], headers)
        serving = asyncio.ensure_future(self._serve(exchange))
        try:
            yield Stream(exchange)
        finally:
            exchange.left.set()
            await serving


class Stream:
    """Server-sent events as they arrive."""

    def __init__(self, exchange: "_Exchange") -> None:
        self._exchange = exchange
        self._text = ""

    async def next(self) -> dict[str, Any]:
        """The next event: its id, its type and its data."""
        while True:
            block, end, rest = self._text.partition("\n\n")
            if not end:
                async with asyncio.timeout(20):
                    self._text += (await self._exchange.sent.get()).decode()
                continue
            self._text = rest
            if block.startswith("id: "):
                fields = dict(line.split(": ", 1) for line in block.split("\n"))
                number = fields["id"]
                event_id = int(number) if number.isdecimal() else number
                return {"id": event_id, "event": fields["event"], "data": json.loads(fields["data"])}


class _Exchange:
    """The two ends of one ASGI call."""

    def __init__(self, method: str, path: str, chunks: list[bytes], headers: Mapping[str, str]) -> None:
        path, _, query = path.partition("?")
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": named,
            "client": ("test", 1),
            "server": ("api", 80),
        }
        self._chunks = chunks
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.sent: asyncio.Queue[bytes] = asyncio.Queue()
        self.left = asyncio.Event()

    async def receive(self) -> Any:
        if self._chunks:
            return {"type": "http.request", "body": self._chunks.pop(0), "more_body": bool(self._chunks)}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            self.sent.put_nowait(message.get("body", b""))
