"""The choreographed bare chain: each service reacts to an event with the next. `python -m benchmarks.bare_choreography SERVICE`.

Six messages per order, PlaceOrder to OrderCompleted, in the order of choreography/reactions.py. When a process dies, its
messages in progress may be handled twice; when the gateway hangs, the order hangs. The comparison shows what the product's
guarantees cost.
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

#: Service -> message that it consumes -> event that it then publishes.
REACTIONS: dict[str, dict[type[Message], type[Event]]] = {
    "order": {PlaceOrder: OrderPlaced, DeliveryScheduled: OrderCompleted},
    "inventory": {OrderPlaced: StockReserved},
    "payment": {StockReserved: PaymentAuthorized},
    "delivery": {PaymentAuthorized: DeliveryScheduled},
}


async def run(name: str) -> None:
    """Run one service until SIGTERM."""
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
