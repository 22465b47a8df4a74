"""A message as it was on the wire, kept for people who want to read it: headers, properties, body, all cut to a bounded size.

Pure. Kept as one text of ASCII, so that no database minds what strangers write in it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from broker.transport import Wire

#: Bytes of a body that are kept, headers of one message, and characters of a header's or property's value.
BODY_MAX, HEADERS_MAX, VALUE_MAX = 4_096, 32, 200
#: Characters of all of it: an order may have some hundred messages, and is one document.
TEXT_MAX = 12_000
#: The properties that are kept, where a message has them.
PROPERTIES = ("message_id", "correlation_id", "app_id", "type", "timestamp", "content_type")


@dataclass(frozen=True, slots=True)
class RawMessage:
    """`body` is a JSON value; the beginning of its text if it is longer than BODY_MAX, which `cut` says."""

    headers: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    cut: bool = False

    @classmethod
    def of(cls, wire: Wire) -> Self:
        """What is kept of a message whose body is JSON in UTF-8."""
        cut = len(wire.body) > BODY_MAX
        return cls(
            headers={str(name)[:VALUE_MAX]: _json_value(value) for name, value in sorted(wire.headers.items())[:HEADERS_MAX]},
            properties={name: _json_value(value) for name in PROPERTIES if (value := getattr(wire, name)) is not None},
            body=wire.body[:BODY_MAX].decode(errors="ignore") if cut else json.loads(wire.body),
            cut=cut,
        )

    def to_text(self) -> str:
        """At most TEXT_MAX long: what does not fit goes, the headers first."""
        for kept in (self, replace(self, headers={}, cut=True), replace(self, headers={}, body=None, cut=True)):
            text = json.dumps([kept.headers, kept.properties, kept.body, kept.cut], separators=(",", ":"))
            if len(text) <= TEXT_MAX:
                return text
        return ""

    @classmethod
    def from_text(cls, text: str) -> Self:
        return cls(*json.loads(text)) if text else cls()


def earliest_copy(one: str, other: str) -> str:
    """Of two copies the one that was sent first, as texts: attempts count up. What differs otherwise is a stranger's; it makes no
    difference in which order copies are heard."""
    return min((one, other), key=lambda text: (not text, _attempt(text), text))


def _attempt(text: str) -> int:
    attempt = RawMessage.from_text(text).headers.get("attempt", 1)
    return attempt if isinstance(attempt, int) else 1


def _json_value(value: object) -> object:
    """A value that JSON has, too."""
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)[:VALUE_MAX]
