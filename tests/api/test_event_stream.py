"""Event streams: every event, in one sequence, resumed where the client stopped."""

import asyncio
from typing import Any

import pytest

from api.documents import (
    ORDER_EVENTS_MAX,
    PAGE_SIZE,
    PAGES_MAX,
    ApiOrder,
    EventPage,
    RecordedEvent,
    oldest_kept,
    page_of,
)
from api.sample_orders import sample_order
from bootstrap.modes import Mode
from broker.message import Event
from lab.journeys.run import JourneyRun
from lab.system import System
from services.delivery.messages import DeliveryCancelled
from services.inventory.messages import StockReleased
from services.order.messages import OrderPlaced, OrderWithdrawn
from services.payment.messages import PaymentStepFailed, PaymentVoided
from services.vocabulary import Line, ObservedState, Reason
from tests.support.api.asgi_client import AN_ORDER, Reply
from tests.support.api.http_api import HAPPY_EVENTS, RunningApi, running_api, with_api
from tests.support.system import MODES, in_memory


async def place_and_wait(system: System, api: RunningApi, key: str = "k") -> str:
    order_id: str = (await api.caller.place(key)).json["order_id"]
    await api.ended(system, order_id)
    return order_id


@pytest.mark.parametrize("mode", MODES)
def test_events_of_an_order_are_streamed_as_they_happen(mode: Mode) -> None:
    async def program(system: System, api: RunningApi) -> list[dict[str, Any]]:
        await system.stop("payment")
        order_id = (await api.caller.place()).json["order_id"]
        async with api.caller.following(f"/orders/{order_id}/events") as stream:
            seen = [await stream.next() for _ in range(2)]
            await system.start("payment")
            return seen + [await stream.next() for _ in range(3)]

    events = with_api(mode, program)
    assert [event["event"] for event in events] == HAPPY_EVENTS
    assert [event["id"] for event in events] == [1, 2, 3, 4, 5]
    assert all("details" not in event["data"]["facts"] for event in events)


def test_event_of_a_refusal_has_its_reason() -> None:
    async def program(system: System, api: RunningApi) -> dict[str, Any]:
        order_id = (await api.caller.place(x_injected_failures="inventory:out_of_stock")).json["order_id"]
        await api.ended(system, order_id)
        async with api.caller.following(f"/orders/{order_id}/events", last_event_id="1") as stream:
            return await stream.next()

    event = with_api(Mode.CHOREOGRAPHY, program)
    assert (event["event"], event["data"]["facts"]) == ("inventory.StockRejected", {"reason": "out_of_stock"})


def test_streams_of_all_orders_and_of_one_order_get_their_events() -> None:
    async def program(system: System, api: RunningApi) -> tuple[str, list[Any]]:
        first = await place_and_wait(system, api, "before")
        async with (
            api.caller.following(f"/orders/{first}/events", last_event_id="5") as own,
            api.caller.following("/events") as all_,
        ):
            await asyncio.sleep(1)
            second = await place_and_wait(system, api, "after")
            seen = [await all_.next() for _ in range(5)]
            with pytest.raises(TimeoutError):
                await own.next()
            return second, seen

    second, seen = with_api(Mode.CHOREOGRAPHY, program)
    assert {event["data"]["order_id"] for event in seen} == {second}
    assert [event["id"] for event in seen] == [6, 7, 8, 9, 10]


@pytest.mark.parametrize("path", ["/events", "/orders/{}/events"])
def test_reconnected_client_misses_nothing_even_after_a_restart(path: str) -> None:
    async def program(system: System) -> list[dict[str, Any]]:
        await system.stop("payment")
        async with running_api(system) as api:
            order_id = (await api.caller.place()).json["order_id"]
            async with api.caller.following(path.format(order_id), last_event_id="0") as stream:
                seen = [await stream.next()]
        await system.start("payment")
        await system.wait_until_idle()
        async with (
            running_api(system) as api,
            api.caller.following(path.format(order_id), last_event_id=str(seen[-1]["id"])) as stream,
        ):
            return seen + [await stream.next() for _ in range(4)]

    events = in_memory(Mode.CHOREOGRAPHY, program)
    assert [event["event"] for event in events] == HAPPY_EVENTS
    assert [event["id"] for event in events] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("path", ["/events", "/orders/{}/events"])
