"""What happened in a run, as an outsider would see it who misses nothing: every commit, every message, every call to the gateway.

Nothing in the run depends on it. It feeds the checkers, and is the trace: one line an occurrence, with
names that are the same in every run of the seed.
"""

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from broker.codec import unpack
from broker.transport import Delivery, Outgoing, Receipt, Wire
from lab.simulation.plan import Fault
from lab.virtual_time import EPOCH_S
from payment_gateway.rules import Ruling
from store.protocol import Changes


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that did not hold. `checker` names who found it."""

    checker: str
    what: str


@dataclass(slots=True)
class History:
    """Filled while the run goes on."""

    lines: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    struck: list[Fault] = field(default_factory=list)
    #: Collection and id -> every state it went through, newest last.
    states: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    #: The inbox keys that were committed; message id -> the outbox row's message and its worker.
    handled: set[str] = field(default_factory=set)
    owed: dict[str, tuple[str, Wire]] = field(default_factory=dict)
    #: Message ids that the broker has, of workers' own messages; and of copies put aside.
    published: set[str] = field(default_factory=set)
    #: Message ids that some queue or listener was found for.
    routed: set[str] = field(default_factory=set)
    put_aside: set[tuple[str, str]] = field(default_factory=set)
    #: Worker and message id of everything acknowledged, with how often: more than once was a duplicate.
    acknowledged: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: Message id -> who published it and what it is, copies put aside not among them.
    sent_by_workers: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: (worker, command) of everything that was in some worker's hands, where workers tell.
    handlers: set[tuple[str, str]] = field(default_factory=set)
    #: Orders that had come to a stop and needed somebody.
    once_stuck: set[str] = field(default_factory=set)
    #: Told of the orders that may have changed, after every commit and every ruling of the gateway.
    on_change: Callable[[set[str]], None] = lambda _: None
    _paths: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _names: dict[str, str] = field(default_factory=dict)

    # --- the trace ----------------------------------------------------------------------------------------------------------

    def name(self, thing_id: str, name: str) -> None:
        """Call a thing by a short name in the trace."""
        self._names[thing_id] = name

    def path(self, order_id: str) -> tuple[str, ...]:
        """The states that an order's documents went through, in the order of the commits."""
        return tuple(self._paths[order_id])

    def called(self, thing_id: str) -> str:
        return self._names.get(thing_id, thing_id)

    def note(self, who: str, what: str) -> None:
        now = asyncio.get_running_loop().time() - EPOCH_S
        self.lines.append(f"{now:8.3f}  {who:<13} {what}")

    def about(self, wire: Wire) -> str:
        """A message in one word and the name of its order."""
        kind = str(wire.type).rpartition(".")[2]
        return f"{kind}({self.called(str(wire.correlation_id))})"

    def digest(self) -> str:
        """The same for two runs in which exactly the same happened."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()

    def found(self, checker: str, what: str) -> None:
        self.findings.append(Finding(checker, what))
        self.note("CHECKER", f"{checker}: {what}")

    # --- what the ports tell ------------------------------------------------------------------------------------------------

    def injected(self, fault: Fault) -> None:
        self.struck.append(fault)
        self.note("FAULT", str(fault))

    def committed(self, who: str, worker: str, changes: Changes) -> None:
        self.handled.update(changes.inbox)
        for row in changes.outbox:
            self.owed[row.message_id] = (worker, unpack(row.payload).wire)
        for record in changes.records:
            self.states[record.key].append(dict(record.body))
            if record.body.get("state"):
                self._paths[record.document_id].append(f"{record.collection} {record.body['state']}")
        if changes.records or changes.outbox:
            written = [self._about_record(record.collection, record.document_id, record.body) for record in changes.records]
            owed = [self.about(unpack(row.payload).wire) for row in changes.outbox]
            self.note(who, f"commits {', '.join(written) or 'nothing new'}; owes {', '.join(owed) or 'nothing'}")
        self.on_change({record.document_id for record in changes.records})

    def ruled(self, order_id: str, ruling: Ruling) -> None:
        """The gateway has decided on a call, and what it decided stands."""
        answer = ruling.answer.value if ruling.answer else "nothing"
        self.note("gateway", f"rules {answer} ({ruling.manner.value}) on {self.called(order_id)}")
        self.on_change({order_id})

    def sent(self, who: str, outgoing: Outgoing, receipt: Receipt, *, aside: bool) -> None:
        """A worker has published; `receipt` is what it will hear, the message may be there all the same."""
        if not aside and not str(outgoing.wire.type).endswith("Stuck"):  # a call for help is owed by the dead letter it goes with
            self.sent_by_workers[str(outgoing.wire.message_id)] = (who, self.about(outgoing.wire))
        self.note(who, f"publishes {self.about(outgoing.wire)} to {outgoing.address.routing_key}, {receipt.value}")

    def arrived(self, outgoing: Outgoing, *, aside: bool) -> None:
        """The broker has a message."""
        message_id = str(outgoing.wire.message_id)
        if aside:
            self.put_aside.add((outgoing.address.routing_key, message_id))
        else:
            self.published.add(message_id)

    def acknowledges(self, worker: str, prefix: str, deliveries: Sequence[Delivery]) -> None:
        """Before an acknowledgement takes effect: what it covers must be kept somewhere else."""
        for delivery in deliveries:
            message_id = str(delivery.wire.message_id)
            self.acknowledged[worker, message_id] += 1
            if f"{worker}:{message_id}" in self.handled:
                continue
            queue = f"{prefix}.{worker}"
            if not any(key.startswith(queue) and known == message_id for key, known in self.put_aside):
                self.found("acknowledged is kept", f"{worker} acknowledges {self.about(delivery.wire)}, which nobody keeps")

    def _about_record(self, collection: str, document_id: str, body: Any) -> str:  # noqa: ANN401 - a stored body
        state = body.get("state") or body.get("phase") or ""
        extra = f" {body['reason']}" if body.get("reason") else ""
        return f"{self.called(document_id)} {collection} {state}{extra}".strip()
