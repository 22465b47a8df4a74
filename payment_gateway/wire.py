"""Validation of requests to the payment gateway, and the JSON problems by which it refuses them.

Everything that a caller sends is checked and bounded here before it reaches the books.
"""

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

#: Bytes that a request body may have; a valid one has about 50.
MAX_BODY_BYTES = 4096

#: Valid names of books (one for each mode), and valid idempotency keys.
BOOK = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
KEY = re.compile(rb"[\x21-\x7e]{1,128}")

#: Payments that a page may have.
MAX_PAGE = 10_000


#: The media type of refusals (RFC 9457).
PROBLEM = "application/problem+json"


class AuthorizationRequest(BaseModel):
    """The body of an authorization. Amounts are integer cents."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    amount_cents: Annotated[int, Field(ge=0, le=10**15)]
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


class HttpRefusal(Exception):  # noqa: N818 - says what happened
    """A call that is refused. The caller gets it as a JSON problem; `reason` is a code for programs."""

    def __init__(self, status: HTTPStatus, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason

    def problem(self) -> bytes:
        """The response body: a JSON problem with a `reason`."""
        return json.dumps(
            {"title": self.status.phrase, "status": self.status.value, "reason": self.reason, "detail": str(self)}
        ).encode()


def key_of(headers: Mapping[bytes, bytes]) -> str:
    """The idempotency key. Raises HttpRefusal."""
    key = headers.get(b"idempotency-key")
    if key is None:
        raise HttpRefusal(HTTPStatus.BAD_REQUEST, "no_idempotency_key", "send an Idempotency-Key header")
    if not KEY.fullmatch(key):
        raise HttpRefusal(
            HTTPStatus.BAD_REQUEST, "bad_idempotency_key", "a key has 1 to 128 printable ASCII characters and no spaces"
        )
    return key.decode()


def authorization_of(body: bytes) -> AuthorizationRequest:
    """The validated body of an authorization. Raises HttpRefusal."""
    try:
        return AuthorizationRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "json_invalid":
            raise HttpRefusal(HTTPStatus.BAD_REQUEST, "not_json", first["msg"]) from error
        where = ".".join(str(part) for part in first["loc"])
        raise HttpRefusal(
            HTTPStatus.UNPROCESSABLE_ENTITY, "bad_body", f"{where}: {first['msg']}" if where else first["msg"]
        ) from error
