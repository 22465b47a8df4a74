"""An observation of one message: what its envelope says, and a few facts from its body.

Pure functions, which do not depend on when a message was received. A message that is received twice, or again as a retry, is
still one observation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from broker.codec import Envelope, Undecodable, death_of, decode
from broker.transport import Wire
from observer.raw_message import RawMessage, earliest_copy
from services.message_types import CATALOGUE
from services.vocabulary import printable

#: Fields of a body that are kept, as text: why a step was refused or undone, and which step exhausted its retry budget.
FACTS = ("reason", "refusal", "step", "error")


@dataclass(frozen=True, slots=True)
class Observation:
    """One message of an order.

    `sent_at` is in seconds since the epoch, by the sender's clock. `attempt` is the highest that was observed, `dead` the reason
    if the message was dead-lettered. `facts` are the fields named in FACTS, `wanted` the order's lines, in messages that carry
    them. `original` is the text of a RawMessage, that of the earliest copy."""

    message_id: str
    order_id: str
    type: str
    sender: str
    sent_at: float
    cause: str | None = None
    injected: str | None = None
    attempt: int = 1
    dead: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    wanted: str | None = None
    original: str = ""

    def to_body(self) -> dict[str, Any]:
        """As JSON-like values, empty ones left out."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in values.items() if value} | {"sent_at": self.sent_at, "facts": dict(self.facts)}

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> "Observation":
        return cls(**body)


def observation_of(wire: Wire) -> Observation | None:
    """The observation of a message; None if it is not a message of the catalogue."""
    try:
        envelope = decode(wire, CATALOGUE)
    except Undecodable:
        return None
    message = envelope.message
    details = getattr(message, "details", None)
    return Observation(
        message_id=envelope.message_id,
        order_id=message.order_id,
        type=message.type_name,
        sender=printable(str(wire.app_id or "unknown"))[:32],
        sent_at=_sent_at(envelope, wire),
        cause=envelope.origin.causation_id,
        injected=envelope.origin.injected,
        attempt=envelope.attempt,
        dead=_dead(wire),
        facts={name: str(value) for name in FACTS if (value := getattr(message, name, None)) is not None},
        wanted=", ".join(f"{sku} x{number}" for sku, number in details.quantities().items())[:200] if details else None,
        original=RawMessage.of(wire).to_text(),
    )


def merge(one: Observation, other: Observation) -> Observation:
    """Two observations of one message as one. The order of the arguments makes no difference."""
    first, second = sorted((one, other), key=lambda seen: (seen.attempt, seen.dead or "", repr(seen)))
    dead = min(filter(None, (first.dead, second.dead)), default=None)
    return replace(first, attempt=second.attempt, dead=dead, original=earliest_copy(one.original, other.original))


def _sent_at(envelope: Envelope, wire: Wire) -> float:
    """The time in the message's id, a UUIDv7, to the millisecond; else AMQP's timestamp, which has whole seconds only."""
    digits = envelope.message_id.replace("-", "")
    if digits[12] == "7":
        return int(digits[:12], 16) / 1000
    return float(wire.timestamp or 0)


def _dead(wire: Wire) -> str | None:
    reason = wire.headers.get("dead_reason") or (death_of(wire) or {}).get("reason")
    # A message from a delay queue has `expired` here, one that the observer's full queue dropped `maxlen`: neither is dead.
    return printable(str(reason)) if reason and reason not in ("expired", "maxlen") else None
