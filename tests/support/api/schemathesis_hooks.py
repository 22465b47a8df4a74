"""A hook for schemathesis: each request with a valid idempotency key gets a unique one.

A reused key is answered with 422, which an OpenAPI document cannot describe; tests/api/test_orders.py tests it.
"""

import uuid
from typing import Any

import schemathesis

KEY = "idempotency-key"


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    headers = case.headers or {}
    key = str(headers.get(KEY, ""))
    if key and len(key) < 100 and key.isascii() and key.isprintable() and " " not in key:
        headers[KEY] = f"{key[:80]}-{uuid.uuid4().hex}"
