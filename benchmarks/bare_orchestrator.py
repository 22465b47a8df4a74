"""The orchestrated bare chain: a coordinator sends commands and receives events. `python -m benchmarks.bare_orchestrator WORKER`.

Ten messages per order, PlaceOrder to OrderCompleted, in the order of orchestrator/fulfilment.py. The coordinator keeps its
sagas in a dict: when it dies, every order in progress is lost.
"""

import sys

import uvloop
from aio_pika.abc import AbstractIncomingMessage

from benchmarks.bare import GATEWAY_URL, authorize, connect, serve
from broker.message import Command, Event
from services.delivery.messages import DeliveryScheduled, ScheduleDelivery
from services.inventory.messages import ReserveStock, StockReserved
from services.order.messages import CompleteOrder, OrderCompleted, OrderPlaced, PlaceOrder
from services.payment.gateway_http import HttpGateway
from services.payment.messages import AuthorizePayment, PaymentAuthorized

PREFIX = "bare_orchestrator"

#: Service -> command that it consumes -> event that it then publishes.
ANSWERS: dict[str, dict[type[Command], type[Event]]] = {
    "order": {PlaceOrder: OrderPlaced, CompleteOrder: OrderCompleted},
    "inventory": {ReserveStock: StockReserved},
    "payment": {AuthorizePayment: PaymentAuthorized},
    "delivery": {ScheduleDelivery: DeliveryScheduled},
}

#: Event -> the coordinator's next command; None after the last event.
NEXT_COMMAND: dict[type[Event], type[Command] | None] = {
    OrderPlaced: ReserveStock,
    StockReserved: AuthorizePayment,
    PaymentAuthorized: ScheduleDelivery,
    DeliveryScheduled: CompleteOrder,
    OrderCompleted: None,
}


async def run_service(name: str) -> None:
    """Run one service until SIGTERM."""
    answers = ANSWERS[name]
    kinds = {kind.type_name: kind for kind in answers}
    gateway = HttpGateway(GATEWAY_URL, PREFIX)
    async with connect(PREFIX, name, answers) as service:

        async def handle(incoming: AbstractIncomingMessage) -> None:
            async with incoming.process():
                command = kinds[str(incoming.type)].model_validate_json(incoming.body)
                if isinstance(command, AuthorizePayment):
                    await authorize(gateway, command)
                await service.publish(answers[type(command)].from_source(command), incoming)

        await serve(service, handle)
    await gateway.close()


async def run_coordinator() -> None:
    """Run the coordinator until SIGTERM."""
    kinds = {kind.type_name: kind for kind in NEXT_COMMAND}
    sagas: dict[str, OrderPlaced] = {}
    async with connect(PREFIX, "coordinator", NEXT_COMMAND) as service:

        async def handle(incoming: AbstractIncomingMessage) -> None:
            async with incoming.process():
                event = kinds[str(incoming.type)].model_validate_json(incoming.body)
                if isinstance(event, OrderPlaced):
                    sagas[event.order_id] = event
                next_command = NEXT_COMMAND[type(event)]
                if next_command is None:
                    del sagas[event.order_id]
                else:
                    await service.publish(next_command.from_source(sagas[event.order_id]), incoming)

        await serve(service, handle)


if __name__ == "__main__":
    uvloop.run(run_coordinator() if sys.argv[1] == "coordinator" else run_service(sys.argv[1]))
