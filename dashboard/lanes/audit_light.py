"""The light of an embedded lane: the audit of all that is stored, again and again, beside the run.

Reads copies, in a thread, so that nobody has to wait for it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from bootstrap.backend import GatewayBooks
from bootstrap.memory_backend import EmbeddedParts
from bootstrap.modes import roles
from ops.audit import IDS_NAMED, Audit, audit
from ops.snapshot import snapshot
from store.protocol import Store

#: Seconds between two audits at least, and how many times as long as an audit took.
AUDIT_S, REST_TIMES = 2.0, 5.0

#: Given a store for each worker, and the gateway's books: what the audit says.
Judge = Callable[[Mapping[str, Store], GatewayBooks], Coroutine[Any, Any, Audit]]


async def judge(stores: Mapping[str, Store], books: GatewayBooks) -> Audit:
    """In this event loop."""
    return audit(await snapshot(stores, books))


async def judge_in_a_thread(stores: Mapping[str, Store], books: GatewayBooks) -> Audit:
    """In one of its own: with thousands of orders it takes a while."""
    return await asyncio.to_thread(lambda: asyncio.run(judge(stores, books)))


class Auditing:
    """`light` is sound, broken or unknown; `findings` are what is wrong, a sentence each.

    What only fits together a moment later is no finding: it has to be there at two audits in a row."""

    def __init__(self, parts: EmbeddedParts, judge: Judge) -> None:
        self.light = "unknown"
        self.findings: tuple[str, ...] = ()
        self._parts = parts
        self._judge = judge
        self._suspected: dict[str, set[str]] = {}

    async def run(self) -> None:
        """Judge until cancelled, whenever something has changed."""
        loop = asyncio.get_running_loop()
        judged = (-1, -1)
        while True:
            began = loop.time()
            commits = self._parts.commits(roles(self._parts.mode))
            if judged != (commits, commits):
                await self._look()
                judged = (judged[1], commits)
            await asyncio.sleep(max(AUDIT_S, REST_TIMES * (loop.time() - began)))

    async def _look(self) -> None:
        stores = {name: self._parts.copy_of(name) for name in roles(self._parts.mode)}
        verdict = await self._judge(stores, await self._parts.books())
        found = {finding.promise: set(finding.ids) for finding in verdict.findings}
        lasting = {promise: sorted(ids & self._suspected.get(promise, set())) for promise, ids in found.items()}
        self.findings = tuple(f"{promise}: {', '.join(ids[:IDS_NAMED])}" for promise, ids in lasting.items() if ids)
        self.light = "broken" if self.findings else "sound"
        self._suspected = found
