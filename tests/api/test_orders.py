"""Orders at the door: taken once for a key, shown as far as was heard, taken back while that is possible.

In memory and on virtual time, beside all workers of a mode.
"""

import asyncio
from typing import Any

import pytest

from bootstrap.memory_backend import MemoryBackend
from bootstrap.modes import Mode
from broker.memory.transport import MemoryTransport
from lab.journeys.run import JourneyRun
from lab.system import System
from ops.pending_work import pending_commands
from services.delivery.messages import DeliveryScheduled
from services.order.messages import PlaceOrder, WithdrawOrder
from store.protocol import OutcomeUnknown, StoreUnavailable
from tests.support.api.asgi_client import AN_ORDER, Reply
from tests.support.api.http_api import Door, a_door, at_a_door
from tests.support.system import MODES, UNHURRIED, in_memory, published

BOTH = pytest.mark.parametrize("mode", MODES)
NOBODY = "019b0000-0000-7000-8000-000000000001"


@BOTH
def test_an_order_is_taken_and_known_at_once_and_then_ends(mode: Mode) -> None:
    async def program(system: System, door: Door) -> tuple[Reply, Any, Any]:
        await system.stop("order")
        taken = await door.caller.place()
        before = await door.caller.show(taken.json["order_id"])
        await system.start("order")
        await door.ended(system, taken.json["order_id"])
        return taken, before, await door.caller.show(taken.json["order_id"])

    taken, before, after = at_a_door(mode, program)
    assert taken.status == 202
    assert taken.headers["location"] == f"/orders/{taken.json['order_id']}"
    assert before["state"] == "ACCEPTED"
    assert before["remains"] == ["ReserveStock", "AuthorizePayment", "ScheduleDelivery", "CompleteOrder"]
    assert (after["state"], after["reason"], after["remains"]) == ("COMPLETED", None, [])


@BOTH
@pytest.mark.parametrize(
    ("injected", "reason"), [("inventory:out_of_stock", "out_of_stock"), ("delivery:undeliverable", "undeliverable")]
)
def test_a_refused_order_shows_the_reason_that_everybody_gives(mode: Mode, injected: str, reason: str) -> None:
    async def program(system: System, door: Door) -> Any:
        taken = await door.caller.place(x_injected_failures=injected)
        await door.ended(system, taken.json["order_id"])
        return await door.caller.show(taken.json["order_id"])

    order = at_a_door(mode, program)
    assert (order["state"], order["reason"], order["remains"]) == ("REJECTED", reason, [])


# --- keys -----------------------------------------------------------------------------------------------------------------


def test_the_same_key_and_order_again_is_the_same_order() -> None:
    async def program(system: System, door: Door) -> tuple[Reply, Reply, int]:
        seen = published(system)
        first = await door.caller.place()
        await door.ended(system, first.json["order_id"])
        again = await door.caller.place()
        await system.wait_until_idle()
        return first, again, sum(item.wire.type == PlaceOrder.type_name for item in seen)

    first, again, commands = at_a_door(Mode.CHOREOGRAPHY, program)
    assert (again.status, again.json, again.headers["location"]) == (202, first.json, first.headers["location"])
    assert commands == 1


@pytest.mark.parametrize("other", [{**AN_ORDER, "total_cents": 1}, {**AN_ORDER, "currency": "USD"}])
def test_a_key_of_another_order_is_refused(other: object) -> None:
    async def program(_: System, door: Door) -> Reply:
        await door.caller.place()
        return await door.caller.place(order=other)

    refused = at_a_door(Mode.CHOREOGRAPHY, program)
    assert (refused.status, refused.reason) == (422, "key_reused")


def test_a_key_in_flight_is_a_conflict_and_one_order_comes_of_it() -> None:
    async def program(_: System, door: Door) -> tuple[list[Reply], Any]:
        replies = await asyncio.gather(*(door.caller.place() for _ in range(5)))
        return list(replies), (await door.caller.call("GET", "/orders")).json

    replies, known = at_a_door(Mode.CHOREOGRAPHY, program)
    assert [reply.status for reply in replies] == [202, 409, 409, 409, 409]
    assert {reply.reason for reply in replies[1:]} == {"claim_in_flight"}
    assert all(reply.headers["retry-after"] == "1" for reply in replies[1:])
    assert len(known["orders"]) == 1


