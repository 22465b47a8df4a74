"""Encodes messages to bytes and decodes them, and refuses what it cannot decode, with a reason code.

A refused message reaches no handler and no database. The checks, in order: size, properties, content type, type,
version, strict pydantic validation of the bytes (unknown fields, NaN, lone surrogates and numbers out of bounds are refused), and
that envelope and body name the same order. Every refusal is permanent: a dead letter, never a retry.
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

#: Larger bodies are refused without being parsed. A full order of 50 lines is under 8 KiB.
MAX_BODY_BYTES = 64 * 1024
CONTENT_TYPE = "application/json"

_UUID = re.compile(UUID_PATTERN)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_INJECTED = re.compile(r"[a-z_]{1,32}:[a-z_]{1,32}(,[a-z_]{1,32}:[a-z_]{1,32}){0,7}")


class DeadReason(StrEnum):
    """Why a message is a dead letter."""

    TOO_LARGE = "too_large"  # the body exceeds MAX_BODY_BYTES
    MISSING_PROPERTY = "missing_property"  # no usable message_id, type, correlation_id or version
    WRONG_CONTENT_TYPE = "wrong_content_type"  # not plain application/json; compressed bodies are not supported
    BAD_HEADER = "bad_header"  # one of the headers that `encode` writes has a value that it never writes
    UNKNOWN_TYPE = "unknown_type"  # not a message type that this worker accepts
    WRONG_VERSION = "wrong_version"  # a schema version that this worker does not support
    NOT_JSON = "not_json"  # the body is not JSON in UTF-8
    WRONG_SCHEMA = "wrong_schema"  # JSON that does not match the schema of its type
    WRONG_CORRELATION = "wrong_correlation"  # the envelope names another order than the body
    MISROUTED = "misrouted"  # exchange or routing key is not that of its type, so its sender may lack the permission for it
    PROTOCOL_VIOLATION = "protocol_violation"  # well-formed, but impossible in the current state
    POISON_MESSAGE = "poison_message"  # handled alone when its worker crashed, after it had been redelivered
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"  # its handler raised at every attempt of its retry budget


class Undecodable(Exception):  # noqa: N818 - it names what happened
    """A delivery that is not a valid message for this worker. `reason` is the code; the text gives the detail."""

    def __init__(self, reason: DeadReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Origin:
    """Context that a message inherits from its cause, and that a document with a timer keeps until the timer fires.

    `injected` lists the faults requested with this order (`payment:declined,...`); only workers with faults enabled honour it."""

    causation_id: str | None = None
    traceparent: str | None = None
    injected: str | None = None

    def to_context(self) -> dict[str, str]:
        """Return the fields that are set, for the `context` of a document with a timer."""
        fields = {"causation_id": self.causation_id, "traceparent": self.traceparent, "injected": self.injected}
        return {name: value for name, value in fields.items() if value}

    @classmethod
    def from_context(cls, context: Mapping[str, str] | None) -> "Origin":
        return cls(**context) if context else cls()


@dataclass(frozen=True, slots=True)
class Envelope:
    """A decoded message with its id, origin and attempt number, which counts from 1."""

    message: Message
    message_id: str
    origin: Origin
    attempt: int = 1


def encode(message: Message, *, message_id: str, now: float, app_id: str, origin: Origin) -> Wire:
    """Return the message as bytes with its AMQP properties. `now` is in seconds since the epoch."""
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
    """Return the message in `wire` if its type is one of `accepted` (wire name -> type). Raises Undecodable."""
    if len(wire.body) > MAX_BODY_BYTES:
        raise Undecodable(DeadReason.TOO_LARGE, f"the body has {len(wire.body)} bytes, the maximum is {MAX_BODY_BYTES}")
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
    """Return the refusal of a message whose route is not that of its type. Permissions restrict routing keys, not types."""
    route = f"exchange {exchange!r} with routing key {routing_key!r}"
    return Undecodable(DeadReason.MISROUTED, f"the type is {wire.type!r}, but the message arrived through {route}"[:300])


def death_of(wire: Wire) -> Mapping[str, Any] | None:
    """Return the newest entry of `x-death`: why and from where the broker last dead-lettered the message.

    `x-first-death-reason` is not used: it stays that of the first entry, which may be a delay queue's. None for a copy that a
    worker republished: those are sent without `x-death`."""
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
        raise Undecodable(DeadReason.UNKNOWN_TYPE, f"type {wire.type[:100]!r} is not accepted by this worker")
    version = wire.headers.get("version")
    if version is None:
        raise Undecodable(DeadReason.MISSING_PROPERTY, "the header version is missing")
    if type(version) is not int or version != kind.version:
        raise Undecodable(
            DeadReason.WRONG_VERSION, f"version {str(version)[:20]}, but this worker supports version {kind.version}"
        )
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
        raise Undecodable(DeadReason.BAD_HEADER, f"the header {name} does not have its expected format")
    return value


def _attempt(headers: Mapping[str, Any]) -> int:
    attempt = headers.get("attempt", 1)
    if type(attempt) is not int or not 1 <= attempt <= 1_000:
        raise Undecodable(DeadReason.BAD_HEADER, "the header attempt is not an integer from 1 to 1000")
    return attempt


def pack(outgoing: Outgoing) -> bytes:
    """Return an outgoing message as the opaque payload of an outbox row."""
    address, wire = outgoing.address, outgoing.wire
    fields = [address.exchange, address.routing_key, address.mandatory, wire.body.decode(), wire.message_id]
    fields += [wire.correlation_id, wire.type, wire.timestamp, wire.app_id, dict(wire.headers)]
    return json.dumps(fields, separators=(",", ":")).encode()


def unpack(payload: bytes) -> Outgoing:
    """Return the outgoing message of an outbox row's payload: the inverse of `pack`."""
    exchange, routing_key, mandatory, body, message_id, correlation_id, kind, timestamp, app_id, headers = json.loads(payload)
    wire = Wire(body.encode(), message_id, correlation_id, kind, timestamp, app_id, CONTENT_TYPE, None, headers)
    return Outgoing(Address(exchange, routing_key, mandatory), wire)
