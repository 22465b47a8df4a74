"""A client of the HTTP API: one idempotency key for each order, retries with the same key after Retry-After.

The CLI uses it for `--via`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import aiohttp

from api.messages import COMMIT_TIMEOUT_S
from broker.environment import Environment
from services.vocabulary import OrderDetails

#: Seconds until one response: longer than the API waits for its database.
RESPONSE_TIMEOUT_S = COMMIT_TIMEOUT_S + 3.0
#: Seconds for which one request is retried.
RETRY_FOR_S = 30.0


class ApiUnreachable(Exception):  # noqa: N818 - it names what happened
    """No response from the API, or none but `Retry-After`, for as long as a request is retried."""


class ApiRefused(Exception):  # noqa: N818 - it names what happened
    """The API refused the request, and a retry would not help. `reason` is the problem's code."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"the HTTP API refused the request: {reason} ({detail})")
        self.reason = reason


class HttpOrderClient:
    """An async context manager. `retry_for_s`: seconds for which one request is retried."""

    def __init__(
        self, url: str, *, max_connections: int = 64, retry_for_s: float = RETRY_FOR_S, environment: Environment | None = None
    ) -> None:
        self._url = url.rstrip("/")
        self._max_connections = max_connections
        self._retry_for_s = retry_for_s
        self._environment = environment or Environment()

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=RESPONSE_TIMEOUT_S)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=self._max_connections))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._session.close()

    async def place(self, details: OrderDetails, injected: Sequence[str] = ()) -> str:
        """Place an order and return its id. Retries place it only once. Raises ApiUnreachable, ApiRefused."""
        headers = {"Idempotency-Key": self._environment.new_id(), "Content-Type": "application/json"}
        if injected:
            headers["X-Injected-Failures"] = ",".join(injected)
        return str((await self._request("POST", "/orders", headers=headers, data=details.model_dump_json()))["order_id"])

    async def withdraw(self, order_id: str) -> None:
        """Withdraw an order. Raises ApiUnreachable, ApiRefused."""
        await self._request("DELETE", f"/orders/{order_id}")

    async def order(self, order_id: str) -> dict[str, Any]:
        """The order as the API shows it. Raises ApiUnreachable, ApiRefused."""
        return await self._request("GET", f"/orders/{order_id}")

    async def orders(self, state: str | None, limit: int) -> list[dict[str, Any]]:
        """The newest orders. Raises ApiUnreachable, ApiRefused."""
        query = {"limit": str(limit)} | ({"state": state} if state else {})
        return list((await self._request("GET", "/orders", params=query))["orders"])

    async def _request(self, method: str, path: str, **request: Any) -> dict[str, Any]:  # noqa: ANN401 - what aiohttp takes
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._retry_for_s
        while True:
            wait_s, why = 0.5, ""
            try:
                async with self._session.request(method, self._url + path, **request) as response:
                    document = dict(await response.json(content_type=None))
                    if response.ok:
                        return document
                    why = f"{document.get('reason')} ({document.get('detail')})"
                    if "Retry-After" not in response.headers:
                        raise ApiRefused(str(document.get("reason")), str(document.get("detail")))
                    wait_s = float(response.headers["Retry-After"])
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                why = str(error) or type(error).__name__
            if loop.time() + wait_s > deadline:
                raise ApiUnreachable(
                    f"the HTTP API at {self._url} did not serve the request within {self._retry_for_s:g} s: {why}"
                )
            await asyncio.sleep(wait_s * self._environment.rng.uniform(0.5, 1.0))


def order_summary(order: Mapping[str, Any]) -> dict[str, str | None]:
    """Id, state and reason of an order as the API shows it, for the CLI to print."""
    attention = order["attention"]
    reason = f"{attention['step']}: {attention['error']}" if attention else order["reason"]
    return {"order_id": order["order_id"], "state": order["state"], "reason": reason}