def test_two_doors_that_are_given_one_key_at_once_take_one_order() -> None:
    async def program(system: System) -> tuple[list[Reply], Any]:
        async with a_door(system) as one, a_door(system) as other:
            replies = await asyncio.gather(one.caller.place(), other.caller.place())
            await system.wait_until_idle()
            return list(replies), (await one.caller.call("GET", "/orders")).json

    replies, known = in_memory(Mode.ORCHESTRATOR, program)
    assert [reply.status for reply in replies] == [202, 202]
    assert replies[0].json == replies[1].json
    assert [order["order_id"] for order in known["orders"]] == [replies[0].json["order_id"]]


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "no_idempotency_key"),
        ({"idempotency_key": "two words"}, "bad_idempotency_key"),
        ({"idempotency_key": "x" * 129}, "bad_idempotency_key"),
    ],
)
def test_an_order_without_a_proper_key_is_refused(headers: dict[str, Any], reason: str) -> None:
    async def program(_: System, door: Door) -> Reply:
        return await door.caller.call("POST", "/orders", b"{}", content_type="application/json", **headers)

    refused = at_a_door(Mode.CHOREOGRAPHY, program)
    assert (refused.status, refused.reason) == (400, reason)


# --- what cannot be an order ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "not_json"),
        (b"\xff", 400, "not_json"),
        (b"[" * 60_000, 400, "not_json"),
        (b"", 422, "wrong_schema"),
        (b"null", 422, "wrong_schema"),
        (b'{"lines": []}', 422, "wrong_schema"),
        (b'{"lines": [{"sku": "\\ud800", "quantity": 1}]}', 422, "wrong_schema"),
        (b'{"total_cents": NaN}', 422, "wrong_schema"),
    ],
)
def test_what_is_no_order_is_refused_as_a_problem(body: bytes, status: int, reason: str) -> None:
    async def program(_: System, door: Door) -> Reply:
        return await door.caller.call("POST", "/orders", body, content_type="application/json", idempotency_key="k")

    refused = at_a_door(Mode.CHOREOGRAPHY, program)
    assert (refused.status, refused.reason) == (status, reason)


