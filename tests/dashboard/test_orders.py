"""Orders from the page: the same in both modes, with injected failures, and refused if invalid."""

import json
from collections import Counter
from typing import Any

import pytest

from dashboard.fault_menu import CUSTOMER_WITHDRAWS, FAULT_MENU
from dashboard.lanes.demo import ORDERS_MAX
from tests.support.api.asgi_client import Reply
from tests.support.dashboard import AN_ORDER, MODES, Page, run_with_page

UNUSED_ID = "019b0000-0000-7000-8000-000000000001"

#: How an order with each failure ends, in both modes.
ENDS = {
    "inventory:out_of_stock": ("REJECTED", "out_of_stock"),
    "payment:declined": ("REJECTED", "payment_declined"),
    "payment:hang": ("REJECTED", "payment_timeout"),
    "payment:drop": ("REJECTED", "payment_timeout"),
    "payment:pending": ("COMPLETED", None),
    "delivery:undeliverable": ("REJECTED", "undeliverable"),
    "inventory:slow": ("COMPLETED", None),
    "payment:crash": ("COMPLETED", None),
    "inventory:duplicate": ("COMPLETED", None),
    "inventory:error": ("REJECTED", "deadline"),
    "delivery:undeliverable,payment:void_error": ("NEEDS_ATTENTION", None),
    "payment:declined,inventory:undo_error": ("NEEDS_ATTENTION", None),
    CUSTOMER_WITHDRAWS: ("REJECTED", "withdrawn"),
}


def test_order_is_placed_in_each_lane_under_one_id() -> None:
    async def program(page: Page) -> tuple[list[Any], list[Any]]:
        placed = await page.place()
        return placed, await page.at_rest(placed)

    placed, shown = run_with_page(program)
    assert [order["mode"] for order in placed] == list(MODES)
    assert len({order["order_id"] for order in placed}) == 1
    for one in shown:
        assert (one["state"], one["wanted"], one["stuck"]) == ("COMPLETED", "book x2", False)
        assert [message["number"] for message in one["messages"]] == [entry["number"] for entry in one["entries"]]
        first = one["messages"][0]
        assert (first["type"], first["properties"]["app_id"], first["headers"]["version"]) == ("order.PlaceOrder", "api", 1)
        assert first["properties"]["message_id"] == one["entries"][0]["message_id"]
        assert first["body"]["details"]["lines"] == AN_ORDER["lines"]
        assert not any(message["cut"] for message in one["messages"])


def test_order_can_be_placed_in_one_lane_only() -> None:
    async def program(page: Page) -> tuple[list[Any], int]:
        placed = await page.place(modes=["choreography"])
        await page.at_rest(placed)
        elsewhere = await page.caller.call("GET", f"/watch/orders/orchestrator/{placed[0]['order_id']}")
        return placed, elsewhere.status

    placed, elsewhere = run_with_page(program)
    assert [order["mode"] for order in placed] == ["choreography"]
    assert elsewhere == 404


@pytest.mark.parametrize("name", [failure.name for failure in FAULT_MENU])
def test_each_offered_failure_ends_as_described_in_both_modes(name: str) -> None:
    async def program(page: Page) -> list[Any]:
        return await page.at_rest(await page.place(name))

    for order in run_with_page(program):
        state, reason = ENDS[name]
        assert order["state"] == state, order["why"]
        assert reason is None or order["reason"] == reason


def test_markup_in_a_name_stays_data() -> None:
    name = "<script>alert(1)</script>"

    async def program(page: Page) -> Reply:
        (order, _) = await page.place(customer=name)
        await page.at_rest([order])
        return await page.caller.call("GET", f"/watch/orders/{order['mode']}/{order['order_id']}")

    reply = run_with_page(program)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.json["messages"][0]["body"]["details"]["address"]["name"] == name


def test_generated_orders_repeat_by_seed_and_are_equal_in_both_lanes() -> None:
    async def program(page: Page) -> list[list[Any]]:
        rates = ("payment:declined=30%", "inventory:out_of_stock=20%")
        return [await page.at_rest(await page.place(*rates, count=40, seed=seed, lines=[])) for seed in (7, 7, 1, None)]

    def brief(orders: list[Any], mode: str) -> list[tuple[Any, ...]]:
        return [(one["wanted"], one["injected"], one["state"], one["reason"]) for one in orders if one["mode"] == mode]

    first, again, other, default_seed = run_with_page(program)
    orchestrated = brief(first, "orchestrator")
    assert len(orchestrated) == 40
    assert orchestrated == brief(first, "choreography") == brief(again, "orchestrator")
    assert orchestrated != brief(other, "orchestrator") == brief(default_seed, "orchestrator")
    ends = Counter(reason for *_, reason in orchestrated)
    assert ends[None] > ends["payment_declined"] > 0
    assert ends["out_of_stock"] > 0


