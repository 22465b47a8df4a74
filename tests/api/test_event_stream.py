"""Following events at the door: all that is heard, in one order, resumed where it was left."""

import asyncio
from typing import Any

import pytest

from api.documents import (
    ORDER_EVENTS_MAX,
    PAGE_SIZE,
    PAGES_MAX,
    ApiOrder,
    ApiOrderState,
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
from services.vocabulary import Line, Reason
from tests.support.api.asgi_client import AN_ORDER, Reply
from tests.support.api.http_api import HAPPY_EVENTS, Door, a_door, at_a_door
from tests.support.system import MODES, in_memory


async def place_to_its_end(system: System, door: Door, key: str = "k") -> str:
    order_id: str = (await door.caller.place(key)).json["order_id"]
    await door.ended(system, order_id)
    return order_id


@pytest.mark.parametrize("mode", MODES)
def test_the_events_of_an_order_come_as_they_happen(mode: Mode) -> None:
    async def program(system: System, door: Door) -> list[dict[str, Any]]:
        await system.stop("payment")
        order_id = (await door.caller.place()).json["order_id"]
        async with door.caller.following(f"/orders/{order_id}/events") as stream:
            seen = [await stream.next() for _ in range(2)]
            await system.start("payment")
            return seen + [await stream.next() for _ in range(3)]

    events = at_a_door(mode, program)
    assert [event["event"] for event in events] == HAPPY_EVENTS
    assert [event["id"] for event in events] == [1, 2, 3, 4, 5]
    assert all("details" not in event["data"]["facts"] for event in events)


def test_a_refusal_tells_its_reason() -> None:
    async def program(system: System, door: Door) -> dict[str, Any]:
        order_id = (await door.caller.place(x_injected_failures="inventory:out_of_stock")).json["order_id"]
        await door.ended(system, order_id)
        async with door.caller.following(f"/orders/{order_id}/events", last_event_id="1") as stream:
            return await stream.next()

    event = at_a_door(Mode.CHOREOGRAPHY, program)
    assert (event["event"], event["data"]["facts"]) == ("inventory.StockRejected", {"reason": "out_of_stock"})


def test_a_follower_of_all_hears_from_now_on_and_a_follower_of_one_only_its_own() -> None:
    async def program(system: System, door: Door) -> tuple[str, list[Any]]:
        first = await place_to_its_end(system, door, "before")
        async with (
            door.caller.following(f"/orders/{first}/events", last_event_id="5") as own,
            door.caller.following("/events") as all_,
        ):
            await asyncio.sleep(1)
            second = await place_to_its_end(system, door, "after")
            seen = [await all_.next() for _ in range(5)]
            with pytest.raises(TimeoutError):
                await own.next()
            return second, seen

    second, seen = at_a_door(Mode.CHOREOGRAPHY, program)
    assert {event["data"]["order_id"] for event in seen} == {second}
    assert [event["id"] for event in seen] == [6, 7, 8, 9, 10]


@pytest.mark.parametrize("path", ["/events", "/orders/{}/events"])
def test_a_follower_who_comes_again_misses_nothing_even_after_a_restart_of_the_door(path: str) -> None:
    async def program(system: System) -> list[dict[str, Any]]:
        await system.stop("payment")
        async with a_door(system) as door:
            order_id = (await door.caller.place()).json["order_id"]
            async with door.caller.following(path.format(order_id), last_event_id="0") as stream:
                seen = [await stream.next()]
        await system.start("payment")
        await system.wait_until_idle()
        async with (
            a_door(system) as door,
            door.caller.following(path.format(order_id), last_event_id=str(seen[-1]["id"])) as stream,
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
def test_an_event_that_was_never_heard_cannot_be_followed(path: str, last: str, status: int, reason: str) -> None:
    async def program(system: System, door: Door) -> Reply:
        order_id = await place_to_its_end(system, door)
        return await door.caller.call("GET", path.format(order_id), last_event_id=last)

    refused = at_a_door(Mode.CHOREOGRAPHY, program)
    assert (refused.status, refused.reason) == (status, reason)


@pytest.mark.parametrize("path", ["/events", "/orders/{}/events"])
def test_an_event_whose_successors_are_forgotten_is_told_so(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PAGE_SIZE", 8), ("PAGES_MAX", 2), ("ORDER_EVENTS_MAX", 3)):
        monkeypatch.setattr(f"api.documents.{name}", value)
    monkeypatch.setattr("api.handlers.PAGE_SIZE", 8)
    monkeypatch.setattr("api.orders.PAGE_SIZE", 8)

    async def program(system: System, door: Door) -> tuple[Reply, list[int]]:
        order_ids = [await place_to_its_end(system, door, f"key-{number}") for number in range(5)]  # 25 events; 17 to 25 are kept
        refused = await door.caller.call("GET", path.format(order_ids[0]), last_event_id="1")
        last = "16" if path == "/events" else "22"
        async with door.caller.following(path.format(order_ids[-1]), last_event_id=last) as stream:
            return refused, [(await stream.next())["id"] for _ in range(9 if path == "/events" else 3)]

    refused, followed = at_a_door(Mode.CHOREOGRAPHY, program)
    assert (refused.status, refused.reason) == (410, "event_id_too_old")
    assert followed == (list(range(17, 26)) if path == "/events" else [23, 24, 25])


def test_a_stream_ends_after_a_while_and_when_the_door_stops() -> None:
    async def program(system: System) -> None:
        async with a_door(system, stream_s=3.0) as door:
            async with asyncio.timeout(4):
                assert (await door.caller.call("GET", "/events")).status == 200
        async with a_door(system) as door:
            door.following.stop()
            async with asyncio.timeout(1):
                assert (await door.caller.call("GET", "/events")).status == 200

    in_memory(Mode.CHOREOGRAPHY, program)


def test_many_orders_at_once_are_numbered_without_a_gap() -> None:
    async def program(system: System, door: Door) -> list[int]:
        orders = [{**AN_ORDER, "lines": [{"sku": "book", "quantity": 1}]}] * 120
        replies = await asyncio.gather(*(door.caller.place(f"key-{number}", order) for number, order in enumerate(orders)))
        for reply in replies:
            await door.ended(system, reply.json["order_id"])
        count = len(system.events)
        assert count > PAGE_SIZE
        async with door.caller.following("/events", last_event_id="0") as stream:
            return [(await stream.next())["id"] - number for number in range(count)]

    assert set(at_a_door(Mode.CHOREOGRAPHY, program)) == {1}


def test_pages_follow_each_other_and_come_round() -> None:
    assert [page_of(number).page_id for number in (1, PAGE_SIZE, PAGE_SIZE + 1)] == ["000", "000", "001"]
    assert page_of(PAGE_SIZE * PAGES_MAX + 1).page_id == "000"
    assert oldest_kept(0) == oldest_kept(PAGE_SIZE * PAGES_MAX) == 1
    assert oldest_kept(PAGE_SIZE * PAGES_MAX + 1) == PAGE_SIZE + 1


def test_an_order_keeps_its_newest_events() -> None:
    details = sample_order([Line(sku="book", quantity=1)])
    event = OrderPlaced(order_id="019b0000-0000-7000-8000-000000000001", details=details)
    order = ApiOrder(order_id=event.order_id, state=ApiOrderState.ACCEPTED, accepted_at=0.0)
    for number in range(1, ORDER_EVENTS_MAX + 11):
        order = order.with_event(event, RecordedEvent.of(event, number, 0.0))
    assert (order.forgotten, order.events[0].number, len(order.events)) == (10, 11, ORDER_EVENTS_MAX)


@pytest.mark.parametrize("mode", MODES)
def test_who_follows_while_much_happens_hears_all_of_it_in_one_stream(mode: Mode) -> None:
    async def program(system: System, door: Door) -> tuple[list[int], int]:
        async with (
            door.caller.following("/events", last_event_id="0") as stream,
            door.caller.following("/events", last_event_id="0"),
        ):
            placing = [asyncio.create_task(door.caller.place(f"key-{number}")) for number in range(80)]
            await asyncio.gather(*placing)
            await system.wait_until_idle()
            count = len(system.events)
            return [(await stream.next())["id"] for _ in range(count)], count

    numbers, count = at_a_door(mode, program)
    assert numbers == list(range(1, count + 1))


def test_who_begins_to_follow_an_order_right_after_an_event_is_not_sent_away() -> None:
    async def program(system: System, door: Door) -> list[str]:
        await system.stop("payment")
        order_id = (await door.caller.place()).json["order_id"]
        await JourneyRun(system).wait_for_queued_step(order_id, "payment")
        await asyncio.sleep(1)
        # The last look was taken a moment ago, before the order was heard of.
        door.following._refreshed_at, door.following._number = asyncio.get_running_loop().time(), 0
        async with door.caller.following(f"/orders/{order_id}/events") as stream:
            seen = [(await stream.next())["event"] for _ in range(2)]
            await system.start("payment")
            return seen + [(await stream.next())["event"] for _ in range(3)]

    assert at_a_door(Mode.CHOREOGRAPHY, program) == HAPPY_EVENTS


def test_a_look_that_is_older_than_a_page_does_not_end_a_stream() -> None:
    async def program(system: System, door: Door) -> list[int]:
        await place_to_its_end(system, door, "before")
        await door.following._refresh()
        load = door.orders.load

        async def load_later(keys: Any) -> Any:
            if any(collection == EventPage.collection for collection, _ in keys):
                door.orders.load = load  # type: ignore[method-assign]
                await place_to_its_end(system, door, "meanwhile")
            return await load(keys)

        door.orders.load = load_later  # type: ignore[method-assign]
        async with door.caller.following("/events", last_event_id="0") as stream:
            numbers = [(await stream.next())["id"] for _ in range(10)]
            await place_to_its_end(system, door, "after")
            return numbers + [(await stream.next())["id"] for _ in range(5)]

    assert at_a_door(Mode.CHOREOGRAPHY, program) == list(range(1, 16))


def test_an_order_that_needs_attention_does_until_whoever_called_says_something_else() -> None:
    """Its withdrawal is said again at every deadline, and others answer that again."""
    order_id = "019b0000-0000-7000-8000-000000000001"
    order = ApiOrder(order_id=order_id, state=ApiOrderState.PENDING, accepted_at=0.0)
    told: list[tuple[Event, ApiOrderState]] = [
        (PaymentStepFailed(order_id=order_id, step="VoidPayment", error="no"), ApiOrderState.NEEDS_ATTENTION),
        (OrderWithdrawn(order_id=order_id, reason=Reason.DEADLINE), ApiOrderState.NEEDS_ATTENTION),
        (DeliveryCancelled(order_id=order_id, reason=Reason.DEADLINE), ApiOrderState.NEEDS_ATTENTION),
        (PaymentVoided(order_id=order_id, reason=Reason.DEADLINE), ApiOrderState.PENDING),
        (StockReleased(order_id=order_id, reason=Reason.DEADLINE), ApiOrderState.PENDING),
    ]
    for number, (event, state) in enumerate(told, start=1):
        order = order.with_event(event, RecordedEvent.of(event, number, float(number)))
        assert order.state is state, event
    assert (order.attention, order.withdrawn) == (None, Reason.DEADLINE)
