"""The audit light of a demo lane: audits everything that is stored, repeatedly, while the demo runs.

The audit reads copies in a thread, so it does not block the workers.
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

#: Minimum seconds between two audits, and the minimum pause as a multiple of the last audit's duration.
AUDIT_INTERVAL_S, PAUSE_FACTOR = 2.0, 5.0

#: Audits a store for each worker and the gateway's books.
Auditor = Callable[[Mapping[str, Store], GatewayBooks], Coroutine[Any, Any, Audit]]


async def run_audit(stores: Mapping[str, Store], books: GatewayBooks) -> Audit:
    """Audit in this event loop."""
    return audit(await take_snapshot(stores, books))


async def run_audit_in_thread(stores: Mapping[str, Store], books: GatewayBooks) -> Audit:
    """Audit in a thread with its own event loop: with thousands of orders it takes long."""
    return await asyncio.to_thread(lambda: asyncio.run(run_audit(stores, books)))


class AuditLight:
    """`light` is sound, broken or unknown; `findings` has a sentence for each broken promise.

    A finding counts only if two audits in a row have it: commits of different workers may be a moment apart."""

    def __init__(self, backend: MemoryBackend, run_audit: Auditor) -> None:
        self.light = "unknown"
        self.findings: tuple[str, ...] = ()
        self._backend = backend
        self._run_audit = run_audit
        self._last_findings: dict[str, set[str]] = {}

    async def run(self) -> None:
        """Audit until cancelled, whenever something has changed."""
        loop = asyncio.get_running_loop()
        audited = (-1, -1)  # commit counts at the last two audits
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
