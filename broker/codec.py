"""Messages to bytes and back. What cannot be decoded is refused here, with a reason code, before any handler or database sees it.

The order of the checks is the order of trust: size, properties, content type, type, version, then strict pydantic
straight from the bytes (unknown fields, NaN, lone surrogates, numbers beyond their bounds are refused), then that the envelope
and the body speak of the same order. Every refusal is permanent: a dead letter, never a retry.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from broker.message import UUID_PATTERN, Message
from broker.topology import Address
from broker.transport import Outgoing, Wire

#: Larger bodies are refused unread. A full order of 50 lines is under 8 KiB.
MAX_BODY_BYTES = 64 * 1024
CONTENT_TYPE = "application/json"

_UUID = re.compile(UUID_PATTERN)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_INJECTED = re.compile(r"[a-z_]{1,32}:[a-z_]{1,32}(,[a-z_]{1,32}:[a-z_]{1,32}){0,7}")


class DeadReason(StrEnum):
    """Why a message is a dead letter."""

    TOO_LARGE = "too_large"  # the body exceeds MAX_BODY_BYTES
    MISSING_PROPERTY = "missing_property"  # no usable message_id, type, correlation_id or version
    WRONG_CONTENT_TYPE = "wrong_content_type"  # not plain application/json; compressed bodies are not opened
    BAD_HEADER = "bad_header"  # one of our own headers has a value that we never write
    UNKNOWN_TYPE = "unknown_type"  # not a message that this worker accepts
    WRONG_VERSION = "wrong_version"  # a schema version that this worker does not speak
    NOT_JSON = "not_json"  # the body is not JSON in UTF-8
    WRONG_SCHEMA = "wrong_schema"  # JSON, but not this message
    WRONG_CORRELATION = "wrong_correlation"  # the envelope names another order than the body
    MISROUTED = "misrouted"  # it came by another way than its type's, so its sender may have had no right to that type
    PROTOCOL_VIOLATION = "protocol_violation"  # well-formed, but impossible in the state it met
    POISON_MESSAGE = "poison_message"  # alone in hand when its worker died, after two deaths among others
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"  # its handler raised at every attempt of its budget


class Undecodable(Exception):  # noqa: N818 - it names what happened
    """These bytes are not a message for this worker. `reason` is the code, the text says more."""

    def __init__(self, reason: DeadReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Origin:
    """What a message inherits from the one that caused it, and what a waiting document keeps for whatever wakes it.

    `injected` lists failures that somebody asked for with this order (`payment:declined,...`); it is honoured only by workers
    with faults enabled."""

    causation_id: str | None = None
    traceparent: str | None = None
    injected: str | None = None

    def to_context(self) -> dict[str, str]:
        """The fields that are set, for a waiting document's `context`."""
        fields = {"causation_id": self.causation_id, "traceparent": self.traceparent, "injected": self.injected}
        return {name: value for name, value in fields.items() if value}

    @classmethod
    def from_context(cls, context: Mapping[str, str] | None) -> "Origin":
        return cls(**context) if context else cls()


@dataclass(frozen=True, slots=True)
class Envelope:
    """A decoded message with what is known about it. `attempt` counts from 1."""

    message: Message
    message_id: str
    origin: Origin
    attempt: int = 1


def encode(message: Message, *, message_id: str, now: float, app_id: str, origin: Origin) -> Wire:
    """The message on the wire, persistent properties and all."""
    headers: dict[str, Any] = {"version": message.version, **origin.to_context()}
    return Wire(
        body=message.model_dump_json().encode(),
        message_id=message_id,
        correlation_id=message.order_id,
        type=message.type_name,
        timestamp=int(now),
        app_id=app_id,
        content_type=CONTENT_TYPE,
        headers=headers,
    )


