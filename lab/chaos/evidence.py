"""What is heard during a run: every line of every process, and every event that reaches an instrument's own queue.

A worker says `handled` once for each message whose effect it has committed, so two such lines for one message
are an effect that happened twice. (One that is killed between commit and line says less, never more.) The instrument's queue dies
with the broker, so it hears less too, never more.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.transport import Wire
from services.order.messages import DeadlinePassed, OrderWithdrawn
from services.payment.messages import GatewayAnswered, PollGateway

#: Inputs that never travel; they have the id of what caused them, and may come more than once.
LOCAL_INPUTS = frozenset(kind.type_name for kind in (DeadlinePassed, GatewayAnswered, PollGateway))

#: Who did it, to which message, as what.
Effect = tuple[str, str, str]


@dataclass(slots=True)
class Evidence:
    """Ears of one run. Lines are kept in `folder`, one file a process."""

    folder: Path
    #: Worker -> how often it has begun to consume.
    starts: Counter[str] = field(default_factory=Counter)
    #: Committed effects of messages that travel.
    effects: Counter[Effect] = field(default_factory=Counter)
    #: (publisher, kind, cause) -> ids of the different messages of that kind.
    answers: defaultdict[Effect, set[str]] = field(default_factory=lambda: defaultdict(set))

    def record_line(self, name: str, line: bytes) -> None:
        """A line that a process printed."""
        with (self.folder / f"{name}.log").open("ab") as file:
            file.write(line)
        event = _event_in(line)
        if event.get("event") == "started":
            self.starts[name] += 1
        elif event.get("event") == "handled" and event.get("type") not in LOCAL_INPUTS:
            self.effects[name, str(event.get("message_id")), str(event.get("type"))] += 1

    def record_event(self, wire: Wire) -> None:
        """An event on the broker. A withdrawal is published again at each deadline, and that is meant."""
        if wire.type != OrderWithdrawn.type_name:
            cause = str(wire.headers.get("causation_id"))
            self.answers[str(wire.app_id), str(wire.type), cause].add(str(wire.message_id))


def _event_in(line: bytes) -> Mapping[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
