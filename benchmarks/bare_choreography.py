"""The bare chain, choreographed: each service hears an event and states the next. `python -m benchmarks.bare_choreography X`.

Six messages an order, PlaceOrder to OrderCompleted, in the same order as choreography/reactions.py. If a
process dies, what it had in hand may happen twice; if the gateway hangs, the order hangs: that is the point of the comparison.
"""

import sys

import uvloop
from aio_pika.abc import AbstractIncomingMessage

from benchmarks.bare import GATEWAY_URL, authorize, connect, serve
from broker.message import Event, Message
from services.delivery.messages import DeliveryScheduled
from services.inventory.messages import StockReserved
from services.order.messages import OrderCompleted, OrderPlaced, PlaceOrder
from services.payment.gateway_http import HttpGateway
from services.payment.messages import PaymentAuthorized

PREFIX = "bare_choreography"

#: Service -> what it hears and what it then states.
REACTIONS: dict[str, dict[type[Message], type[Event]]] = {
    "order": {PlaceOrder: OrderPlaced, DeliveryScheduled: OrderCompleted},
    "inventory": {OrderPlaced: StockReserved},
    "payment": {StockReserved: PaymentAuthorized},
    "delivery": {PaymentAuthorized: DeliveryScheduled},
}


async def run(name: str) -> None:
    """One service, until SIGTERM."""
    reactions = REACTIONS[name]
    kinds = {kind.type_name: kind for kind in reactions}
    gateway = HttpGateway(GATEWAY_URL, PREFIX)
    async with connect(PREFIX, name, reactions) as service:

        async def handle(incoming: AbstractIncomingMessage) -> None:
            async with incoming.process():
                event = kinds[str(incoming.type)].model_validate_json(incoming.body)
                if isinstance(event, StockReserved):
                    await authorize(gateway, event)
                await service.publish(reactions[type(event)].from_source(event), incoming)

        await serve(service, handle)
    await gateway.close()


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1]))