@pytest.mark.parametrize("failures", ["payment", "payment:declined,", "payment:declined;x:y"])
def test_failures_that_no_worker_would_understand_are_refused_at_the_door(failures: str) -> None:
    async def program(_: System, door: Door) -> Reply:
        return await door.caller.place(x_injected_failures=failures)

    refused = at_a_door(Mode.CHOREOGRAPHY, program)
    assert (refused.status, refused.reason) == (400, "bad_injected_failures")


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", f"/orders/{NOBODY}", 404, "no_such_order"),
        ("GET", "/orders/1", 404, "no_such_order"),
        ("DELETE", f"/orders/{NOBODY}", 404, "no_such_order"),
        ("GET", f"/orders/{NOBODY}/events", 404, "no_such_order"),
        ("GET", "/orders?limit=0", 422, "bad_query"),
        ("GET", "/orders?state=LOST", 422, "bad_query"),
        ("GET", "/nothing", 404, "not_found"),
        ("PATCH", "/orders", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there_is_refused_as_a_problem(method: str, path: str, status: int, reason: str) -> None:
    async def program(_: System, door: Door) -> Reply:
        return await door.caller.call(method, path)

    refused = at_a_door(Mode.CHOREOGRAPHY, program)
    assert (refused.status, refused.reason) == (status, reason)


# --- listing --------------------------------------------------------------------------------------------------------------


def test_orders_are_listed_the_newest_first_and_by_state() -> None:
    async def program(system: System, door: Door) -> tuple[list[str], Any, Any]:
        ids = []
        for key, failure in (("a", "payment:slow"), ("b", "inventory:out_of_stock"), ("c", "payment:slow")):
            ids.append((await door.caller.place(key, x_injected_failures=failure)).json["order_id"])
            await door.ended(system, ids[-1])
        return (
            ids,
            (await door.caller.call("GET", "/orders")).json,
            (await door.caller.call("GET", "/orders?state=REJECTED")).json,
        )

    ids, known, rejected = at_a_door(Mode.CHOREOGRAPHY, program)
    assert [order["order_id"] for order in known["orders"]] == ids[::-1]
    assert [order["order_id"] for order in rejected["orders"]] == [ids[1]]


def test_an_order_that_came_by_another_way_is_known_from_what_was_heard() -> None:
    async def program(system: System, door: Door) -> Any:
        run = JourneyRun(system)
        order_id = await run.place({"book": 1})
        await door.ended(system, order_id)
        return await door.caller.show(order_id)

    assert at_a_door(Mode.ORCHESTRATOR, program)["state"] == "COMPLETED"


# --- taking back ----------------------------------------------------------------------------------------------------------


async def waiting_at(system: System, door: Door, service: str) -> str:
    """An order whose next step waits for a stopped service; gives its id."""
    await system.stop(service)
    order_id: str = (await door.caller.place()).json["order_id"]
    await JourneyRun(system).wait_for_queued_step(order_id, service)
    return order_id


async def knows(system: System, door: Door, order_id: str, field: str) -> None:
    """Wait until the order shows something in a field."""

    async def shows() -> bool:
        return bool((await door.caller.show(order_id))[field])

    await system.wait_until(shows, f"the door to show {field} of {order_id}")


@BOTH
def test_an_order_is_taken_back_before_the_pivot(mode: Mode) -> None:
    async def program(system: System, door: Door) -> tuple[Reply, Any, Any]:
        order_id = await waiting_at(system, door, "inventory")
        reply = await door.caller.call("DELETE", f"/orders/{order_id}")
        await knows(system, door, order_id, "withdrawn")
        under_way = await door.caller.show(order_id)
        await system.start("inventory")
        await door.ended(system, order_id)
        return reply, under_way, await door.caller.show(order_id)

    reply, under_way, end = at_a_door(mode, program)
    assert reply.status == 202
    assert (under_way["state"], under_way["withdrawal_asked"], under_way["withdrawn"]) == ("PENDING", True, "withdrawn")
    assert (end["state"], end["reason"], end["withdrawal_refused"]) == ("REJECTED", "withdrawn", None)


@BOTH
def test_a_withdrawal_that_comes_too_late_shows_as_refused(mode: Mode) -> None:
    async def program(system: System, door: Door) -> tuple[Reply, Any]:
        order_id = await waiting_at(system, door, "delivery")
        await system.stop("order")
        await system.start("delivery")
        await JourneyRun(system).wait_for_event(order_id, DeliveryScheduled)
        await system.wait_until(lambda: system.has_waiting_messages("order"), "the order's completion to wait")
        reply = await door.caller.call("DELETE", f"/orders/{order_id}")
        await system.start("order")
        await knows(system, door, order_id, "withdrawal_refused")
        await door.ended(system, order_id)
        return reply, await door.caller.show(order_id)

    reply, order = at_a_door(mode, program)
    assert reply.status == 202
    assert (order["state"], order["withdrawal_asked"], order["withdrawal_refused"]) == ("COMPLETED", True, "already_ended")


def test_an_order_that_has_ended_cannot_be_taken_back() -> None:
    async def program(system: System, door: Door) -> Reply:
        order_id = (await door.caller.place()).json["order_id"]
        await door.ended(system, order_id)
        return await door.caller.call("DELETE", f"/orders/{order_id}")

    refused = at_a_door(Mode.CHOREOGRAPHY, program)
    assert (refused.status, refused.reason) == (409, "already_ended")


def test_asking_again_for_a_withdrawal_sends_no_second_one() -> None:
    async def program(system: System, door: Door) -> tuple[list[int], int]:
        order_id = await waiting_at(system, door, "inventory")
        seen = published(system)
        replies = await asyncio.gather(*(door.caller.call("DELETE", f"/orders/{order_id}") for _ in range(3)))
        await knows(system, door, order_id, "withdrawn")
        return [reply.status for reply in replies], sum(item.wire.type == WithdrawOrder.type_name for item in seen)

    assert at_a_door(Mode.CHOREOGRAPHY, program) == ([202, 202, 202], 1)


@BOTH
@pytest.mark.parametrize("withdrawn", [False, True])
@pytest.mark.parametrize("service", ["inventory", "payment", "delivery"])
def test_what_remains_is_what_four_databases_say(mode: Mode, service: str, withdrawn: bool) -> None:
    """The door knows from events alone what `saga order show` reads from everybody's data."""

    async def program(system: System, door: Door) -> tuple[list[str], list[str]]:
        order_id = await waiting_at(system, door, service)
        if withdrawn:
            if mode is Mode.CHOREOGRAPHY and service != "delivery":
                await system.stop("delivery")  # else the chain runs on until the step that waits
            await door.caller.call("DELETE", f"/orders/{order_id}")
            await knows(system, door, order_id, "withdrawn")
        await system.wait_until(lambda: _has_heard_all(system, door, order_id), "the door to hear everything")
        return (await door.caller.show(order_id))["remains"], pending_commands(mode, await system.snapshot(), order_id)

    known, stored = at_a_door(mode, program)
    assert known == stored


async def _has_heard_all(system: System, door: Door, order_id: str) -> bool:
    order = await door.orders.get(order_id)
    return order is not None and len(order.events) == sum(wire.correlation_id == order_id for wire in system.events)


def test_an_order_that_is_stuck_says_what_failed() -> None:
    async def program(system: System, door: Door) -> Any:
        order_id = (await door.caller.place(x_injected_failures="delivery:undeliverable,inventory:undo_error")).json["order_id"]
        await knows(system, door, order_id, "attention")
        return await door.caller.show(order_id)

    order = in_memory(Mode.CHOREOGRAPHY, lambda system: _with_door(system, program), unhurried)
    assert (order["state"], order["attention"]["step"]) == ("NEEDS_ATTENTION", "ReleaseStock")


def unhurried(mode: Mode) -> MemoryBackend:
    """No deadline comes before the budget of a compensation is used up."""
    return MemoryBackend(mode, timeouts=UNHURRIED)


async def _with_door(system: System, program: Any) -> Any:
    async with a_door(system) as door:
        return await program(system, door)


# --- nothing is lost ------------------------------------------------------------------------------------------------------


def test_an_order_that_was_taken_while_the_broker_was_away_is_placed_when_it_is_back() -> None:
    async def program(system: System, door: Door) -> tuple[Reply, Any, Any]:
        transport = door.orders.worker.transport
        assert isinstance(transport, MemoryTransport)
        transport.cut()
        taken = await door.caller.place()
        health = (await door.caller.call("GET", "/health/ready")).json
        await asyncio.sleep(30)
        transport.restore()
        await door.ended(system, taken.json["order_id"])
        return taken, health, await door.caller.show(taken.json["order_id"])

    taken, health, order = at_a_door(Mode.CHOREOGRAPHY, program)
    assert taken.status == 202
    assert health == {"status": "ready", "broker": "away"}
    assert order["state"] == "COMPLETED"


def test_a_door_that_starts_again_knows_its_orders_keys_and_what_it_owes() -> None:
    async def program(system: System) -> tuple[Reply, Reply, Any]:
        async with a_door(system) as door:
            transport = door.orders.worker.transport
            assert isinstance(transport, MemoryTransport)
            transport.cut()
            first = await door.caller.place()
        async with a_door(system) as door:
            again = await door.caller.place()
            await door.ended(system, first.json["order_id"])
            return first, again, await door.caller.show(first.json["order_id"])

    first, again, order = in_memory(Mode.CHOREOGRAPHY, program)
    assert first.json == again.json
    assert order["state"] == "COMPLETED"


def test_what_happened_while_the_door_was_away_is_heard_when_it_is_back() -> None:
    async def program(system: System) -> Any:
        await system.stop("inventory")
        async with a_door(system) as door:
            order_id = (await door.caller.place()).json["order_id"]
            await JourneyRun(system).wait_for_queued_step(order_id, "inventory")
        await system.start("inventory")
        await JourneyRun(system).wait_for_end(order_id)
        async with a_door(system) as door:
            await door.ended(system, order_id)
            return await door.caller.show(order_id)

    assert in_memory(Mode.CHOREOGRAPHY, program)["state"] == "COMPLETED"


class BrokenStore:
    """A store whose transactions fail `times` times, after they were written if `in_doubt`."""

    def __init__(self, store: Any, *, times: int, in_doubt: bool) -> None:
        self._store = store
        self.times = times
        self._in_doubt = in_doubt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def transact(self, work: Any) -> Any:
        if self.times <= 0:
            return await self._store.transact(work)
        self.times -= 1
        if self._in_doubt:
            await self._store.transact(work)
            raise OutcomeUnknown("no answer")
        raise StoreUnavailable("it is away")


@pytest.mark.parametrize("in_doubt", [False, True])
def test_a_commit_that_fails_or_is_in_doubt_becomes_one_order_all_the_same(in_doubt: bool) -> None:
    async def program(system: System, door: Door) -> tuple[Reply, Any]:
        door.orders.worker.store = BrokenStore(door.orders.worker.store, times=3, in_doubt=in_doubt)
        taken = await door.caller.place()
        await door.ended(system, taken.json["order_id"])
        return taken, (await door.caller.call("GET", "/orders")).json

    taken, known = at_a_door(Mode.CHOREOGRAPHY, program)
    assert taken.status == 202
    assert [order["order_id"] for order in known["orders"]] == [taken.json["order_id"]]


def test_when_the_database_is_away_nobody_knows_yet_and_the_same_key_tells_later() -> None:
    async def program(system: System, door: Door) -> tuple[list[Reply], Any]:
        broken = BrokenStore(door.orders.worker.store, times=1_000_000, in_doubt=False)
        door.orders.worker.store = broken
        replies = [await door.caller.place(), await door.caller.place()]
        replies += [await door.caller.call("GET", path) for path in (f"/orders/{NOBODY}", "/health/ready", "/health/live")]
        broken.times = 0
        await system.wait_until(lambda: not door.orders._keys_in_flight, "the request to be settled")
        replies.append(await door.caller.place())
        await door.ended(system, replies[-1].json["order_id"])
        return replies, (await door.caller.call("GET", "/orders")).json

    replies, known = at_a_door(Mode.CHOREOGRAPHY, program)
    assert [reply.status for reply in replies] == [503, 409, 503, 503, 200, 202]
    assert [reply.reason for reply in replies[:4]] == ["not_known_yet", "claim_in_flight", "store_unavailable", "not_ready"]
    assert all("retry-after" in reply.headers for reply in replies[:4])
    assert len(known["orders"]) == 1


def test_no_more_requests_wait_for_a_database_that_is_away_than_the_door_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.orders.PENDING_MAX", 3)

    async def program(system: System, door: Door) -> list[Reply]:
        broken = BrokenStore(door.orders.worker.store, times=1_000_000, in_doubt=False)
        door.orders.worker.store = broken
        replies = await asyncio.gather(*(door.caller.place(f"key-{number}") for number in range(5)))
        broken.times = 0
        await system.wait_until_idle()
        return list(replies)

    replies = at_a_door(Mode.CHOREOGRAPHY, program)
    assert sorted(reply.reason for reply in replies) == ["busy", "busy", "not_known_yet", "not_known_yet", "not_known_yet"]
    assert all(reply.status == 503 and reply.headers["retry-after"] == "1" for reply in replies)
