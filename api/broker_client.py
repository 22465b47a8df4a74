"""The door: where orders come in. It sends the order service its two commands and nothing else, in both modes.

Used by the CLI, the storm and the journeys, without a server. The one that customers come to is HTTP: api/.
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
    """The broker did not confirm the order, so nobody may rely on it. It may still be handled: ask for it by its id."""


@dataclass(frozen=True, slots=True)
class BrokerOrderClient:
    """Sends PlaceOrder and WithdrawOrder to the order service of one mode."""

    transport: Transport
    topology: Topology
    environment: Environment

    async def place(self, order_id: str, details: OrderDetails, injected: Sequence[str] = ()) -> None:
        """Hand in an order; `injected` names failures (`payment:declined`) that workers with faults enabled will show for it."""
        await self._send(PlaceOrder(order_id=order_id, details=details), injected)

    async def withdraw(self, order_id: str) -> None:
        """Take an order back, if the pivot has not been passed."""
        await self._send(WithdrawOrder(order_id=order_id, reason=Reason.WITHDRAWN), ())

    def outgoing(self, command: Command, injected: Sequence[str]) -> Outgoing:
        """The command on the wire, as the start of a new trace."""
        origin = origin_of(command.order_id, injected)
        wire = encode(command, message_id=self.environment.new_id(), now=self.environment.now(), app_id=NAME, origin=origin)
        return Outgoing(self.topology.address_of(type(command)), wire)

    async def _send(self, command: Command, injected: Sequence[str]) -> None:
        (receipt,) = await self.transport.publish([self.outgoing(command, injected)])
        if receipt is not Receipt.CONFIRMED:
            why = "no queue takes it: is the mode's topology declared?" if receipt is Receipt.UNROUTABLE else "no confirm in time"
            raise OrderNotConfirmed(f"{type(command).__name__} {command.order_id}: {why}")
