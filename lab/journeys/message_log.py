"""What travelled in a run: every message as it was published, told as one arrow each.

For showing; nothing depends on it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from broker.message import Command
from broker.topology import Topology, dead_queue, queue_of
from broker.transport import Outgoing
from services.message_types import CATALOGUE
from services.vocabulary import BackwardCommand, BackwardEvent


@dataclass(frozen=True, slots=True)
class Arrow:
    """One message type between two parties of a run. `rollback`: a refusal, a withdrawal or a compensation."""

    sender: str
    receivers: tuple[str, ...]
    name: str
    command: bool
    rollback: bool


@dataclass(slots=True)
class Recorder:
    """Give `note` to MemoryBroker.on_publish; `flow` then tells what travelled."""

    topology: Topology
    published: list[Outgoing] = field(default_factory=list)

    def note(self, outgoing: Outgoing) -> None:
        self.published.append(outgoing)

    def flow(self) -> list[Arrow]:
        """Every arrow in the order of publishing; a copy put aside for a later attempt shows as sent by its worker to itself."""
        return [self._arrow(outgoing) for outgoing in self.published]

    def _arrow(self, outgoing: Outgoing) -> Arrow:
        kind = CATALOGUE[str(outgoing.wire.type)]
        rollback = issubclass(kind, (BackwardCommand, BackwardEvent))
        if self.topology.is_aside(outgoing.address):
            worker, note = self._put_aside(outgoing.address.routing_key)
            return Arrow(worker, (worker,), f"{kind.__name__} ({note})", issubclass(kind, Command), rollback)
        if issubclass(kind, Command):
            return Arrow(str(outgoing.wire.app_id), (kind.service,), kind.__name__, command=True, rollback=rollback)
        receivers = tuple(queue.worker for queue in self.topology.queues if kind.type_name in queue.listens_to)
        return Arrow(str(outgoing.wire.app_id), receivers, kind.__name__, command=False, rollback=rollback)

    def _put_aside(self, routing_key: str) -> tuple[str, str]:
        for queue in self.topology.queues:
            name = queue_of(self.topology.prefix, queue.worker)
            if routing_key == dead_queue(name):
                return queue.worker, "dead letter"
            if routing_key.startswith(name):
                return queue.worker, "later"
        raise LookupError(f"{routing_key} leads to no worker")


def summed(flow: Sequence[Arrow]) -> list[tuple[Arrow, int]]:
    """The flow with equal arrows counted together, in the order of their first: for runs of many orders."""
    return list(Counter(flow).items())
