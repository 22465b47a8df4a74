"""A stub of a MongoDB server that answers every request with a given `hello` response.

SecantusDB is always a primary; the stub stands in for a replica set member that is not.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import bson

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
#: Fields of every response.
OF_ALL = {"ok": 1.0, "minWireVersion": 0, "maxWireVersion": 21, "maxBsonObjectSize": 16777216, "maxMessageSizeBytes": 48000000}


@asynccontextmanager
async def greeting(said: Mapping[str, Any]) -> AsyncIterator[int]:
    """Run a server that answers every request with `said`; yield its port.

    A replica set has this server as its only member, under its own address, unless `said` has `hosts`."""
    conversations: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        conversations.add(task)
        # Cancelled at the end of the test: otherwise the event loop would log the error.
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                length, request_id, _, code = struct.unpack("<iiii", await reader.readexactly(16))
                await reader.readexactly(length - 16)
                writer.write(_answer(code, request_id, OF_ALL | hosts | said))
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    hosts = {"hosts": [f"127.0.0.1:{port}"], "me": f"127.0.0.1:{port}"} if "setName" in said else {}
    try:
        yield port
    finally:
        server.close()
        for conversation in conversations:
            conversation.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)


def _answer(code: int, request_id: int, document: Mapping[str, Any]) -> bytes:
    body = bson.encode(document)
    if code == OP_QUERY:
        return _message(OP_REPLY, request_id, struct.pack("<iqii", 0, 0, 0, 1) + body)
    assert code == OP_MSG, f"unexpected opcode {code}"
    return _message(OP_MSG, request_id, struct.pack("<iB", 0, 0) + body)


def _message(code: int, answers: int, rest: bytes) -> bytes:
    return struct.pack("<iiii", 16 + len(rest), 1, answers, code) + rest


class NonUniqueCollection:
    """A collection without unique ids, as in a cluster sharded by another field: each insert gets a new id."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)

    async def insert_one(self, row: dict[str, Any]) -> None:
        await self._rows.insert_one({"key": row.pop("_id"), **row})
