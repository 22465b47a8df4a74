"""`saga order place|show|list|withdraw|redrive`: single orders, for people and scripts.

Orders are placed and withdrawn by commands on the broker, and read from the databases, which are not written to. With --via, all
but redrive use the HTTP API instead (cli/http_orders.py).
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from api.broker_client import BrokerOrderClient
from api.http_client import order_summary
from api.messages import NAME as API
from api.sample_orders import SAMPLE_ADDRESS, sample_order
from bootstrap.connections import OpenStores, open_stores, open_transport
from bootstrap.modes import Mode, roles, topology
from cli import http_orders
from cli.options import JsonFlag, ModeFlag, OrderId, ViaFlag, parse_failures, refuse_unless_faults
from cli.output import Code, console, data, print_json, run, stop
from cli.settings import load
from cli.typer_app import TyperApp
from ops.dead_letters import DeadLetter, requeue
from ops.order_status import OrderStatus, order_status, orders_needing_attention, saga_attention
from ops.pending_work import held_resources, pending_commands
from ops.snapshot import Snapshot, take_snapshot
from services.order.domain import Order, OrderState
from services.vocabulary import NEEDS_ATTENTION, Line, ObservedState, OrderDetails

T = TypeVar("T")

group = TyperApp(no_args_is_help=True, help="Place, show, list, withdraw and redrive orders.")


def parse_lines(texts: list[str]) -> list[Line]:
    """Parse `book` or `book=2` for each line. Stops with exit code 2 when one is invalid."""
    lines = []
    for text in texts:
        sku, _, quantity = text.partition("=")
        try:
            lines.append(Line(sku=sku, quantity=int(quantity or "1")))
        except ValueError:
            stop(Code.USAGE, f"{text!r} is not an order line. Write SKU or SKU=QUANTITY, such as sku-001=2.")
    return lines


@group.command(epilog="Example: saga order place sku-001=2 sku-007 --mode choreography --fail payment:declined --wait")
def place(
    lines: Annotated[list[str], typer.Argument(help="SKU or SKU=QUANTITY, one or more.")],
    mode: ModeFlag = Mode.ORCHESTRATOR,
    fail: Annotated[list[str] | None, typer.Option(help="SERVICE:FAILURE to inject, at most one per service.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end of the order.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait at most.")] = 60.0,
    country: Annotated[str, typer.Option(help="Country of delivery; delivery to AQ is refused.")] = "GB",
    via: ViaFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Place an order. Prints its id and state; with --wait its final state."""
    order_lines, failures = parse_lines(lines), parse_failures(fail or [])
    if len(country) != 2 or not country.isalpha() or not country.isupper():
        stop(Code.USAGE, f"{country!r} is not a country code. Write two capital letters, such as GB.")
    details = sample_order(order_lines, SAMPLE_ADDRESS.model_copy(update={"country": country}))
    follow_for_s = timeout if wait else None
    order = run(http_orders.place(via, details, failures, follow_for_s) if via else _place(mode, details, failures, follow_for_s))
    _print_order(order, as_json=as_json)
    if wait:
        _stop_unless_ended(order, timeout)


def _require_order(mode: Mode, order_id: str, found: T | None) -> T:
    """Return `found`. Stops with exit code 1 when it is None, because there is no such order."""
    if found is None:
        stop(Code.FAILED, f"the {mode} mode has no order {order_id}. List those it has: saga order list --mode {mode}.")
    return found


def _stop_unless_ended(order: dict[str, str | None], timeout: float) -> None:
    if order["state"] in (OrderState.PENDING, ObservedState.ACCEPTED):
        stop(
            Code.FAILED, f"the order has not ended within {timeout:g} s. See where it stands: saga order show {order['order_id']}"
        )
    if order["state"] == NEEDS_ATTENTION:
        stop(Code.FAILED, f"the order is stuck. See why: saga dlq list. Resume it: saga order redrive {order['order_id']}")


