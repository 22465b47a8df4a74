"""A batch is one commit, and one poison message costs only itself."""

from typing import Any

import pytest

from broker.limits import Limits
from broker.loop.outbox_relay import DELETE_BATCH_ROWS
from broker.topology import queue_of
from broker.transport import Outgoing, Receipt
from tests.support.broker.chaotic_transport import MischievousTransport
from tests.support.broker.fault_injection import FailingStore, Fence, fenced_store, fenced_transport
from tests.support.toy_service import PREFIX, How, Stage, on_stage, type_names


def test_everything_that_is_here_is_committed_in_one_transaction_and_published_in_one_go() -> None:
    async def scene(stage: Stage) -> None:
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

    on_stage(scene)


def test_a_batch_is_no_larger_than_its_bound() -> None:
    async def scene(stage: Stage) -> None:
        await stage.put_in(*[How.WELL] * 100)
        store = FailingStore(stage.store("till"), [])
        stage.start(stage.worker("till", store=store))
        stage.start(stage.worker("ledger"), stage.worker("bell"))
        await stage.rest()
        assert await stage.times("till") == {1: 100}
        assert store.transactions == 4

    on_stage(scene, Limits(batch_max=32, prefetch=200))


def test_the_removal_of_what_was_published_rides_on_a_later_commit_once_it_is_worth_a_command() -> None:
    async def scene(stage: Stage) -> None:
        fence = Fence()
        stage.start(stage.worker("till", store=fenced_store(stage.store("till"), fence)))
        stage.start(stage.worker("ledger"), stage.worker("bell"))
        outbox = stage.databases["till"].outbox
        await stage.put_in(*[How.WELL] * (DELETE_BATCH_ROWS - 1))
        await stage.until(lambda: type_names(stage.published)["till.WasPutIn"] == DELETE_BATCH_ROWS - 1, "all were published")
        await stage.put_in(How.WELL)
        await stage.until(lambda: type_names(stage.published)["till.WasPutIn"] == DELETE_BATCH_ROWS, "one more was published")
        assert len(outbox) == DELETE_BATCH_ROWS, "too few for a command of their own"
        await stage.put_in(How.WELL)
        await stage.until(lambda: len(outbox) == 1, "all but the last were removed from the outbox")
        assert fence.calls["delete_published"] == 0, "it was removed by a call of its own"

    on_stage(scene, Limits(relay_interval_s=60.0))


POISON = {
    How.RAISES: ("attempts_exhausted", 5),
    How.READS_RAISE: ("attempts_exhausted", 5),
    How.REFUSED: ("attempts_exhausted", 5),
    How.VIOLATES: ("protocol_violation", 1),
}


@pytest.mark.parametrize("poison", POISON)
def test_a_poison_message_costs_only_itself(poison: How) -> None:
    async def scene(stage: Stage) -> None:
        store = FailingStore(stage.store("till"), [])
        ids = await stage.put_in(*[How.WELL] * 50, poison, *[How.WELL] * 49)
        stage.start(stage.worker("till", store=store), stage.worker("ledger"), stage.worker("bell"))
        await stage.rest()
        assert await stage.times("till") == {1: 99}
        assert await stage.times("ledger") == {1: 99}
        assert ids[50] not in await stage.tills()
        assert stage.dead("till") == [POISON[poison]]

    on_stage(scene)


@pytest.mark.parametrize("poison", [How.RAISES, How.READS_RAISE, How.VIOLATES])
def test_the_good_messages_around_a_poison_one_are_committed_together(poison: How) -> None:
    async def scene(stage: Stage) -> None:
        await stage.put_in(*[How.WELL] * 50, poison, *[How.WELL] * 49)
        stage.start(stage.worker("till"), stage.worker("ledger"), stage.worker("bell"))
        await stage.rest()
        inbox = stage.databases["till"].inbox
        assert len(inbox) == 99
        assert len(set(inbox.values())) == 1, "more than one commit wrote them"

    on_stage(scene)


