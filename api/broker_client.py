"""A client that places and withdraws orders through the broker: it sends the order service its two commands, in both modes.

For the CLI, the storm and the journeys, which need no HTTP server. Customers use the HTTP API (app.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from api.messages import NAME, origin_of
from broker.codec import encode
from broker.environment import Environment
from broker.message import Command
from broker.topology import Topology
from broker.transport import Outgoing, Receipt, Transport
from services.order.messages import PlaceOrder, WithdrawOrder
from services.vocabulary import OrderDetails, Reason


class OrderNotConfirmed(Exception):  # noqa: N818 - it names what happened
    """The broker did not confirm the command. It may still be handled: look the order up by its id."""


@dataclass(frozen=True, slots=True)
class BrokerOrderClient:
    """Sends PlaceOrder and WithdrawOrder to the order service of one mode."""

    transport: Transport
    topology: Topology
    environment: Environment

    async def place(self, order_id: str, details: OrderDetails, injected: Sequence[str] = ()) -> None:
        """Place an order. `injected`: failures such as `payment:declined`, for workers with faults enabled."""
        await self._send(PlaceOrder(order_id=order_id, details=details), injected)

    async def withdraw(self, order_id: str) -> None:
        """Withdraw an order, which takes effect before the pivot only."""
        await self._send(WithdrawOrder(order_id=order_id, reason=Reason.WITHDRAWN), ())

    def outgoing(self, command: Command, injected: Sequence[str]) -> Outgoing:
        """The command on the wire, as the start of a new trace."""
        origin = origin_of(command.order_id, injected)
        wire = encode(command, message_id=self.environment.new_id(), now=self.environment.now(), app_id=NAME, origin=origin)
        return Outgoing(self.topology.address_of(type(command)), wire)

    async def _send(self, command: Command, injected: Sequence[str]) -> None:
        (receipt,) = await self.transport.publish([self.outgoing(command, injected)])
        if receipt is not Receipt.CONFIRMED:
            why = (
                "it reached no queue: is the mode's topology declared?" if receipt is Receipt.UNROUTABLE else "no confirm in time"
            )
            raise OrderNotConfirmed(f"{type(command).__name__} {command.order_id}: {why}")
