"""Orders over HTTP: accepted once for a key, shown as far as their events have arrived, withdrawn while that is possible.

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
from tests.support.api.http_api import RunningApi, running_api, with_api
from tests.support.system import LONG_TIMEOUTS, MODES, in_memory, published

BOTH = pytest.mark.parametrize("mode", MODES)
UNKNOWN_ID = "019b0000-0000-7000-8000-000000000001"


@BOTH
def test_order_is_accepted_at_once_and_then_completes(mode: Mode) -> None:
    async def program(system: System, api: RunningApi) -> tuple[Reply, Any, Any]:
        await system.stop("order")
        accepted = await api.caller.place()
        before = await api.caller.show(accepted.json["order_id"])
        await system.start("order")
        await api.ended(system, accepted.json["order_id"])
        return accepted, before, await api.caller.show(accepted.json["order_id"])

    accepted, before, after = with_api(mode, program)
    assert accepted.status == 202
    assert accepted.headers["location"] == f"/orders/{accepted.json['order_id']}"
    assert before["state"] == "ACCEPTED"
    assert before["remains"] == ["ReserveStock", "AuthorizePayment", "ScheduleDelivery", "CompleteOrder"]
    assert (after["state"], after["reason"], after["remains"]) == ("COMPLETED", None, [])


@BOTH
@pytest.mark.parametrize(
    ("injected", "reason"), [("inventory:out_of_stock", "out_of_stock"), ("delivery:undeliverable", "undeliverable")]
)
def test_refused_order_shows_its_reason(mode: Mode, injected: str, reason: str) -> None:
    async def program(system: System, api: RunningApi) -> Any:
        accepted = await api.caller.place(x_injected_failures=injected)
        await api.ended(system, accepted.json["order_id"])
        return await api.caller.show(accepted.json["order_id"])

    order = with_api(mode, program)
    assert (order["state"], order["reason"], order["remains"]) == ("REJECTED", reason, [])


# --- keys -----------------------------------------------------------------------------------------------------------------


def test_same_key_and_order_is_the_same_order() -> None:
    async def program(system: System, api: RunningApi) -> tuple[Reply, Reply, int]:
        seen = published(system)
        first = await api.caller.place()
        await api.ended(system, first.json["order_id"])
        again = await api.caller.place()
        await system.wait_until_idle()
        return first, again, sum(item.wire.type == PlaceOrder.type_name for item in seen)

    first, again, commands = with_api(Mode.CHOREOGRAPHY, program)
    assert (again.status, again.json, again.headers["location"]) == (202, first.json, first.headers["location"])
    assert commands == 1


@pytest.mark.parametrize("other", [{**AN_ORDER, "total_cents": 1}, {**AN_ORDER, "currency": "USD"}])
def test_key_of_another_order_is_refused(other: object) -> None:
    async def program(_: System, api: RunningApi) -> Reply:
        await api.caller.place()
        return await api.caller.place(order=other)

    refused = with_api(Mode.CHOREOGRAPHY, program)
    assert (refused.status, refused.reason) == (422, "key_reused")


def test_key_in_flight_is_a_conflict_and_makes_one_order() -> None:
    async def program(_: System, api: RunningApi) -> tuple[list[Reply], Any]:
        replies = await asyncio.gather(*(api.caller.place() for _ in range(5)))
        return list(replies), (await api.caller.call("GET", "/orders")).json

    replies, known = with_api(Mode.CHOREOGRAPHY, program)
    assert [reply.status for reply in replies] == [202, 409, 409, 409, 409]
    assert {reply.reason for reply in replies[1:]} == {"claim_in_flight"}
    assert all(reply.headers["retry-after"] == "1" for reply in replies[1:])
    assert len(known["orders"]) == 1


def test_two_replicas_accept_one_order_for_one_key() -> None:
    async def program(system: System) -> tuple[list[Reply], Any]:
        async with running_api(system) as one, running_api(system) as other:
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
def test_order_without_a_valid_key_is_refused(headers: dict[str, Any], reason: str) -> None:
    async def program(_: System, api: RunningApi) -> Reply:
        return await api.caller.call("POST", "/orders", b"{}", content_type="application/json", **headers)

    refused = with_api(Mode.CHOREOGRAPHY, program)
    assert (refused.status, refused.reason) == (400, reason)


# --- invalid requests -----------------------------------------------------------------------------------------------------


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
def test_invalid_body_is_refused_as_a_problem(body: bytes, status: int, reason: str) -> None:
    async def program(_: System, api: RunningApi) -> Reply:
        return await api.caller.call("POST", "/orders", body, content_type="application/json", idempotency_key="k")

    refused = with_api(Mode.CHOREOGRAPHY, program)
    assert (refused.status, refused.reason) == (status, reason)


@pytest.mark.parametrize("failures", ["payment", "payment:declined,", "payment:declined;x:y"])
def test_malformed_injected_failures_are_refused(failures: str) -> None:
    async def program(_: System, api: RunningApi) -> Reply:
        return await api.caller.place(x_injected_failures=failures)

    refused = with_api(Mode.CHOREOGRAPHY, program)
    assert (refused.status, refused.reason) == (400, "bad_injected_failures")


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", f"/orders/{UNKNOWN_ID}", 404, "no_such_order"),
        ("GET", "/orders/1", 404, "no_such_order"),
        ("DELETE", f"/orders/{UNKNOWN_ID}", 404, "no_such_order"),
        ("GET", f"/orders/{UNKNOWN_ID}/events", 404, "no_such_order"),
        ("GET", "/orders?limit=0", 422, "bad_query"),
        ("GET", "/orders?state=LOST", 422, "bad_query"),
        ("GET", "/nothing", 404, "not_found"),
        ("PATCH", "/orders", 405, "method_not_allowed"),
    ],
)
def test_unknown_path_order_or_query_is_refused_as_a_problem(method: str, path: str, status: int, reason: str) -> None:
    async def program(_: System, api: RunningApi) -> Reply:
        return await api.caller.call(method, path)

    refused = with_api(Mode.CHOREOGRAPHY, program)
    assert (refused.status, refused.reason) == (status, reason)


# --- listing --------------------------------------------------------------------------------------------------------------


def test_orders_are_listed_newest_first_and_by_state() -> None:
    async def program(system: System, api: RunningApi) -> tuple[list[str], Any, Any]:
        ids = []
        for key, failure in (("a", "payment:slow"), ("b", "inventory:out_of_stock"), ("c", "payment:slow")):
            ids.append((await api.caller.place(key, x_injected_failures=failure)).json["order_id"])
            await api.ended(system, ids[-1])
        return (
            ids,
            (await api.caller.call("GET", "/orders")).json,
            (await api.caller.call("GET", "/orders?state=REJECTED")).json,
        )

    ids, known, rejected = with_api(Mode.CHOREOGRAPHY, program)
    assert [order["order_id"] for order in known["orders"]] == ids[::-1]
    assert [order["order_id"] for order in rejected["orders"]] == [ids[1]]


def test_order_placed_through_the_broker_is_known_from_its_events() -> None:
    async def program(system: System, api: RunningApi) -> Any:
        run = JourneyRun(system)
        order_id = await run.place({"book": 1})
        await api.ended(system, order_id)
        return await api.caller.show(order_id)

    assert with_api(Mode.ORCHESTRATOR, program)["state"] == "COMPLETED"


# --- withdrawals ----------------------------------------------------------------------------------------------------------


async def place_up_to(system: System, api: RunningApi, service: str) -> str:
    """Place an order whose next step waits for a stopped service; return its id."""
    await system.stop(service)
    order_id: str = (await api.caller.place()).json["order_id"]
    await JourneyRun(system).wait_for_queued_step(order_id, service)
    return order_id


async def wait_for_field(system: System, api: RunningApi, order_id: str, field: str) -> None:
    """Wait until a field of the order is set."""

    async def is_set() -> bool:
        return bool((await api.caller.show(order_id))[field])

    await system.wait_until(is_set, f"the API to show {field} of {order_id}")


@BOTH
def test_order_is_withdrawn_before_the_pivot(mode: Mode) -> None:
    async def program(system: System, api: RunningApi) -> tuple[Reply, Any, Any]:
        order_id = await place_up_to(system, api, "inventory")
        reply = await api.caller.call("DELETE", f"/orders/{order_id}")
        await wait_for_field(system, api, order_id, "withdrawn")
        under_way = await api.caller.show(order_id)
        await system.start("inventory")
        await api.ended(system, order_id)
        return reply, under_way, await api.caller.show(order_id)

    reply, under_way, end = with_api(mode, program)
    assert reply.status == 202
    assert (under_way["state"], under_way["withdrawal_asked"], under_way["withdrawn"]) == ("PENDING", True, "withdrawn")
    assert (end["state"], end["reason"], end["withdrawal_refused"]) == ("REJECTED", "withdrawn", None)


@BOTH
def test_withdrawal_that_is_too_late_is_shown_as_refused(mode: Mode) -> None:
    async def program(system: System, api: RunningApi) -> tuple[Reply, Any]:
        order_id = await place_up_to(system, api, "delivery")
        await system.stop("order")
        await system.start("delivery")
        await JourneyRun(system).wait_for_event(order_id, DeliveryScheduled)
        await system.wait_until(lambda: system.has_waiting_messages("order"), "the order's completion to wait")
        reply = await api.caller.call("DELETE", f"/orders/{order_id}")
        await system.start("order")
        await wait_for_field(system, api, order_id, "withdrawal_refused")
        await api.ended(system, order_id)
        return reply, await api.caller.show(order_id)

    reply, order = with_api(mode, program)
    assert reply.status == 202
    assert (order["state"], order["withdrawal_asked"], order["withdrawal_refused"]) == ("COMPLETED", True, "already_ended")


def test_ended_order_cannot_be_withdrawn() -> None:
    async def program(system: System, api: RunningApi) -> Reply:
        order_id = (await api.caller.place()).json["order_id"]
        await api.ended(system, order_id)
        return await api.caller.call("DELETE", f"/orders/{order_id}")

    refused = with_api(Mode.CHOREOGRAPHY, program)
    assert (refused.status, refused.reason) == (409, "already_ended")


def test_repeated_withdrawal_request_sends_no_second_command() -> None:
    async def program(system: System, api: RunningApi) -> tuple[list[int], int]:
        order_id = await place_up_to(system, api, "inventory")
        seen = published(system)
        replies = await asyncio.gather(*(api.caller.call("DELETE", f"/orders/{order_id}") for _ in range(3)))
        await wait_for_field(system, api, order_id, "withdrawn")
        return [reply.status for reply in replies], sum(item.wire.type == WithdrawOrder.type_name for item in seen)

    assert with_api(Mode.CHOREOGRAPHY, program) == ([202, 202, 202], 1)


@BOTH
@pytest.mark.parametrize("withdrawn", [False, True])
@pytest.mark.parametrize("service", ["inventory", "payment", "delivery"])
def test_remaining_steps_from_events_equal_those_from_the_databases(mode: Mode, service: str, withdrawn: bool) -> None:
    """The API infers from events what `saga order show` reads from the databases of all services."""

    async def program(system: System, api: RunningApi) -> tuple[list[str], list[str]]:
        order_id = await place_up_to(system, api, service)
        if withdrawn:
            if mode is Mode.CHOREOGRAPHY and service != "delivery":
                await system.stop("delivery")  # else the rollback runs on until the step that waits
            await api.caller.call("DELETE", f"/orders/{order_id}")
            await wait_for_field(system, api, order_id, "withdrawn")
        await system.wait_until(lambda: _has_received_all(system, api, order_id), "the API to receive all events")
        return (await api.caller.show(order_id))["remains"], pending_commands(mode, await system.snapshot(), order_id)

    known, stored = with_api(mode, program)
    assert known == stored


async def _has_received_all(system: System, api: RunningApi, order_id: str) -> bool:
    order = await api.orders.get(order_id)
    return order is not None and len(order.events) == sum(wire.correlation_id == order_id for wire in system.events)


def test_stuck_order_shows_the_failed_step() -> None:
    async def program(system: System, api: RunningApi) -> Any:
        order_id = (await api.caller.place(x_injected_failures="delivery:undeliverable,inventory:undo_error")).json["order_id"]
        await wait_for_field(system, api, order_id, "attention")
        return await api.caller.show(order_id)

    order = in_memory(Mode.CHOREOGRAPHY, lambda system: _with_api(system, program), unhurried)
    assert (order["state"], order["attention"]["step"]) == ("NEEDS_ATTENTION", "ReleaseStock")


def unhurried(mode: Mode) -> MemoryBackend:
    """A backend whose deadlines are later than the retry budget of a compensation."""
    return MemoryBackend(mode, timeouts=LONG_TIMEOUTS)


async def _with_api(system: System, program: Any) -> Any:
    async with running_api(system) as api:
        return await program(system, api)


# --- failures -------------------------------------------------------------------------------------------------------------


def test_order_accepted_while_the_broker_is_down_is_placed_later() -> None:
    async def program(system: System, api: RunningApi) -> tuple[Reply, Any, Any]:
        transport = api.orders.worker.transport
        assert isinstance(transport, MemoryTransport)
        transport.cut()
        accepted = await api.caller.place()
        health = (await api.caller.call("GET", "/health/ready")).json
        await asyncio.sleep(30)
        transport.restore()
        await api.ended(system, accepted.json["order_id"])
        return accepted, health, await api.caller.show(accepted.json["order_id"])

    accepted, health, order = with_api(Mode.CHOREOGRAPHY, program)
    assert accepted.status == 202
    assert health == {"status": "ready", "broker": "away"}
    assert order["state"] == "COMPLETED"


def test_restarted_api_knows_its_orders_keys_and_outbox() -> None:
    async def program(system: System) -> tuple[Reply, Reply, Any]:
        async with running_api(system) as api:
            transport = api.orders.worker.transport
            assert isinstance(transport, MemoryTransport)
            transport.cut()
            first = await api.caller.place()
        async with running_api(system) as api:
            again = await api.caller.place()
            await api.ended(system, first.json["order_id"])
            return first, again, await api.caller.show(first.json["order_id"])

    first, again, order = in_memory(Mode.CHOREOGRAPHY, program)
    assert first.json == again.json
    assert order["state"] == "COMPLETED"


def test_restarted_api_receives_the_events_that_it_missed() -> None:
    async def program(system: System) -> Any:
        await system.stop("inventory")
        async with running_api(system) as api:
            order_id = (await api.caller.place()).json["order_id"]
            await JourneyRun(system).wait_for_queued_step(order_id, "inventory")
        await system.start("inventory")
        await JourneyRun(system).wait_for_end(order_id)
        async with running_api(system) as api:
            await api.ended(system, order_id)
            return await api.caller.show(order_id)

    assert in_memory(Mode.CHOREOGRAPHY, program)["state"] == "COMPLETED"


class BrokenStore:
    """A store whose next `times` transactions fail; `in_doubt`: after they were committed."""

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
        raise StoreUnavailable("it is down")


@pytest.mark.parametrize("in_doubt", [False, True])
def test_commit_that_fails_or_is_in_doubt_makes_one_order(in_doubt: bool) -> None:
    async def program(system: System, api: RunningApi) -> tuple[Reply, Any]:
        api.orders.worker.store = BrokenStore(api.orders.worker.store, times=3, in_doubt=in_doubt)
        accepted = await api.caller.place()
        await api.ended(system, accepted.json["order_id"])
        return accepted, (await api.caller.call("GET", "/orders")).json

    accepted, known = with_api(Mode.CHOREOGRAPHY, program)
    assert accepted.status == 202
    assert [order["order_id"] for order in known["orders"]] == [accepted.json["order_id"]]


def test_request_in_doubt_is_settled_later_by_the_same_key() -> None:
    async def program(system: System, api: RunningApi) -> tuple[list[Reply], Any]:
        broken = BrokenStore(api.orders.worker.store, times=1_000_000, in_doubt=False)
        api.orders.worker.store = broken
        replies = [await api.caller.place(), await api.caller.place()]
        replies += [await api.caller.call("GET", path) for path in (f"/orders/{UNKNOWN_ID}", "/health/ready", "/health/live")]
        broken.times = 0
        await system.wait_until(lambda: not api.orders._keys_in_flight, "the request to be settled")
        replies.append(await api.caller.place())
        await api.ended(system, replies[-1].json["order_id"])
        return replies, (await api.caller.call("GET", "/orders")).json

    replies, known = with_api(Mode.CHOREOGRAPHY, program)
    assert [reply.status for reply in replies] == [503, 409, 503, 503, 200, 202]
    assert [reply.reason for reply in replies[:4]] == ["not_known_yet", "claim_in_flight", "store_unavailable", "not_ready"]
    assert all("retry-after" in reply.headers for reply in replies[:4])
    assert len(known["orders"]) == 1


def test_requests_waiting_for_an_unavailable_database_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.orders.PENDING_MAX", 3)

    async def program(system: System, api: RunningApi) -> list[Reply]:
        broken = BrokenStore(api.orders.worker.store, times=1_000_000, in_doubt=False)
        api.orders.worker.store = broken
        replies = await asyncio.gather(*(api.caller.place(f"key-{number}") for number in range(5)))
        broken.times = 0
        await system.wait_until_idle()
        return list(replies)

    replies = with_api(Mode.CHOREOGRAPHY, program)
    assert sorted(reply.reason for reply in replies) == ["busy", "busy", "not_known_yet", "not_known_yet", "not_known_yet"]
    assert all(reply.status == 503 and reply.headers["retry-after"] == "1" for reply in replies)
