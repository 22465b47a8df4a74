"""`saga order place|show|list|withdraw|redrive`: one order at a time, for people and scripts.

Places through the door, looks at the databases; never changes what a service has stored. With --via, all but
redrive go through the HTTP door instead (cli/http_orders.py).
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from api.broker_client import BrokerOrderClient
from api.documents import ApiOrderState
from api.http_client import order_summary
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
from services.vocabulary import NEEDS_ATTENTION, Line, OrderDetails

T = TypeVar("T")

group = TyperApp(no_args_is_help=True, help="Place, show, list, withdraw and redrive orders.")


def parse_lines(texts: list[str]) -> list[Line]:
    """`book` or `book=2` for each line. Ends with a sentence when one makes no sense."""
    lines = []
    for text in texts:
        sku, _, quantity = text.partition("=")
        try:
            lines.append(Line(sku=sku, quantity=int(quantity or "1")))
        except ValueError:
            stop(Code.USAGE, f"{text!r} is no order line. Write SKU or SKU=QUANTITY, such as sku-001=2.")
    return lines


@group.command(epilog="Example: saga order place sku-001=2 sku-007 --mode choreography --fail payment:declined --wait")
def place(
    lines: Annotated[list[str], typer.Argument(help="SKU or SKU=QUANTITY, one or more.")],
    mode: ModeFlag = Mode.ORCHESTRATOR,
    fail: Annotated[list[str] | None, typer.Option(help="SERVICE:FAILURE to inject, at most one a service.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the order to its end.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to follow it.")] = 60.0,
    country: Annotated[str, typer.Option(help="Where to deliver; nobody drives to AQ.")] = "GB",
    via: ViaFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Place an order. Prints its id; with --wait its end too."""
    order_lines, failures = parse_lines(lines), parse_failures(fail or [])
    if len(country) != 2 or not country.isalpha() or not country.isupper():
        stop(Code.USAGE, f"{country!r} is no country code. Write two capital letters, such as GB.")
    details = sample_order(order_lines, SAMPLE_ADDRESS.model_copy(update={"country": country}))
    follow_for_s = timeout if wait else None
    order = run(http_orders.place(via, details, failures, follow_for_s) if via else _place(mode, details, failures, follow_for_s))
    _print_order(order, as_json=as_json)
    if wait:
        _stop_unless_ended(order, timeout)


def _require_order(mode: Mode, order_id: str, found: T | None) -> T:
    """What was found of an order. Ends with a sentence when there is no such order."""
    if found is None:
        stop(Code.FAILED, f"the {mode} mode has no order {order_id}. `saga order list --mode {mode}` shows what it has.")
    return found


def _stop_unless_ended(order: dict[str, str | None], timeout: float) -> None:
    if order["state"] in (OrderState.PENDING, ApiOrderState.ACCEPTED):
        stop(Code.FAILED, f"the order has not ended within {timeout:g} s. Look again: saga order show {order['order_id']}")
    if order["state"] == NEEDS_ATTENTION:
        stop(Code.FAILED, f"the order is stuck. See why: saga dlq list. Take it up again: saga order redrive {order['order_id']}")


async def _place(mode: Mode, details: OrderDetails, failures: list[str], follow_for_s: float | None) -> dict[str, str | None]:
    backend = load().backend(mode)
    async with open_stores(mode, backend) as seen:
        await refuse_unless_faults(seen, failures)
        order_id = backend.environment.new_id()
        async with open_transport(backend, "door") as transport:
            await BrokerOrderClient(transport, topology(mode), backend.environment).place(order_id, details, failures)
        if follow_for_s is None:
            return {"order_id": order_id, "state": "ACCEPTED", "reason": None}
        deadline = time.monotonic() + follow_for_s
        with console.status(f"order {order_id} is under way"):
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
    """Where an order stands: state, reason, what is held for it (which no HTTP door knows), and what remains to be done."""
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
        data.print("  (inferred from four databases: in choreography nobody knows the sequence)", style="dim")


