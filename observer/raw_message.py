"""A message as it was on the wire, kept for display: headers, properties and body, all cut to a bounded size.

Pure functions. It is kept as one ASCII text, which every database can store whatever the message contains.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from broker.transport import Wire

#: Bytes of a body that are kept, headers of one message, and characters of a header's or property's value.
BODY_MAX, HEADERS_MAX, VALUE_MAX = 4_096, 32, 200
#: Characters of the whole text. An order may have some hundred messages and is stored as one document.
TEXT_MAX = 12_000
#: The properties that are kept, where a message has them.
PROPERTIES = ("message_id", "correlation_id", "app_id", "type", "timestamp", "content_type")


@dataclass(frozen=True, slots=True)
class RawMessage:
    """The kept parts of one message.

    `body` is a JSON value, or the beginning of its text if it is longer than BODY_MAX. `cut`: something was left out."""

    headers: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    cut: bool = False

    @classmethod
    def of(cls, wire: Wire) -> Self:
        """The kept parts of a message whose body is JSON in UTF-8."""
        cut = len(wire.body) > BODY_MAX
        return cls(
            headers={str(name)[:VALUE_MAX]: _json_value(value) for name, value in sorted(wire.headers.items())[:HEADERS_MAX]},
            properties={name: _json_value(value) for name in PROPERTIES if (value := getattr(wire, name)) is not None},
            body=wire.body[:BODY_MAX].decode(errors="ignore") if cut else json.loads(wire.body),
            cut=cut,
        )

    def to_text(self) -> str:
        """The text to store, at most TEXT_MAX long: if it is too long, the headers are left out, then the body."""
        for kept in (self, replace(self, headers={}, cut=True), replace(self, headers={}, body=None, cut=True)):
            text = json.dumps([kept.headers, kept.properties, kept.body, kept.cut], separators=(",", ":"))
            if len(text) <= TEXT_MAX:
                return text
        return ""

    @classmethod
    def from_text(cls, text: str) -> Self:
        return cls(*json.loads(text)) if text else cls()


def earliest_copy(one: str, other: str) -> str:
    """The text of the copy that was sent first, by its attempt.

    Copies of one attempt differ only if one is forged. Then the smaller text is taken, so that their order does not matter."""
    return min((one, other), key=lambda text: (not text, _attempt(text), text))


def _attempt(text: str) -> int:
    attempt = RawMessage.from_text(text).headers.get("attempt", 1)
    return attempt if isinstance(attempt, int) else 1


def _json_value(value: object) -> object:
    """`value` if JSON has it, else its text."""
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return str(value)[:VALUE_MAX]
