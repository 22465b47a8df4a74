"""One batch, decided: from decoded messages and stored documents to everything one commit writes and what follows it.

This is the pure middle of the loop. It may run more than once for the same batch (a write conflict, a duplicate
found late), so it only reads and decides; publishing, calling and acknowledging are the worker's, after the commit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from broker.codec import Envelope, Origin, encode, pack
from broker.environment import Environment
from broker.faults import InjectedError, MessageFault, injected_at
from broker.handler import Call, Context, Documents, Handler, Outcome
from broker.message import Message
from broker.role import Role, Service
from broker.topology import Topology
from broker.transport import Delivery, Outgoing
from store.document import Document, Key, Record
from store.protocol import Changes, OutboxRow, Reader

#: How often a handler may ask for more documents because of those it read.
MAX_READ_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Job:
    """One input, decoded and routed: the command it means here and the handler for it. `delivery` is None for a local input."""

    delivery: Delivery | None
    envelope: Envelope
    command: Message
    handler: Handler
    injected: str | None = None

    @property
    def is_forward(self) -> bool:
        """A forward step, as opposed to a compensation or an answer: the only kind that message faults other than crash hit."""
        return not self.handler.compensates

    def has_fault(self, fault: MessageFault, service: Service) -> bool:
        """Whether this failure was asked for here as one of the message itself, not of the service's business."""
        return self.injected == fault and fault not in service.faults


@dataclass(slots=True)
class BatchPlan:
    """What follows the commit: messages to publish, calls to make, jobs whose handler raised, failures that acted."""

    outgoing: list[Outgoing] = field(default_factory=list)
    calls: list[tuple[Call, Origin]] = field(default_factory=list)
    failed: list[tuple[Job, Exception]] = field(default_factory=list)
    handled: list[tuple[Job, Outcome]] = field(default_factory=list)
    dropped: int = 0

    def join(self, other: "BatchPlan") -> "BatchPlan":
        """Both plans, for a batch that was taken apart."""
        return BatchPlan(
            self.outgoing + other.outgoing,
            self.calls + other.calls,
            self.failed + other.failed,
            self.handled + other.handled,
            self.dropped + other.dropped,
        )


