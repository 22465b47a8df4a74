"""A sound snapshot from a real run with orders of every kind, and ways to damage it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bootstrap.backend import BookEntry
from lab.journeys.run import JourneyRun
from lab.system import System
from ops.snapshot import Snapshot

ORPHAN = "019b0000-0000-7000-8000-00000000dead"


class SoundSnapshot:
    """A sound snapshot and the orders in it by what became of them."""

    def __init__(self, seen: Snapshot, order_ids: list[str]) -> None:
        self.seen = seen
        self.completed, self.declined, self.undeliverable, self.withdrawn = order_ids

    def copy_with(self, what: str, key: str, **changes: Any) -> Snapshot:
        """One document changed."""
        documents = getattr(self.seen, what)
        found = documents[key]
        changed = replace(found, **changes) if isinstance(found, BookEntry) else found.copy_with(**changes)
        return self.with_(what, {**documents, key: changed})

    def less(self, what: str, key: str) -> Snapshot:
        """One document lost."""
        return self.with_(what, {other: kept for other, kept in getattr(self.seen, what).items() if other != key})

    def more(self, what: str, key: str, document: Any) -> Snapshot:
        """One document that should not be there."""
        return self.with_(what, {**getattr(self.seen, what), key: document})

    def with_(self, what: str, documents: Mapping[str, Any]) -> Snapshot:
        return replace(self.seen, **{what: documents})


async def every_kind(system: System) -> SoundSnapshot:
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