def decode(wire: Wire, accepted: Mapping[str, type[Message]]) -> Envelope:
    """The message in `wire`, if its type is one of `accepted` (by name on the wire). Raises Undecodable."""
    if len(wire.body) > MAX_BODY_BYTES:
        raise Undecodable(DeadReason.TOO_LARGE, f"the body has {len(wire.body)} bytes, at most {MAX_BODY_BYTES} are read")
    message_id = _uuid(wire.message_id, "message_id")
    correlation_id = _uuid(wire.correlation_id, "correlation_id")
    if wire.content_type != CONTENT_TYPE or wire.content_encoding not in (None, "", "utf-8"):
        raise Undecodable(
            DeadReason.WRONG_CONTENT_TYPE, f"content type {wire.content_type!r}, encoding {wire.content_encoding!r}"[:200]
        )
    kind = _kind(wire, accepted)
    message = _body(wire.body, kind)
    if message.order_id != correlation_id:
        raise Undecodable(DeadReason.WRONG_CORRELATION, f"correlation_id {correlation_id}, but order_id {message.order_id}")
    return Envelope(message, message_id, _origin(wire.headers), _attempt(wire.headers))


def misrouted(wire: Wire, exchange: str, routing_key: str) -> Undecodable:
    """Why a message is refused that did not come by its type. Permissions hold a sender to its routing keys, and only to them."""
    route = f"exchange {exchange!r} with routing key {routing_key!r}"
    return Undecodable(DeadReason.MISROUTED, f"it says that it is {wire.type!r}, and came by {route}"[:300])


def death_of(wire: Wire) -> Mapping[str, Any] | None:
    """Why and where from the broker last gave a message up or moved it on (`x-death`, newest first; `x-first-death-reason` stays
    that of the first, a delay queue's perhaps). None for a copy of ours, which is sent without that history."""
    if "x-death" not in wire.headers:
        return None
    deaths = wire.headers["x-death"]
    return deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}


def _uuid(value: object, name: str) -> str:
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise Undecodable(DeadReason.MISSING_PROPERTY, f"{name} is missing or not a UUID")
    return value


def _kind(wire: Wire, accepted: Mapping[str, type[Message]]) -> type[Message]:
    if not isinstance(wire.type, str) or not wire.type:
        raise Undecodable(DeadReason.MISSING_PROPERTY, "type is missing")
    kind = accepted.get(wire.type)
    if kind is None:
        raise Undecodable(DeadReason.UNKNOWN_TYPE, f"type {wire.type[:100]!r} is not accepted here")
    version = wire.headers.get("version")
    if version is None:
        raise Undecodable(DeadReason.MISSING_PROPERTY, "the header version is missing")
    if type(version) is not int or version != kind.version:
        raise Undecodable(DeadReason.WRONG_VERSION, f"version {str(version)[:20]}, but {kind.version} is spoken here")
    return kind


def _body(body: bytes, kind: type[Message]) -> Message:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        reason = DeadReason.NOT_JSON if first["type"] == "json_invalid" else DeadReason.WRONG_SCHEMA
        where = ".".join(str(part) for part in first["loc"])
        raise Undecodable(reason, f"{where + ': ' if where else ''}{first['msg']}"[:300]) from None


def _origin(headers: Mapping[str, Any]) -> Origin:
    return Origin(
        causation_id=_header(headers, "causation_id", _UUID),
        traceparent=_header(headers, "traceparent", _TRACEPARENT),
        injected=_header(headers, "injected", _INJECTED),
    )


def _header(headers: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str | None:
    value = headers.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Undecodable(DeadReason.BAD_HEADER, f"the header {name} has a value that is never written here")
    return value


def _attempt(headers: Mapping[str, Any]) -> int:
    attempt = headers.get("attempt", 1)
    if type(attempt) is not int or not 1 <= attempt <= 1_000:
        raise Undecodable(DeadReason.BAD_HEADER, "the header attempt is not a small number")
    return attempt


def pack(outgoing: Outgoing) -> bytes:
    """An outgoing message as the opaque payload of an outbox row."""
    address, wire = outgoing.address, outgoing.wire
    fields = [address.exchange, address.routing_key, address.mandatory, wire.body.decode(), wire.message_id]
    fields += [wire.correlation_id, wire.type, wire.timestamp, wire.app_id, dict(wire.headers)]
    return json.dumps(fields, separators=(",", ":")).encode()


def unpack(payload: bytes) -> Outgoing:
    """The inverse of `pack`."""
    exchange, routing_key, mandatory, body, message_id, correlation_id, kind, timestamp, app_id, headers = json.loads(payload)
    wire = Wire(body.encode(), message_id, correlation_id, kind, timestamp, app_id, CONTENT_TYPE, None, headers)
    return Outgoing(Address(exchange, routing_key, mandatory), wire)