def test_a_share_of_customers_can_withdraw() -> None:
    async def program(page: Page) -> list[Any]:
        return await page.at_rest(await page.place(f"{CUSTOMER_WITHDRAWS}=50%", count=20, seed=3))

    ends = Counter((one["mode"], one["state"], one["reason"]) for one in run_with_page(program))
    for mode in MODES:
        assert ends[mode, "REJECTED", "withdrawn"] > 0
        assert ends[mode, "COMPLETED", None] > 0


def test_open_order_can_be_withdrawn() -> None:
    async def program(page: Page) -> tuple[int, list[Any]]:
        placed = await page.place("payment:pending")
        for order in placed:
            reply = await page.post(f"/watch/orders/{order['mode']}/{order['order_id']}/withdraw")
        return reply.status, await page.at_rest(placed)

    status, shown = run_with_page(program)
    assert status == 202
    assert [(one["state"], one["reason"]) for one in shown] == [("REJECTED", "withdrawn")] * 2


def test_orders_are_listed_newest_first_up_to_the_limit() -> None:
    async def program(page: Page) -> tuple[list[str], list[str]]:
        placed = []
        for _ in range(5):
            placed.append((await page.place(modes=["orchestrator"]))[0]["order_id"])
            await page.at_rest([{"mode": "orchestrator", "order_id": placed[-1]}])
        shown = await page.get("/watch/orders?mode=orchestrator&limit=3")
        return placed, [one["order_id"] for one in shown["orders"]]

    placed, shown = run_with_page(program)
    assert shown == placed[:1:-1]


# --- refusals -------------------------------------------------------------------------------------------------------------


LINE = {"sku": "book", "quantity": 1}

#: A body of POST /watch/orders -> why it is refused.
INVALID_BODIES: list[tuple[object, int, str]] = [
    ({}, 422, "wrong_schema"),
    ([], 422, "wrong_schema"),
    ({**AN_ORDER, "lines": []}, 422, "wrong_schema"),
    ({**AN_ORDER, "lines": [{"sku": "<b>", "quantity": 1}]}, 422, "wrong_schema"),
    ({**AN_ORDER, "lines": [{"sku": "book", "quantity": 0}]}, 422, "wrong_schema"),
    ({**AN_ORDER, "lines": [{"sku": "book", "quantity": "1"}]}, 422, "wrong_schema"),
    ({**AN_ORDER, "lines": [LINE] * 51}, 422, "wrong_schema"),
    ({**AN_ORDER, "customer": ""}, 422, "wrong_schema"),
    ({**AN_ORDER, "customer": "x" * 201}, 422, "wrong_schema"),
    ({**AN_ORDER, "customer": "a\nb"}, 422, "wrong_schema"),
    ({**AN_ORDER, "customer": "\ud800"}, 422, "wrong_schema"),
    ({**AN_ORDER, "failures": ["payment:sings"]}, 422, "no_such_failure"),
    ({**AN_ORDER, "failures": ["unknown:declined"]}, 422, "no_such_failure"),
    ({**AN_ORDER, "failures": ["customer:sings"]}, 422, "no_such_failure"),
    ({**AN_ORDER, "failures": ["order:undo_error"]}, 422, "no_such_failure"),
    ({**AN_ORDER, "failures": ["payment:declined", "payment:hang"]}, 422, "no_such_failure"),
    ({**AN_ORDER, "failures": ["payment:declined=200%"]}, 422, "no_such_failure"),
    ({**AN_ORDER, "failures": ["payment:declined=1.2.3%"]}, 422, "no_such_failure"),
    ({**AN_ORDER, "failures": ["payment:declined=30"]}, 422, "wrong_schema"),
    ({**AN_ORDER, "failures": ["<script>"]}, 422, "wrong_schema"),
    ({**AN_ORDER, "failures": "payment:declined"}, 422, "wrong_schema"),
    ({**AN_ORDER, "modes": []}, 422, "wrong_schema"),
    ({**AN_ORDER, "modes": ["anarchy"]}, 422, "wrong_schema"),
    ({**AN_ORDER, "count": 0}, 422, "wrong_schema"),
    ({**AN_ORDER, "count": 501}, 422, "wrong_schema"),
    ({**AN_ORDER, "count": 1e300}, 422, "wrong_schema"),
    ({**AN_ORDER, "seed": -1}, 422, "wrong_schema"),
    ({**AN_ORDER, "seed": 2**53 + 1}, 422, "wrong_schema"),
    ({**AN_ORDER, "price": 1}, 422, "wrong_schema"),
]


