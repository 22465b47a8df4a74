"""Batches: one commit for all inputs, and a bad message fails only itself."""

from typing import Any

import pytest

from broker.limits import Limits
from broker.loop.outbox_relay import DELETE_BATCH_ROWS
from broker.topology import queue_of
from broker.transport import Outgoing, Receipt
from tests.support.broker.chaotic_transport import ChaoticTransport
from tests.support.broker.fault_injection import FailingStore, Fence, fenced_store, fenced_transport
from tests.support.toy_service import PREFIX, How, Stage, run_scenario, type_names


def test_queued_inputs_share_one_commit_ack_and_publish() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.put_in(*[How.WELL] * 100)
        fence = Fence()
        till = stage.worker(
            "till", transport=fenced_transport(stage.transport(), fence), store=fenced_store(stage.store("till"), fence)
        )
        stage.start(till, stage.worker("ledger"), stage.worker("bell"))
        await stage.rest()
        assert await stage.times("till") == {1: 100}
        assert fence.calls["transact"] == 1
        assert fence.calls["publish"] == 1
        assert fence.calls["ack"] == 1
        handled = [name for name in fence.names if name in ("transact", "ack", "publish")]
        assert handled == ["transact", "ack", "publish"]

    run_scenario(scenario)


def test_batch_size_is_limited() -> None:
    async def scenario(stage: Stage) -> None:
        await stage.put_in(*[How.WELL] * 100)
        store = FailingStore(stage.store("till"), [])
        stage.start(stage.worker("till", store=store))
        stage.start(stage.worker("ledger"), stage.worker("bell"))
        await stage.rest()
        assert await stage.times("till") == {1: 100}
        assert store.transactions == 4

    run_scenario(scenario, Limits(batch_max=32, prefetch=200))


def test_published_rows_are_deleted_by_a_later_commit_in_bulk() -> None:
    async def scenario(stage: Stage) -> None:
        fence = Fence()
        stage.start(stage.worker("till", store=fenced_store(stage.store("till"), fence)))
        stage.start(stage.worker("ledger"), stage.worker("bell"))
        outbox = stage.databases["till"].outbox
        await stage.put_in(*[How.WELL] * (DELETE_BATCH_ROWS - 1))
        await stage.until(lambda: type_names(stage.published)["till.WasPutIn"] == DELETE_BATCH_ROWS - 1, "all were published")
        await stage.put_in(How.WELL)
        await stage.until(lambda: type_names(stage.published)["till.WasPutIn"] == DELETE_BATCH_ROWS, "one more was published")
        assert len(outbox) == DELETE_BATCH_ROWS, "too few for a database command"
        await stage.put_in(How.WELL)
        await stage.until(lambda: len(outbox) == 1, "all but the last were removed from the outbox")
        assert fence.calls["delete_published"] == 0, "they were deleted by a separate call"

    run_scenario(scenario, Limits(relay_interval_s=60.0))


