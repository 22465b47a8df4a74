"""Runs the handlers of a batch: from decoded messages and stored documents to the changes of one commit and what follows it.

A batch may be run more than once (after a write conflict, or a duplicate found at the commit), so this module only reads and
decides. The worker publishes, calls and acknowledges after the commit.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from broker.codec import Envelope, Origin, encode, pack
from broker.environment import Environment
from broker.faults import InjectedError, MessageFault
from broker.handler import Call, Context, Documents, Handler, Outcome
from broker.message import Message
from broker.role import Role, Service
from broker.topology import Topology
from broker.transport import Delivery, Outgoing
from store.document import Document, Key, Record
from store.protocol import Changes, OutboxRow, Reader

#: Maximum rounds of reading: a handler may name further documents because of those it has read.
MAX_READ_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Job:
    """One decoded input with its command, handler and injected fault. `delivery` is None for a local input."""

    delivery: Delivery | None
    envelope: Envelope
    command: Message
    handler: Handler
    injected: str | None = None

    @property
    def is_forward(self) -> bool:
        """Whether this is a forward step, as opposed to a compensation, a reply or a step after the pivot."""
        return not self.handler.must_not_fail

    def has_fault(self, fault: MessageFault, service: Service) -> bool:
        """Whether `fault` is injected here as a message fault, not as a business fault of the same name."""
        return self.injected == fault and fault not in service.faults


@dataclass(slots=True)
class BatchPlan:
    """What follows the commit: messages to publish, calls to make, failed and handled jobs, and the number of duplicates."""

    outgoing: list[Outgoing] = field(default_factory=list)
    calls: list[tuple[Call, Origin]] = field(default_factory=list)
    failed: list[tuple[Job, Exception]] = field(default_factory=list)
    handled: list[tuple[Job, Outcome]] = field(default_factory=list)
    dropped: int = 0

    def join(self, other: "BatchPlan") -> "BatchPlan":
        """Return the sum of two plans, for a batch that was committed in parts."""
        return BatchPlan(
            self.outgoing + other.outgoing,
            self.calls + other.calls,
            self.failed + other.failed,
            self.handled + other.handled,
            self.dropped + other.dropped,
        )


class BatchHandler:
    """Runs the handlers of one role for a batch."""

    def __init__(self, role: Role, topology: Topology, environment: Environment) -> None:
        self._role = role
        self._topology = topology
        self._environment = environment

    def inbox_key(self, message_id: str) -> str:
        """Return the inbox key of a message. It includes the worker, because each consumer of an event handles it once."""
        return f"{self._role.worker}:{message_id}"

    async def handle(self, jobs: Sequence[Job], reader: Reader, *, look_up: bool) -> tuple[Changes, BatchPlan]:
        """Load the documents, run every handler and return the changes of one commit with the plan that follows it.

        `look_up`: query the inbox first, because some jobs may have been handled before."""
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
            except Exception as error:  # noqa: BLE001 - an error affects only its own message: retry or dead letter
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
        """Return the jobs not handled before, each message once even if the batch holds a duplicate."""
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
            raise InjectedError("the fault `error` was injected with this order")
        if not job.is_forward and job.delivery and job.has_fault(MessageFault.UNDO_ERROR, self._role.service):
            raise InjectedError("the fault `undo_error` was injected with this order")
        context = Context(self._environment.now(), job.injected if job.is_forward else None)
        return job.handler.handle(job.command, documents, context)

    def outgoing_for(self, message: Message, cause: Envelope) -> Outgoing:
        """Return a message of this worker, caused by `cause`, with its address."""
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


async def _load(jobs: Sequence[Job], documents: Documents, reader: Reader) -> tuple[Sequence[Job], list[tuple[Job, Exception]]]:
    """Load the documents that the handlers name, in rounds with one query for each collection.

    Return the jobs that are ready to run, and the failed ones: `required_keys` raised, or named new documents after the last
    round."""
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
        failed[index] = LookupError(f"required_keys still named new documents after {MAX_READ_ROUNDS} rounds of reading")
    ready = [job for index, job in enumerate(jobs) if index not in failed] if failed else jobs
    return ready, [(jobs[index], error) for index, error in failed.items()]


def _origin_of(cause: Envelope) -> Origin:
    """Return the origin that everything caused by this message inherits: published messages, external calls and timers."""
    return Origin(cause.message_id or None, cause.origin.traceparent, cause.origin.injected)


def _record(document: Document, origin: Origin, documents: Documents) -> Record:
    """Return the record to write; a document with a timer also stores the context for the timer's input."""
    body = document.to_body()
    if "due_at" in body and (context := origin.to_context()):
        body["context"] = context
    collection, document_id = document.key
    return Record(collection, document_id, documents.loaded_version(document.key) + 1, body)