def test_a_batch_that_the_database_refuses_is_halved_until_the_poison_stands_alone() -> None:
    async def scene(stage: Stage) -> None:
        store = FailingStore(stage.store("till"), [])
        await stage.put_in(*[How.WELL] * 100, How.REFUSED, *[How.WELL] * 27)
        stage.start(stage.worker("till", store=store), stage.worker("ledger"), stage.worker("bell"))
        await stage.rest()
        assert await stage.times("till") == {1: 127}
        # 128 halved seven times: at each step the refused half and the good one; then four more attempts of the poison alone.
        assert store.transactions == 1 + 2 * 7 + 4
        assert len(set(stage.databases["till"].inbox.values())) == 7

    on_stage(scene)


def test_several_poison_messages_of_every_kind_cost_only_themselves() -> None:
    async def scene(stage: Stage) -> None:
        kinds = [How.WELL, How.RAISES, How.WELL, How.REFUSED, How.WELL, How.READS_RAISE, How.REFUSED, How.VIOLATES, How.WELL]
        await stage.put_in(*kinds * 5)
        stage.start_all()
        await stage.rest()
        assert await stage.times("till") == {1: 20}
        assert sorted(map(str, stage.dead("till"))) == sorted(map(str, [POISON[how] for how in kinds * 5 if how in POISON]))

    on_stage(scene)


def test_a_protocol_violation_goes_to_the_dead_letters_at_once() -> None:
    async def scene(stage: Stage) -> None:
        stage.start_all()
        began = stage.environment.now()
        await stage.put_in(How.VIOLATES)
        await stage.rest()
        assert stage.dead("till") == [("protocol_violation", 1)]
        assert stage.environment.now() - began < 0.1, "it was tried again"
        (wire,) = stage.broker.dead_letters("till")
        assert wire.headers["dead_detail"] == "ProtocolViolation: nobody puts that in"

    on_stage(scene)


def test_a_retry_waits_longer_each_time_and_holds_up_nobody() -> None:
    async def scene(stage: Stage) -> None:
        seen: list[float] = []
        stage.broker.on_publish.append(lambda item: seen.append(stage.environment.now()) if item.delay_s else None)
        stage.start_all()
        began = stage.environment.now()
        await stage.put_in(How.RAISES, How.WELL)
        await stage.until(lambda: bool(stage.databases["bell"].inbox), "the good one was heard of")
        assert stage.environment.now() - began < 0.05, "the good one waited for the other"
        await stage.rest()
        gaps = [later - earlier for earlier, later in zip([began, *seen], seen, strict=False)]
        assert len(gaps) == 4
        assert gaps == sorted(gaps)
        assert 0.05 <= gaps[1] <= 0.1 < gaps[2] <= 0.5 < gaps[3] <= 2.0

    on_stage(scene)


def test_one_event_is_handled_by_both_who_hear_it() -> None:
    async def scene(stage: Stage) -> None:
        stage.start_all()
        ids = await stage.put_in(*[How.WELL] * 10)
        await stage.rest()
        assert set(await stage.entries("ledger")) == set(await stage.entries("bell")) == set(ids)

    on_stage(scene)


def test_a_listener_that_is_down_costs_the_other_nothing() -> None:
    async def scene(stage: Stage) -> None:
        stage.start(stage.worker("till"), stage.worker("ledger"))
        await stage.put_in(*[How.WELL] * 10)
        await stage.until(lambda: len(stage.databases["ledger"].inbox) == 10, "the ledger has heard all")
        assert await stage.times("ledger") == {1: 10}
        assert await stage.waiting("bell") == 10
        stage.start(stage.worker("bell"))
        await stage.rest()
        assert await stage.times("bell") == {1: 10}

    on_stage(scene)


def test_messages_of_one_order_in_one_batch_build_on_each_other() -> None:
    async def scene(stage: Stage) -> None:
        order_id = stage.environment.new_id()
        await stage.send(*(stage.wire(amount=amount, order_id=order_id) for amount in range(1, 11)))
        stage.start_all()
        await stage.rest()
        assert (await stage.tills())[order_id].total == 55
        assert (await stage.entries("ledger"))[order_id].total == 55
        assert stage.databases["till"].version(("tills", order_id)) == 1, "one write a document a batch"

    on_stage(scene)