def test_invalid_order_request_is_refused_and_places_nothing() -> None:
    async def program(page: Page) -> tuple[list[tuple[int, str]], list[Any]]:
        replies = [await page.post("/watch/orders", body) for body, _, _ in INVALID_BODIES]
        return [(reply.status, reply.reason) for reply in replies], [lane._placed for lane in page.lanes.values()]

    refused, placed = run_with_page(program)
    assert refused == [(status, reason) for _, status, reason in INVALID_BODIES]
    assert placed == [{}, {}]


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/watch/orders?mode=anarchy", 404, "no_such_lane"),
        ("GET", "/watch/orders", 422, "bad_query"),
        ("GET", "/watch/orders?mode=orchestrator&limit=0", 422, "bad_query"),
        ("GET", "/watch/orders?mode=orchestrator&limit=201", 422, "bad_query"),
        ("GET", f"/watch/orders/anarchy/{UNUSED_ID}", 404, "no_such_lane"),
        ("GET", f"/watch/orders/orchestrator/{UNUSED_ID}", 404, "no_such_order"),
        ("GET", "/watch/orders/orchestrator/..%2f", 404, "no_such_order"),
        ("POST", f"/watch/orders/anarchy/{UNUSED_ID}/withdraw", 404, "no_such_lane"),
        ("POST", f"/watch/orders/orchestrator/{UNUSED_ID}/withdraw", 404, "no_such_order"),
        ("POST", "/watch/orders/orchestrator/x/withdraw", 404, "no_such_order"),
        ("POST", "/watch/workers/anarchy/order/kill", 404, "no_such_lane"),
        ("POST", "/watch/workers/orchestrator/observer/kill", 404, "no_such_worker"),
        ("POST", "/watch/workers/choreography/coordinator/kill", 404, "no_such_worker"),
        ("POST", "/watch/workers/choreography/unknown/revive", 404, "no_such_worker"),
        ("POST", "/watch/lanes", 405, "method_not_allowed"),
        ("GET", "/watch/workers/orchestrator/order/kill", 405, "method_not_allowed"),
        ("GET", "/watch", 404, "not_found"),
    ],
)
def test_unknown_resource_is_a_problem_with_a_reason(method: str, path: str, status: int, reason: str) -> None:
    async def program(page: Page) -> Reply:
        return await page.caller.call(method, path, b"", x_saga="page")

    reply = run_with_page(program)
    assert (reply.status, reply.reason) == (status, reason)


def test_body_that_is_no_json_or_too_long_is_refused() -> None:
    async def program(page: Page) -> list[Reply]:
        headers = {"content_type": "application/json", "x_saga": "page"}
        return [
            await page.caller.call("POST", "/watch/orders", b"{", **headers),
            await page.caller.call("POST", "/watch/orders", b"\xff", **headers),
            await page.caller.call("POST", "/watch/orders", b" " * 70_000, **headers),
            await page.caller.call(
                "POST", "/watch/orders", json.dumps(AN_ORDER).encode(), content_type="text/plain", x_saga="page"
            ),
        ]

    replies = run_with_page(program)
    assert [(reply.status, reply.reason) for reply in replies] == [
        (400, "not_json"),
        (400, "not_json"),
        (413, "too_large"),
        (422, "wrong_schema"),
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/watch/orders",
        f"/watch/orders/orchestrator/{UNUSED_ID}/withdraw",
        "/watch/workers/orchestrator/order/kill",
        "/watch/workers/orchestrator/order/revive",
    ],
)
@pytest.mark.parametrize("headers", [{}, {"x_saga": "elsewhere"}, {"origin": "https://elsewhere.example"}])
def test_requests_without_the_origin_header_change_nothing(path: str, headers: dict[str, str]) -> None:
    async def program(page: Page) -> tuple[Reply, Reply, bool]:
        body = json.dumps(AN_ORDER).encode()
        refused = await page.caller.call("POST", path, body, content_type="application/json", **headers)
        preflight = await page.caller.call("OPTIONS", path, b"", access_control_request_headers="x-saga", **headers)
        lane = page.lanes["orchestrator"]
        return refused, preflight, bool(lane._placed) or not all(worker.up for worker in (await lane.status()).workers)

    refused, preflight, changed = run_with_page(program)
    assert (refused.status, refused.reason) == (403, "no_proof")
    assert preflight.status == 403
    assert not [name for name in preflight.headers if name.startswith("access-control")]
    assert not changed


def test_full_run_refuses_further_orders() -> None:
    async def program(page: Page) -> tuple[Reply, int]:
        full, other = page.lanes.values()
        full._placed |= dict.fromkeys(map(str, range(ORDERS_MAX - 1)))
        await page.place()
        return await page.post("/watch/orders", AN_ORDER), len(other._placed)

    reply, elsewhere = run_with_page(program)
    assert (reply.status, reply.reason) == (507, "full")
    assert elsewhere == 1
    assert "Restart the demo" in reply.json["detail"]


def test_repeated_id_is_the_same_order_and_a_foreign_id_is_refused() -> None:
    async def program(page: Page) -> tuple[list[Any], Reply, list[Any]]:
        placed = [await page.place(order_id=UNUSED_ID) for _ in range(2)]
        another = await page.post("/watch/orders", {**AN_ORDER, "order_id": UNUSED_ID, "customer": "Bo"})
        return placed, another, await page.at_rest(placed[0])

    placed, another, shown = run_with_page(program)
    assert placed[0] == placed[1]
    assert (another.status, another.reason) == (503, "not_taken")
    assert [one["state"] for one in shown] == ["COMPLETED", "COMPLETED"]
    assert {one["messages"][0]["body"]["details"]["address"]["name"] for one in shown} == {"Ada"}