async def _place(mode: Mode, details: OrderDetails, failures: list[str], follow_for_s: float | None) -> dict[str, str | None]:
    backend = load().backend(mode)
    async with open_stores(mode, backend) as seen:
        await refuse_unless_faults(seen, failures)
        order_id = backend.environment.new_id()
        async with open_transport(backend, API) as transport:
            await BrokerOrderClient(transport, topology(mode), backend.environment).place(order_id, details, failures)
        if follow_for_s is None:
            return {"order_id": order_id, "state": str(ObservedState.ACCEPTED), "reason": None}
        deadline = time.monotonic() + follow_for_s
        with console.status(f"order {order_id} is in progress"):
            while (order := await order_status(seen.stores, order_id)) is None or order.is_progressing:
                if time.monotonic() > deadline:
                    return {"order_id": order_id, "state": str(OrderState.PENDING), "reason": None}
                await asyncio.sleep(0.05)
        return order.summary()


def _print_order(order: dict[str, str | None], *, as_json: bool) -> None:
    if as_json:
        print_json(order)
    else:
        why = f"  {escape(order['reason'])}" if order["reason"] else ""
        data.print(f"{order['order_id']}  {order['state']}{why}", highlight=False)


@group.command(epilog="Example: saga order show 0190a0a0-0000-7000-8000-000000000000 --json")
def show(order_id: OrderId, mode: ModeFlag = Mode.ORCHESTRATOR, via: ViaFlag = None, as_json: JsonFlag = False) -> None:
    """Show an order: state, reason, what is held for it (not known to the HTTP API), and the remaining steps."""
    if via:
        _print_api_order(run(http_orders.show(via, order_id)), as_json=as_json)
        return
    seen = run(_load_snapshot(mode))
    order = _require_order(mode, order_id, seen.orders.get(order_id))
    held_now, remaining = held_resources(seen, order_id), pending_commands(mode, seen, order_id)
    summary = OrderStatus(order, orders_needing_attention(seen).get(order_id)).summary()
    if as_json:
        print_json({**summary, "held": held_now, "remains": remaining})
        return
    _print_order(summary, as_json=False)
    if order.withdrawal_refused:
        data.print(f"  a withdrawal was refused: {order.withdrawal_refused}")
    data.print("  held:    " + (", ".join(f"{name} {what}" for name, what in held_now.items()) or "nothing"), highlight=False)
    data.print("  remains: " + (" > ".join(remaining) or "nothing"), highlight=False)
    if remaining and mode is Mode.CHOREOGRAPHY:
        data.print("  (inferred from four databases: in choreography no service knows the sequence)", style="dim")


