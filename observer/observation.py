"""One message as it was heard: what its envelope says and the few facts in its body; nothing depends on when it was heard.

Pure. A message heard twice, or again as a copy that was put aside, is still one sighting.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from broker.codec import Envelope, Undecodable, death_of, decode
from broker.transport import Wire
from observer.raw_message import RawMessage, earliest_copy
from services.message_types import CATALOGUE
from services.vocabulary import printable

#: Fields of a body that are kept, as text: why something was refused or undone, and what failed for good.
FACTS = ("reason", "refusal", "step", "error")


@dataclass(frozen=True, slots=True)
class Observation:
    """`sent_at` is in seconds since the epoch, by the sender's clock; `facts` as in FACTS. `attempt` is the highest that was
    heard of; `dead` is the reason if it became a dead letter. `wanted` is what was ordered, in the messages that tell.
    `original` is the text of an Original, that of the first copy."""

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
    """What was heard; None for what is no message of ours."""
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
    """Two sightings of one message as one, whichever came first."""
    first, second = sorted((one, other), key=lambda seen: (seen.attempt, seen.dead or "", repr(seen)))
    dead = min(filter(None, (first.dead, second.dead)), default=None)
    return replace(first, attempt=second.attempt, dead=dead, original=earliest_copy(one.original, other.original))


def _sent_at(envelope: Envelope, wire: Wire) -> float:
    """From the message's id, a UUIDv7, which tells milliseconds; AMQP's own timestamp has whole seconds only."""
    digits = envelope.message_id.replace("-", "")
    if digits[12] == "7":
        return int(digits[:12], 16) / 1000
    return float(wire.timestamp or 0)


def _dead(wire: Wire) -> str | None:
    reason = wire.headers.get("dead_reason") or (death_of(wire) or {}).get("reason")
    # What came back from a delay queue has `expired` there, what our own queue had no room for `maxlen`: neither is a death.
    return printable(str(reason)) if reason and reason not in ("expired", "maxlen") else None
