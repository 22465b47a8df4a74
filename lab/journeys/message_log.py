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
class LoggedMessage:
    """One message type between two parties of a run. `rollback`: a refusal, a withdrawal or a compensation."""

    sender: str
    receivers: tuple[str, ...]
    name: str
    command: bool
    rollback: bool


@dataclass(slots=True)
class MessageLog:
    """Give `note` to MemoryBroker.on_publish; `flow` then tells what travelled."""

    topology: Topology
    published: list[Outgoing] = field(default_factory=list)

    def record(self, outgoing: Outgoing) -> None:
        self.published.append(outgoing)

    def messages(self) -> list[LoggedMessage]:
        """Every arrow in the order of publishing; a copy put aside for a later attempt shows as sent by its worker to itself."""
        return [self._arrow(outgoing) for outgoing in self.published]

    def _arrow(self, outgoing: Outgoing) -> LoggedMessage:
        kind = CATALOGUE[str(outgoing.wire.type)]
        rollback = issubclass(kind, (BackwardCommand, BackwardEvent))
        if self.topology.is_retry_or_dead_letter(outgoing.address):
            worker, note = self._retry_route(outgoing.address.routing_key)
            return LoggedMessage(worker, (worker,), f"{kind.__name__} ({note})", issubclass(kind, Command), rollback)
        if issubclass(kind, Command):
            return LoggedMessage(str(outgoing.wire.app_id), (kind.service,), kind.__name__, command=True, rollback=rollback)
        receivers = tuple(queue.worker for queue in self.topology.queues if kind.type_name in queue.listens_to)
        return LoggedMessage(str(outgoing.wire.app_id), receivers, kind.__name__, command=False, rollback=rollback)

    def _retry_route(self, routing_key: str) -> tuple[str, str]:
        for queue in self.topology.queues:
            name = queue_of(self.topology.prefix, queue.worker)
            if routing_key == dead_queue(name):
                return queue.worker, "dead letter"
            if routing_key.startswith(name):
                return queue.worker, "later"
        raise LookupError(f"{routing_key} leads to no worker")


def count_repeated(flow: Sequence[LoggedMessage]) -> list[tuple[LoggedMessage, int]]:
    """The flow with equal arrows counted together, in the order of their first: for runs of many orders."""
    return list(Counter(flow).items())