def test_a_message_twice_in_one_batch_has_its_effect_once() -> None:
    async def scene(stage: Stage) -> None:
        wire = stage.wire(amount=7)
        await stage.send(wire, stage.wire(), wire, wire)
        stage.start_all()
        await stage.rest()
        assert (await stage.tills())[str(wire.correlation_id)].total == 7
        assert await stage.times("till") == {1: 2}
        assert await stage.times("bell") == {1: 2}

    on_stage(scene)


def test_a_message_that_comes_again_later_meets_the_inbox() -> None:
    async def scene(stage: Stage) -> None:
        wire = stage.wire(amount=7)
        stage.start_all()
        for _ in range(3):
            await stage.send(wire, stage.wire())
            await stage.rest()
        assert (await stage.tills())[str(wire.correlation_id)].total == 7
        assert await stage.times("till") == {1: 4}
        assert type_names(stage.published)["till.WasPutIn"] == 4

    on_stage(scene)


def test_everything_twice_late_and_shuffled_has_its_effect_once() -> None:
    async def scene(stage: Stage) -> None:
        mischief = MischievousTransport(stage.transport(), stage.environment.rng)
        stage.start(stage.worker("till", transport=mischief), stage.worker("ledger"), stage.worker("bell"))
        wires = [stage.wire() for _ in range(50)]
        await stage.send(*wires, *reversed(wires))
        await stage.rest()
        for name in ("till", "ledger", "bell"):
            assert await stage.times(name) == {1: 50}
        assert type_names(stage.published)["till.WasPutIn"] == 100, "the mischief did nothing"

    on_stage(scene)


class NothingAside:
    """A transport on which nothing can be put aside, and which hands nothing out twice: it says what is settled how."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.given_back: list[int] = []
        self.acknowledged: list[int] = []
        self.deaf = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    async def publish(self, outgoing: list[Outgoing]) -> list[Receipt]:
        if outgoing and outgoing[0].delay_s and self.deaf:
            self.deaf -= 1
            return [Receipt.UNKNOWN] * len(outgoing)
        return list(await self._transport.publish(outgoing))

    async def requeue(self, deliveries: list[Any]) -> None:
        self.given_back += [delivery.tag for delivery in deliveries]
        await self._transport.requeue(deliveries)

    async def ack(self, deliveries: list[Any]) -> None:
        self.acknowledged += [delivery.tag for delivery in deliveries]
        await self._transport.ack(deliveries)


def test_what_cannot_be_put_aside_is_given_back_and_not_acknowledged() -> None:
    """RabbitMQ closes the channel when a delivery is settled twice."""

    async def scene(stage: Stage) -> None:
        transport = NothingAside(stage.transport())
        await stage.put_in(How.WELL, How.WELL, How.RAISES)
        stage.start(stage.worker("till", transport=transport), stage.worker("ledger"), stage.worker("bell"))
        await stage.rest()
        assert transport.given_back == [3]
        assert 3 not in transport.acknowledged
        assert {1, 2} <= set(transport.acknowledged)
        assert stage.dead("till") == [("attempts_exhausted", 5)]
        assert await stage.times("till") == {1: 2}

    on_stage(scene)


def test_the_twin_of_what_cannot_be_put_aside_is_given_back_with_it() -> None:
    """It was dropped as a duplicate, and after a lost connection it is the only one of the two that the broker knows."""

    async def scene(stage: Stage) -> None:
        transport = NothingAside(stage.transport())
        twin = stage.wire(How.RAISES)
        await stage.send(stage.wire(), twin, twin)
        stage.start(stage.worker("till", transport=transport), stage.worker("ledger"), stage.worker("bell"))
        await stage.rest()
        assert transport.given_back == [2, 3]
        assert not {2, 3} & set(transport.acknowledged)
        assert stage.dead("till") == [("attempts_exhausted", 5)]

    on_stage(scene)


def test_nothing_is_left_in_a_queue_that_everybody_has_handled() -> None:
    async def scene(stage: Stage) -> None:
        stage.start_all()
        await stage.put_in(*[How.WELL] * 10)
        await stage.rest()
        depths = {name: await stage.door.depth(queue_of(PREFIX, name)) for name in ("till", "ledger", "bell")}
        assert depths == {"till": 0, "ledger": 0, "bell": 0}

    on_stage(scene)
