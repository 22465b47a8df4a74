"""Records what happens during a run: every line of every process, and every event that reaches a queue of the run's own.

A worker logs `handled` once for each message whose effect it has committed, so two such lines for one message are an effect that
happened twice. A worker that is killed between commit and log line logs too little, never too much. The run's queue is lost with
the broker, so it too misses events and never adds any.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.transport import Wire
from services.message_types import LOCAL_INPUTS
from services.order.messages import OrderWithdrawn

#: Names of the inputs that are never sent. They carry the id of what caused them, and may occur more than once.
LOCAL_INPUT_NAMES = frozenset(kind.type_name for kind in LOCAL_INPUTS)

#: An effect: (worker, message id, message type). An answer: (publisher, event type, causation id).
Effect = tuple[str, str, str]


@dataclass(slots=True)
class Evidence:
    """What one run recorded. Lines are kept in `folder`, one file for each process."""

    folder: Path
    #: Worker -> how often it has started to consume.
    starts: Counter[str] = field(default_factory=Counter)
    #: Effect of a message that is sent -> how often it was committed.
    effects: Counter[Effect] = field(default_factory=Counter)
    #: Answer -> the ids of the different messages published as that answer.
    answers: defaultdict[Effect, set[str]] = field(default_factory=lambda: defaultdict(set))

    def record_line(self, name: str, line: bytes) -> None:
        """Record a line that a process printed."""
        with (self.folder / f"{name}.log").open("ab") as file:
            file.write(line)
        event = _event_in(line)
        if event.get("event") == "started":
            self.starts[name] += 1
        elif event.get("event") == "handled" and event.get("type") not in LOCAL_INPUT_NAMES:
            self.effects[name, str(event.get("message_id")), str(event.get("type"))] += 1

    def record_event(self, wire: Wire) -> None:
        """Record an event on the broker, but not OrderWithdrawn: it is published again at each deadline by design."""
        if wire.type != OrderWithdrawn.type_name:
            cause = str(wire.headers.get("causation_id"))
            self.answers[str(wire.app_id), str(wire.type), cause].add(str(wire.message_id))


def _event_in(line: bytes) -> Mapping[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}
