"""A hook for schemathesis: each request that has a proper key gets one of its own, as a customer's would.

What a key of another order is answered (422) is tested in test_orders.py; no description of an API can say when it is.
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
