"""The message log of a run: every published message with its sender and receivers, for display."""

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
    """One message from its sender to its receivers. `rollback`: a refusal, a withdrawal or a compensation."""

    sender: str
    receivers: tuple[str, ...]
    name: str
    command: bool
    rollback: bool


@dataclass(slots=True)
class MessageLog:
    """The messages published so far. Append `record` to `MemoryBroker.on_publish`."""

    topology: Topology
    published: list[Outgoing] = field(default_factory=list)

    def record(self, outgoing: Outgoing) -> None:
        self.published.append(outgoing)

    def messages(self) -> list[LoggedMessage]:
        """The messages in publishing order. A retry or dead letter is shown as sent by its worker to itself."""
        return [self._describe(outgoing) for outgoing in self.published]

    def _describe(self, outgoing: Outgoing) -> LoggedMessage:
        kind = CATALOGUE[str(outgoing.wire.type)]
        rollback = issubclass(kind, (BackwardCommand, BackwardEvent))
        if self.topology.is_retry_or_dead_letter(outgoing.address):
            worker, kind_of_copy = self._retry_route(outgoing.address.routing_key)
            return LoggedMessage(worker, (worker,), f"{kind.__name__} ({kind_of_copy})", issubclass(kind, Command), rollback)
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
                return queue.worker, "retry"
        raise LookupError(f"the routing key {routing_key} belongs to no worker of this topology")


def count_repeated(flow: Sequence[LoggedMessage]) -> list[tuple[LoggedMessage, int]]:
    """The distinct messages with their counts, in the order of their first occurrence: for runs of many orders."""
    return list(Counter(flow).items())