def _print_api_order(order: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(order)
        return
    _print_order(order_summary(order), as_json=False)
    if order["withdrawal_refused"]:
        data.print(f"  a withdrawal was refused: {order['withdrawal_refused']}")
    data.print(
        "  remains: " + (" > ".join(order["remains"]) or "nothing") + " (from the events that the API has received)",
        highlight=False,
    )


async def _load_snapshot(mode: Mode) -> Snapshot:
    backend = load().backend(mode)
    async with open_stores(mode, backend) as seen:
        return await take_snapshot(seen.stores, await backend.books())


@group.command("list", epilog="Example: saga order list --mode choreography --state PENDING")
def list_(
    mode: ModeFlag = Mode.ORCHESTRATOR,
    state: Annotated[OrderState | None, typer.Option(help="Only orders in this state.")] = None,
    attention: Annotated[bool, typer.Option("--attention", help="Only orders that need an operator.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most this many, the newest first.")] = 50,
    via: ViaFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """List the newest orders of a mode."""
    if via:
        api_orders = run(http_orders.newest(via, NEEDS_ATTENTION if attention else state, limit))
        orders = [(order_summary(order), order["withdrawn"]) for order in api_orders]
    else:
        stored = run(_stuck(mode, limit) if attention else _newest(mode, state, limit))
        orders = [(order.summary(), order.order.withdrawn) for order in stored]
    if as_json:
        print_json({"orders": [order for order, _ in orders]})
        return
    table = Table("order", "state", "reason", "withdrawn")
    for order, withdrawn in orders:
        table.add_row(order["order_id"], order["state"], escape(order["reason"] or ""), str(withdrawn or ""))
    data.print(table)


async def _newest(mode: Mode, state: OrderState | None, limit: int) -> list[OrderStatus]:
    async with open_stores(mode, load().backend(mode)) as seen:
        where = {"state": str(state)} if state else None
        orders = [Order.from_body(record.body) for record in await seen.stores["order"].find(Order.collection, where, limit)]
        stuck = await saga_attention(seen.stores) if any(order.is_open for order in orders) else {}
        return [OrderStatus(order, order.attention or stuck.get(order.order_id)) for order in orders]


async def _stuck(mode: Mode, limit: int) -> list[OrderStatus]:
    return [order for order in await _newest(mode, OrderState.PENDING, 0) if order.attention][:limit]


@group.command(epilog="Example: saga order redrive 0190a0a0-0000-7000-8000-000000000000 --mode choreography --wait")
def redrive(
    order_id: OrderId,
    mode: ModeFlag = Mode.ORCHESTRATOR,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end of the order.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait at most.")] = 60.0,
    as_json: JsonFlag = False,
) -> None:
    """Resume a stuck order where it stopped: requeue its dead letters."""
    order, letters = run(_redrive(mode, order_id, timeout if wait else None))
    if as_json:
        print_json({**order, "requeued": [letter.as_dict() for letter in letters]})
    else:
        _print_order(order, as_json=False)
        data.print(f"  requeued: {', '.join(f'{x.worker} {x.wire.type}' for x in letters) or 'nothing'}", highlight=False)
    if not letters and order["state"] in (OrderState.PENDING, NEEDS_ATTENTION):
        stop(
            Code.FAILED,
            f"order {order_id} has no dead letter: its step is still retried, or was discarded. See which: saga order show.",
        )
    if wait:
        _stop_unless_ended(order, timeout)


async def _redrive(mode: Mode, order_id: str, follow_for_s: float | None) -> tuple[dict[str, str | None], list[DeadLetter]]:
    backend = load().backend(mode)
    async with open_stores(mode, backend) as seen:
        _require_order(mode, order_id, await order_status(seen.stores, order_id))
        letters = []
        for worker in roles(mode):
            async with open_transport(backend, "redrive") as transport:  # one for each queue that is consumed
                letters += await requeue(transport, topology(mode), worker, lambda letter: letter.order_id == order_id)
        # A stuck order keeps that state until it progresses, so wait for its end.
        order = await _wait_for_end(seen, order_id, follow_for_s if letters else None, lambda order: order.order.ended)
        return order.summary(), letters


async def _wait_for_end(
    seen: OpenStores, order_id: str, follow_for_s: float | None, is_done: Callable[[OrderStatus], bool]
) -> OrderStatus:
    """The status of an order once `is_done`, or when `follow_for_s` is over."""
    deadline = time.monotonic() + (follow_for_s or 0.0)
    while True:
        order = _require_order(seen.mode, order_id, await order_status(seen.stores, order_id))
        if is_done(order) or time.monotonic() > deadline:
            return order
        await asyncio.sleep(0.05)


@group.command(epilog="Example: saga order withdraw 0190a0a0-0000-7000-8000-000000000000 --wait")
def withdraw(
    order_id: OrderId,
    mode: ModeFlag = Mode.ORCHESTRATOR,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end of the order.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait at most.")] = 60.0,
    via: ViaFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Withdraw an order. Takes effect only before the pivot (the scheduling of the delivery)."""
    follow_for_s = timeout if wait else None
    order = run(http_orders.withdraw(via, order_id, follow_for_s) if via else _withdraw(mode, order_id, follow_for_s))
    _print_order(order, as_json=as_json)
    if wait:
        _stop_unless_ended(order, timeout)


async def _withdraw(mode: Mode, order_id: str, follow_for_s: float | None) -> dict[str, str | None]:
    backend = load().backend(mode)
    async with open_stores(mode, backend) as seen:
        _require_order(mode, order_id, await order_status(seen.stores, order_id))
        async with open_transport(backend, API) as transport:
            await BrokerOrderClient(transport, topology(mode), backend.environment).withdraw(order_id)
        return (await _wait_for_end(seen, order_id, follow_for_s, lambda order: not order.is_progressing)).summary()


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(group, name="order")