class BatchHandler:
    """Runs the handlers of one role over a batch."""

    def __init__(self, role: Role, topology: Topology, environment: Environment) -> None:
        self._role = role
        self._topology = topology
        self._environment = environment

    def inbox_key(self, message_id: str) -> str:
        """The consumer is part of the key: an event has several consumers, each of which handles it once."""
        return f"{self._role.worker}:{message_id}"

    async def handle(self, jobs: Sequence[Job], reader: Reader, *, look_up: bool) -> tuple[Changes, BatchPlan]:
        """Load what the batch needs, run every handler, gather one commit. `look_up`: ask the inbox first, for jobs that may have
        been handled before."""
        fresh = await self._fresh(jobs, reader, look_up=look_up)
        plan = BatchPlan(dropped=len(jobs) - len(fresh))
        documents = Documents()
        ready, plan.failed = await _load(fresh, documents, reader)
        touched: dict[Key, tuple[Document, Origin]] = {}
        inbox: list[str] = []
        for job in ready:
            try:
                outcome = self._run(job, documents)
                outgoing = [self.outgoing_for(message, job.envelope) for message in outcome.messages]
            except Exception as error:  # noqa: BLE001 - whatever a handler raises costs only its own message: retry or dead letter
                plan.failed.append((job, error))
                continue
            origin = _origin_of(job.envelope)
            for document in outcome.documents:
                documents.put(document)
                touched[document.key] = (document, origin)
            if job.delivery:
                inbox.append(self.inbox_key(job.envelope.message_id))
            plan.outgoing += outgoing
            plan.calls += [(call, origin) for call in outcome.calls]
            plan.handled.append((job, outcome))
        records = [_record(document, origin, documents) for document, origin in touched.values()]
        return Changes(records, inbox, self._rows(plan.outgoing)), plan

    async def _fresh(self, jobs: Sequence[Job], reader: Reader, *, look_up: bool) -> list[Job]:
        """The jobs not handled before, each message once even if the batch holds its twin."""
        keys = {self.inbox_key(job.envelope.message_id) for job in jobs if job.delivery}
        seen = await reader.known_inbox_keys(keys) if look_up and keys else set()
        fresh = []
        for job in jobs:
            if job.delivery:
                key = self.inbox_key(job.envelope.message_id)
                if key in seen:
                    continue
                seen.add(key)
            fresh.append(job)
        return fresh

    def _run(self, job: Job, documents: Documents) -> Outcome:
        if job.is_forward and job.has_fault(MessageFault.ERROR, self._role.service):
            raise InjectedError("an error was asked for with this order")
        if not job.is_forward and job.delivery and job.has_fault(MessageFault.UNDO_ERROR, self._role.service):
            raise InjectedError("an error of its compensation was asked for with this order")
        context = Context(self._environment.now(), job.injected if job.is_forward else None)
        return job.handler.handle(job.command, documents, context)

    def outgoing_for(self, message: Message, cause: Envelope) -> Outgoing:
        """A message of this worker on the wire, caused by `cause`."""
        wire = encode(
            message,
            message_id=self._environment.new_id(),
            now=self._environment.now(),
            app_id=self._role.worker,
            origin=_origin_of(cause),
        )
        return Outgoing(self._topology.address_of(type(message)), wire)

    def _rows(self, outgoing: Iterable[Outgoing]) -> list[OutboxRow]:
        now = self._environment.now()
        return [OutboxRow(str(item.wire.message_id), now, pack(item)) for item in outgoing]

    def job_of(self, delivery: Delivery | None, envelope: Envelope, command: Message, *, faults: bool) -> Job:
        """The job that `command` is for this role. With `faults`, a failure asked for here comes along."""
        injected = injected_at(self._role.worker, envelope.origin.injected) if faults else None
        return Job(delivery, envelope, command, self._role.service.handlers[type(command)], injected)


async def _load(jobs: Sequence[Job], documents: Documents, reader: Reader) -> tuple[Sequence[Job], list[tuple[Job, Exception]]]:
    """Read what the handlers name, then what they name because of it, one query a collection and round.

    Gives the jobs that can be decided, and those whose handler could not say what it needs: they cost only themselves."""
    failed: dict[int, Exception] = {}
    waiting = list(enumerate(jobs))
    for _ in range(MAX_READ_ROUNDS):
        named: dict[int, set[Key]] = {}
        for index, job in waiting:
            try:
                named[index] = documents.not_loaded(job.handler.required_keys(job.command, documents))
            except Exception as error:  # noqa: BLE001 - as around `_run`
                failed[index] = error
        missing = set().union(*named.values())
        waiting = [(index, jobs[index]) for index, keys in named.items() if keys]
        if not missing:
            break
        documents.add(missing, await reader.load(missing))
    for index, _ in waiting:
        failed[index] = LookupError(f"the handler still asked for more documents after {MAX_READ_ROUNDS} rounds of reading")
    ready = [job for index, job in enumerate(jobs) if index not in failed] if failed else jobs
    return ready, [(jobs[index], error) for index, error in failed.items()]


def _origin_of(cause: Envelope) -> Origin:
    """What everything that this message causes inherits: published messages, calls to the outside and waits."""
    return Origin(cause.message_id or None, cause.origin.traceparent, cause.origin.injected)


def _record(document: Document, origin: Origin, documents: Documents) -> Record:
    """The record to write; a document that waits keeps the context that whatever wakes it will need."""
    body = document.to_body()
    if "due_at" in body and (context := origin.to_context()):
        body["context"] = context
    collection, document_id = document.key
    return Record(collection, document_id, documents.loaded_version(document.key) + 1, body)
