"""The complete record of a run: every commit, message, acknowledgement, fault and decision of the payment gateway.

The workers never see it. It feeds the checkers and contains the trace: one line an occurrence, with labels instead of ids, so
that the trace of a seed is the same in every run.
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
    """A promise that did not hold. `checker`: the name of the check that found it."""

    checker: str
    detail: str


@dataclass(slots=True)
class SimulationHistory:
    """Everything recorded so far."""

    trace_lines: list[str] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    triggered_faults: list[Fault] = field(default_factory=list)
    #: Collection and id -> every state it went through, newest last.
    states: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    #: The inbox keys committed so far.
    inbox_keys: set[str] = field(default_factory=set)
    #: Message id -> the worker that committed the outbox row, and its message.
    outbox_messages: dict[str, tuple[str, Wire]] = field(default_factory=dict)
    #: Ids of the messages that reached the broker, retries and dead letters excluded.
    published_ids: set[str] = field(default_factory=set)
    #: Ids of the messages that the broker routed to a queue or a listener.
    routed_ids: set[str] = field(default_factory=set)
    #: Routing key and message id of the retries and dead letters that reached the broker.
    retry_copies: set[tuple[str, str]] = field(default_factory=set)
    #: Worker and message id -> how often it was acknowledged; more than once means that there was a duplicate.
    acknowledgements: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: Message id -> the process that published it and its description, retries and dead letters excluded.
    worker_messages: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: (worker, command) of every command handled; filled by crash_matrix.InstrumentedWorker only.
    handled_commands: set[tuple[str, str]] = field(default_factory=set)
    #: Ids of the orders that needed attention.
    needed_attention: set[str] = field(default_factory=set)
    #: Called with the ids of the documents that may have changed, after every commit and every decision of the gateway.
    on_change: Callable[[set[str]], None] = lambda _: None
    _paths: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _labels: dict[str, str] = field(default_factory=dict)

    # --- the trace ----------------------------------------------------------------------------------------------------------

    def set_label(self, document_id: str, name: str) -> None:
        """Show an id as `name` in the trace."""
        self._labels[document_id] = name

    def path(self, order_id: str) -> tuple[str, ...]:
        """The states that an order's documents went through, in commit order."""
        return tuple(self._paths[order_id])

    def label_of(self, document_id: str) -> str:
        return self._labels.get(document_id, document_id)

    def add_trace(self, source: str, detail: str) -> None:
        now = asyncio.get_running_loop().time() - EPOCH_S
        self.trace_lines.append(f"{now:8.3f}  {source:<13} {detail}")

    def describe(self, wire: Wire) -> str:
        """The message's type and its order, as in `ReserveStock(order 1)`."""
        kind = str(wire.type).rpartition(".")[2]
        return f"{kind}({self.label_of(str(wire.correlation_id))})"

    def digest(self) -> str:
        """The SHA-256 of the trace: equal for two runs in which the same happened."""
        return hashlib.sha256("\n".join(self.trace_lines).encode()).hexdigest()

    def add_violation(self, checker: str, detail: str) -> None:
        self.violations.append(Violation(checker, detail))
        self.add_trace("CHECKER", f"{checker}: {detail}")

    # --- events -------------------------------------------------------------------------------------------------------------

    def on_fault(self, fault: Fault) -> None:
        self.triggered_faults.append(fault)
        self.add_trace("FAULT", str(fault))

    def on_commit(self, process: str, worker: str, changes: Changes) -> None:
        """A commit of `process`, one of the processes of `worker`, was written."""
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
            outbox = ", ".join(outbox_messages) or "nothing"
            self.add_trace(process, f"commits {', '.join(written) or 'nothing new'}; outbox: {outbox}")
        self.on_change({record.document_id for record in changes.records})

    def on_gateway_ruling(self, order_id: str, decision: Decision) -> None:
        """The gateway has decided on a call and recorded its decision; the answer may still be lost."""
        answer = decision.answer.value if decision.answer else "nothing"
        self.add_trace("gateway", f"decides {answer} ({decision.response_mode.value}) for {self.label_of(order_id)}")
        self.on_change({order_id})

    def on_publish(self, process: str, outgoing: Outgoing, receipt: Receipt, *, is_retry_copy: bool) -> None:
        """A process has published. `receipt`: the result that it receives; the broker may have the message even if it is not
        confirmed."""
        is_escalation = str(outgoing.wire.type).endswith("StepFailed")  # published with its dead letter, not from the outbox
        if not is_retry_copy and not is_escalation:
            self.worker_messages[str(outgoing.wire.message_id)] = (process, self.describe(outgoing.wire))
        self.add_trace(process, f"publishes {self.describe(outgoing.wire)} to {outgoing.address.routing_key}, {receipt.value}")

    def on_arrival(self, outgoing: Outgoing, *, is_retry_copy: bool) -> None:
        """The broker has received a message."""
        message_id = str(outgoing.wire.message_id)
        if is_retry_copy:
            self.retry_copies.add((outgoing.address.routing_key, message_id))
        else:
            self.published_ids.add(message_id)

    def on_acknowledge(self, worker: str, prefix: str, deliveries: Sequence[Delivery]) -> None:
        """Called before an acknowledgement takes effect: each message must be in the inbox, or be a retry or dead letter by
        then."""
        for delivery in deliveries:
            message_id = str(delivery.wire.message_id)
            self.acknowledgements[worker, message_id] += 1
            if f"{worker}:{message_id}" in self.inbox_keys:
                continue
            queue = f"{prefix}.{worker}"
            if not any(key.startswith(queue) and known == message_id for key, known in self.retry_copies):
                self.add_violation(
                    "acknowledged is kept",
                    f"{worker} acknowledges {self.describe(delivery.wire)}, which is neither handled nor kept",
                )

    def _describe_record(self, collection: str, document_id: str, body: Any) -> str:  # noqa: ANN401 - a stored body
        state = body.get("state") or body.get("phase") or ""
        extra = f" {body['reason']}" if body.get("reason") else ""
        return f"{self.label_of(document_id)} {collection} {state}{extra}".strip()
