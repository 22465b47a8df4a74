"""A sound snapshot from a real run with orders of every kind, and methods that damage a copy of it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bootstrap.backend import BookEntry
from lab.journeys.run import JourneyRun
from lab.system import System
from ops.snapshot import Snapshot

#: The id of an order that does not exist.
ORPHAN = "019b0000-0000-7000-8000-00000000dead"


class SoundSnapshot:
    """A sound snapshot, and the ids of its orders by how they ended."""

    def __init__(self, snapshot: Snapshot, order_ids: list[str]) -> None:
        self.snapshot = snapshot
        self.completed, self.declined, self.undeliverable, self.withdrawn = order_ids

    def copy_with(self, what: str, key: str, **changes: Any) -> Snapshot:
        """A copy with one document changed."""
        documents = getattr(self.snapshot, what)
        found = documents[key]
        changed = replace(found, **changes) if isinstance(found, BookEntry) else found.copy_with(**changes)
        return self.with_documents(what, {**documents, key: changed})

    def without(self, what: str, key: str) -> Snapshot:
        """A copy without one document."""
        return self.with_documents(what, {other: kept for other, kept in getattr(self.snapshot, what).items() if other != key})

    def with_document(self, what: str, key: str, document: Any) -> Snapshot:
        """A copy with one document added."""
        return self.with_documents(what, {**getattr(self.snapshot, what), key: document})

    def with_documents(self, what: str, documents: Mapping[str, Any]) -> Snapshot:
        return replace(self.snapshot, **{what: documents})


async def every_kind(system: System) -> SoundSnapshot:
    """Run orders of every kind to their end and take a snapshot."""
    run = JourneyRun(system)
    ids = [await run.place({"book": 2}), await run.place({"book": 1}, "payment:declined")]
    ids.append(await run.place({"book": 1}, "delivery:undeliverable"))
    withdrawn = run.new_id()
    await run.withdraw(withdrawn)
    await run.wait_for_order(withdrawn)
    ids.append(await run.place({"book": 1}, order_id=withdrawn))
    result = await run.result()
    assert result.audit.ok
    return SoundSnapshot(result.snapshot, ids)
