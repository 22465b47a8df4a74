"""The outbox relay: pending rows are published and deleted. In memory, on virtual time."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from broker.codec import Origin, encode, pack
from broker.limits import Limits
from broker.loop.outbox_relay import RELAY_BATCH_ROWS
from broker.topology import Address, commands_exchange
from broker.transport import Outgoing, Receipt
from store.protocol import Changes, OutboxRow, Reader, Store, StoreUnavailable
from tests.support.toy_service import How, Stage, WasPutIn, run_scenario, type_names


def outbox_rows(stage: Stage, count: int, *, age_s: float = 0.0, to: Address | None = None) -> list[OutboxRow]:
    """Rows as a till left them that crashed after its commit; `to` replaces their address."""
    rows = []
    for _ in range(count):
        event = WasPutIn(order_id=stage.environment.new_id(), amount=1)
        wire = encode(event, message_id=stage.environment.new_id(), now=stage.environment.now(), app_id="till", origin=Origin())
        item = Outgoing(to or stage.topology.address_of(WasPutIn), wire)
        rows.append(OutboxRow(str(wire.message_id), stage.environment.now() - age_s, pack(item)))
    return rows


async def write_rows(stage: Stage, rows: Sequence[OutboxRow]) -> None:
    async def work(_: Reader) -> tuple[Changes, None]:
        return Changes(outbox=rows), None

    await stage.store("till").transact(work)


def test_next_worker_publishes_and_deletes_pending_rows_at_once() -> None:
    async def scenario(stage: Stage) -> None:
        await write_rows(stage, outbox_rows(stage, 10))
        await asyncio.sleep(0.01)
        started_at = stage.environment.now()
        stage.start_all()
        await stage.until(lambda: not stage.databases["till"].outbox, "the outbox is empty")
        assert stage.environment.now() - started_at < 0.1
        await stage.rest()
        assert await stage.times("ledger") == {1: 10}
        assert type_names(stage.published)["till.WasPutIn"] == 10

    run_scenario(scenario)


def test_many_pending_rows_are_published_without_a_pause() -> None:
    """After a long outage there may be thousands of rows; they must not wait for an interval after each page."""

    async def scenario(stage: Stage) -> None:
        await write_rows(stage, outbox_rows(stage, 2_000))
        await asyncio.sleep(0.01)
        started_at = stage.environment.now()
        stage.start_all()
        await stage.until(lambda: not stage.databases["till"].outbox, "the outbox is empty")
        assert stage.environment.now() - started_at < 0.5
        await stage.rest()
        assert await stage.times("bell") == {1: 2_000}

    run_scenario(scenario)


def test_young_rows_of_another_replica_are_left_alone() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start_all()
        await asyncio.sleep(0.5)
        await write_rows(stage, outbox_rows(stage, 10))
        started_at = stage.environment.now()
        await stage.until(lambda: type_names(stage.published)["till.WasPutIn"] > 0, "they were published")
        limits = stage.limits
        assert limits.relay_after_s < stage.environment.now() - started_at <= limits.relay_after_s + limits.relay_interval_s
        await stage.rest()

    run_scenario(scenario)


class UnconfirmedTransport:
    """A transport that confirms none of the first publishes."""

    def __init__(self, transport: Any, receipt: Receipt, times: int) -> None:
        self._transport = transport
        self._receipt = receipt
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def publish(self, outgoing: Sequence[Outgoing]) -> list[Receipt]:
        receipts = list(await self._transport.publish(outgoing))
        if outgoing and self.times:
            self.times -= 1
            return [self._receipt] * len(outgoing)
        return receipts


def test_unconfirmed_row_is_republished_until_confirmed() -> None:
    async def scenario(stage: Stage) -> None:
        transport = UnconfirmedTransport(stage.transport(), Receipt.UNKNOWN, times=3)
        stage.start(stage.worker("till", transport=transport), stage.worker("ledger"), stage.worker("bell"))
        await stage.put_in(*[How.WELL] * 10)
        await stage.until(lambda: transport.times == 0, "it was published three times unconfirmed")
        assert len(stage.databases["till"].outbox) == 10
        await stage.rest()
        assert type_names(stage.published)["till.WasPutIn"] == 40
        assert await stage.times("ledger") == {1: 10}, "the inbox did not drop the duplicates"

    run_scenario(scenario)


def test_unroutable_row_stays_until_a_queue_is_bound() -> None:
    async def scenario(stage: Stage) -> None:
        till = stage.worker("till", limits=Limits(relay_after_s=1.0))
        stage.start(till)
        await asyncio.sleep(0.5)
        stage.broker.delete(stage.topology)
        await write_rows(stage, outbox_rows(stage, 3, age_s=60.0))
        await asyncio.sleep(5.0)
        assert len(stage.databases["till"].outbox) == 3
        await stage.stop(till)
        await stage.client.declare(stage.topology)
        stage.start_all()
        await stage.rest()
        assert await stage.times("ledger") == {1: 3}

    run_scenario(scenario)


class FailingDeletes:
    """A store whose first deletions of outbox rows fail."""

    def __init__(self, store: Store, times: int) -> None:
        self._store = store
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def delete_published(self, published: Collection[str]) -> None:
        if self.times:
            self.times -= 1
            raise StoreUnavailable("not now")
        await self._store.delete_published(published)


def test_unroutable_rows_do_not_delay_younger_rows() -> None:
    async def scenario(stage: Stage) -> None:
        nowhere = Address(commands_exchange(stage.topology.prefix), "unbound", mandatory=True)
        await write_rows(stage, outbox_rows(stage, 2 * RELAY_BATCH_ROWS, age_s=60.0, to=nowhere))
        await write_rows(stage, outbox_rows(stage, 3))
        stage.start_all()
        await stage.until(
            lambda: type_names(stage.published)["till.WasPutIn"] >= 3 * RELAY_BATCH_ROWS, "the relay has queried again"
        )
        await stage.until(lambda: len(stage.databases["till"].outbox) == 2 * RELAY_BATCH_ROWS, "the younger rows are deleted")
        assert await stage.times("ledger") == {1: 3}

    run_scenario(scenario)


def test_confirmed_rows_are_not_published_again_if_deletion_fails() -> None:
    async def scenario(stage: Stage) -> None:
        store = FailingDeletes(stage.store("till"), times=5)
        stage.start(stage.worker("till", store=store), stage.worker("ledger"), stage.worker("bell"))
        await stage.put_in(*[How.WELL] * 10)
        await stage.rest()
        assert store.times == 0
        assert type_names(stage.published)["till.WasPutIn"] == 10

    run_scenario(scenario, Limits(relay_after_s=0.5))


def test_idle_worker_deletes_confirmed_rows() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start_all()
        await stage.put_in(How.WELL)
        await asyncio.sleep(2 * stage.limits.relay_interval_s)
        assert stage.databases["till"].outbox == {}
        assert type_names(stage.published)["till.WasPutIn"] == 1

    run_scenario(scenario)