def _print_api_order(order: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(order)
        return
    _print_order(order_summary(order), as_json=False)
    if order["withdrawal_refused"]:
        data.print(f"  a withdrawal was refused: {order['withdrawal_refused']}")
    data.print("  remains: " + (" > ".join(order["remains"]) or "nothing") + " (as far as the door has heard)", highlight=False)


async def _load_snapshot(mode: Mode) -> Snapshot:
    backend = load().backend(mode)
    async with open_stores(mode, backend) as seen:
        return await take_snapshot(seen.stores, await backend.books())


@group.command("list", epilog="Example: saga order list --mode choreography --state PENDING")
def list_(
    mode: ModeFlag = Mode.ORCHESTRATOR,
    state: Annotated[OrderState | None, typer.Option(help="Only orders in this state.")] = None,
    attention: Annotated[bool, typer.Option("--attention", help="Only orders that nothing will move without help.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most this many, the newest first.")] = 50,
    via: ViaFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """The newest orders of a mode."""
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
    wait: Annotated[bool, typer.Option("--wait", help="Follow the order to its end.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to follow it.")] = 60.0,
    as_json: JsonFlag = False,
) -> None:
    """Take a stuck order up again where it stopped: what it has among the dead letters goes back to work."""
    order, letters = run(_redrive(mode, order_id, timeout if wait else None))
    if as_json:
        print_json({**order, "requeued": [letter.as_dict() for letter in letters]})
    else:
        _print_order(order, as_json=False)
        data.print(f"  back to work: {', '.join(f'{x.worker} {x.wire.type}' for x in letters) or 'nothing'}", highlight=False)
    if not letters and order["state"] in (OrderState.PENDING, NEEDS_ATTENTION):
        stop(Code.FAILED, f"order {order_id} has no dead letter: what it waits for is still being tried (or was discarded).")
    if wait:
        _stop_unless_ended(order, timeout)


async def _redrive(mode: Mode, order_id: str, follow_for_s: float | None) -> tuple[dict[str, str | None], list[DeadLetter]]:
    backend = load().backend(mode)
    async with open_stores(mode, backend) as seen:
        _require_order(mode, order_id, await order_status(seen.stores, order_id))
        letters = []
        for worker in roles(mode):
            async with open_transport(backend, "redrive") as transport:  # one for each queue: it consumes
                letters += await requeue(transport, topology(mode), worker, lambda letter: letter.order_id == order_id)
        # What was stuck says so until it moves: only its end counts.
        order = await _wait_for_end(seen, order_id, follow_for_s if letters else None, lambda order: order.order.ended)
        return order.summary(), letters


async def _wait_for_end(
    seen: OpenStores, order_id: str, follow_for_s: float | None, is_done: Callable[[OrderStatus], bool]
) -> OrderStatus:
    """Where an order stands when it is `is_done`, or when patience is."""
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
    wait: Annotated[bool, typer.Option("--wait", help="Follow the order to its end.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to follow it.")] = 60.0,
    via: ViaFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Take an order back. It takes effect only if it comes before the pivot (the delivery's scheduling)."""
    follow_for_s = timeout if wait else None
    order = run(http_orders.withdraw(via, order_id, follow_for_s) if via else _withdraw(mode, order_id, follow_for_s))
    _print_order(order, as_json=as_json)
    if wait:
        _stop_unless_ended(order, timeout)


async def _withdraw(mode: Mode, order_id: str, follow_for_s: float | None) -> dict[str, str | None]:
    backend = load().backend(mode)
    async with open_stores(mode, backend) as seen:
        _require_order(mode, order_id, await order_status(seen.stores, order_id))
        async with open_transport(backend, "door") as transport:
            await BrokerOrderClient(transport, topology(mode), backend.environment).withdraw(order_id)
        return (await _wait_for_end(seen, order_id, follow_for_s, lambda order: not order.is_progressing)).summary()


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(group, name="order")