BAD = {
    How.RAISES: ("attempts_exhausted", 5),
    How.KEYS_RAISE: ("attempts_exhausted", 5),
    How.REFUSED: ("attempts_exhausted", 5),
    How.VIOLATES: ("protocol_violation", 1),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_message_fails_only_itself(bad: How) -> None:
    async def scenario(stage: Stage) -> None:
        store = FailingStore(stage.store("till"), [])
        ids = await stage.put_in(*[How.WELL] * 50, bad, *[How.WELL] * 49)
        stage.start(stage.worker("till", store=store), stage.worker("ledger"), stage.worker("bell"))
        await stage.rest()
        assert await stage.times("till") == {1: 99}
        assert await stage.times("ledger") == {1: 99}
        assert ids[50] not in await stage.tills()
        assert stage.dead("till") == [BAD[bad]]

    run_scenario(scenario)


@pytest.mark.parametrize("bad", [How.RAISES, How.KEYS_RAISE, How.VIOLATES])
def test_good_messages_around_a_bad_one_share_one_commit(bad: How) -> None:
    async def scenario(stage: Stage) -> None:
        await stage.put_in(*[How.WELL] * 50, bad, *[How.WELL] * 49)
        stage.start(stage.worker("till"), stage.worker("ledger"), stage.worker("bell"))
        await stage.rest()
        inbox = stage.databases["till"].inbox
        assert len(inbox) == 99
        assert len(set(inbox.values())) == 1, "more than one commit wrote them"

    run_scenario(scenario)


def test_refused_batch_is_bisected_until_the_bad_message_is_alone() -> None:
    async def scenario(stage: Stage) -> None:
        store = FailingStore(stage.store("till"), [])
        await stage.put_in(*[How.WELL] * 100, How.REFUSED, *[How.WELL] * 27)
        stage.start(stage.worker("till", store=store), stage.worker("ledger"), stage.worker("bell"))
        await stage.rest()
        assert await stage.times("till") == {1: 127}
        # 128 halved seven times: at each step the refused half and the good one; then four more attempts of the bad message.
        assert store.transactions == 1 + 2 * 7 + 4
        assert len(set(stage.databases["till"].inbox.values())) == 7

    run_scenario(scenario)


def test_several_bad_messages_in_a_batch_fail_only_themselves() -> None:
    async def scenario(stage: Stage) -> None:
        kinds = [How.WELL, How.RAISES, How.WELL, How.REFUSED, How.WELL, How.KEYS_RAISE, How.REFUSED, How.VIOLATES, How.WELL]
        await stage.put_in(*kinds * 5)
        stage.start_all()
        await stage.rest()
        assert await stage.times("till") == {1: 20}
        assert sorted(map(str, stage.dead("till"))) == sorted(map(str, [BAD[how] for how in kinds * 5 if how in BAD]))

    run_scenario(scenario)


def test_protocol_violation_is_dead_lettered_at_once() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start_all()
        started_at = stage.environment.now()
        await stage.put_in(How.VIOLATES)
        await stage.rest()
        assert stage.dead("till") == [("protocol_violation", 1)]
        assert stage.environment.now() - started_at < 0.1, "it was retried"
        (wire,) = stage.broker.dead_letters("till")
        assert wire.headers["dead_detail"] == "ProtocolViolation: not possible in this state"

    run_scenario(scenario)


def test_retry_delays_grow_and_delay_no_other_message() -> None:
    async def scenario(stage: Stage) -> None:
        seen: list[float] = []
        stage.broker.on_publish.append(lambda item: seen.append(stage.environment.now()) if item.delay_s else None)
        stage.start_all()
        started_at = stage.environment.now()
        await stage.put_in(How.RAISES, How.WELL)
        await stage.until(lambda: bool(stage.databases["bell"].inbox), "the good message was handled")
        assert stage.environment.now() - started_at < 0.05, "the good message waited for the other"
        await stage.rest()
        gaps = [later - earlier for earlier, later in zip([started_at, *seen], seen, strict=False)]
        assert len(gaps) == 4
        assert gaps == sorted(gaps)
        assert 0.05 <= gaps[1] <= 0.1 < gaps[2] <= 0.5 < gaps[3] <= 2.0

    run_scenario(scenario)


def test_event_is_handled_by_every_consumer() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start_all()
        ids = await stage.put_in(*[How.WELL] * 10)
        await stage.rest()
        assert set(await stage.entries("ledger")) == set(await stage.entries("bell")) == set(ids)

    run_scenario(scenario)


def test_stopped_consumer_does_not_delay_the_others() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start(stage.worker("till"), stage.worker("ledger"))
        await stage.put_in(*[How.WELL] * 10)
        await stage.until(lambda: len(stage.databases["ledger"].inbox) == 10, "the ledger has handled all")
        assert await stage.times("ledger") == {1: 10}
        assert await stage.waiting("bell") == 10
        stage.start(stage.worker("bell"))
        await stage.rest()
        assert await stage.times("bell") == {1: 10}

    run_scenario(scenario)


def test_messages_of_one_order_in_a_batch_build_on_each_other() -> None:
    async def scenario(stage: Stage) -> None:
        order_id = stage.environment.new_id()
        await stage.send(*(stage.wire(amount=amount, order_id=order_id) for amount in range(1, 11)))
        stage.start_all()
        await stage.rest()
        assert (await stage.tills())[order_id].total == 55
        assert (await stage.entries("ledger"))[order_id].total == 55
        assert stage.databases["till"].version(("tills", order_id)) == 1, "one write for each document and batch"

    run_scenario(scenario)


def test_duplicate_in_one_batch_takes_effect_once() -> None:
    async def scenario(stage: Stage) -> None:
        wire = stage.wire(amount=7)
        await stage.send(wire, stage.wire(), wire, wire)
        stage.start_all()
        await stage.rest()
        assert (await stage.tills())[str(wire.correlation_id)].total == 7
        assert await stage.times("till") == {1: 2}
        assert await stage.times("bell") == {1: 2}

    run_scenario(scenario)


def test_later_duplicate_is_dropped_by_the_inbox() -> None:
    async def scenario(stage: Stage) -> None:
        wire = stage.wire(amount=7)
        stage.start_all()
        for _ in range(3):
            await stage.send(wire, stage.wire())
            await stage.rest()
        assert (await stage.tills())[str(wire.correlation_id)].total == 7
        assert await stage.times("till") == {1: 4}
        assert type_names(stage.published)["till.WasPutIn"] == 4

    run_scenario(scenario)


def test_duplicated_delayed_and_shuffled_messages_take_effect_once() -> None:
    async def scenario(stage: Stage) -> None:
        chaotic = ChaoticTransport(stage.transport(), stage.environment.rng)
        stage.start(stage.worker("till", transport=chaotic), stage.worker("ledger"), stage.worker("bell"))
        wires = [stage.wire() for _ in range(50)]
        await stage.send(*wires, *reversed(wires))
        await stage.rest()
        for name in ("till", "ledger", "bell"):
            assert await stage.times(name) == {1: 50}
        assert type_names(stage.published)["till.WasPutIn"] == 100, "the transport duplicated nothing"

    run_scenario(scenario)


class UnconfirmedRetries:
    """A transport that does not confirm the first retry, and records how deliveries are settled."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.requeued: list[int] = []
        self.acknowledged: list[int] = []
        self.unconfirmed = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def publish(self, outgoing: list[Outgoing]) -> list[Receipt]:
        if outgoing and outgoing[0].delay_s and self.unconfirmed:
            self.unconfirmed -= 1
            return [Receipt.UNKNOWN] * len(outgoing)
        return list(await self._transport.publish(outgoing))

    async def requeue(self, deliveries: list[Any]) -> None:
        self.requeued += [delivery.tag for delivery in deliveries]
        await self._transport.requeue(deliveries)

    async def ack(self, deliveries: list[Any]) -> None:
        self.acknowledged += [delivery.tag for delivery in deliveries]
        await self._transport.ack(deliveries)


def test_delivery_with_an_unconfirmed_retry_is_requeued_not_acked() -> None:
    """RabbitMQ closes the channel when a delivery is settled twice."""

    async def scenario(stage: Stage) -> None:
        transport = UnconfirmedRetries(stage.transport())
        await stage.put_in(How.WELL, How.WELL, How.RAISES)
        stage.start(stage.worker("till", transport=transport), stage.worker("ledger"), stage.worker("bell"))
        await stage.rest()
        assert transport.requeued == [3]
        assert 3 not in transport.acknowledged
        assert {1, 2} <= set(transport.acknowledged)
        assert stage.dead("till") == [("attempts_exhausted", 5)]
        assert await stage.times("till") == {1: 2}

    run_scenario(scenario)


def test_duplicate_of_a_requeued_delivery_is_requeued_too() -> None:
    """It was dropped as a duplicate, and after a lost connection it is the only one of the two that the broker has."""

    async def scenario(stage: Stage) -> None:
        transport = UnconfirmedRetries(stage.transport())
        duplicate = stage.wire(How.RAISES)
        await stage.send(stage.wire(), duplicate, duplicate)
        stage.start(stage.worker("till", transport=transport), stage.worker("ledger"), stage.worker("bell"))
        await stage.rest()
        assert transport.requeued == [2, 3]
        assert not {2, 3} & set(transport.acknowledged)
        assert stage.dead("till") == [("attempts_exhausted", 5)]

    run_scenario(scenario)


def test_handled_messages_leave_their_queues() -> None:
    async def scenario(stage: Stage) -> None:
        stage.start_all()
        await stage.put_in(*[How.WELL] * 10)
        await stage.rest()
        depths = {name: await stage.client.depth(queue_of(PREFIX, name)) for name in ("till", "ledger", "bell")}
        assert depths == {"till": 0, "ledger": 0, "bell": 0}

    run_scenario(scenario)
