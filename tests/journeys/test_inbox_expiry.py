"""Every message of a journey is delivered again after its inbox keys have expired: the documents prevent a second effect.

This is why inbox keys may expire after days: the documents, tombstones included, stay.
"""

import pytest

from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode
from lab.journeys.catalogue import JOURNEYS
from lab.journeys.run import JourneyResult, JourneyRun
from lab.system import System
from services.order.domain import Order
from tests.support.system import MODES, all_dead_letters, broker_of, in_memory, published


def ends(result: JourneyResult) -> dict[str, Order]:
    """The orders without the refusal of a withdrawal: a withdrawal whose key has expired is refused once more."""
    return {order_id: order.copy_with(withdrawal_refused=None) for order_id, order in result.snapshot.orders.items()}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", JOURNEYS)
def test_redelivery_after_the_inbox_expired_changes_nothing(name: str, mode: Mode) -> None:
    async def play(system: System) -> None:
        messages, run = published(system), JourneyRun(system)
        await JOURNEYS[name].script(run)
        before = await run.result()
        backend = system.backend
        assert isinstance(backend, MemoryBackend)
        for database in backend._databases.values():
            database.inbox.clear()
        again = [item for item in messages if item.delay_s is None and not item.address.exchange.endswith(".retry")]
        assert len(again) >= len(run.order_ids)
        for item in again:
            broker_of(system).publish(item)
        await system.wait_until_idle()
        assert len(messages) > 2 * len(again), "the messages must be handled and answered again"
        after = await run.result()
        assert ends(after) == ends(before)
        for kept in ("books", "stock", "reservations", "payments", "deliveries", "sagas"):
            assert getattr(after.snapshot, kept) == getattr(before.snapshot, kept), kept
        assert after.ends == JOURNEYS[name].ends
        assert after.audit.ok, after.audit.findings
        assert await all_dead_letters(system) == {}

    in_memory(mode, play)
