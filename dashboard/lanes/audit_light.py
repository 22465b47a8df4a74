"""The light of an embedded lane: the audit of all that is stored, again and again, beside the run.

Reads copies, in a thread, so that nobody has to wait for it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from bootstrap.backend import GatewayBooks
from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import roles
from ops.audit import IDS_NAMED, Audit, audit
from ops.snapshot import take_snapshot
from store.protocol import Store

#: Seconds between two audits at least, and how many times as long as an audit took.
AUDIT_INTERVAL_S, PAUSE_FACTOR = 2.0, 5.0

#: Given a store for each worker, and the gateway's books: what the audit says.
Auditor = Callable[[Mapping[str, Store], GatewayBooks], Coroutine[Any, Any, Audit]]


async def run_audit(stores: Mapping[str, Store], books: GatewayBooks) -> Audit:
    """In this event loop."""
    return audit(await take_snapshot(stores, books))


async def run_audit_in_thread(stores: Mapping[str, Store], books: GatewayBooks) -> Audit:
    """In one of its own: with thousands of orders it takes a while."""
    return await asyncio.to_thread(lambda: asyncio.run(run_audit(stores, books)))


class AuditLight:
    """`light` is sound, broken or unknown; `findings` are what is wrong, a sentence each.

    What only fits together a moment later is no finding: it has to be there at two audits in a row."""

    def __init__(self, backend: MemoryBackend, run_audit: Auditor) -> None:
        self.light = "unknown"
        self.findings: tuple[str, ...] = ()
        self._backend = backend
        self._run_audit = run_audit
        self._last_findings: dict[str, set[str]] = {}

    async def run(self) -> None:
        """Judge until cancelled, whenever something has changed."""
        loop = asyncio.get_running_loop()
        audited = (-1, -1)
        while True:
            began = loop.time()
            commit_count = self._backend.commit_count(roles(self._backend.mode))
            if audited != (commit_count, commit_count):
                await self._audit_once()
                audited = (audited[1], commit_count)
            await asyncio.sleep(max(AUDIT_INTERVAL_S, PAUSE_FACTOR * (loop.time() - began)))

    async def _audit_once(self) -> None:
        stores = {name: self._backend.store_copy(name) for name in roles(self._backend.mode)}
        verdict = await self._run_audit(stores, await self._backend.books())
        found = {finding.promise: set(finding.ids) for finding in verdict.findings}
        lasting = {promise: sorted(ids & self._last_findings.get(promise, set())) for promise, ids in found.items()}
        self.findings = tuple(f"{promise}: {', '.join(ids[:IDS_NAMED])}" for promise, ids in lasting.items() if ids)
        self.light = "broken" if self.findings else "sound"
        self._last_findings = found
