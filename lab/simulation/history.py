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
from payment_gateway.rules import Decision
from store.protocol import Changes


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that did not hold. `checker` names who found it."""

    checker: str
    detail: str


@dataclass(slots=True)
class SimulationHistory:
    """Filled while the run goes on."""

    trace_lines: list[str] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    triggered_faults: list[Fault] = field(default_factory=list)
    #: Collection and id -> every state it went through, newest last.
    states: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    #: The inbox keys that were committed; message id -> the outbox row's message and its worker.
    inbox_keys: set[str] = field(default_factory=set)
    outbox_messages: dict[str, tuple[str, Wire]] = field(default_factory=dict)
    #: Message ids that the broker has, of workers' own messages; and of copies put aside.
    published_ids: set[str] = field(default_factory=set)
    #: Message ids that some queue or listener was found for.
    routed_ids: set[str] = field(default_factory=set)
    retry_copies: set[tuple[str, str]] = field(default_factory=set)
    #: Worker and message id of everything acknowledged, with how often: more than once was a duplicate.
    acknowledgements: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: Message id -> who published it and what it is, copies put aside not among them.
    worker_messages: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: (worker, command) of everything that was in some worker's hands, where workers tell.
    handled_commands: set[tuple[str, str]] = field(default_factory=set)
    #: Orders that had come to a stop and needed somebody.
    needed_attention: set[str] = field(default_factory=set)
    #: Told of the orders that may have changed, after every commit and every ruling of the gateway.
    on_change: Callable[[set[str]], None] = lambda _: None
    _paths: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _labels: dict[str, str] = field(default_factory=dict)

    # --- the trace ----------------------------------------------------------------------------------------------------------

    def set_label(self, thing_id: str, name: str) -> None:
        """Call a thing by a short name in the trace."""
        self._labels[thing_id] = name

    def path(self, order_id: str) -> tuple[str, ...]:
        """The states that an order's documents went through, in the order of the commits."""
        return tuple(self._paths[order_id])

    def label_of(self, thing_id: str) -> str:
        return self._labels.get(thing_id, thing_id)

    def add_trace(self, who: str, detail: str) -> None:
        now = asyncio.get_running_loop().time() - EPOCH_S
        self.trace_lines.append(f"{now:8.3f}  {who:<13} {detail}")

    def describe(self, wire: Wire) -> str:
        """A message in one word and the name of its order."""
        kind = str(wire.type).rpartition(".")[2]
        return f"{kind}({self.label_of(str(wire.correlation_id))})"

    def digest(self) -> str:
        """The same for two runs in which exactly the same happened."""
        return hashlib.sha256("\n".join(self.trace_lines).encode()).hexdigest()

    def add_violation(self, checker: str, detail: str) -> None:
        self.violations.append(Violation(checker, detail))
        self.add_trace("CHECKER", f"{checker}: {detail}")

    # --- what the ports tell ------------------------------------------------------------------------------------------------

    def on_fault(self, fault: Fault) -> None:
        self.triggered_faults.append(fault)
        self.add_trace("FAULT", str(fault))

    def on_commit(self, who: str, worker: str, changes: Changes) -> None:
        self.inbox_keys.update(changes.inbox)
        for row in changes.outbox:
            self.outbox_messages[row.message_id] = (worker, unpack(row.payload).wire)
        for record in changes.records:
            self.states[record.key].append(dict(record.body))
            if record.body.get("state"):
                self._paths[record.document_id].append(f"{record.collection} {record.body['state']}")
        if changes.records or changes.outbox:
            written = [self._describe_record(record.collection, record.document_id, record.body) for record in changes.records]
            outbox_messages = [self.describe(unpack(row.payload).wire) for row in changes.outbox]
            self.add_trace(who, f"commits {', '.join(written) or 'nothing new'}; owes {', '.join(outbox_messages) or 'nothing'}")
        self.on_change({record.document_id for record in changes.records})

    def on_gateway_ruling(self, order_id: str, decision: Decision) -> None:
        """The gateway has decided on a call, and what it decided stands."""
        answer = decision.answer.value if decision.answer else "nothing"
        self.add_trace("gateway", f"rules {answer} ({decision.response_mode.value}) on {self.label_of(order_id)}")
        self.on_change({order_id})

    def on_publish(self, who: str, outgoing: Outgoing, receipt: Receipt, *, is_retry_copy: bool) -> None:
        """A worker has published; `receipt` is what it will hear, the message may be there all the same."""
        if not is_retry_copy and not str(outgoing.wire.type).endswith(
            "StepFailed"
        ):  # a call for help is owed by the dead letter it goes with
            self.worker_messages[str(outgoing.wire.message_id)] = (who, self.describe(outgoing.wire))
        self.add_trace(who, f"publishes {self.describe(outgoing.wire)} to {outgoing.address.routing_key}, {receipt.value}")

    def on_arrival(self, outgoing: Outgoing, *, is_retry_copy: bool) -> None:
        """The broker has a message."""
        message_id = str(outgoing.wire.message_id)
        if is_retry_copy:
            self.retry_copies.add((outgoing.address.routing_key, message_id))
        else:
            self.published_ids.add(message_id)

    def on_acknowledge(self, worker: str, prefix: str, deliveries: Sequence[Delivery]) -> None:
        """Before an acknowledgement takes effect: what it covers must be kept somewhere else."""
        for delivery in deliveries:
            message_id = str(delivery.wire.message_id)
            self.acknowledgements[worker, message_id] += 1
            if f"{worker}:{message_id}" in self.inbox_keys:
                continue
            queue = f"{prefix}.{worker}"
            if not any(key.startswith(queue) and known == message_id for key, known in self.retry_copies):
                self.add_violation(
                    "acknowledged is kept", f"{worker} acknowledges {self.describe(delivery.wire)}, which nobody keeps"
                )

    def _describe_record(self, collection: str, document_id: str, body: Any) -> str:  # noqa: ANN401 - a stored body
        state = body.get("state") or body.get("phase") or ""
        extra = f" {body['reason']}" if body.get("reason") else ""
        return f"{self.label_of(document_id)} {collection} {state}{extra}".strip()