@pytest.mark.parametrize(
    ("last", "status", "reason"),
    [("6", 404, "unknown_event_id"), ("-1", 400, "bad_event_id"), ("five", 400, "bad_event_id"), ("9" * 20, 400, "bad_event_id")],
)
def test_invalid_or_unknown_event_id_is_refused(path: str, last: str, status: int, reason: str) -> None:
    async def program(system: System, api: RunningApi) -> Reply:
        order_id = await place_and_wait(system, api)
        return await api.caller.call("GET", path.format(order_id), last_event_id=last)

    refused = with_api(Mode.CHOREOGRAPHY, program)
    assert (refused.status, refused.reason) == (status, reason)


@pytest.mark.parametrize("path", ["/events", "/orders/{}/events"])
def test_event_id_whose_successors_are_not_kept_is_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PAGE_SIZE", 8), ("PAGES_MAX", 2), ("ORDER_EVENTS_MAX", 3)):
        monkeypatch.setattr(f"api.documents.{name}", value)
    monkeypatch.setattr("api.handlers.PAGE_SIZE", 8)
    monkeypatch.setattr("api.orders.PAGE_SIZE", 8)

    async def program(system: System, api: RunningApi) -> tuple[Reply, list[int]]:
        order_ids = [await place_and_wait(system, api, f"key-{number}") for number in range(5)]  # 25 events; 17 to 25 are kept
        refused = await api.caller.call("GET", path.format(order_ids[0]), last_event_id="1")
        last = "16" if path == "/events" else "22"
        async with api.caller.following(path.format(order_ids[-1]), last_event_id=last) as stream:
            return refused, [(await stream.next())["id"] for _ in range(9 if path == "/events" else 3)]

    refused, followed = with_api(Mode.CHOREOGRAPHY, program)
    assert (refused.status, refused.reason) == (410, "event_id_too_old")
    assert followed == (list(range(17, 26)) if path == "/events" else [23, 24, 25])


def test_stream_ends_after_its_maximum_and_at_shutdown() -> None:
    async def program(system: System) -> None:
        async with running_api(system, stream_s=3.0) as api:
            async with asyncio.timeout(4):
                assert (await api.caller.call("GET", "/events")).status == 200
        async with running_api(system) as api:
            api.event_streams.stop()
            async with asyncio.timeout(1):
                assert (await api.caller.call("GET", "/events")).status == 200

    in_memory(Mode.CHOREOGRAPHY, program)


def test_events_of_many_orders_are_numbered_without_a_gap() -> None:
    async def program(system: System, api: RunningApi) -> list[int]:
        orders = [{**AN_ORDER, "lines": [{"sku": "book", "quantity": 1}]}] * 120
        replies = await asyncio.gather(*(api.caller.place(f"key-{number}", order) for number, order in enumerate(orders)))
        for reply in replies:
            await api.ended(system, reply.json["order_id"])
        count = len(system.events)
        assert count > PAGE_SIZE
        async with api.caller.following("/events", last_event_id="0") as stream:
            return [(await stream.next())["id"] - number for number in range(count)]

    assert set(with_api(Mode.CHOREOGRAPHY, program)) == {1}


def test_pages_are_reused_in_order() -> None:
    assert [page_of(number).page_id for number in (1, PAGE_SIZE, PAGE_SIZE + 1)] == ["000", "000", "001"]
    assert page_of(PAGE_SIZE * PAGES_MAX + 1).page_id == "000"
    assert oldest_kept(0) == oldest_kept(PAGE_SIZE * PAGES_MAX) == 1
    assert oldest_kept(PAGE_SIZE * PAGES_MAX + 1) == PAGE_SIZE + 1


