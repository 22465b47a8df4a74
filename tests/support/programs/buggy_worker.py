"""A worker of the product with one planted bug, as a process: `python -m tests.support.programs.buggy_worker BUG ARGS...`.

ARGS are those of `saga`. The bug is planted here by replacing a function; the product has no switch for it.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import store.mongo.transaction
from broker.loop.inputs import Input
from broker.transport import Delivery
from broker.worker import Worker
from cli.app import main
from store.protocol import Changes

write = store.mongo.transaction.Transaction._write
handle = Worker.handle

#: Seconds between acknowledgement and commit.
GAP_S = 0.3


async def write_without_inbox(self: Any, changes: Changes) -> None:
    await write(self, replace(changes, inbox=()))


async def acknowledge_first(self: Worker, inputs: Sequence[Input], **options: Any) -> None:
    ack = self.transport.ack
    await ack([item for item in inputs if isinstance(item, Delivery)])
    await asyncio.sleep(GAP_S)
    self.transport.ack = already_done  # type: ignore[method-assign]
    try:
        await handle(self, inputs, **options)
    finally:
        self.transport.ack = ack  # type: ignore[method-assign]


async def already_done(_: Sequence[Delivery]) -> None:
    """Skip the second acknowledgement: it would close the channel, and the broker would redeliver everything."""


if __name__ == "__main__":
    match sys.argv.pop(1):
        case "no inbox":
            store.mongo.transaction.Transaction._write = write_without_inbox  # type: ignore[method-assign]
        case "acknowledges first":
            Worker.handle = acknowledge_first  # type: ignore[method-assign]
        case bug:
            raise SystemExit(f"unknown bug {bug!r}: use 'no inbox' or 'acknowledges first'")
    main()
