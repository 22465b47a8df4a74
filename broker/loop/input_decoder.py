"""Decodes a worker's inputs into jobs, and dead-letters the deliveries that it refuses."""

from collections.abc import Collection, Sequence

from broker.codec import DeadReason, Envelope, Undecodable, decode, misrouted
from broker.faults import injected_at
from broker.loop.batch import Job
from broker.loop.inputs import Input, LocalInput
from broker.loop.poison import RESTARTS_CAUSED, id_of
from broker.loop.retry import Republished, Republisher
from broker.message import Message
from broker.role import Role
from broker.topology import Topology
from broker.transport import Delivery


class InputDecoder:
    """Decoder of one worker. With `faults`, a job includes the fault injected at this worker."""

    def __init__(self, role: Role, topology: Topology, republisher: Republisher, *, faults: bool) -> None:
        self._role = role
        self._republisher = republisher
        self._faults = faults
        self._allowed_routes = {name: topology.allowed_routes(name, role.worker) for name in role.types}

    def decode(self, inputs: Sequence[Input], poison_ids: Collection[str]) -> tuple[list[Job], list[Republished]]:
        """Return the jobs, and the dead letters of refused deliveries. `poison_ids`: ids of known poison messages."""
        jobs: list[Job] = []
        dead: list[Republished] = []
        for item in inputs:
            if isinstance(item, LocalInput):
                envelope = Envelope(item.message, item.origin.causation_id or "", item.origin)
                jobs.append(self._job(None, envelope, item.message))
                continue
            try:
                envelope = self._envelope(item, poison_ids)
            except Undecodable as error:
                attempts = RESTARTS_CAUSED if error.reason is DeadReason.POISON_MESSAGE else 1
                dead.append((item, self._republisher.dead_letter_copy(item, error.reason, str(error), attempts)))
                continue
            jobs.append(self._job(item, envelope, self._role.accepts[type(envelope.message)](envelope.message)))
        return jobs, dead

    def _envelope(self, delivery: Delivery, poison_ids: Collection[str]) -> Envelope:
        """Decode one delivery. Raises Undecodable.

        The route is checked first, because a message that is refused for another reason may later be requeued by an operator."""
        allowed_routes = self._allowed_routes.get(delivery.wire.type or "")
        if allowed_routes and (delivery.exchange, delivery.routing_key) not in allowed_routes:
            raise misrouted(delivery.wire, delivery.exchange, delivery.routing_key)
        if poison_ids and id_of(delivery) in poison_ids:
            raise Undecodable(DeadReason.POISON_MESSAGE, "the worker crashed while it handled this message alone")
        return decode(delivery.wire, self._role.types)

    def _job(self, delivery: Delivery | None, envelope: Envelope, command: Message) -> Job:
        injected = injected_at(self._role.worker, envelope.origin.injected) if self._faults else None
        return Job(delivery, envelope, command, self._role.service.handlers[type(command)], injected)