def test_order_keeps_its_newest_events() -> None:
    details = sample_order([Line(sku="book", quantity=1)])
    event = OrderPlaced(order_id="019b0000-0000-7000-8000-000000000001", details=details)
    order = ApiOrder(order_id=event.order_id, state=ObservedState.ACCEPTED, accepted_at=0.0)
    for number in range(1, ORDER_EVENTS_MAX + 11):
        order = order.with_event(event, RecordedEvent.of(event, number, 0.0))
    assert (order.forgotten, order.events[0].number, len(order.events)) == (10, 11, ORDER_EVENTS_MAX)


@pytest.mark.parametrize("mode", MODES)
def test_stream_under_load_has_every_event(mode: Mode) -> None:
    async def program(system: System, api: RunningApi) -> tuple[list[int], int]:
        async with (
            api.caller.following("/events", last_event_id="0") as stream,
            api.caller.following("/events", last_event_id="0"),
        ):
            placing = [asyncio.create_task(api.caller.place(f"key-{number}")) for number in range(80)]
            await asyncio.gather(*placing)
            await system.wait_until_idle()
            count = len(system.events)
            return [(await stream.next())["id"] for _ in range(count)], count

    numbers, count = with_api(mode, program)
    assert numbers == list(range(1, count + 1))


def test_stream_that_begins_right_after_an_event_is_not_refused() -> None:
    async def program(system: System, api: RunningApi) -> list[str]:
        await system.stop("payment")
        order_id = (await api.caller.place()).json["order_id"]
        await JourneyRun(system).wait_for_queued_step(order_id, "payment")
        await asyncio.sleep(1)
        # The last query was a moment ago, before the events of the order arrived.
        api.event_streams._refreshed_at, api.event_streams._number = asyncio.get_running_loop().time(), 0
        async with api.caller.following(f"/orders/{order_id}/events") as stream:
            seen = [(await stream.next())["event"] for _ in range(2)]
            await system.start("payment")
            return seen + [(await stream.next())["event"] for _ in range(3)]

    assert with_api(Mode.CHOREOGRAPHY, program) == HAPPY_EVENTS


def test_page_newer_than_the_counter_does_not_end_a_stream() -> None:
    async def program(system: System, api: RunningApi) -> list[int]:
        await place_and_wait(system, api, "before")
        await api.event_streams._refresh()
        load = api.orders.load

        async def load_later(keys: Any) -> Any:
            if any(collection == EventPage.collection for collection, _ in keys):
                api.orders.load = load  # type: ignore[method-assign]
                await place_and_wait(system, api, "meanwhile")
            return await load(keys)

        api.orders.load = load_later  # type: ignore[method-assign]
        async with api.caller.following("/events", last_event_id="0") as stream:
            numbers = [(await stream.next())["id"] for _ in range(10)]
            await place_and_wait(system, api, "after")
            return numbers + [(await stream.next())["id"] for _ in range(5)]

    assert with_api(Mode.CHOREOGRAPHY, program) == list(range(1, 16))


def test_order_needs_attention_until_its_failed_service_moves_it() -> None:
    """Its withdrawal is published again at every deadline, and other services answer it again."""
    order_id = "019b0000-0000-7000-8000-000000000001"
    order = ApiOrder(order_id=order_id, state=ObservedState.PENDING, accepted_at=0.0)
    events: list[tuple[Event, ObservedState]] = [
        (PaymentStepFailed(order_id=order_id, step="VoidPayment", error="no"), ObservedState.NEEDS_ATTENTION),
        (OrderWithdrawn(order_id=order_id, reason=Reason.DEADLINE), ObservedState.NEEDS_ATTENTION),
        (DeliveryCancelled(order_id=order_id, reason=Reason.DEADLINE), ObservedState.NEEDS_ATTENTION),
        (PaymentVoided(order_id=order_id, reason=Reason.DEADLINE), ObservedState.PENDING),
        (StockReleased(order_id=order_id, reason=Reason.DEADLINE), ObservedState.PENDING),
    ]
    for number, (event, state) in enumerate(events, start=1):
        order = order.with_event(event, RecordedEvent.of(event, number, float(number)))
        assert order.state is state, event
    assert (order.attention, order.withdrawn) == (None, Reason.DEADLINE)
