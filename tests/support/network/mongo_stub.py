"""A server that speaks just enough of MongoDB's wire protocol to say hello, with whatever it is told to say of itself.

SecantusDB is always a primary; this stands for a member of a replica set that is none.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import bson

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
#: What every server says.
OF_ALL = {"ok": 1.0, "minWireVersion": 0, "maxWireVersion": 21, "maxBsonObjectSize": 16777216, "maxMessageSizeBytes": 48000000}


@asynccontextmanager
async def greeting(said: Mapping[str, Any]) -> AsyncIterator[int]:
    """A server that answers everything with `said`, on a free port, for the length of the block.

    A member of a replica set is its only one, called by its own address unless `said` has `hosts`."""
    conversations: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        conversations.add(task)
        # Cancelled at the end of the test: no news to the loop, which would log it.
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
    assert code == OP_MSG, f"no driver sends {code} here"
    return _message(OP_MSG, request_id, struct.pack("<iB", 0, 0) + body)


def _message(code: int, answers: int, rest: bytes) -> bytes:
    return struct.pack("<iiii", 16 + len(rest), 1, answers, code) + rest


class TakesAnything:
    """A collection that gives each new row an id of its own, as a cluster sharded by something else does."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)

    async def insert_one(self, row: dict[str, Any]) -> None:
        await self._rows.insert_one({"key": row.pop("_id"), **row})
